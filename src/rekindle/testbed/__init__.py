"""A world that fits a laptop: a tokenizer, small Llama models, and how their weights were made.

Model names are `testbed/<task>-s<seed>`: one base per task and pre-training seed, each of about
0.16M parameters. A few more, `DERIVED`, are made from them. `rekindle testbed build` makes all of
them again from nothing.

`testbed/smollm2-135m` and `testbed/gemma3-270m` are pretrained models that `rekindle testbed fetch`
puts in the cache, see `pretrained.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from rekindle.errors import ModelError, did_you_mean
from rekindle.testbed import pretrained

SEEDS = (0, 1, 2)
_WEIGHTS = Path(__file__).parent / "weights"


class Pretraining(NamedTuple):
    """How the bases of a task are made.

    The hardest level is rare or, in addition, never seen, so that there is something left to learn.
    """

    mix: dict[str, float]  # share of each level
    steps: int
    minutes: str  # on one core of a machine with other work
    must_reach: dict[str, float]  # level -> pass@1 (T = 1, dev problems) of a rebuilt model


class Derived(NamedTuple):
    """A model that is made from a base by other commands.

    Attributes:
        arguments: of `rekindle`; {dir} is where it works, {recipes} the shipped recipes.
        model: what it leaves, below {dir}.
        about: what it is for and what it reaches.
    """

    arguments: list[str]
    model: str
    about: str


_DATA = yaml.safe_load(Path(__file__).with_name("models.yaml").read_text(encoding="utf-8"))
LLAMA: dict[str, int | bool] = _DATA["llama"]
_PRETRAINING = {task: Pretraining(**settings) for task, settings in _DATA["pretraining"].items()}
DERIVED = {name: Derived(**recipe) for name, recipe in _DATA["derived"].items()}


def names() -> list[str]:
    """All base models."""
    return [f"testbed/{task}-s{seed}" for task in _PRETRAINING for seed in SEEDS]


def resolve(name: str) -> Path:
    """The directory of a testbed model, in Hugging Face layout.

    Raises:
        ModelError: there is no such model, what exists is listed; or it has to be fetched first.
    """
    if name.removeprefix("testbed/") in pretrained.MODELS:
        return pretrained.fetched(name.removeprefix("testbed/"))
    known = [*names(), *DERIVED, *(f"testbed/{model}" for model in pretrained.MODELS)]
    if name not in known:
        raise ModelError(f"unknown testbed model '{name}'", fix=did_you_mean(name, known))
    return _WEIGHTS / name.removeprefix("testbed/")


def located(name: str) -> str:
    """What a model is loaded from: a testbed model's directory, any other name as it is.

    Raises:
        ModelError: there is no such testbed model, or it has to be fetched first.
    """
    return str(resolve(name)) if name.startswith("testbed/") else name


def split_name(name: str) -> tuple[str, int]:
    """`testbed/countdown-s1` -> ("countdown", 1); any pre-training seed, shipped or not.

    Raises:
        ModelError: it is not of that form, or there is no such task.
    """
    task, dash, seed = name.removeprefix("testbed/").rpartition("-s")
    if not dash or not seed.isdecimal() or task not in _PRETRAINING:
        raise ModelError(
            f"'{name}' is not a testbed model",
            wanted="testbed/<task>-s<pre-training seed>",
            fix=did_you_mean(name, names()),
        )
    return task, int(seed)


def pretraining(name: str, *, steps: int | None = None) -> Mapping[str, object]:
    """The recipe that makes a model from fresh weights: SFT on generated solutions.

    `steps` below the usual number make a weaker base: the schedule is that of the shorter training.
    """
    task, seed = split_name(name)
    settings = _PRETRAINING[task]
    steps = steps or settings.steps
    return {
        "method": "sft",
        "seed": 1000 + seed,  # apart from the seeds that users train with
        "model": {"name": name},
        "task": {"name": task, "args": {"mix": settings.mix}},
        "optim": {"steps": steps, **_DATA["sft"]["optim"]},
        "checkpoint": {**_DATA["sft"]["checkpoint"]},
        "eval": {**_DATA["sft"]["eval"]},
    }


def must_reach(name: str) -> dict[str, float]:
    """Level -> smallest pass@1 (T = 1, 150 dev problems a level, 8 samples) of a rebuilt model."""
    return dict(_PRETRAINING[split_name(name)[0]].must_reach)


def describe(name: str) -> str:
    """One line: the name, what it was trained on, for how long, and what it must reach."""
    if name in DERIVED:
        return f"{name:<28} {DERIVED[name].about}"
    if name.removeprefix("testbed/") in pretrained.MODELS:
        model = pretrained.MODELS[name.removeprefix("testbed/")]
        how = f"fetched by `rekindle testbed fetch`, {model.megabytes} MB"
        return f"{name:<28} {model.about}; {model.license}; {how}"
    task, _ = split_name(name)
    settings = _PRETRAINING[task]
    mix = ", ".join(f"level {level} {share:.0%}" for level, share in settings.mix.items())
    floors = ", ".join(f"{level}: {floor}" for level, floor in must_reach(name).items())
    return (
        f"{name:<28} {settings.steps} steps ({settings.minutes} min) on {mix}; "
        f"pass@1 at least {floors}"
    )
