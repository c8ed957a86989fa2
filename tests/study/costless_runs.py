"""Studies whose runs cost nothing: an executor that writes run directories by hand."""

import os
import signal
from pathlib import Path

import pytest
import yaml

from rekindle.engine.manifest import STATE_FORMAT
from rekindle.errors import ConfigError
from rekindle.files import write_json
from rekindle.study.plan.planning import load_study, plan
from rekindle.study.run.jobs import Outcome
from rekindle.study.run.runner import execute_study
from rekindle.study.schema import MeanSpent

TREE = {
    "study": "toy",
    "bases": ["base-0", "base-1", "base-2"],
    "seeds": [0, 1],
    "recipe": {
        "task": {"name": "chain"},
        "optim": {"steps": 1},
        "eval": {"samples": 1, "problems": 4},
    },
    "arms": {"a": {"method": "sft"}, "b": {"method": "sft"}},
    "baseline": "a",
    "primary": {"arm": "b"},
}


def study_of(**changes):
    tree = told_apart({**TREE, **changes})
    Path("study.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return load_study("study.yaml")


def told_apart(tree):
    """The study with a setting of its own for each arm: arms that are alike are refused."""

    def own(name, arm):
        batch = {"batch": ord(name[-1])}
        return {**arm, "reward": {**batch, **arm.get("reward", {})}} if arm else arm

    return {**tree, "arms": {name: own(name, arm) for name, arm in tree["arms"].items()}}


class Cheap:
    """Every job ends at once. `fail`: parts of paths whose jobs fail; `stop_after`: so many jobs,
    then SIGTERM."""

    slots = 1

    def __init__(self, fail=(), stop_after=None, unfinished=()):
        self.fail, self.stop_after, self.unfinished = fail, stop_after, unfinished
        self.asked, self.recipes = [], {}

    def submit(self, job):
        self.job = job
        self.asked.append(job.out)

    def wait(self, seconds):
        job = self.job
        if self.stop_after is not None and len(self.asked) > self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
            return [Outcome(job, "stopped")]
        if any(part in str(job.out) for part in self.fail):
            return [Outcome(job, "failed", "boom")]
        job.out.mkdir(parents=True, exist_ok=True)
        if job.recipe is None:
            return [Outcome(job, "finished")]
        write_run(job.out, job.recipe)
        return [Outcome(job, "finished")]

    def stop(self):
        return []


def write_run(place, recipe, finished="now"):
    """A run directory as a study reads it."""
    right = [int(hash_of(place, i) % 3 > 0) for i in range(8)]
    marks = {"rekindle": "x", "fingerprints": {"data": "same"}, "state_format": STATE_FORMAT}
    write_json(place / "manifest.json", {**marks, "finished": finished})
    (place / "config.yaml").write_text(yaml.safe_dump(dict(recipe)))
    (place / "metrics.jsonl").write_text('{"step": 1, "tokens/trained": 10}\n')
    evaluation = {
        "task": "toy", "split": "dev", "n_samples": 1, "metrics": {"pass@1": {}}, "levels": {},
        "problems": [{"id": f"p{i}", "level": ""} for i in range(8)],
        "outcomes": [[x] for x in right], "greedy_outcomes": right,
    }  # fmt: skip
    write_json(place / "eval.json", evaluation)


def cost(**spent):
    """What a run of an arm cost; nothing but what is given."""
    return MeanSpent(**{**dict.fromkeys(MeanSpent.model_fields, 0.0), **spent})


def hash_of(place, i):
    arm, base, seed = place.parts[-3:]
    return ord(arm[-1]) * 7 + ord(base[-1]) * 3 + ord(seed[-1]) * 5 + i


def go(study, out, mode="new", **how):
    """Run it; the results and what the executor was asked."""
    executor = Cheap(**how)
    found = results_of(study, out, executor=executor, mode=mode)
    return found, executor.asked


def results_of(study, out, **how):
    """Run a study; its results as study.json holds them."""
    return execute_study(study, Path(out), quiet=True, **how).plain()


def refused(says, **changes):
    """What is said of a study that cannot be planned."""
    with pytest.raises(ConfigError, match=says) as error:
        plan(study_of(**changes), Path("out"))
    return str(error.value)
