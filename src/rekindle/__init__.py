"""Rekindle: bring the learning signal back when post-training has stopped working.

The public names of the library; docs/python.md has an example of each. Heavy imports (torch,
transformers) happen only when a name that needs them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rekindle.version import __version__

if TYPE_CHECKING:
    from rekindle.engine.policy import Policy as Policy
    from rekindle.engine.sampler import Sampler as Sampler
    from rekindle.engine.sampler import sampler_for as sampler_for
    from rekindle.errors import RekindleError as RekindleError
    from rekindle.evals.estimates import paired_difference as paired_difference
    from rekindle.evals.estimates import pass_at_k as pass_at_k
    from rekindle.evals.intervals import Interval as Interval
    from rekindle.records import Problem as Problem
    from rekindle.records import Rollout as Rollout
    from rekindle.records import Score as Score
    from rekindle.report.page import build_report as build_report
    from rekindle.rewards.judge import Judge as Judge
    from rekindle.signals.diagnose import diagnose as diagnose
    from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log as diagnose_log
    from rekindle.signals.run_diagnosis.watch import Watch as Watch
    from rekindle.study.run.start import run_study as run_study
    from rekindle.tasks import Task as Task
    from rekindle.tasks import load_task as load_task
    from rekindle.training.advantages import group_advantages as group_advantages
    from rekindle.training.advantages import hero_advantages as hero_advantages
    from rekindle.training.advantages import lens_advantages as lens_advantages
    from rekindle.training.evaluation import evaluate as evaluate
    from rekindle.training.losses import mixed_cross_entropy as mixed_cross_entropy
    from rekindle.training.recipe import load_recipe as load_recipe
    from rekindle.training.train import train as train

# public name -> module that defines it; read by __getattr__, __dir__ and the documentation
_PUBLIC = {
    "train": "rekindle.training.train",
    "evaluate": "rekindle.training.evaluation",
    "diagnose": "rekindle.signals.diagnose",
    "Watch": "rekindle.signals.run_diagnosis.watch",
    "diagnose_log": "rekindle.signals.run_diagnosis.diagnose_log",
    "run_study": "rekindle.study.run.start",
    "load_recipe": "rekindle.training.recipe",
    "load_task": "rekindle.tasks",
    "build_report": "rekindle.report.page",
    "group_advantages": "rekindle.training.advantages",
    "lens_advantages": "rekindle.training.advantages",
    "hero_advantages": "rekindle.training.advantages",
    "mixed_cross_entropy": "rekindle.training.losses",
    "pass_at_k": "rekindle.evals.estimates",
    "paired_difference": "rekindle.evals.estimates",
    "Interval": "rekindle.evals.intervals",
    "Problem": "rekindle.records",
    "Rollout": "rekindle.records",
    "Score": "rekindle.records",
    "Task": "rekindle.tasks",
    "Judge": "rekindle.rewards.judge",
    "Policy": "rekindle.engine.policy",
    "Sampler": "rekindle.engine.sampler",
    "sampler_for": "rekindle.engine.sampler",
    "RekindleError": "rekindle.errors",
}

__all__ = ["__version__", *_PUBLIC]


if not TYPE_CHECKING:  # a type checker sees the imports above, and misspelt names

    def __getattr__(name: str) -> object:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'rekindle' has no attribute {name!r}")
        return vars(import_module(_PUBLIC[name]))[name]


def __dir__() -> list[str]:
    return sorted(__all__)
