"""Whether the logged advantages are what an estimator gives on the logged rewards.

    estimators/fits             rows on which an estimator that the trainer has gives what is logged
    estimators/other_std        the trainer's own, with a standard deviation that is not its default
    estimators/zero             rows off their group's mean that have advantage 0 all the same
    estimators/none             rows without an advantage
    estimators/weight/CLASS     the share of |advantage| that groups of a class hold: all_wrong,
                                mixed, all_right by verdicts

An estimator fits where it is within float32's rounding on every row; where none is and the numbers
on disk have few decimals, within these decimals. Rounding is that of the group: 32 units in the
last place of its largest reward, over what the formula divides by. Only whole groups are looked at:
those of the usual size. TRL writes no weights of its rewards: where their plain sum fits nothing,
the weights that make the advantages proportional to the sum in every group are found, and said.

What happens behind the advantage (averaging over tokens, clipping, masks of cut answers) leaves
no trace here.

Axes: N rows, K those in whole groups, P groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rekindle.errors import ConfigError, did_you_mean
from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.advantage_formulas import (
    FORMULAS,
    OF_OTHERS,
    OF_TRAINER,
    Rewarded,
)
from rekindle.signals.run_diagnosis.log_finding import (
    UNDEFINED,
    Estimate,
    Floats,
    LogFinding,
    mean,
    percent,
    ratio,
)
from rekindle.signals.run_diagnosis.within_groups import Bools, groups_of, usable

FITS, OTHER_STD = "estimators/fits", "estimators/other_std"
_BY_BATCH = ("batch_std", "leave_one_out_batch")
ULPS = 32 * float(np.finfo(np.float32).eps)
DECIMALS, MANY = 6, 20  # numbers with so few decimals and so many values are taken for rounded
_NULL = "100 %: rounding is bounded for each row, no chance is in it"
_BEHIND = "how the loss averages tokens, clips or masks cannot be told from advantages"


class Fit(NamedTuple):
    """How an estimator compares: [K] rows that are off, the largest difference, and its weights."""

    name: str
    off_K: Bools
    largest: float
    rounded: int | None = None  # decimals
    weights: Mapping[str, float] | None = None

    @property
    def is_whole(self) -> bool:
        """It gives every row."""
        return not self.off_K.any()

    @property
    def title(self) -> str:
        """The name, with the weights that were found."""
        if self.weights is None:
            return self.name
        weights = ", ".join(f"{name} {weight:.3g}" for name, weight in self.weights.items())
        return f"{self.name} with weights {weights} (found, not read)"


class Compared(NamedTuple):
    """The rows that were compared, what the trainer may have used and every estimator's fit."""

    rows: Rewarded
    expected: tuple[str, ...]
    fits: Sequence[Fit]

    @property
    def best(self) -> Fit:
        """Of the expected ones, that with the fewest rows off."""
        mine = [fit for fit in self.fits if fit.name in self.expected]
        return min(mine, key=lambda fit: int(fit.off_K.sum()))

    @property
    def foreign(self) -> Fit | None:
        """An estimator that is not expected and gives every row."""
        whole = (fit for fit in self.fits if fit.is_whole and fit.name not in self.expected)
        return None if self.best.is_whole else next(whole, None)


def estimators_findings(
    log: RunLog, verdict_N: Floats, *, estimator: str | None = None
) -> list[LogFinding]:
    """Whether the advantages are what an estimator gives, and where they go.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan unknown.
        estimator: a name of `FORMULAS`; None: any that the trainer has.

    Raises:
        ConfigError: the estimator is unknown.
    """
    if np.isnan(log.advantage_N[log.data_N]).all():
        says = "the log has no advantages: whether they are right cannot be told"
        return [LogFinding.of(FITS, UNDEFINED, says, "no row")]
    compared = compare_advantages(log, estimator)
    findings = [] if compared is None else [_fits(log, compared)]
    if compared is not None and estimator is None:
        findings += _other_std(log, compared)
    return [*findings, *_zeros(log), *_weights(log, verdict_N)]


def mismatch(findings: Sequence[LogFinding]) -> LogFinding | None:
    """The finding that the advantages are not the estimator's; None: they are, or nobody knows.

    A standard deviation of the batch is a setting of TRL. It makes a group's advantages depend on
    the others, so that where nobody stated it, it is named.
    """
    return next(
        (one for one in findings if (one.name == FITS and one.value < 1) or one.name == OTHER_STD),
        None,
    )


