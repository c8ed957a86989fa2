"""What the credit of a rollout batch costs: 512 groups of 16, beside the step that it is part of.

    python benchmarks/credit.py

The step is the testbed's smallest: sampling, scoring and updating 512 groups of 16 short answers
with 0.16M parameters. Larger models make it longer and leave the arithmetic as it is.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from _machine import describe
from rekindle.methods import blend, grpo, hero, lens, ngrpo
from rekindle.ops.groups import ScoredRows
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

LIMIT = 0.005  # of the step


def rows(groups: int, size: int) -> ScoredRows:
    """Verdicts, scores and log-probs of a rollout batch."""
    n = groups * size
    gen = torch.Generator().manual_seed(0)
    draw = torch.rand(4, n, generator=gen, dtype=torch.float64)
    tokens = (draw[2] * 100).ceil()
    return ScoredRows(
        [i // size for i in range(n)], (draw[0] < 0.3).double(), draw[1], -tokens * draw[3], tokens
    )


def main() -> None:
    """Print a line for each method and the JSON object."""
    times = 3 if "--quick" in sys.argv else 11
    batch = rows(512, 16)
    seconds = {}
    for name, module, config in (
        ("grpo", grpo, grpo.Config()),
        ("lens", lens, lens.Config()),
        ("hero", hero, hero.Config()),
        ("gated", blend, blend.PRESETS["gated"]),
        ("ngrpo", ngrpo, ngrpo.Config()),
    ):
        found = []
        for _ in range(times):
            began = time.perf_counter()
            module.credit(batch, config)
            found.append(time.perf_counter() - began)
        seconds[name] = median(found)
    place = Path(tempfile.mkdtemp())
    tree = {
        "method": "grpo",
        "model": {"name": "testbed/countdown-s0"},
        "task": {"name": "countdown", "levels": ["4"]},
        "optim": {"steps": 2, "problems": 512},
        "eval": {"problems": 1, "samples": 1},
        "grpo": {"group_size": 16},
    }
    train(make_recipe(tree), place / "run", quiet=True)
    lines = (place / "run" / "metrics.jsonl").read_text().splitlines()
    step = json.loads(lines[-1])
    step_seconds = step["time/sample"] + step["time/score"] + step["time/update"]
    shutil.rmtree(place)
    for name, value in seconds.items():
        print(
            f"{name:<6} {1e3 * value:7.2f} ms, {value / step_seconds:.3%} of {step_seconds:.1f} s"
        )
    ratios = {f"ratio_{n}": LIMIT * step_seconds / v for n, v in seconds.items()}
    facts = {"seconds": seconds, "step_seconds": step_seconds, "machine": describe()}
    print(json.dumps({"benchmark": "credit", **ratios, **facts}))


if __name__ == "__main__":
    main()
