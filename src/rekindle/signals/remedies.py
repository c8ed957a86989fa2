"""The study that would show whether a remedy helps: it, its baseline, and what a sceptic would ask.

A tree as a study file holds it (`rekindle study`). Rates are the testbed's for models of its size
and the papers' otherwise; either way the baseline's must be settled on dev problems first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rekindle.engine.config import RewardConfig
from rekindle.signals.texts import texts
from rekindle.training.evaluation import EvalSettings

if TYPE_CHECKING:
    from rekindle.tasks import Task
    from rekindle.tasks.pairs import PairRow

SMALL = 10_000_000  # parameters; below, the testbed's rates
STEPS = 100
GOLD, QUESTIONS = 32, 512  # of weak-to-strong: for a weak model that is not trained, and without
ROUNDS, PROMPTS = 4, 200  # of self-rewarding; prompts a round, never twice
LEAST = 16  # prompts of a round; with fewer there are hardly any pairs
ENOUGH = max(GOLD + QUESTIONS, ROUNDS * PROMPTS)


class DiagnoseSettings(EvalSettings):
    """What `--set` reaches in `rekindle diagnose`."""

    reward: RewardConfig = RewardConfig()


class DiagnoseOptions(NamedTuple):
    """The arguments of `diagnose`."""

    model: str
    weak: str | None
    problems: int
    samples: int
    group_size: int | None
    levels: tuple[str, ...] | None
    check: str | None
    run: Path | None
    pairs: str | Path | Sequence[PairRow] | None
    signals: tuple[str, ...] | None
    overrides: Sequence[str]
    for_study: bool


class Subject(NamedTuple):
    """What was diagnosed: what a study of a remedy is made from."""

    settings: DiagnoseSettings  # task, and model, sample and reward where they were set
    parameters: int
    weak: str | None
    problems: int  # of train that were measured, a level
    train: int  # training problems, counted up to ENOUGH
    group_size: int
    task: Task


def studies() -> list[str]:
    """The remedies that there is a study of; "easier problems first" has none."""
    return list(texts("designs"))


def too_little(remedy: str, subject: Subject) -> str | None:
    """Why there are too few training problems for a remedy's study; None: there are enough."""
    if remedy == "temporal" and subject.train < ROUNDS * LEAST:
        return (
            f"{subject.train} training problems are too few for {ROUNDS} rounds of {LEAST} "
            "prompts, none used twice"
        )
    if remedy == "weak_to_strong" and subject.train < 2:
        return f"{subject.train} training problems are too few for labels and gold"
    return None


def study_tree(
    remedy: str, subject: Subject, *, seeds: Sequence[int] = (0, 1, 2, 3)
) -> Mapping[str, object]:
    """The study of a remedy on this model and task, as a study file has it.

    Raises:
        KeyError: there is none; see `studies`.
    """
    small, model = subject.parameters < SMALL, subject.settings.model.name
    rates = {"rl": 1e-6, "sft": 1e-5, "dpo": 5e-7}
    if small:
        rates = {"rl": 2e-4, "sft": 2e-3, "dpo": 1e-5}
    design = texts("designs")[remedy]
    lr = rates[design["rate"]]
    optim = {"steps": STEPS, "problems": 32, "lr": lr, "schedule": "linear", "warmup": 0.1}
    evaluation = {"split": "dev", "problems": subject.problems, "samples": 8}
    return {
        "study": f"diagnosed_{remedy}",
        "claim": f"Does {remedy} do more than {design['baseline']} on {model}?",
        "bases": [model],
        "seeds": list(seeds),
        "recipe": {**_sections(subject.settings), "optim": optim, "eval": evaluation},
        "arms": _filled(design["arms"], _values(subject, rates["rl"], small=small)),
        "baseline": design["baseline"],
        "primary": {"arm": design["arm"], "metric": "pass@1"},
        "secondary": ["greedy", "pass@8"],
        "meaningful": 0.01,
        "budget": {"unit": "updates", "at_most": STEPS},
    }


def _sections(settings: DiagnoseSettings) -> Mapping[str, object]:
    """The sections of a recipe that were set; the model's name is the study's base."""
    tree = settings.model_dump(mode="json", exclude_unset=True)
    tree["model"].pop("name")
    return {name: tree[name] for name in ("task", "model", "sample") if tree.get(name)}


def _filled(tree: object, values: Mapping[str, object]) -> object:
    """A design with the value of each $name in its place."""
    if isinstance(tree, dict):
        return {key: _filled(part, values) for key, part in tree.items()}
    named = isinstance(tree, str) and tree.startswith("$")
    return values[str(tree)[1:]] if named else tree


def _values(subject: Subject, rate: float, *, small: bool) -> Mapping[str, object]:
    """What the designs leave open; `rate`: of RL."""
    gold = min(GOLD, max(1, subject.train // 4))
    rounds = {
        "iterations": ROUNDS,
        "prompts": min(PROMPTS, max(1, subject.train // ROUNDS)),
        "candidates": 7,
        "judge": {"format": "marker" if small else "additive"},
        "dpo": {"nll": 1.0},
    }
    halves = {
        "weak": subject.weak,
        "half1": gold,
        "half2": min(QUESTIONS, max(1, subject.train - gold)),
        "weak_sft": {"steps": 1, "lr": 1e-12},  # no training: the weak model as it was measured
    }
    return {
        "group_size": subject.group_size,
        "rl": rate,
        "reward": subject.settings.reward.model_dump(mode="json", exclude_unset=True),
        "weak": subject.weak,
        "rounds": rounds,
        "half_rounds": {**rounds, "iterations": ROUNDS // 2},
        "half_steps": STEPS // 2,
        # models of the testbed's size cannot read demonstrations
        "halves": {**halves, "demos": 0} if small else halves,
    }
