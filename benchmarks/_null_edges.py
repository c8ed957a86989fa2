"""Each rule of a cause where its null just holds: the place where it errs most.

A draw is one log, as columns or as the share that the rule looks at; it says whether the null was
refuted. Sizes vary as those of logs do, and prompts are asked up to four times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from rekindle.signals.findings import MIXED, MOST
from rekindle.signals.logs.not_data import _by_prompts
from rekindle.signals.run_diagnosis.cause import CUT, ERRORS
from rekindle.signals.run_diagnosis.coverage import ALARM, removed_findings
from rekindle.signals.run_diagnosis.groups import GroupTable
from rekindle.signals.run_diagnosis.log_finding import mean
from rekindle.signals.run_diagnosis.rewards import USEFUL, auc_in_groups
from rekindle.signals.run_diagnosis.within_groups import Groups

Rng = np.random.Generator
Draw = Callable[[Rng], bool]


def _shared(rng: Rng, share: float, units: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """0 and 1 with a mean of `share`, of which those of one prompt are alike (Beta, a + b = 2)."""
    chance = rng.beta(2 * share, 2 * (1 - share), units)
    prompt = np.repeat(np.arange(units), each)
    return (rng.random(units * each) < chance[prompt]).astype(np.float64), prompt


def _dead(rng: Rng) -> bool:
    """All-wrong groups are half, over all steps or over the last third."""
    value, prompt = _shared(rng, MOST, int(rng.integers(60, 500)), int(rng.integers(1, 5)))
    late = rng.permutation(len(value))[: len(value) // 3]
    looks = (mean(value, prompt, bounded=True), mean(value[late], prompt[late], bounded=True))
    return any(look.ci_low > MOST for look in looks)


def _few_mixed(rng: Rng) -> bool:
    value, prompt = _shared(rng, MIXED, int(rng.integers(60, 500)), int(rng.integers(1, 5)))
    late = rng.permutation(len(value))[: len(value) // 3]
    looks = (mean(value, prompt, bounded=True), mean(value[late], prompt[late], bounded=True))
    return any(look.ci_high < MIXED for look in looks)


def _form(rng: Rng) -> bool:
    value, prompt = _shared(rng, MOST, int(rng.integers(60, 500)), int(rng.integers(1, 5)))
    return mean(value, prompt, bounded=True).ci_low > MOST


def _blind(rng: Rng) -> bool:
    """A model of AUC 0.6 within groups, of prompts that differ in how often they are solved."""
    prompts, size = int(rng.integers(40, 400)), int(rng.choice([4, 8, 16]))
    right = (rng.random((prompts, size)) < rng.beta(1.2, 1.2, (prompts, 1))).astype(np.float64)
    score = rng.normal(size=right.shape) + 0.3583 * right + rng.normal(size=(prompts, 1))
    rows, group = np.arange(right.size), np.repeat(np.arange(prompts), size)
    groups = Groups(rows, group, np.full(prompts, size), np.arange(prompts))
    return auc_in_groups(groups, score.ravel(), right.ravel())[0].ci_high < USEFUL


def _cut(rng: Rng) -> bool:
    """Half of the wrong answers were cut, and a third of all."""
    value, prompt = _shared(rng, MOST, int(rng.integers(60, 500)), int(rng.integers(2, 9)))
    right = rng.random(len(value)) < 1 / 3
    cut = np.where(right, 0.0, value)
    found = mean(cut[~right], prompt[~right], bounded=True)
    return found.ci_low > MOST and mean(cut, prompt, bounded=True).ci_low > CUT


def _accepted(rng: Rng) -> bool:
    value, prompt = _shared(rng, ERRORS, int(rng.integers(60, 500)), int(rng.integers(2, 9)))
    return mean(value, prompt, bounded=True).ci_low > ERRORS


def _refused(rng: Rng) -> bool:
    value, prompt = _shared(rng, 1 - ERRORS, int(rng.integers(60, 500)), int(rng.integers(2, 9)))
    return mean(value, prompt, bounded=True).ci_high < 1 - ERRORS


def _removed(rng: Rng) -> bool:
    """Every prompt is as hard as any other: what mixed groups imply is then what there is."""
    size, groups = int(rng.choice([4, 6, 8, 12, 16])), int(rng.integers(80, 1_000))
    chance = float(rng.choice([0.5, 1.5, 2.5])) / size
    right = rng.binomial(size, chance, groups)
    found = removed_findings(_table(right, size, np.arange(groups) // int(rng.integers(1, 5))))
    return any(one.p is not None and one.p < ALARM for one in found)


def _table(right: np.ndarray, size: int, prompt: np.ndarray) -> GroupTable:
    count = len(right)
    whole, none = np.full(count, size), np.zeros(count)
    return GroupTable(
        group_P=np.arange(count), step_P=np.ones(count, dtype=np.int64), prompt_P=prompt,
        size_P=whole, known_P=whole, right_P=right, class_P=none.astype(np.int64),
        spread_P=none.astype(np.bool_), tokens_P=none, chars_P=none,
        row_N=np.zeros(0, dtype=np.int64),
    )  # fmt: skip


def _epochs(rng: Rng) -> bool:
    """Prompts in a new order each epoch, or in the same: one is taken for an evaluation's."""
    prompts, groups = int(rng.integers(16, 400)), int(rng.choice([4, 8, 16]))
    epochs, shuffled = int(rng.integers(2, 12)), bool(rng.random() < 0.7)
    order = [rng.permutation(prompts) if shuffled else np.arange(prompts) for _ in range(epochs)]
    steps: dict[int, set[int]] = defaultdict(set)
    for place, prompt in enumerate(np.concatenate(order).tolist()):
        steps[prompt].add(place // groups)
    return bool(_by_prompts(steps))


EDGES: dict[str, tuple[str, Draw]] = {
    "too_hard, too_easy, tied": ("half of the groups are of one kind, in two looks", _dead),
    "too_hard by few mixed": ("0.3 of the groups are mixed, in two looks", _few_mixed),
    "format_spread": ("half of the groups with spread have equal verdicts", _form),
    "blind_reward": ("the AUC within groups is 0.6", _blind),
    "truncation": ("half of the wrong answers were cut", _cut),
    "false_accepts": ("5 % of what was accepted is wrong", _accepted),
    "false_rejects": ("5 % of what is right was refused", _refused),
    "filtered": ("nothing was removed, and all prompts are equally hard", _removed),
    "evaluation_rows": ("prompts of training come again each epoch", _epochs),
}
