"""How trainers make advantages of rewards: the formulas that logged advantages are held against.

Read in the trainers' sources (TRL 1.16, verl `core_algos.py`, NeMo-RL `calculate_baseline_and_std`,
open-instruct `compute_advantages`, prime-rl `advantage.py`). With c = r - mean of the group, n the
answers of a group, sd the standard deviation with n - 1 and sd0 that with n below:

    centred            c                           TRL none, verl, open-instruct, prime-rl, Dr. GRPO
    group_std          c / (sd + 1e-4)             TRL group
    group_std_1e-6     c / (sd + 1e-6)             verl grpo, NeMo-RL; c / sd is the same
    group_std0         c / (sd0 + 1e-8)            open-instruct standard, NumPy's std
    group_std0_1e-4    c / (sd0 + 1e-4)
    batch_std          c / (sd of the batch's rewards + 1e-4)                    TRL batch
    leave_one_out      c n / (n - 1)               RLOO: TRL, verl, NeMo-RL
    leave_one_out_own_std   the same over the sd of the other answers + 1e-6     NeMo-RL
    leave_one_out_batch     the same, then centred and scaled over the batch     TRL's RLOO
    normalise_then_sum      each part over its sd + 1e-4, summed, then over the batch  TRL, GDPO
    reinforce_pp            r, centred and scaled over the batch's tokens        verl
    reinforce_pp_baseline   c, the same                                          verl
    length_weighted    r - sum(length r) / sum(length)                           OPO: verl, prime-rl
    mean_scaled        c / (mean + 1e-8)           open-instruct max_rl
    raw                r                           no baseline

Axes: K rows, P groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rekindle.signals.run_diagnosis.log_finding import Floats, Ints
from rekindle.signals.run_diagnosis.within_groups import Groups


class Rewarded(NamedTuple):
    """Rows with a reward, in whole groups.

    Attributes:
        score_K: the reward that was used.
        part_MK: its parts, nan where one is missing.
        tokens_K: nan where unknown.
        batch_K: which rows were generated together.
    """

    groups: Groups
    score_K: Floats
    part_MK: Sequence[Floats]
    tokens_K: Floats
    batch_K: Ints

    @property
    def centred(self) -> Floats:
        """[K] rewards minus their group's mean."""
        return self.groups.centred(self.score_K)


class Advantages(NamedTuple):
    """[K] what a formula gives, and by what it divided there."""

    value_K: Floats
    scale_K: Floats


Formula = Callable[[Rewarded], Advantages]


