"""The study that would show whether a remedy helps: it, its baseline, and what a sceptic would ask.

A tree as a study file holds it (`rekindle study`). Rates are the testbed's for models of its size
and the papers' otherwise; either way the baseline's must be settled on dev problems first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SMALL = 10_000_000  # parameters; below, the testbed's rates
STEPS = 100
GOLD, QUESTIONS = 32, 512  # of weak-to-strong: for a weak model that is not trained, and without
ROUNDS, PROMPTS = 4, 200  # of self-rewarding; prompts a round, never twice
LEAST = 16  # prompts of a round; with fewer there are hardly any pairs
ENOUGH = max(GOLD + QUESTIONS, ROUNDS * PROMPTS)
_NO_TRAINING = {"steps": 1, "lr": 1e-12}  # the weak model as it was measured
Tree = dict[str, Any]


class Rates(NamedTuple):
    """Learning rates of one step of RL, SFT and DPO."""

    rl: float
    sft: float
    dpo: float


class Place(NamedTuple):
    """What was diagnosed: sections of a recipe, and the weak model's name."""

    model: str
    parameters: int
    shared: Mapping[str, Any]  # task, and model and sample where they were set
    reward: Mapping[str, Any]
    weak: str | None
    problems: int
    train: int  # training problems, counted up to ENOUGH
    group_size: int = 8


class _Design(NamedTuple):
    arms: Tree
    baseline: str
    arm: str
    lr: float


def writable(remedy: str) -> bool:
    """Whether there is a study for a remedy; "easier problems first" has none."""
    return remedy in _DESIGNS


def too_little(remedy: str, place: Place) -> str | None:
    """Why there are too few training problems for a remedy's study; None: there are enough."""
    if remedy == "temporal" and place.train < ROUNDS * LEAST:
        return (
            f"{place.train} training problems are too few for {ROUNDS} rounds of {LEAST} prompts, "
            "none used twice"
        )
    if remedy == "weak_to_strong" and place.train < 2:
        return f"{place.train} training problems are too few for labels and gold"
    return None


def study_tree(remedy: str, place: Place, *, seeds: Sequence[int] = (0, 1, 2, 3)) -> Tree:
    """The study of a remedy on this model and task.

    Raises:
        KeyError: there is none; see `writable`.
    """
    small = place.parameters < SMALL
    rates = Rates(2e-4, 2e-3, 1e-5) if small else Rates(1e-6, 1e-5, 5e-7)
    design = _DESIGNS[remedy](place, rates, small)
    optim = {
        "steps": STEPS, "problems": 32, "lr": design.lr, "schedule": "linear", "warmup": 0.1
    }  # fmt: skip
    evaluation = {"split": "dev", "problems": place.problems, "samples": 8}
    return {
        "study": f"diagnosed_{remedy}",
        "claim": f"Does {remedy} do more than {design.baseline} on {place.model}?",
        "bases": [place.model],
        "seeds": list(seeds),
        "recipe": {**place.shared, "optim": optim, "eval": evaluation},
        "arms": design.arms,
        "baseline": design.baseline,
        "primary": {"arm": design.arm, "metric": "pass@1"},
        "secondary": ["greedy", "pass@8"],
        "meaningful": 0.01,
        "budget": {"unit": "updates", "at_most": STEPS},
    }


def _lens(place: Place, rates: Rates, small: bool) -> _Design:
    size = {"group_size": place.group_size}
    arms = {
        "grpo": {"method": "grpo", "grpo": size},
        "grpo_kl": {"method": "grpo", "grpo": {**size, "beta": 0.02}},
        "lens": {"method": "lens", "lens": size},
    }
    return _Design(arms, "grpo", "lens", rates.rl)


def _sft(place: Place, rates: Rates, small: bool) -> _Design:
    size = {"group_size": place.group_size}
    rl = {"method": "grpo", "grpo": size, "optim": {"lr": rates.rl}}
    return _Design({"grpo": rl, "sft": {"method": "sft"}}, "grpo", "sft", rates.sft)


def _hero(place: Place, rates: Rates, small: bool) -> _Design:
    knobs = {"group_size": place.group_size, "kl": 0.02}
    hero = {"method": "hero_mean", "hero": knobs}
    plain = {"scale": "none", **knobs}
    reward = {"reward": dict(place.reward)}
    arms = {
        "verifier_kl": {"method": "verifier_only", "blend": plain},
        "blend": {"method": "naive_blend", "blend": {**plain, "squash": True}, **reward},
        "hero": {**hero, **reward},
        "hero_random": {**hero, "reward": {"source": "random"}},
    }
    return _Design(arms, "verifier_kl", "hero", rates.rl)


def _wmss(place: Place, rates: Rates, small: bool) -> _Design:
    arms = {
        "sft_restart": {"method": "sft_restart"},
        "wmss": {"method": "wmss", "wmss": {"weak": place.weak}},
        "wmss_frozen": {"method": "wmss_frozen", "wmss": {"weak": place.weak}},
        "wmss_d0": {"method": "wmss_d0"},
    }
    return _Design(arms, "sft_restart", "wmss", rates.sft)


def _temporal(place: Place, rates: Rates, small: bool) -> _Design:
    knobs = {
        "iterations": ROUNDS,
        "prompts": min(PROMPTS, max(1, place.train // ROUNDS)),
        "candidates": 7,
        "judge": {"format": "marker" if small else "additive"},
        "dpo": {"nll": 1.0},
    }
    half = {"steps": STEPS // 2}
    arms = {
        "self_rewarding": {"method": "self_rewarding", "self_rewarding": knobs},
        "self_rewarding_short": {
            "method": "self_rewarding",
            "self_rewarding": {**knobs, "iterations": ROUNDS // 2},
            "optim": half,
        },
        "temporal": {
            "method": "temporal",
            "temporal": {**knobs, "iterations": ROUNDS // 2},
            "optim": half,
        },
    }
    return _Design(arms, "self_rewarding", "temporal", rates.dpo)


def _weak_to_strong(place: Place, rates: Rates, small: bool) -> _Design:
    gold = min(GOLD, max(1, place.train // 4))
    questions = min(QUESTIONS, max(1, place.train - gold))
    knobs = {"weak": place.weak, "half1": gold, "half2": questions, "weak_sft": _NO_TRAINING}
    if small:
        knobs["demos"] = 0  # models of this size cannot read them
    names = ("w2s_full_weak", "w2s_stage1", "w2s_random", "w2s_self_training")
    arms = {name: {"method": name, "weak_to_strong": knobs} for name in names}
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