def compare_advantages(log: RunLog, estimator: str | None = None) -> Compared | None:
    """Every estimator against the logged advantages; None: no whole group has both.

    Raises:
        ConfigError: the estimator is unknown.
    """
    if estimator is not None and estimator not in FORMULAS:
        raise ConfigError(
            f"the estimator '{estimator}' is unknown",
            wanted=", ".join(FORMULAS),
            fix=did_you_mean(estimator, FORMULAS),
        )
    expected = (estimator,) if estimator is not None else _of_trainer(log)
    rows = _whole_groups(log)
    logged_K = log.advantage_N[rows.groups.row_K]
    if not len(rows.score_K) or np.isnan(logged_K).all():
        return None
    known = not np.isnan(rows.tokens_K).any()
    names = [n for n in FORMULAS if known or n not in _BY_LENGTH or n == estimator]
    names.sort(key=lambda name: name not in expected)
    expected = tuple(name for name in names if name in expected)
    fits = [_fit(name, rows, logged_K, None) for name in names]
    if not any(fit.is_whole for fit in fits):
        fits += _with_weights(log, rows, logged_K, expected)
    decimals = _decimals(log)
    if decimals is not None and not any(fit.is_whole for fit in fits):
        fits += [_fit(name, rows, logged_K, decimals) for name in names]
    return Compared(rows, expected, fits)


def _of_trainer(log: RunLog) -> tuple[str, ...]:
    return OF_TRAINER.get(log.about.format.lower().replace("_", "-"), OF_OTHERS)


_BY_LENGTH = ("length_weighted", "reinforce_pp", "reinforce_pp_baseline")


def _whole_groups(log: RunLog) -> Rewarded:
    """Rows with a reward in groups of the usual size; rows without one count for the size."""
    groups = groups_of(log, log.score_N)
    rows_P = np.bincount(log.group_N[log.data_N], minlength=int(log.group_N.max()) + 1)
    size_P = np.zeros(len(groups), dtype=np.int64)
    size_P[groups.group_K] = rows_P[log.group_N[groups.row_K]]
    sizes, counts = np.unique(size_P, return_counts=True)
    if len(sizes) > 1 and counts.max() > len(size_P) / 2:
        groups = groups.only(size_P == sizes[counts.argmax()])
    batches = log.file_N * (int(log.step_N.max()) + 2) + log.step_N + 1
    return Rewarded(
        groups,
        log.score_N[groups.row_K],
        [usable(part_N[groups.row_K]) for part_N in log.parts.values()],
        log.tokens_N[groups.row_K],
        np.unique(batches[groups.row_K], return_inverse=True)[1].ravel(),
    )


def _fit(name: str, rows: Rewarded, logged_K: Floats, decimals: int | None) -> Fit:
    made = FORMULAS[name](rows)
    _, high_P = rows.groups.span(np.abs(rows.score_K))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_K = high_P[rows.groups.group_K] / np.abs(made.scale_K)
        unit_K = np.where(np.isfinite(unit_K), unit_K, 0.0)
        allowed_K = ULPS * (unit_K * (1 + np.abs(made.value_K)) + np.abs(made.value_K))
        if decimals is not None:
            half = 0.5 * 10.0**-decimals
            over_K = np.where(made.scale_K > 0, 2 * half / np.abs(made.scale_K), 0.0)
            allowed_K += half + over_K * (1 + np.abs(made.value_K))
    gap_K = np.abs(made.value_K - logged_K)
    off_K = ~(gap_K <= allowed_K) & ~np.isnan(logged_K)
    return Fit(name, off_K, float(np.nanmax(gap_K)), decimals)


def _decimals(log: RunLog) -> int | None:
    """The decimals of advantages or rewards on disk that look rounded: many values, two to six."""
    for column_N in (log.advantage_N, log.score_N):
        known = np.unique(column_N[log.data_N & ~np.isnan(column_N)])
        enough = 1e-9 * max(1.0, np.abs(known).max(initial=0))
        fewest = next(
            (d for d in range(DECIMALS + 1) if (np.abs(known - np.round(known, d)) < enough).all()),
            None,
        )
        if fewest is not None and fewest >= 2 and len(known) >= MANY:
            return fewest
    return None


