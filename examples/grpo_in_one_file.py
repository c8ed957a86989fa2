"""GRPO from top to bottom in one file: torch and transformers, nothing else.

    python examples/grpo_in_one_file.py --model src/rekindle/testbed/weights/countdown-s0

Sample a group of answers to each problem, score them 0 or 1, weigh each answer against its group,
take one step of policy gradient (DeepSeekMath, arXiv 2402.03300, eq. 3-4). The task is countdown:
reach a number with four others, each used once (`1,5,7>36:` is solved by `7*5=35;35+1=36`).

A test compares one step with the library's. Axes: P problems, G answers a problem, B = P * G
answers, S tokens of prompt and answer, T tokens of an answer, V vocabulary.
"""

import argparse
import operator
import random
import re

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROBLEMS, GROUP, MAX_NEW_TOKENS = 32, 8, 32
LR, BETAS, CLIP_NORM, CLIP_RATIO = 5e-4, (0.9, 0.95), 1.0, 0.2
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def problem(rng):
    """A prompt that has a solution: numbers are combined at random until one is left."""
    pool = [rng.randint(1, 9) for _ in range(4)]
    numbers = ",".join(map(str, pool))
    while len(pool) > 1:
        a, b = (pool.pop(rng.randrange(len(pool))) for _ in range(2))
        pool.append(OPERATIONS[rng.choice("+-*")](a, b))
    return f"{numbers}>{pool[0]}:" if 1 <= pool[0] <= 49 else problem(rng)


def reward(prompt, text):
    """1 where every step is true, takes numbers that are still there, and ends at the target."""
    numbers, target = prompt.rstrip(":").split(">")
    pool = [int(number) for number in numbers.split(",")]
    for part in text.strip().split(";"):
        found = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)", part)
        if not found:
            return 0.0
        a, b, c = int(found[1]), int(found[3]), int(found[4])
        for used in (a, b):
            if used not in pool:
                return 0.0
            pool.remove(used)
        if OPERATIONS[found[2]](a, b) != c:
            return 0.0
        pool.append(c)
    return float(pool == [int(target)])


@torch.no_grad()
def sample(model, tokenizer, prompts, group=GROUP):
    """`group` answers to each prompt: (prompt tokens, answer tokens) pairs, group by group."""
    tokenizer.padding_side = "left"
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    out_BS = model.generate(
        **batch,
        do_sample=True,
        top_k=0,  # every token of the vocabulary, as the policy has it
        max_new_tokens=MAX_NEW_TOKENS,
        num_return_sequences=group,
        pad_token_id=tokenizer.pad_token_id,
    )
    start = batch["input_ids"].shape[1]
    pairs = []
    for row, tokens in enumerate(out_BS[:, start:].tolist()):
        kept = batch["attention_mask"][row // group].bool()
        if tokenizer.eos_token_id in tokens:  # the end token belongs to the answer, padding not
            tokens = tokens[: tokens.index(tokenizer.eos_token_id) + 1]
        pairs.append((batch["input_ids"][row // group][kept].tolist(), tokens))
    return pairs


def advantages(reward_PG):
    """(r - mean) / (std + 1e-6) of each group; exactly 0 where all rewards are equal."""
    mean_P1 = reward_PG.mean(dim=1, keepdim=True)
    std_P1 = reward_PG.std(dim=1, keepdim=True)  # sample standard deviation
    tied_P1 = (reward_PG == reward_PG[:, :1]).all(dim=1, keepdim=True)
    return torch.where(tied_P1, 0.0, (reward_PG - mean_P1) / (std_P1 + 1e-6))


def logprobs(model, pairs, pad):
    """log p of each answer token [B, T], and which of them are real: prompts are padded on the
    left and answers on the right, so that all answers begin in one column."""
    longest = max(len(prompt) for prompt, _ in pairs)
    width = max(len(answer) for _, answer in pairs)
    rows, real = [], []
    for prompt, answer in pairs:
        left, right = longest - len(prompt), width - len(answer)
        rows.append([pad] * left + prompt + answer + [pad] * right)
        real.append([0] * left + [1] * (len(prompt) + len(answer)) + [0] * right)
    tokens_BS, attend_BS = torch.tensor(rows), torch.tensor(real)
    positions_BS = (attend_BS.cumsum(dim=1) - 1).clamp(min=0)
    logits_BSV = model(tokens_BS, attention_mask=attend_BS, position_ids=positions_BS).logits
    # the logits at a token are those of the next one
    logp_BTV = logits_BSV[:, longest - 1 : -1].float().log_softmax(dim=-1)
    logp_BT = logp_BTV.gather(-1, tokens_BS[:, longest:, None]).squeeze(-1)
    return logp_BT, attend_BS[:, longest:].bool()


def step(model, optimizer, pairs, advantage_B, pad):
    """One update on one batch of answers; the loss, and the gradient norm before clipping."""
    logp_BT, mask_BT = logprobs(model, pairs, pad)
    # Each batch is used once, so the policy that sampled is the policy that learns: the ratio is 1
    # and the clip does not act, but the gradient of the ratio is that of log p.
    ratio_BT = (logp_BT - logp_BT.detach()).exp()
    free_BT = ratio_BT * advantage_B[:, None]
    held_BT = ratio_BT.clamp(1 - CLIP_RATIO, 1 + CLIP_RATIO) * advantage_B[:, None]
    loss_BT = -torch.minimum(free_BT, held_BT)
    # eq. 3: the mean over answers of the mean over an answer's tokens
    loss = ((loss_BT * mask_BT).sum(dim=1) / mask_BT.sum(dim=1)).mean()
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    return float(loss.detach()), float(norm)


def main():
    """Train for some steps; prints how many answers were right."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", required=True, help="a directory in Hugging Face layout")
    options.add_argument("--steps", type=int, default=150)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    torch.manual_seed(given.seed)
    rng = random.Random(given.seed)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, weight_decay=0.0)
    for number in range(given.steps):
        optimizer.param_groups[0]["lr"] = LR * (1 - number / given.steps)
        prompts = [problem(rng) for _ in range(PROBLEMS)]
        pairs = sample(model, tokenizer, prompts)
        texts = tokenizer.batch_decode([answer for _, answer in pairs], skip_special_tokens=True)
        scores = [reward(prompts[row // GROUP], text) for row, text in enumerate(texts)]
        reward_PG = torch.tensor(scores).view(PROBLEMS, GROUP)
        advantage_B = advantages(reward_PG).flatten()
        loss, norm = step(model, optimizer, pairs, advantage_B, tokenizer.pad_token_id)
        right, mixed = float(reward_PG.mean()), int((reward_PG.std(dim=1) > 0).sum())
        print(f"step {number + 1}: right {right:.3f}, groups with a signal {mixed}/{PROBLEMS}, "
              f"loss {loss:+.4f}, gradient {norm:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