def _over(scale_of: Callable[[Rewarded], Floats]) -> Formula:
    def formula(rows: Rewarded) -> Advantages:
        scale_K = scale_of(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Where nothing differs sd is 0: no advantage, whatever the formula makes of 0 / 0.
            value_K = np.where(scale_K != 0, rows.centred / scale_K, 0.0)
        return Advantages(value_K, scale_K)

    return formula


def group_sd(rows: Rewarded, score_K: Floats, less: int = 1) -> Floats:
    """[K] the standard deviation of each row's group, with n - less below."""
    groups = rows.groups
    centred_K = groups.centred(score_K)
    sd_P = np.sqrt(groups.sum(centred_K**2) / np.maximum(groups.size_P - less, 1))
    return np.asarray(sd_P[groups.group_K])


def _ones(rows: Rewarded) -> Floats:
    return np.ones_like(rows.score_K)


def _raw(rows: Rewarded) -> Advantages:
    return Advantages(rows.score_K, _ones(rows))


def _length_weighted(rows: Rewarded) -> Advantages:
    groups = rows.groups
    baseline_P = groups.sum(rows.tokens_K * rows.score_K) / np.maximum(
        groups.sum(rows.tokens_K), 1e-9
    )
    return Advantages(rows.score_K - baseline_P[groups.group_K], _ones(rows))


def _mean_scale(rows: Rewarded) -> Floats:
    groups = rows.groups
    return np.asarray((groups.sum(rows.score_K) / groups.size_P)[groups.group_K] + 1e-8)


def _own_sd(rows: Rewarded) -> Floats:
    """[K] n - 1 over n times the sd of the other answers: c over it is leave-one-out's."""
    groups, score_K = rows.groups, rows.score_K
    size_K = groups.size_P[groups.group_K]
    others_K = np.maximum(size_K - 1, 1)
    mean_K = (groups.sum(score_K)[groups.group_K] - score_K) / others_K
    square_K = (groups.sum(score_K**2)[groups.group_K] - score_K**2) / others_K
    variance_K = np.maximum(square_K - mean_K**2, 0) * others_K / np.maximum(others_K - 1, 1)
    variance_K[variance_K < 1e-12] = 0.0
    # Without spread among the others nothing is divided.
    sd_K = np.where(variance_K > 0, np.sqrt(variance_K) + 1e-6, 1.0)
    return np.asarray(sd_K * others_K / size_K)


def _leave_one_out_scale(rows: Rewarded) -> Floats:
    size_K = rows.groups.size_P[rows.groups.group_K]
    return np.asarray((size_K - 1) / size_K)


# --- over a batch


def _batch_moments(rows: Rewarded, value_K: Floats, weight_K: Floats) -> tuple[Floats, Floats]:
    """[K] the mean and the variance of the row's batch, n - 1 below, weighted."""
    count = int(rows.batch_K.max()) + 1 if len(rows.batch_K) else 0

    def total(of_K: Floats) -> Floats:
        summed = np.bincount(rows.batch_K, weights=weight_K * of_K, minlength=count)
        return np.asarray(summed[rows.batch_K])

    weight = np.maximum(total(np.ones_like(value_K)), 1e-9)  # tokens may all be 0
    mean_K = total(value_K) / weight
    variance_K = total((value_K - mean_K) ** 2) / np.maximum(weight - 1, 1)
    return mean_K, variance_K


def _batch_scale(rows: Rewarded) -> Floats:
    return np.sqrt(_batch_moments(rows, rows.score_K, _ones(rows))[1]) + 1e-4


def _whitened(rows: Rewarded, value_K: Floats) -> Advantages:
    mean_K, variance_K = _batch_moments(rows, value_K, _ones(rows))
    scale_K = np.sqrt(variance_K) + 1e-4
    return Advantages((value_K - mean_K) / scale_K, scale_K)


def _leave_one_out_batch(rows: Rewarded) -> Advantages:
    return _whitened(rows, rows.centred / _leave_one_out_scale(rows))


def _normalise_then_sum(rows: Rewarded) -> Advantages:
    parts = rows.part_MK or [rows.score_K]
    total_K = np.zeros_like(rows.score_K)
    for part_K in parts:
        total_K += _normalised(rows.groups, part_K)
    return _whitened(rows, total_K)


def _normalised(groups: Groups, part_K: Floats) -> Floats:
    """[K] a part by its group's mean and sd over the rows that have it; 0 where it is missing."""
    known_K = ~np.isnan(part_K)
    value_K = np.where(known_K, part_K, 0.0)
    count_P = np.maximum(groups.sum(known_K), 1)
    apart_K = np.where(known_K, value_K - (groups.sum(value_K) / count_P)[groups.group_K], 0.0)
    # Of one row alone TRL's sd is undefined, and the row gets nothing.
    sd_P = np.sqrt(groups.sum(apart_K**2) / np.maximum(count_P - 1, 1))
    return np.asarray(apart_K / (sd_P[groups.group_K] + 1e-4))


def _by_tokens(value_of: Callable[[Rewarded], Floats]) -> Formula:
    def formula(rows: Rewarded) -> Advantages:
        value_K = value_of(rows)
        mean_K, variance_K = _batch_moments(rows, value_K, rows.tokens_K)
        scale_K = np.sqrt(variance_K + 1e-8)
        return Advantages((value_K - mean_K) / scale_K, scale_K)

    return formula


FORMULAS: dict[str, Formula] = {
    "group_std": _over(lambda rows: group_sd(rows, rows.score_K) + 1e-4),
    "group_std_1e-6": _over(lambda rows: group_sd(rows, rows.score_K) + 1e-6),
    "centred": _over(_ones),
    "leave_one_out": _over(_leave_one_out_scale),
    "batch_std": _over(_batch_scale),
    "leave_one_out_own_std": _over(_own_sd),
    "leave_one_out_batch": _leave_one_out_batch,
    "normalise_then_sum": _normalise_then_sum,
    "length_weighted": _length_weighted,
    "mean_scaled": _over(_mean_scale),
    "reinforce_pp_baseline": _by_tokens(lambda rows: rows.centred),
    "reinforce_pp": _by_tokens(lambda rows: rows.score_K),
    "group_std0": _over(lambda rows: group_sd(rows, rows.score_K, less=0) + 1e-8),
    "group_std0_1e-4": _over(lambda rows: group_sd(rows, rows.score_K, less=0) + 1e-4),
    "raw": _raw,
}
# What a trainer can write, the first by default.
OF_TRAINER: dict[str, tuple[str, ...]] = {
    "trl": (
        "group_std",
        "centred",
        "batch_std",
        "leave_one_out",
        "leave_one_out_batch",
        "normalise_then_sum",
    ),
    "verl": (
        "group_std_1e-6",
        "centred",
        "leave_one_out",
        "reinforce_pp",
        "reinforce_pp_baseline",
        "length_weighted",
    ),
    "nemo-rl": (
        "leave_one_out_own_std",
        "group_std_1e-6",
        "leave_one_out",
        "centred",
        "reinforce_pp_baseline",
    ),
    "open-instruct": ("centred", "group_std0", "mean_scaled"),
    "prime-rl": ("centred", "length_weighted", "raw"),
}
OF_OTHERS = tuple(FORMULAS)  # of a trainer that is not known
