"""What only a GPU can tell: four ratios beside plain torch and transformers.

    python benchmarks/gpu.py          writes results/gpu.json; at most 9 minutes on one card
    python benchmarks/gpu.py --dry    the same code at tiny shapes on a CPU; its ratios mean nothing

step     one update of an SFT batch, bf16 products and fp32 masters, against autocast by hand
head     log-probs of 8,192 tokens at V = 151,936 with gradients, against all logits at once
wmss     a joint step of two models at the shapes of Qwen3-4B, against both logits held and summed
sampler  answers of a bf16 model, against `model.generate`

Weights are random; torch and transformers are all that is needed beside this package. Ours and the
peer alternate. `ratio` is our time over the peer's, `memory` our peak over the peer's, both above
what is held before. Without a card nothing is measured, which is said, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from _machine import describe
from rekindle.engine.batch import Batch, count, pack
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import ModelConfig, OptimConfig, SampleConfig
from rekindle.engine.device import Group
from rekindle.engine.holding import Use
from rekindle.engine.policy import Policy
from rekindle.engine.update import fresh_state, update
from rekindle.files import write_json
from rekindle.methods.sft import sft_objective
from rekindle.methods.wmss.weak_model import LiveWeak
from rekindle.methods.wmss.wmss import mixed_objective
from rekindle.ops.heads import Head
from rekindle.ops.logprobs import head_scores
from rekindle.records import Problem
from rekindle.testbed.build import make_tokenizer

LAM = 0.5


class Shape(NamedTuple):
    """Sizes of a Qwen3 model."""

    width: int
    inner: int
    layers: int
    heads: int
    groups: int
    head_width: int
    vocabulary: int


class Sizes(NamedTuple):
    """What is run: `rows` sequences of `tokens` in a step, `samples` answers of `new` tokens."""

    small: Shape
    large: Shape
    rows: int
    tokens: int
    scored: int  # tokens whose log-probs the head gives
    samples: int
    new: int
    repeats: int


FULL = Sizes(
    small=Shape(1024, 3072, 28, 16, 8, 128, 151_936),  # Qwen3-0.6B
    large=Shape(2560, 9728, 36, 32, 8, 128, 151_936),  # Qwen3-4B
    rows=8,
    tokens=512,
    scored=8192,
    samples=64,
    new=128,
    repeats=5,
)
_TINY = Shape(32, 64, 2, 2, 1, 16, 256)
DRY = Sizes(_TINY, _TINY, rows=2, tokens=24, scored=64, samples=4, new=8, repeats=1)


def make_policy(
    shape: Shape, device: str, *, seed: int, use: Use = "training", checkpointing: bool = False
) -> Policy:
    """A random Qwen3 whose products are made in bf16."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        head_dim=shape.head_width,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device(device):
        model = Qwen3ForCausalLM(config)
    how = ModelConfig(
        name="random",
        device=device,
        dtype="bfloat16",
        chat_template="never",
        activation_checkpointing=checkpointing,
    )
    policy = Policy.of(model, tokenizer, how, use=use)
    return dataclasses.replace(policy, eos_ids=(), drawable=shape.vocabulary)


def make_batch(sizes: Sizes, vocabulary: int) -> Batch:
    """Rows of random tokens, an eighth of each a prompt."""
    tokens = torch.randint(4, vocabulary, (sizes.rows, sizes.tokens)).tolist()
    cut = sizes.tokens // 8
    prompts, completions = (
        [tuple(row[:cut]) for row in tokens],
        [tuple(row[cut:]) for row in tokens],
    )
    return pack(prompts, completions, reduction="token", total=count(completions))