# --- weights that are not on disk


def _with_weights(
    log: RunLog, rows: Rewarded, logged_K: Floats, expected: Sequence[str]
) -> list[Fit]:
    """Fits of the expected estimators with found weights of the rewards, for TRL."""
    groups, count = rows.groups, len(rows.part_MK)
    moved_P = groups.sum(np.abs(logged_K)) > 0
    enough = moved_P.sum() > count and (groups.size_P[moved_P] - 2).sum() >= 5 * count
    if log.about.format != "trl" or count < 2 or np.isnan(logged_K).any() or not enough:
        return []
    weight_M = proportional_weights(rows, logged_K)
    if np.ptp(weight_M) < 0.05 * np.abs(weight_M).max():
        return []  # the plain sum, and something else is off
    fits = []
    # Leave-one-out is centred with other weights; TRL's RLOOTrainer writes no rollouts.
    for name in (name for name in expected if name in ("group_std", "centred", "batch_std")):
        # They are found up to a factor: one is 1, as users write them, or the advantages tell.
        units = weight_M[np.abs(weight_M) > 1e-3 * np.abs(weight_M).max()].tolist()
        unit = _unit(name, _weighted(rows, weight_M), logged_K)
        tried = []
        for own_M in [weight_M / one for one in (*units, unit)]:
            fit = _fit(name, _weighted(rows, own_M), logged_K, None)
            weights = dict(zip(log.parts, own_M.tolist(), strict=True))
            tried.append(fit._replace(weights=weights))
        fits.append(min(tried, key=lambda fit: (int(fit.off_K.sum()), fit.largest)))
    return fits


def _weighted(rows: Rewarded, weight_M: Floats) -> Rewarded:
    pairs = zip(weight_M, rows.part_MK, strict=True)
    score_K = sum(weight * np.nan_to_num(part_K) for weight, part_K in pairs)
    return rows._replace(score_K=np.asarray(score_K))


def _unit(name: str, rows: Rewarded, logged_K: Floats) -> float:
    """What rewards are to be divided by to give these advantages.

    Without a standard deviation they are proportional. With one, c / A - sd is 1e-4 times it.
    """
    made = FORMULAS[name](rows)
    kept_K = np.abs(logged_K) > 0.1 * np.abs(logged_K).max()
    ratio_K = made.value_K[kept_K] / logged_K[kept_K]
    unit = float(np.median(ratio_K))
    if name.endswith("_std"):
        scale_K = made.scale_K[kept_K]
        unit = float(np.median((ratio_K - 1) * scale_K / 1e-4)) + 1
    return unit if unit > 0 else 1.0


