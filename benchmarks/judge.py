"""Generating and judging a round's answers, against the sampler alone on the same prompts.

    python benchmarks/judge.py            300 prompts x 7 candidates, 3 judgements of each
    python benchmarks/judge.py --quick

Ours: the stages of a round as a run makes them, with grading, records, hashes and files. The
sampler: the same prompts (candidates', then the judge's) through `CachedSampler` and nothing else.
Both alternate; tokens a second are of what was generated.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rekindle.engine.threads import calm_threads

calm_threads()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from _machine import describe  # noqa: E402

LEAST = 0.8


def make_rounds(prompts: int, directory: Path):
    """One round of self-rewarding on the testbed, nothing of it done."""
    from rekindle.engine.device import process_group
    from rekindle.engine.policy import Policy
    from rekindle.engine.run import Run
    from rekindle.methods.self_rewarding.rounds import Rounds
    from rekindle.training.parts import Parts, open_task
    from rekindle.training.recipe import load_recipe
    from rekindle.training.train import make_world

    recipe = load_recipe(
        "recipes/self_rewarding_chain_testbed.yaml",
        [
            f"self_rewarding.prompts={prompts}",
            "self_rewarding.iterations=1",
            "self_rewarding.seed.steps=0",
            "self_rewarding.judge.max_missing=1.0",
        ],
    )
    group = process_group("cpu")
    task = open_task(recipe.shared.task)
    policy = Policy.load(recipe.shared.model)
    run = Run.open(
        directory,
        config=recipe.resolved(),
        fingerprints={},
        mode="new",
        command="benchmark",
        quiet=True,
        group=group,
    )
    world = make_world(recipe, Parts(task), policy, run=run, group=group)
    return Rounds(recipe.method, world), run


def ours(prompts: int) -> tuple[int, float]:
    """Tokens and seconds of the two stages."""
    with tempfile.TemporaryDirectory() as scratch:
        rounds, run = make_rounds(prompts, Path(scratch) / "run")
        with run:
            policy = rounds.world.policy
            began = time.perf_counter()
            judge = rounds.begin(1, policy)
            answers = {"current": rounds.answers("candidates", "current", policy)}
            rounds.judged("judged", judge, answers)
            return rounds.spent["spent/generated"], time.perf_counter() - began


def sampler_alone(prompts: int) -> tuple[int, float]:
    """The same prompts, decoded and nothing else."""
    from rekindle.engine.cached_sampler import CachedSampler
    from rekindle.engine.config import SampleConfig
    from rekindle.records import Problem
    from rekindle.rewards.judge import format_of

    with tempfile.TemporaryDirectory() as scratch:
        rounds, run = make_rounds(prompts, Path(scratch) / "run")
        with run:
            world, config, form = rounds.world, rounds.config, format_of("marker")
            sampler = CachedSampler(world.policy)
            began = time.perf_counter()
            found = sampler.sample(
                rounds.chunks[0], samples=config.candidates, config=world.sample, seed=0
            )
            seconds = time.perf_counter() - began
            texts = {(r.problem.id, r.text): r for r in found}
            asked = [
                Problem(id=str(i), prompt=form.ask(r.problem, r.text))
                for i, r in enumerate(texts.values())
            ]
            decoding = SampleConfig(max_new_tokens=form.room)
            began = time.perf_counter()
            judged = sampler.sample(asked, samples=config.judge.samples, config=decoding, seed=0)
            seconds += time.perf_counter() - began
            return sum(len(r.tokens) for r in [*found, *judged]), seconds


def main() -> None:
    """Print the ratio and the JSON object."""
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    prompts, rounds = (40, 2) if quick else (300, 20)
    rates: dict[str, list[float]] = {"ours": [], "sampler": []}
    for turn in range(rounds + 1):
        for name, take in (("ours", ours), ("sampler", sampler_alone)):
            tokens, seconds = take(prompts)
            if turn:
                rates[name].append(tokens / seconds)
    mean = {name: statistics.median(values) for name, values in rates.items()}
    share = mean["ours"] / mean["sampler"]
    print(
        f"{prompts} prompts x 7: a round's stages {mean['ours']:,.0f} tokens/s, the sampler alone "
        f"{mean['sampler']:,.0f}: {share:.2f} (at least {LEAST})"
    )
    facts = {"tokens_per_second": mean, "prompts": prompts, "machine": describe()}
    print(json.dumps({"benchmark": "judge", "ratio_judge": share / LEAST, **facts}))


if __name__ == "__main__":
    main()
