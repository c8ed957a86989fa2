"""Our sampler against `model.generate` on a real model, and edit distances of long texts."""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch

from _real_common import Row, alternate, compared, endless_policy, problems_of, texts

NEW = 64


def sampler(source: Path, n: int, *, problems: int, samples: int, prompt: int, limit: float) -> Row:
    """Answers of 64 tokens that never end early, text in and text out in both."""
    from rekindle.engine.cached_sampler import CachedSampler
    from rekindle.engine.config import SampleConfig

    policy = endless_policy(source)
    prompts = problems_of(texts(source, problems, prompt))
    ours, config = CachedSampler(policy), SampleConfig(max_new_tokens=NEW)
    width = policy.model.config.vocab_size

    def sample(seed: int) -> None:
        rollouts = ours.sample(prompts, samples=samples, config=config, seed=seed)
        if {len(rollout.tokens) for rollout in rollouts} != {NEW}:
            raise SystemExit("our sampler ended an answer")

    def generate(seed: int) -> None:
        torch.manual_seed(seed)
        tokens = torch.tensor([policy.encode_prompt(p) for p in prompts])
        new = policy.model.generate(
            input_ids=tokens.repeat_interleave(samples, 0),
            attention_mask=torch.ones(problems * samples, prompt, dtype=torch.long),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=NEW,
            eos_token_id=width + 1,
            pad_token_id=policy.pad_id,
        )[:, prompt:]
        if new.shape[1] != NEW:
            raise SystemExit("generate ended an answer")
        policy.tokenizer.batch_decode(new, skip_special_tokens=True)

    times = alternate(sample, generate, n)
    many = f"{samples} samples of each of {problems} prompts"
    what = f"{samples} samples of one prompt" if problems == 1 else many
    what = f"{problems} different prompts" if samples == 1 else what
    return compared(f"sampler against generate, {what} of {prompt} tokens", *times, limit)


def similarity(n: int, *, limit: float) -> Row:
    """`pairs/similarity` of 64 pairs of 2,000 characters; the limit is in seconds."""
    from rekindle.loops.pair_step import edit_similarity

    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    sides = [["".join(draw.choices(letters, k=2000)) for _ in range(64)] for _ in range(2)]
    times = []
    for _ in range(n):
        began = time.process_time()
        for chosen, rejected in zip(*sides, strict=True):
            edit_similarity(chosen, rejected)
        times.append(time.process_time() - began)
    seconds = sorted(times)[len(times) // 2]
    work = "pairs/similarity of 64 pairs of 2,000 characters, seconds"
    note = "the limit is in seconds"
    return Row(work, "CPU seconds", round(seconds, 4), 1.0, round(seconds, 4), limit, n, note)