def proportional_weights(rows: Rewarded, logged_K: Floats) -> Floats:
    """[M] weights with which the centred sum of parts is proportional to the advantages in every
    group: the least eigenvector of what is left of the parts beside the advantage.
    """
    groups = rows.groups
    part_MK = [groups.centred(np.nan_to_num(part_K)) for part_K in rows.part_MK]
    norm_P = np.sqrt(groups.sum(logged_K**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        direction_K = np.where(norm_P[groups.group_K] > 0, logged_K / norm_P[groups.group_K], 0.0)
    left_MK = [
        part_K - groups.sum(part_K * direction_K)[groups.group_K] * direction_K
        for part_K in part_MK
    ]
    size_M = np.array([np.sqrt(part_K @ part_K) or 1.0 for part_K in part_MK])
    left = np.stack(left_MK) / size_M[:, None]
    weight_M = np.linalg.eigh(left @ left.T)[1][:, 0] / size_M
    along = sum(w * float(part_K @ logged_K) for w, part_K in zip(weight_M, part_MK, strict=True))
    return np.asarray(weight_M if along >= 0 else -weight_M)


def found_weights(log: RunLog) -> Mapping[str, float] | None:
    """The weights of TRL's rewards where their plain sum gives no advantage and others give all."""
    compared = compare_advantages(log)
    return compared.best.weights if compared is not None and compared.best.is_whole else None


# --- findings


def _fits(log: RunLog, compared: Compared) -> LogFinding:
    best, rows = compared.best, compared.rows
    known_K = ~np.isnan(log.advantage_N[rows.groups.row_K])
    fine_K = np.where(known_K, (~best.off_K).astype(np.float64), np.nan)
    share = mean(fine_K, rows.groups.prompt_K, bounded=True)
    wide = f"the largest difference is {best.largest:.1g}"
    if best.is_whole:
        others = [fit.title for fit in compared.fits if fit.is_whole and fit is not best]
        says = f"the advantages are those of {best.title}: {wide}"
        usual = _of_trainer(log)[0]
        trainer_is_known = _of_trainer(log) is not OF_OTHERS
        if trainer_is_known and best.name != usual and usual in compared.expected:
            says += f"; {log.about.format} has {usual} by default"
        if others:
            says += f" ({', '.join(others)} cannot be told apart from it here)"
        if best.rounded is not None:
            says += f", as far as {best.rounded} decimals tell"
    else:
        whose = f"the estimators of {log.about.format}" if len(compared.expected) > 1 else "it"
        says = (
            f"the advantages are not those of {best.title}: "
            f"{percent(1 - share.value)} of the rows are off and {wide}"
        )
        if len(compared.expected) > 1:
            says += f"; of {whose} it is the nearest"
        if compared.foreign is not None:
            says += f". {compared.foreign.title} gives every row"
    rests_on = f"{int(known_K.sum())} rows in {len(rows.groups)} whole groups; {_BEHIND}"
    return LogFinding.of(FITS, share, says, rests_on, _NULL)


def _other_std(log: RunLog, compared: Compared) -> list[LogFinding]:
    best, usual = compared.best, _of_trainer(log)[0]
    if not best.is_whole or best.name not in _BY_BATCH or _of_trainer(log) is OF_OTHERS:
        return []
    says = (
        f"the advantages are those of {best.title}, and {log.about.format} has {usual} by default: "
        f"where it was meant, --estimator {best.name}"
    )
    known = int((~np.isnan(log.advantage_N[compared.rows.groups.row_K])).sum())
    whole = Estimate(1.0, math.nan, math.nan, known)
    return [LogFinding.of(OTHER_STD, whole, says, f"{known} rows", _NULL)]


def _zeros(log: RunLog) -> list[LogFinding]:
    data_N = log.data_N
    missing_N = np.isnan(log.advantage_N[data_N]).astype(np.float64)
    none = mean(missing_N, log.prompt_N[data_N], bounded=True)
    groups = groups_of(log, log.score_N, log.advantage_N)
    score_K = log.score_N[groups.row_K]
    apart_K = np.abs(groups.centred(score_K)) > ULPS * np.abs(score_K).max(initial=0)
    apart_K &= groups.has_spread(score_K)[groups.group_K]
    zero_K = apart_K & (log.advantage_N[groups.row_K] == 0)
    zero = ratio(zero_K.astype(np.float64), apart_K.astype(np.float64), groups.prompt_K)
    return [
        LogFinding.of(
            "estimators/zero",
            zero,
            f"{zero} of the rows whose reward is not their group's mean have advantage 0",
            f"{int(apart_K.sum())} such rows",
            "0: every estimator that compares within a group gives these an advantage",
        ),
        LogFinding.of(
            "estimators/none",
            none,
            f"{none} of the rows have no advantage",
            f"{int(data_N.sum())} rows",
        ),
    ]


def _weights(log: RunLog, verdict_N: Floats) -> list[LogFinding]:
    groups = groups_of(log, verdict_N, log.advantage_N)
    size_K = np.abs(log.advantage_N[groups.row_K])
    if not len(groups) or not size_K.any():
        return []
    right_P = groups.sum(verdict_N[groups.row_K])
    size_P = groups.sum(size_K)
    classes = {
        "all_wrong": right_P == 0,
        "mixed": (right_P > 0) & (right_P < groups.size_P),
        "all_right": right_P == groups.size_P,
    }
    findings = []
    for name, own_P in classes.items():
        share = ratio(np.where(own_P, size_P, 0.0), size_P, groups.prompt_P)
        says = f"{name.replace('_', '-')} groups hold {share} of all |advantage|"
        rests_on = f"{int(own_P.sum())} of {len(groups)} groups"
        findings.append(LogFinding.of(f"estimators/weight/{name}", share, says, rests_on))
    return findings
