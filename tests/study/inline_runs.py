"""A small study's recipe, an executor that runs jobs in this process, and what must come out."""

from rekindle.study.run.jobs import Outcome, run_job

RECIPE = {
    "model": {"dtype": "float64", "device": "cpu"},
    "task": {"name": "jsonl", "path": "data.jsonl"},
    "sample": {"max_new_tokens": 4},
    "optim": {"steps": 3, "problems": 4, "lr": 1e-2},
    "eval": {"problems": 5, "samples": 2},
    "checkpoint": {"every": 1},
}


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
