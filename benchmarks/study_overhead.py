"""What a study costs beyond its runs, and what the second core brings.

    python benchmarks/study_overhead.py           four minutes on two idle cores
    python benchmarks/study_overhead.py --quick

Overhead is the time in which a worker had no run, as a share of the time in which it had one: from
the start of the study to its results, torch's import by a worker being part of its first run (a
`rekindle train` for each run would pay it each time). Throughput is the same study with one worker
against two, alternating, median over the rounds.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _machine import describe
from rekindle.study.design import load_study
from rekindle.study.jobs import Outcome
from rekindle.study.local import LocalPool
from rekindle.study.runner import run_study

STUDY = """
study: overhead
bases: [testbed/countdown-s0, testbed/countdown-s1]
seeds: [0, 1]
recipe:
  task: {name: countdown, levels: ["4"]}
  optim: {steps: STEPS, problems: 32}
  eval: {problems: 50, samples: 8}
arms:
  grpo: {method: grpo}
  slow: {method: grpo, optim: {lr: 1.0e-4}}
baseline: grpo
primary: {arm: slow}
"""


class Timed(LocalPool):
    """A pool that adds up how long its jobs took."""

    busy = 0.0

    def wait(self, seconds: float) -> list[Outcome]:
        """As the pool's."""
        found = super().wait(seconds)
        self.busy += sum(outcome.seconds for outcome in found)
        return found


def main() -> None:
    """Print two lines and the JSON object."""
    quick = "--quick" in sys.argv
    steps, rounds = (5, 1) if quick else (40, 3)
    wall: dict[int, list[float]] = {1: [], 2: []}
    idle: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "study.yaml").write_text(STUDY.replace("STEPS", str(steps)))
        study = load_study(place / "study.yaml")
        for turn in range(rounds):
            for slots in wall:
                pool = Timed(slots)
                began = time.perf_counter()
                run_study(study, place / f"{turn}-{slots}", executor=pool, quiet=True)
                seconds = time.perf_counter() - began
                wall[slots].append(seconds)
                idle[slots].append((seconds * slots - pool.busy) / pool.busy)
    overhead = statistics.median(idle[1])
    throughput = statistics.median(a / b for a, b in zip(wall[1], wall[2], strict=True))
    print(f"overhead   {overhead:.1%} with one worker (at most 3 %)")
    print(f"throughput {throughput:.2f} times with two workers (at least 1.9)")
    ratios = {"ratio_overhead": 0.03 / max(overhead, 1e-9), "ratio_throughput": throughput / 1.9}
    facts = {"wall_seconds": wall, "idle_share": idle, "runs": 8, "machine": describe()}
    print(json.dumps({"benchmark": "study", **ratios, **facts}))


if __name__ == "__main__":
    main()
