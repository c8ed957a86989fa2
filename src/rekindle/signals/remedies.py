"""The study that would show whether a remedy helps: it, its baseline, and what a sceptic would ask.

A tree as a study file holds it (`rekindle study`). Rates are the testbed's for models of its size
and the papers' otherwise; either way the baseline's must be settled on dev problems first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rekindle.engine.config import RewardConfig
from rekindle.training.evaluation import EvalSettings

if TYPE_CHECKING:
    from rekindle.tasks import Task

SMALL = 10_000_000  # parameters; below, the testbed's rates
STEPS = 100
GOLD, QUESTIONS = 32, 512  # of weak-to-strong: for a weak model that is not trained, and without
ROUNDS, PROMPTS = 4, 200  # of self-rewarding; prompts a round, never twice
LEAST = 16  # prompts of a round; with fewer there are hardly any pairs
ENOUGH = max(GOLD + QUESTIONS, ROUNDS * PROMPTS)
_NO_TRAINING = {"steps": 1, "lr": 1e-12}  # the weak model as it was measured


class DiagnoseSettings(EvalSettings):
    """What `--set` reaches in `rekindle diagnose`."""

    reward: RewardConfig = RewardConfig()


class Rates(NamedTuple):
    """Learning rates of one step of RL, SFT and DPO."""

    rl: float
    sft: float
    dpo: float


class Subject(NamedTuple):
    """What was diagnosed: what a study of a remedy is made from."""

    settings: DiagnoseSettings  # task, and model, sample and reward where they were set
    parameters: int
    weak: str | None
    problems: int  # of train that were measured, a level
    train: int  # training problems, counted up to ENOUGH
    group_size: int
    task: Task

    @property
    def model(self) -> str:
        """Its name."""
        return self.settings.model.name


class _Design(NamedTuple):
    arms: Mapping[str, Mapping[str, object]]
    baseline: str
    arm: str
    lr: float


def writable(remedy: str) -> bool:
    """Whether there is a study for a remedy; "easier problems first" has none."""
    return remedy in _DESIGNS


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
        KeyError: there is none; see `writable`.
    """
    small = subject.parameters < SMALL
    rates = Rates(2e-4, 2e-3, 1e-5) if small else Rates(1e-6, 1e-5, 5e-7)
    design = _DESIGNS[remedy](subject, rates, small)
    optim = {
        "steps": STEPS, "problems": 32, "lr": design.lr, "schedule": "linear", "warmup": 0.1
    }  # fmt: skip
    evaluation = {"split": "dev", "problems": subject.problems, "samples": 8}
    return {
        "study": f"diagnosed_{remedy}",
        "claim": f"Does {remedy} do more than {design.baseline} on {subject.model}?",
        "bases": [subject.model],
        "seeds": list(seeds),
        "recipe": {**_sections(subject.settings), "optim": optim, "eval": evaluation},
        "arms": design.arms,
        "baseline": design.baseline,
        "primary": {"arm": design.arm, "metric": "pass@1"},
        "secondary": ["greedy", "pass@8"],
        "meaningful": 0.01,
        "budget": {"unit": "updates", "at_most": STEPS},
    }


def _sections(settings: DiagnoseSettings) -> Mapping[str, object]:
    """The sections of a recipe that were set; the model's name is the study's base."""
    tree = settings.model_dump(mode="json", exclude_unset=True)
    tree["model"].pop("name")
    return {name: tree[name] for name in ("task", "model", "sample") if tree.get(name)}


def _lens(subject: Subject, rates: Rates, small: bool) -> _Design:
    size = {"group_size": subject.group_size}
    arms = {
        "grpo": {"method": "grpo", "grpo": size},
        "grpo_kl": {"method": "grpo", "grpo": {**size, "beta": 0.02}},
        "lens": {"method": "lens", "lens": size},
    }
    return _Design(arms, "grpo", "lens", rates.rl)


def _sft(subject: Subject, rates: Rates, small: bool) -> _Design:
    size = {"group_size": subject.group_size}
    rl = {"method": "grpo", "grpo": size, "optim": {"lr": rates.rl}}
    return _Design({"grpo": rl, "sft": {"method": "sft"}}, "grpo", "sft", rates.sft)


def _hero(subject: Subject, rates: Rates, small: bool) -> _Design:
    settings = {"group_size": subject.group_size, "kl": 0.02}
    hero = {"method": "hero_mean", "hero": settings}
    plain = {"scale": "none", **settings}
    reward = subject.settings.reward.model_dump(mode="json", exclude_unset=True)
    blend = {"method": "naive_blend", "blend": {**plain, "squash": True}, "reward": reward}
    arms: dict[str, Mapping[str, object]] = {
        "verifier_kl": {"method": "verifier_only", "blend": plain},
        "blend": blend,
        "hero": {**hero, "reward": reward},
        "hero_random": {**hero, "reward": {"source": "random"}},
    }
    return _Design(arms, "verifier_kl", "hero", rates.rl)


def _wmss(subject: Subject, rates: Rates, small: bool) -> _Design:
    arms: dict[str, Mapping[str, object]] = {
        "sft_restart": {"method": "sft_restart"},
        "wmss": {"method": "wmss", "wmss": {"weak": subject.weak}},
        "wmss_frozen": {"method": "wmss_frozen", "wmss": {"weak": subject.weak}},
        "wmss_d0": {"method": "wmss_d0"},
    }
    return _Design(arms, "sft_restart", "wmss", rates.sft)


def _temporal(subject: Subject, rates: Rates, small: bool) -> _Design:
    settings = {
        "iterations": ROUNDS,
        "prompts": min(PROMPTS, max(1, subject.train // ROUNDS)),
        "candidates": 7,
        "judge": {"format": "marker" if small else "additive"},
        "dpo": {"nll": 1.0},
    }
    half = {"steps": STEPS // 2}
    arms = {
        "self_rewarding": {"method": "self_rewarding", "self_rewarding": settings},
        "self_rewarding_short": {
            "method": "self_rewarding",
            "self_rewarding": {**settings, "iterations": ROUNDS // 2},
            "optim": half,
        },
        "temporal": {
            "method": "temporal",
            "temporal": {**settings, "iterations": ROUNDS // 2},
            "optim": half,
        },
    }
    return _Design(arms, "self_rewarding", "temporal", rates.dpo)


def _weak_to_strong(subject: Subject, rates: Rates, small: bool) -> _Design:
    gold = min(GOLD, max(1, subject.train // 4))
    questions = min(QUESTIONS, max(1, subject.train - gold))
    settings = {"weak": subject.weak, "half1": gold, "half2": questions, "weak_sft": _NO_TRAINING}
    if small:
        settings["demos"] = 0  # models of this size cannot read them
    names = ("w2s_full_weak", "w2s_stage1", "w2s_random", "w2s_self_training")
    arms = {name: {"method": name, "weak_to_strong": settings} for name in names}
    return _Design(arms, "w2s_full_weak", "w2s_stage1", rates.sft)


_DESIGNS = {
    "lens": _lens,
    "sft": _sft,
    "hero": _hero,
    "wmss": _wmss,
    "temporal": _temporal,
    "weak_to_strong": _weak_to_strong,
}
STUDIES = tuple(_DESIGNS)
