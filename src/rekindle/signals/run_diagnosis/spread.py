"""Spread that comes from length or format alone: groups that look alive and teach no right answer.

A group whose answers are all wrong has a signal as soon as one of them is shorter or in a box, if
the reward pays for that. `frac_reward_zero_std` counts it among the living.

    spread/not_of_verdict     of the groups whose total differs, those whose verdicts do not
    spread/of_form            of the same groups, those which length and format alone keep alive
    spread/part/NAME          the share of the spread without verdicts which a reward carries
    spread/length             how the total goes with the length of an answer, within groups
    spread/length/NAME        a reward by itself, by ranks: near 1 or -1 it is a function of length
    spread/mark/NAME          a reward and a mark of a format: near 1 or -1 it is that mark

Axes: N rows, K those that entered, P groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.groups import pays_by_name
from rekindle.signals.run_diagnosis.log_finding import Estimate, Floats, LogFinding, percent, ratio
from rekindle.signals.run_diagnosis.within_groups import (
    Bools,
    Correlation,
    Groups,
    binary,
    correlation,
    groups_of,
    ranks,
    usable,
)

FUNCTION = 0.95  # a correlation whose interval is beyond it, either way, is called a function
_NULL = (
    "0 where the reward is the verdict alone. With further rewards no chance is in it: it is the "
    "share of groups that only these keep alive"
)


def spread_findings(log: RunLog, verdict_N: Floats) -> list[LogFinding]:
    """What the spread of the total reward within groups rests on.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan unknown.
    """
    natures = natures_of(log, verdict_N)
    findings = _beside_the_verdict(log, verdict_N, natures)
    groups = groups_of(log, log.score_N)
    length_N, unit = lengths(log)
    if len(groups):
        findings.append(_with_length(log.score_N, length_N, unit, groups))
    for name, nature in natures.items():
        findings += _of_a_part(nature, name, unit)
    return findings


def _beside_the_verdict(
    log: RunLog, verdict_N: Floats, natures: Mapping[str, Nature]
) -> list[LogFinding]:
    groups = groups_of(log, log.score_N, verdict_N)
    if not len(groups):
        return []
    spread_P = groups.has_spread(log.score_N[groups.row_K])
    dead_P = spread_P & ~groups.has_spread(verdict_N[groups.row_K])
    dead = groups.only(dead_P)
    return [
        _not_of_verdict(verdict_N, groups, spread_P, dead_P),
        _of_form(log, natures, groups, spread_P, dead_P),
        *(
            LogFinding.of(
                f"spread/part/{name}",
                share,
                f"{name} carries {percent(share.value)} of the spread that is not of the verdict"
                if name != "rest"
                else f"no reward in the log carries {percent(share.value)} of that spread",
                f"{len(dead)} groups whose total differs and whose verdicts do not",
            )
            for name, share in carried(dead, log.score_N, log.parts).items()
        ),
    ]


def _not_of_verdict(
    verdict_N: Floats, groups: Groups, spread_P: Bools, dead_P: Bools
) -> LogFinding:
    right_P = groups.sum(verdict_N[groups.row_K]) > 0
    share = ratio(dead_P.astype(float), spread_P.astype(float), groups.prompt_P)
    count = int(spread_P.sum())
    if not count:
        says = "no group has any spread in its reward"
    elif not dead_P.any():
        says = f"in all {count} groups with spread some answers are right and others wrong"
    else:
        wrong = percent(float((dead_P & ~right_P).sum()) / count)
        says = (
            f"{share} of the groups with spread in the reward have none in right and wrong "
            f"({wrong} are all wrong): what they teach is not the answer"
        )
    rests_on = f"{count} groups with spread of {len(groups)}"
    return LogFinding.of("spread/not_of_verdict", share, says, rests_on, _NULL)


def _of_form(
    log: RunLog, natures: Mapping[str, Nature], groups: Groups, spread_P: Bools, dead_P: Bools
) -> LogFinding:
    """Groups without spread in verdicts in which nothing differs but rewards for form.

    A total that its parts do not explain is looked at by itself, in these groups alone.
    """
    forms = [name for name, nature in natures.items() if pays_for_form(name, nature)]
    dead = groups.only(dead_P)
    names = forms
    shares = carried(dead, log.score_N, log.parts)
    if shares and "rest" not in shares:
        only_P = np.ones(len(dead), dtype=np.bool_)
        for name, part_N in log.parts.items():
            if name not in forms:
                only_P &= ~dead.has_spread(np.nan_to_num(usable(part_N[dead.row_K])))
    else:
        nature = nature_in(dead, log, log.score_N)
        only_P = np.full(len(dead), nature.is_length or nature.is_mark)
        names = [nature.named] if only_P.any() else []
    form_P = np.zeros(len(groups))
    form_P[np.flatnonzero(dead_P)[only_P]] = 1.0
    share = ratio(form_P, spread_P.astype(float), groups.prompt_P)
    says = "no group lives on length or format alone, as far as the log tells"
    if share.value > 0:
        says = (
            f"{share} of the groups with spread in the reward live on {' and '.join(names)} alone"
        )
    rests_on = f"{int(spread_P.sum())} groups with spread; {len(forms)} rewards for form"
    return LogFinding.of("spread/of_form", share, says, rests_on, _NULL)


# --- which part carries it


def carried(groups: Groups, total_N: Floats, parts: Mapping[str, Floats]) -> dict[str, Estimate]:
    """The share of the total's variance within groups that each part carries, and `rest`.

    The total is taken for a weighted sum of the parts; its weights are those of least squares
    within groups. A part's share is the covariance of what it adds with the total, over the
    total's variance: shares sum to 1. Below 0: the part works against the others.

    Args:
        total_N: [N] the reward that was used; parts: [N] each, a missing value adds nothing.
    """
    total_K = groups.centred(total_N[groups.row_K])
    # Of equal values the mean is off by an ulp: what is left is rounding, no spread.
    part_MK = [
        groups.centred(np.nan_to_num(usable(part_N[groups.row_K]))) for part_N in parts.values()
    ]
    part_MK = [np.where(np.abs(part_K) < 1e-12, 0.0, part_K) for part_K in part_MK]
    if not part_MK or not np.any(total_K):
        return {}
    part_MK = [part_K / (math.sqrt(part_K @ part_K) or 1.0) for part_K in part_MK]
    matrix = np.stack(part_MK)
    weight_M = np.linalg.lstsq(matrix @ matrix.T, matrix @ total_K, rcond=1e-10)[0]
    added = {
        name: weight * part_K
        for name, weight, part_K in zip(parts, weight_M.tolist(), part_MK, strict=True)
    }
    rest_K = total_K - sum(added.values())
    if float(rest_K @ rest_K) > 1e-6 * float(total_K @ total_K):
        added["rest"] = rest_K
    whole_P = groups.sum(total_K * total_K)
    return {
        name: ratio(groups.sum(value_K * total_K), whole_P, groups.prompt_P, bounded=False)
        for name, value_K in added.items()
    }


# --- length and format


def lengths(log: RunLog) -> tuple[Floats, str]:
    """[N] the length of each answer, in tokens where the log has them, else in characters."""
    known = log.tokens_N[log.data_N]
    if len(known) and not np.isnan(known).any():
        return log.tokens_N, "tokens"
    return log.chars_N.astype(np.float64), "characters"


def _with_length(total_N: Floats, length_N: Floats, unit: str, groups: Groups) -> LogFinding:
    found = correlation(groups, total_N[groups.row_K], length_N[groups.row_K])
    value = found.estimate.value
    if math.isnan(value):
        says = "the reward and the length of answers cannot be compared: one of them never differs"
    else:
        way = "longer" if value > 0 else "shorter"
        says = f"within a group {way} answers have the higher reward: correlation {_text(found)}"
        if abs(value) < 2 * found.by_chance:
            says = f"within a group the reward does not go with length: correlation {_text(found)}"
    return LogFinding.of(
        "spread/length", found.estimate, says, f"{len(groups)} groups, in {unit}", _chance(found)
    )


class Nature(NamedTuple):
    """What a reward follows within groups: length by ranks, and the mark that it is nearest to."""

    groups: int
    length: Correlation
    mark: str | None
    with_mark: Correlation | None

    @property
    def is_length(self) -> bool:
        """It is a function of length."""
        return is_function(self.length.estimate)

    @property
    def is_mark(self) -> bool:
        """It is a function of a mark of a format."""
        return self.with_mark is not None and is_function(self.with_mark.estimate)

    @property
    def named(self) -> str:
        """What it is a function of, or the mark that it is nearest to."""
        return "length" if self.is_length else self.mark or "nothing that is known"


def natures_of(log: RunLog, verdict_N: Floats) -> dict[str, Nature]:
    """What each reward but the verdict follows."""
    return {
        name: nature_in(groups_of(log, part_N), log, part_N)
        for name, part_N in log.parts.items()
        if not is_verdict(part_N, verdict_N)
    }


def pays_for_form(name: str, nature: Nature) -> bool:
    """Whether a reward is a function of length or of a format mark, or its name says so."""
    return nature.is_length or nature.is_mark or pays_by_name(name)


def nature_in(groups: Groups, log: RunLog, part_N: Floats) -> Nature:
    """What a reward follows in some groups."""
    part_K = part_N[groups.row_K]
    length_K = lengths(log)[0][groups.row_K]
    by_rank = correlation(groups, ranks(part_K, groups.group_K), ranks(length_K, groups.group_K))
    marks = {
        mark: correlation(groups, part_K, seen_N[groups.row_K].astype(np.float64))
        for mark, seen_N in log.marks.items()
        if seen_N.any()
    }
    known = {k: v for k, v in marks.items() if not math.isnan(v.estimate.value)}
    best = max(known, key=lambda mark: abs(known[mark].estimate.value), default=None)
    return Nature(len(groups), by_rank, best, None if best is None else known[best])


def is_verdict(part_N: Floats, verdict_N: Floats) -> bool:
    """Whether a reward is the verdict by which answers are right or wrong."""
    values = binary(part_N)
    return values is not None and np.array_equal(values, verdict_N, equal_nan=True)


def is_function(found: Estimate) -> bool:
    """Whether the whole interval of a correlation is beyond 0.95, upwards or downwards."""
    return found.ci_low >= FUNCTION or found.ci_high <= -FUNCTION


def _of_a_part(nature: Nature, name: str, unit: str) -> list[LogFinding]:
    findings = []
    if not math.isnan(nature.length.estimate.value):
        verb = "is a function of" if nature.is_length else "is no mere function of"
        findings.append(
            LogFinding.of(
                f"spread/length/{name}",
                nature.length.estimate,
                f"{name} {verb} length: rank correlation within groups {_text(nature.length)}",
                f"{nature.groups} groups, in {unit}",
                _chance(nature.length),
            )
        )
    if nature.with_mark is not None:
        verb = "is a function of" if nature.is_mark else "is no mere function of"
        findings.append(
            LogFinding.of(
                f"spread/mark/{name}",
                nature.with_mark.estimate,
                f"{name} {verb} whether an answer has {nature.mark}: correlation within groups "
                f"{_text(nature.with_mark)}",
                f"{nature.groups} groups",
                _chance(nature.with_mark),
            )
        )
    return findings


def _text(found: Correlation) -> str:
    value, low, high, _ = found.estimate
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _chance(found: Correlation) -> str | None:
    if math.isnan(found.by_chance):
        return None
    return (
        f"0 with a standard deviation of {found.by_chance:.3f}, when the answers of each group are "
        "exchanged"
    )
