"""Does a group of answers to one problem have anything to compare?

Group-relative methods learn from groups in which some answers are better than others. Of K sampled
answers to each of P problems, for groups of G answers as training has them (K where K is less):

    accuracy                    the mean score
    all_wrong, all_right        shares of groups of which every score is 0; is 1
    tied                        share of groups of which every score is the same, and neither
    mixed                       the rest: the greatest score is above the least
    no_signal                   all wrong, all right and tied: all scores are equal
    .../expected                the same if every problem had the mean accuracy p: (1 - p)^G, p^G
    all_wrong/of_g              share of all-wrong groups of g answers

Of a problem's K answers n_v have the score v. G of them, drawn without replacement, are all equal
to v with chance C(n_v, G) / C(K, G); the mean over problems is unbiased (G up to K). A missing
score may have been anything: each share has two bounds, of the scores that would make it least and
most; the interval reaches from below the one to above the other, and the share itself is over the
problems with enough scores, nan where there is none.

Observed shares above the expected ones say that problems differ: some are too hard and some too
easy, which a mean accuracy hides. With several levels each is judged by itself as well, at
1 - 0.05 / levels, so that none of many is out by chance.

Axes: P problems, K samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rekindle.evals.intervals import LEVEL, Floats, Interval, cluster, wilson
from rekindle.evals.passk import avg_at_k
from rekindle.signals.findings import (
    ENOUGH_MIXED,
    ENOUGH_RIGHT,
    MIXED,
    MOST,
    RARE,
    Advice,
    Finding,
    Measurement,
    Sentences,
    by_name,
    point,
)
from rekindle.signals.verifier_signal import Solutions

GROUP = 8  # answers of a group in training, where nothing says otherwise
SIZES = (2, 4, 8, 16)
SHOWN = 5  # levels that are named
MANY = 0.1  # of groups without all scores; above, the verdict has their number
_OUT = ("all-wrong", "all-right", "tied")
_SAYS = Sentences("groups")


def group_finding(
    outcome_PK: Floats,
    *,
    size: int = GROUP,
    levels: Sequence[str] = (),
    true_PK: Floats | None = None,
    sft: str | None = None,
    verifier: str | None = None,
    solutions: Solutions | None = None,
    more: Sequence[Measurement] = (),
    cut: Measurement | None = None,
) -> Finding:
    """The state of the groups, and what follows from it.

    Args:
        outcome_PK: scores by the training verifier, nan where missing.
        size: G, answers of a group in training.
        levels: the level of each problem; with more than one each is judged by itself too.
        true_PK: scores by a stronger check.
        sft: the state of SFT's signal on this data, where SFT can be trained and has signal.
        verifier: the state of the verifier, where there is a stronger check.
        solutions: what the training verifier says of the reference solutions, where there are some.
        more: further rows, of a baseline run.
        cut: share of the wrong answers that the limit of their length ended.
    """
    known = min(size, outcome_PK.shape[1])
    groups = shares(outcome_PK, known)
    rows = [*_rows(outcome_PK, groups, true_PK), *_level_rows(outcome_PK, known, levels), *more]
    rows += [] if cut is None else [cut]
    rows += [] if solutions is None else solutions.rows()
    if np.isnan(outcome_PK).all():
        return _SAYS.finding("unknown", rows)
    state, table = _state(groups, size), by_name(rows)
    dead, by_level = _dead_levels(outcome_PK, known, size, levels, state)
    shown = _shown(groups, table, solutions) + by_level
    finding = _SAYS.finding(state, rows, size=size, known=known, shown=shown)
    if dead is not None:
        return finding._replace(state=dead, health="out")
    remedy, against = None, tuple[Advice, ...]()
    if state == "all-wrong" and solutions is not None and solutions.rejected:
        remedy = solutions.mend()
        easier = _SAYS.advice("rejected-easier")
        against = (_SAYS.advice("rejected"), solutions.unlearnt("sft"), easier)
    elif state == "all-wrong" and cut is not None and cut.ci_low > MOST:
        remedy, why = _SAYS.advice("longer", rows=table), _SAYS.phrase("cut", rows=table)
        against = tuple(Advice(what, why) for what in ("lens", "sft", "easier problems first"))
    elif state == "all-wrong":
        remedy, against = _all_wrong(table, sft, verifier)
    elif state == "all-right":
        remedy, against = _SAYS.advice("harder", rows=table), (_SAYS.advice("any-method"),)
    return finding._replace(remedy=remedy, against=against)


def _state(groups: Shares, size: int) -> str:
    """What the shares of groups of G bear out; of fewer answers, what holds for G all the more."""
    if groups.mixed.ci_low > MIXED:  # the more answers in a group, the more groups are mixed
        return "healthy"
    if groups.size < size:
        return "cannot-tell"
    if groups.all_wrong.ci_low > MOST:
        return "all-wrong"
    if groups.all_right.ci_low > MOST:
        return "all-right"
    return "tied" if groups.no_signal.ci_low > 1 - MIXED else "thin"


def _shown(groups: Shares, table: Mapping[str, Measurement], solutions: Solutions | None) -> str:
    """The shares; how many lack a score; what a verifier that rejects references leaves unsaid."""
    tied = _SAYS.phrase("tied", rows=table) if groups.tied.value > 0 else ""
    parts = [_SAYS.phrase("shares", size=groups.size, rows=table, tied=tied)]
    if groups.lost > MANY * groups.problems:
        parts.append(_SAYS.phrase("unscored", lost=groups.lost, problems=groups.problems))
    if solutions is not None and solutions.rejected:
        parts.append(_SAYS.phrase("references", solutions=solutions.shown()))
    return " ".join(parts)


def _dead_levels(
    outcome_PK: Floats, known: int, size: int, levels: Sequence[str], whole: str
) -> tuple[str | None, str]:
    """The state where a level is out and another is not, or out otherwise; and a sentence on it."""
    names = list(dict.fromkeys(levels))
    if len(names) < 2:
        return None, ""
    sure = 1 - (1 - LEVEL) / len(names)  # one of many levels is out by chance
    by_level = {
        name: _state(shares(outcome_PK[[of == name for of in levels]], known, level=sure), size)
        for name in names
    }
    out = {name: f"{state} on level {name}" for name, state in by_level.items() if state in _OUT}
    if out and set(by_level.values()) != {whole}:
        text = ", ".join(out.values())
        return text, f" By level: {text}. What fits there is said with --levels {next(iter(out))}."
    unlike = [f"{state} on level {name}" for name, state in by_level.items() if state != whole]
    more = f" and {len(unlike) - SHOWN} more" if len(unlike) > SHOWN else ""
    return None, f" By level: {', '.join(unlike[:SHOWN])}{more}." if unlike else ""


def _all_wrong(
    table: Mapping[str, Measurement], sft: str | None, verifier: str | None
) -> tuple[Advice | None, tuple[Advice, ...]]:
    accuracy, mixed, true = table["accuracy"], table["mixed"], table.get("all_wrong/true")
    against: tuple[Advice, ...] = ()
    if mixed.ci_high < RARE:
        against = (_SAYS.advice("more-steps", rows=table),)
    if verifier == "brittle":
        return None, (_SAYS.advice("brittle"), *against)
    if true is not None and not true.ci_low > MOST:
        return None, (_SAYS.advice("truly-right", rows=table), *against)
    if accuracy.ci_low > ENOUGH_RIGHT and mixed.ci_low > ENOUGH_MIXED:
        return _SAYS.advice("lens", rows=table), against
    first = _SAYS.advice("easier" if sft is None else "sft", rows=table, sft=sft)
    limits = {"right": ENOUGH_RIGHT, "mixed": ENOUGH_MIXED}
    return first, (_SAYS.advice("too-few-right", rows=table, **limits), *against)


def _rows(outcome_PK: Floats, groups: Shares, true_PK: Floats | None) -> list[Measurement]:
    samples, size = outcome_PK.shape[1], groups.size
    accuracy = cluster(avg_at_k(outcome_PK))
    none, every = _power(accuracy, size, flip=True), _power(accuracy, size, flip=False)
    same, of_size = "if every problem had the mean accuracy", f"groups of {size}"
    rows = [
        Measurement("accuracy", *accuracy, f"mean score of {samples} answers to a problem"),
        Measurement("all_wrong", *groups.all_wrong, f"{of_size} without a right answer, share"),
        Measurement("all_wrong/expected", *none, same),
        Measurement("mixed", *groups.mixed, f"{of_size} with something to compare, share"),
        Measurement("tied", *groups.tied, f"{of_size} of one partial score, share"),
        Measurement("all_right", *groups.all_right, f"{of_size} without a wrong answer, share"),
        Measurement("all_right/expected", *every, same),
        Measurement("no_signal", *groups.no_signal, f"{of_size} whose scores are all equal, share"),
        point("incomplete", groups.lost, groups.problems, "groups with a missing score"),
    ]
    for other in (g for g in SIZES if g <= samples):
        wrong = shares(outcome_PK, other).all_wrong
        meaning = f"expected share in groups of {other}"
        rows.append(Measurement(f"all_wrong/of_{other}", *wrong, meaning))
    if true_PK is not None:
        true = shares(true_PK, size)
        rows.append(Measurement("all_wrong/true", *true.all_wrong, "by the stronger check"))
        rows.append(Measurement("mixed/true", *true.mixed, "by the stronger check"))
    return rows


def _level_rows(outcome_PK: Floats, size: int, levels: Sequence[str]) -> list[Measurement]:
    rows, names = list[Measurement](), list(dict.fromkeys(levels))
    for name in names if len(names) > 1 else ():
        groups = shares(outcome_PK[[level == name for level in levels]], size)
        rows.append(Measurement(f"all_wrong/level_{name}", *groups.all_wrong, "on this level"))
        rows.append(Measurement(f"mixed/level_{name}", *groups.mixed, "on this level"))
    return rows


def _power(accuracy: Interval, samples: int, *, flip: bool) -> Interval:
    value, low, high = ((1 - p if flip else p) ** samples for p in accuracy[:3])
    return Interval(value, high if flip else low, low if flip else high, accuracy.n)


# --- shares of groups


class Shares(NamedTuple):
    """Of groups of `size` answers; `lost`: groups with a missing score, of `problems`."""

    size: int
    all_wrong: Interval
    mixed: Interval
    all_right: Interval
    tied: Interval
    no_signal: Interval
    lost: int
    problems: int


class _Chance(NamedTuple):
    """One problem's least, likeliest and greatest chance of a kind of group; nan: not known."""

    low: float
    value: float
    high: float