def peer_inputs(batch: Batch, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of a batch of equal rows, and what follows each place, -100 where no loss is."""
    rows = [p + c for p, c in zip(batch.prompts, batch.completions, strict=True)]
    ids = torch.tensor(rows, device=device)
    targets = torch.full_like(ids, -100)
    targets[:, len(batch.prompts[0]) - 1 : -1] = ids[:, len(batch.prompts[0]) :]
    return ids, targets


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens with loss, of all logits in fp32."""
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


# --- measuring


def measured(run: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds of a call, and its peak of GPU memory above what is held before, in GiB."""
    on_card = device == "cuda"
    if on_card:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if on_card else 0
    began = time.perf_counter()
    run()
    if on_card:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return seconds, (torch.cuda.max_memory_allocated() - held) / 2**30 if on_card else 0.0


def compare(
    work: str, ours: Callable[[], object], peer: Callable[[], object], sizes: Sizes, device: str
) -> dict[str, object]:
    """A row: medians of both sides, alternating after one call of each that is not counted."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
    for _ in range(sizes.repeats + 1):
        for side, run in (("peer", peer), ("ours", ours)):
            found[side].append(measured(run, device))
    mine, theirs = (
        [statistics.median(values) for values in zip(*found[side][1:], strict=True)]
        for side in ("ours", "peer")
    )
    row: dict[str, object] = {
        "work": work,
        "ours": round(mine[0], 5),
        "peer": round(theirs[0], 5),
        "ratio": round(mine[0] / theirs[0], 3),
        "memory": round(mine[1] / theirs[1], 3) if theirs[1] else None,
        "gib": [round(mine[1], 2), round(theirs[1], 2)],
        "n": sizes.repeats,
    }
    print(f"{work}: ratio {row['ratio']}, memory {row['memory']}", flush=True)
    return row


# --- the four


def step(sizes: Sizes, device: str) -> dict[str, object]:
    """bf16 products, fp32 masters, AdamW."""
    policy = make_policy(sizes.small, device, seed=0)
    batch = make_batch(sizes, sizes.small.vocabulary)
    state = fresh_state({"policy": policy.model}, OptimConfig(lr=1e-6))
    objective, group = sft_objective(policy), Group()
    parts = batch.split(sizes.rows * sizes.tokens, policy.arrangement())
    ids, targets = peer_inputs(batch, device)

    def ours() -> None:
        update(state, parts, objective, clip=1.0, group=group, device=policy.device)

    def peer() -> None:
        with torch.autocast(device, torch.bfloat16):
            logits = policy.model(input_ids=ids).logits
        cross_entropy(logits, targets).backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)

    return compare("bf16 step", ours, peer, sizes, device)


def head(sizes: Sizes, device: str) -> dict[str, object]:
    """Log-probs with gradients of hidden states and head."""
    shape = sizes.large
    gen = torch.Generator(device).manual_seed(0)
    how = {"generator": gen, "device": device, "dtype": torch.bfloat16}
    hidden_ND = torch.randn(sizes.scored, shape.width, **how).requires_grad_()
    weight = (torch.randn(shape.vocabulary, shape.width, **how) * 0.02).requires_grad_()
    targets_N = torch.randint(shape.vocabulary, (sizes.scored,), device=device)

    def clear() -> None:
        hidden_ND.grad = weight.grad = None

    def ours() -> None:
        kept = Head(weight, product=torch.bfloat16)
        head_scores(hidden_ND, kept, targets_N).logprobs_N.mean().backward()
        clear()

    def peer() -> None:
        logits_NV = (hidden_ND @ weight.T).float()
        torch.nn.functional.cross_entropy(logits_NV, targets_N).neg().backward()
        clear()

    work = f"log-probs of {sizes.scored} tokens, V {shape.vocabulary}"
    return compare(work, ours, peer, sizes, device)


def wmss(sizes: Sizes, device: str) -> dict[str, object]:
    """Two models trained on their mixed logits; Adafactor, so that one card holds them."""
    strong, weak = (
        make_policy(sizes.large, device, seed=seed, checkpointing=True) for seed in (0, 1)
    )
    models = {"policy": strong.model, "weak": weak.model}
    state = fresh_state(models, OptimConfig(name="adafactor", lr=1e-6))
    objective = mixed_objective(strong, LiveWeak(weak, frozen=False), lam=LAM)
    batch, group = make_batch(sizes, sizes.large.vocabulary), Group()
    parts = batch.split(sizes.rows * sizes.tokens, strong.arrangement())
    ids, targets = peer_inputs(batch, device)
    parameters = [p for model in models.values() for p in model.parameters()]

    def ours() -> None:
        update(state, parts, objective, clip=1.0, group=group, device=strong.device)

    def peer() -> None:
        with torch.autocast(device, torch.bfloat16):
            mixed = LAM * strong.model(input_ids=ids, use_cache=False).logits.float()
            mixed = mixed + (1 - LAM) * weak.model(input_ids=ids, use_cache=False).logits.float()
        cross_entropy(mixed, targets).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)

    return compare("WMSS joint step, Qwen3-4B shapes", ours, peer, sizes, device)


def sampler(sizes: Sizes, device: str) -> dict[str, object]:
    """Eight answers of each prompt, all as long as the limit."""
    policy = make_policy(sizes.small, device, seed=0, use="evaluation")
    group = min(8, sizes.samples)
    prompts = [f"{i} apples and {i + 7} pears: how many?" for i in range(sizes.samples // group)]
    problems = [Problem(id=f"p{i}", prompt=prompt) for i, prompt in enumerate(prompts)]
    cached, config = CachedSampler(policy), SampleConfig(max_new_tokens=sizes.new)
    encoded = [policy.encode_prompt(problem) for problem in problems for _ in range(group)]
    width = max(map(len, encoded))
    ids = torch.tensor([[policy.pad_id] * (width - len(e)) + list(e) for e in encoded])
    mask = torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded])
    ids, mask = ids.to(device), mask.to(device)

    def peer() -> None:
        with policy.computing():
            policy.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=sizes.new,
                min_new_tokens=sizes.new,
                pad_token_id=policy.pad_id,
            )

    def ours() -> None:
        cached.sample(problems, samples=group, config=config, seed=0)

    work = f"sampler, {sizes.samples} answers of {sizes.new} tokens"
    return compare(work, ours, peer, sizes, device)


def rows(sizes: Sizes, device: str) -> Iterator[dict[str, object]]:
    """One row after another; what a row held is free before the next."""
    for work in (step, head, sampler, wmss):
        yield work(sizes, device)
        if device == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    """Measure where there is a card, and say so where there is none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--out", default="results/gpu.json")
    options = parser.parse_args()
    if not (options.dry or torch.cuda.is_available()):
        print("no CUDA device here: the GPU figures stay unmeasured, nothing was written")
        return
    device = "cpu" if options.dry else "cuda"
    table = list(rows(DRY if options.dry else FULL, device))
    card = None if options.dry else torch.cuda.get_device_name()
    result = {"benchmark": "gpu", "card": card, "rows": table, "machine": describe()}
    if not options.dry:
        write_json(options.out, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
