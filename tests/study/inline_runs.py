"""A small study's recipe, an executor that runs jobs in this process, and what must come out."""

import json
import shutil
from pathlib import Path

import yaml

from rekindle.study.plan.planning import load_study
from rekindle.study.run.jobs import Outcome, run_job

RECIPE = {
    "model": {"dtype": "float64", "device": "cpu"},
    "task": {"name": "jsonl", "path": "data.jsonl"},
    "sample": {"max_new_tokens": 4},
    "optim": {"steps": 3, "problems": 4, "lr": 1e-2},
    "eval": {"problems": 5, "samples": 2},
    "checkpoint": {"every": 1},
}


def small_study(place, bases):
    """Models and data of a study in `place`, the working directory; a function that writes and
    loads study.yaml.

    Args:
        bases: a directory with the models base-0 and base-1, which are copied.
    """
    shutil.copytree(bases, place, dirs_exist_ok=True)
    rows = [
        {"prompt": f"{i}+{i % 3}=", "answer": str(i % 5), "solution": str(i % 5)} for i in range(60)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(**changes):
        tree = {
            "study": "toy",
            "bases": ["base-0", "base-1"],
            "seeds": [0, 1],
            "recipe": RECIPE,
            "arms": {
                "grpo": {"method": "grpo", "grpo": {"group_size": 4}},
                "sft": {"method": "sft"},
            },
            "baseline": "grpo",
            "primary": {"arm": "sft", "metric": "pass@2"},
            "secondary": ["pass@1"],
            **changes,
        }
        Path("study.yaml").write_text(yaml.safe_dump(tree))
        return load_study("study.yaml")

    return write


class Inline:
    """An executor that runs each job where it stands, one at a time."""

    slots = 1

    def __init__(self, die=()):
        self.die, self.job, self.asked = list(die), None, []

    def submit(self, job):
        self.asked.append(job.out)
        self.job = job

    def wait(self, seconds):
        job, self.job = self.job, None
        if any(part in str(job.out) for part in self.die):
            self.die.pop(0)
            return [Outcome(job, "lost", "ended by SIGKILL")]
        return [run_job(job)]

    def stop(self):
        return []


def tables(found):
    """What must not depend on how the study came to its end."""
    keep = ("comparisons", "failed", "unfinished", "declared")
    costs = {
        arm: {k: v for k, v in row["spent"].items() if k != "seconds"}
        for arm, row in found["arms"].items()
    }
    return {**{key: found[key] for key in keep}, "costs": costs}
