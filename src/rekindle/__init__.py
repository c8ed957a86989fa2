"""Rekindle: bring the learning signal back when post-training has stopped working.

The public names of the library; heavy imports (torch, transformers) happen only when one is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module that defines it; read by __getattr__, __dir__ and the documentation
_PUBLIC = {
    "Problem": "rekindle.records",
    "Rollout": "rekindle.records",
    "Score": "rekindle.records",
    "RekindleError": "rekindle.errors",
    "Policy": "rekindle.engine.policy",
    "CachedSampler": "rekindle.engine.cached_sampler",
    "load_task": "rekindle.tasks",
    "load_recipe": "rekindle.training.recipe",
    "train": "rekindle.training.train",
    "evaluate": "rekindle.evals.evaluate",
    "build_report": "rekindle.report.page",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rekindle' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    return vars(module)[name]


def __dir__() -> list[str]:
    return sorted(__all__)
