"""What a study costs beyond its runs, and what the second core brings.

    python benchmarks/study_overhead.py

The same runs three times: one after another in this process by `train`, as a study with one worker,
and as a study with two. Overhead is the second against the first (workers start, import torch, and
the results are computed); throughput the second against the third.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import shutil
import tempfile
import time
from pathlib import Path

from _machine import describe
from rekindle.methods.train import train
from rekindle.study.design import load_study, plan
from rekindle.study.local import LocalPool
from rekindle.study.runner import run_study

STUDY = """
study: overhead
bases: [testbed/countdown-s0, testbed/countdown-s1]
seeds: [0, 1]
recipe:
  task: {name: countdown, levels: ["4"]}
  optim: {steps: 60, problems: 32}
  eval: {problems: 100, samples: 8}
arms:
  grpo: {method: grpo}
  slow: {method: grpo, optim: {lr: 1.0e-4}}
baseline: grpo
primary: {arm: slow}
"""


def main() -> None:
    """Print two lines and the JSON object."""
    place = Path(tempfile.mkdtemp())
    (place / "study.yaml").write_text(STUDY)
    study = load_study(place / "study.yaml")
    runs = plan(study, place / "direct")
    train(runs[0].recipe, place / "warm", quiet=True)
    began = time.perf_counter()
    for run in runs:
        train(run.recipe, run.out, quiet=True)
    seconds = {"direct": time.perf_counter() - began}
    for slots in (1, 2):
        began = time.perf_counter()
        run_study(study, place / str(slots), executor=LocalPool(slots), quiet=True)
        seconds[f"workers_{slots}"] = time.perf_counter() - began
    shutil.rmtree(place)
    overhead = seconds["workers_1"] / seconds["direct"] - 1
    throughput = seconds["workers_1"] / seconds["workers_2"]
    print(f"overhead   {overhead:.1%} of {seconds['direct']:.0f} s (at most 3 %)")
    print(f"throughput {throughput:.2f} times with two workers (at least 1.9)")
    ratios = {"ratio_overhead": 0.03 / max(overhead, 1e-9), "ratio_throughput": throughput / 1.9}
    facts = {"seconds": seconds, "runs": len(runs), "machine": describe()}
    print(json.dumps({"benchmark": "study", **ratios, **facts}))


if __name__ == "__main__":
    main()