def shares(outcome_PK: Floats, size: int, *, level: float = LEVEL) -> Shares:
    """Shares of groups of `size` answers, `size` up to K; intervals at `level`."""
    rows = [_of_problem(row, size) for row in outcome_PK]
    wrong, right, tied, equal = ([row[i] for row in rows] for i in range(4))
    mixed = [_Chance(1 - c.high, 1 - c.value, 1 - c.low) for c in equal]
    lost = int(np.isnan(outcome_PK).any(axis=1).sum())
    return Shares(
        size,
        all_wrong=_interval(wrong, level),
        mixed=_interval(mixed, level),
        all_right=_interval(right, level),
        tied=_interval(tied, level),
        no_signal=_interval(equal, level),
        lost=lost,
        problems=len(outcome_PK),
    )


def _of_problem(scores: Floats, size: int) -> tuple[_Chance, _Chance, _Chance, _Chance]:
    """Chances of all wrong, all right, all of one partial score, all equal."""
    known = Counter(float(score) for score in scores if not math.isnan(score))
    total, there = len(scores), sum(known.values())
    lost, ways = total - there, math.comb(len(scores), size)

    def chance(seen: int, most: int) -> _Chance:
        value = seen / math.comb(there, size) if there >= size else math.nan
        return _Chance(seen / ways, value, most / ways)

    def of(counts: Sequence[int]) -> _Chance:
        seen = sum(math.comb(n, size) for n in counts)
        # Most are equal when all that is missing has the commonest score, fewest when all differ.
        top = max(counts, default=0)
        return chance(seen, seen - math.comb(top, size) + math.comb(top + lost, size))

    partial = [n for score, n in known.items() if score not in (0.0, 1.0)]
    return of([known[0.0]]), of([known[1.0]]), of(partial), of([*known.values()])


def _interval(chances: list[_Chance], level: float) -> Interval:
    n = len(chances)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, value, high = (np.array(column) for column in zip(*chances, strict=True))
    if np.array_equal(low, high):
        return _mean(low, level)
    known = value[~np.isnan(value)]
    middle = float(known.mean()) if len(known) else math.nan
    return Interval(middle, _mean(low, level).ci_low, _mean(high, level).ci_high, n)


def _mean(values_P: Floats, level: float) -> Interval:
    """A proportion where each problem's chance is 0 or 1."""
    if np.isin(values_P, (0.0, 1.0)).all():
        return wilson(float(values_P.sum()), len(values_P), level=level)
    return cluster(values_P, level=level)
