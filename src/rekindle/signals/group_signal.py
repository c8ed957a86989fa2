"""Does a group of answers to one problem have anything to compare?

Group-relative methods learn from groups in which some answers are better than others. Of K sampled
answers to each of P problems, for groups of G answers as training has them (K where K is less):

    accuracy                    the mean score
    all_wrong, all_right        shares of groups of which every score is 0; is 1
    mixed                       share of groups whose greatest score is above the least
    tied                        the others' complement: all scores are equal, whatever they are
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
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rekindle.evals.intervals import LEVEL, Floats, Interval, cluster, wilson
from rekindle.evals.passk import avg_at_k
from rekindle.signals.findings import Advice, Finding, Health, Measurement, measurement, point, show
from rekindle.signals.verifier_signal import Solutions

GROUP = 8  # answers of a group in training, where nothing says otherwise
MOST, MIXED = 0.5, 0.3  # all-wrong, all-right or tied: a lower bound above; healthy: of mixed
RARE = 0.1  # mixed groups; with an upper bound below, taking only these leaves next to none
# LENS: lower bounds above. In docs/LOG.md bases with 0.05 of answers right and 0.22 of groups of
# eight mixed lived through it; one with 0.004 right lost what it had.
ENOUGH_RIGHT, ENOUGH_MIXED = 0.02, 0.15
SIZES = (2, 4, 8, 16)
SHOWN = 5  # levels that are named
MANY = 0.1  # of groups without all scores; above, the verdict has their number


class _State(NamedTuple):
    name: str
    health: Health
    opening: str


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
        verdict = "No answer has a score: nothing can be said of groups."
        return Finding("groups", "unknown", "between", verdict, rows)
    state = _state(groups, size)
    shown = f"{_show_shares(groups)}.{_unscored(groups)}{_of_solutions(solutions)}"
    verdict = f"{state.opening}: {shown}"
    dead, text = _dead_levels(outcome_PK, known, size, levels, state)
    if dead is not None:
        return Finding("groups", dead, "out", f"{verdict}{text}", rows)
    remedy, against = None, tuple[Advice, ...]()
    if state.name == "all-wrong" and solutions is not None and solutions.rejected:
        remedy, against = _rejected(solutions)
    elif state.name == "all-wrong" and cut is not None and cut.ci_low > MOST:
        remedy, against = _cut_off(cut)
    elif state.name == "all-wrong":
        remedy, against = _all_wrong({row.name: row for row in rows}, sft, verifier)
    elif state.name == "all-right":
        why = f"{show(groups.all_right)} of the groups are all right"
        remedy = Advice("harder problems", why)
        why = "answers that are all right leave nothing to compare, whatever compares them"
        against = (Advice("any method on these problems", why),)
    return Finding("groups", state.name, state.health, verdict + text, rows, remedy, against)


def _state(groups: Shares, size: int) -> _State:
    """What the shares of groups of G bear out; of fewer answers, what holds for G all the more."""
    wrong, mixed, right, tied = groups.all_wrong, groups.mixed, groups.all_right, groups.tied
    if mixed.ci_low > MIXED:  # the more answers in a group, the more groups are mixed
        return _State("healthy", "well", "Groups have something to compare")
    if groups.size < size:
        return _State(
            "cannot-tell",
            "between",
            f"What groups of {size} are like cannot be told from {groups.size} answers to a "
            f"problem, give --samples {size}",
        )
    if wrong.ci_low > MOST:
        return _State("all-wrong", "out", "Most groups have no right answer and move nothing")
    if right.ci_low > MOST:
        return _State("all-right", "out", "Most groups are all right, these problems are learnt")
    if tied.ci_low > 1 - MIXED:
        return _State("tied", "out", "Most groups have equal scores, with nothing to compare")
    return _State(
        "thin",
        "between",
        "Few groups are mixed, or too few were measured (more --problems narrow the intervals, "
        "other levels move the shares)",
    )


def _show_shares(groups: Shares) -> str:
    wrong, mixed, right = (
        show(share) for share in (groups.all_wrong, groups.mixed, groups.all_right)
    )
    of_size = f"of groups of {groups.size} answers"
    return f"{of_size} {wrong} are all wrong, {mixed} mixed, {right} all right"


def _unscored(groups: Shares) -> str:
    if groups.lost <= MANY * groups.problems:
        return ""
    return (
        f" {groups.lost} of {groups.problems} groups miss a score: the intervals hold whatever "
        "those scores would have been."
    )


def _dead_levels(
    outcome_PK: Floats, known: int, size: int, levels: Sequence[str], whole: _State
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
    out = {name: state for name, state in by_level.items() if state.health == "out"}
    if out and {state.name for state in by_level.values()} != {whole.name}:
        text = ", ".join(f"{state.name} on level {name}" for name, state in out.items())
        first = next(iter(out))
        return text, f" By level: {text}. What fits there is said with --levels {first}."
    unlike = [
        f"{state.name} on level {name}"
        for name, state in by_level.items()
        if state.name != whole.name
    ]
    more = f" and {len(unlike) - SHOWN} more" if len(unlike) > SHOWN else ""
    return None, f" By level: {', '.join(unlike[:SHOWN])}{more}." if unlike else ""


def _all_wrong(
    table: dict[str, Measurement], sft: str | None, verifier: str | None
) -> tuple[Advice | None, tuple[Advice, ...]]:
    accuracy, wrong, mixed = (table[name] for name in ("accuracy", "all_wrong", "mixed"))
    true = table.get("all_wrong/true")
    against: tuple[Advice, ...] = ()
    if mixed.ci_high < RARE:
        why = f"only {mixed} of the groups have anything to compare"
        against = (Advice("grpo_dynamic, or more steps", why),)
    if verifier == "brittle":
        why = "the verifier rejects right answers: a penalty on rejected ones would fall on them"
        return None, (Advice("lens", why), *against)
    if true is not None and not true.ci_low > MOST:
        why = (
            f"by the stronger check {true} of the groups are all wrong: a penalty on "
            "rejected answers would fall on right ones"
        )
        return None, (Advice("lens", why), *against)
    if accuracy.ci_low > ENOUGH_RIGHT and mixed.ci_low > ENOUGH_MIXED:
        why = (
            f"{wrong} of the groups are all wrong, and right answers exist (accuracy "
            f"{accuracy}, {mixed} of the groups are mixed). Try a small KL first: "
            "at the paper's scale LENS was level with GRPO on five small bases (docs/evidence.md), "
            "and where more was tried, a KL, easier levels or an entropy bonus did as much, so "
            "the study has grpo with a KL beside it"
        )
        return Advice("lens", why), against
    first = Advice("easier problems first", f"next to nothing to reinforce: {accuracy} right")
    if sft is not None:
        why = f"{accuracy} of the answers are right, and SFT on the solutions has signal"
        first = Advice("sft", f"{why} ({sft})")
    why = (
        f"right are {accuracy} of the answers, mixed {mixed} of the groups, and it "
        f"needs lower bounds above {ENOUGH_RIGHT:g} and {ENOUGH_MIXED:g}: it would rank wrong "
        "answers alone, which has destroyed a base with hardly any right answers here "
        "(docs/LOG.md)"
    )
    return first, (Advice("lens", why), *against)


def _cut_off(cut: Measurement) -> tuple[Advice, tuple[Advice, ...]]:
    """Answers that are wrong because they do not end say nothing of what the model can do."""
    why = (
        f"{cut} of the wrong answers are cut off: --set sample.max_new_tokens=N, twice the "
        "limit or more (or sample.stop, where they run on past their end), and diagnose again"
    )
    against = f"{cut} of the wrong answers are cut off, which says nothing of the problems"
    refused = ("lens", "sft", "easier problems first")
    return Advice("a longer limit", why), tuple(Advice(what, against) for what in refused)


def _of_solutions(solutions: Solutions | None) -> str:
    """What scores of a verifier that rejects the reference solutions do not say."""
    if solutions is None or not solutions.rejected:
        return ""
    return (
        f" But {solutions.shown()}: answers that it rejects may be right, so these shares say "
        "nothing of how hard the problems are for the model."
    )


def _rejected(solutions: Solutions) -> tuple[Advice, tuple[Advice, ...]]:
    """Where the verifier rejects the references, its scores are no reason for any method."""
    lens = Advice("lens", "a penalty on answers that the verifier rejects may fall on right ones")
    easier = Advice("easier problems first", "how hard these are is not known with this verifier")
    return solutions.mend(), (lens, solutions.unlearnt("sft"), easier)


def _rows(outcome_PK: Floats, groups: Shares, true_PK: Floats | None) -> list[Measurement]:
    samples, size = outcome_PK.shape[1], groups.size
    accuracy = cluster(avg_at_k(outcome_PK))
    none, every = _power(accuracy, size, flip=True), _power(accuracy, size, flip=False)
    same, of_size = "if every problem had the mean accuracy", f"groups of {size}"
    rows = [
        measurement("accuracy", accuracy, f"mean score of {samples} answers to a problem"),
        measurement("all_wrong", groups.all_wrong, f"{of_size} without a right answer, share"),
        measurement("all_wrong/expected", none, same),
        measurement("mixed", groups.mixed, f"{of_size} with something to compare, share"),
        measurement("tied", groups.tied, "share of groups whose scores are all equal"),
        measurement("all_right", groups.all_right, f"{of_size} without a wrong answer, share"),
        measurement("all_right/expected", every, same),
        point("incomplete", groups.lost, groups.problems, "groups with a missing score"),
    ]
    for other in (g for g in SIZES if g <= samples):
        wrong = shares(outcome_PK, other).all_wrong
        meaning = f"expected share in groups of {other}"
        rows.append(measurement(f"all_wrong/of_{other}", wrong, meaning))
    if true_PK is not None:
        true = shares(true_PK, size)
        rows.append(measurement("all_wrong/true", true.all_wrong, "by the stronger check"))
        rows.append(measurement("mixed/true", true.mixed, "by the stronger check"))
    return rows


def _level_rows(outcome_PK: Floats, size: int, levels: Sequence[str]) -> list[Measurement]:
    rows, names = list[Measurement](), list(dict.fromkeys(levels))
    for name in names if len(names) > 1 else ():
        groups = shares(outcome_PK[[level == name for level in levels]], size)
        rows.append(measurement(f"all_wrong/level_{name}", groups.all_wrong, "on this level"))
        rows.append(measurement(f"mixed/level_{name}", groups.mixed, "on this level"))
    return rows


def _power(accuracy: Interval, samples: int, *, flip: bool) -> Interval:
    def power(p: float) -> float:
        return math.nan if math.isnan(p) else (1 - p if flip else p) ** samples

    low, high = power(accuracy.ci_low), power(accuracy.ci_high)
    return Interval(power(accuracy.value), high if flip else low, low if flip else high, accuracy.n)


# --- shares of groups


class Shares(NamedTuple):
    """Of groups of `size` answers; `lost`: groups with a missing score, of `problems`."""

    size: int
    all_wrong: Interval
    mixed: Interval
    all_right: Interval
    tied: Interval
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
    wrong, right, tied = ([row[i] for row in rows] for i in range(3))
    mixed = [_Chance(1 - c.high, 1 - c.value, 1 - c.low) for c in tied]
    lost = int(np.isnan(outcome_PK).any(axis=1).sum())
    return Shares(
        size,
        all_wrong=_interval(wrong, level),
        mixed=_interval(mixed, level),
        all_right=_interval(right, level),
        tied=_interval(tied, level),
        lost=lost,
        problems=len(outcome_PK),
    )


def _of_problem(scores: Floats, size: int) -> tuple[_Chance, _Chance, _Chance]:
    """Chances of all wrong, all right, all equal."""
    known = Counter(float(score) for score in scores if not math.isnan(score))
    total, there = len(scores), sum(known.values())
    lost, ways = total - there, math.comb(len(scores), size)

    def chance(least: int, most: int, seen: int) -> _Chance:
        low, high = least / ways, most / ways
        enough = there >= size
        value = seen / math.comb(there, size) if enough else math.nan
        return _Chance(low, value, high)

    def of(score: float) -> _Chance:
        n = known.get(score, 0)
        return chance(math.comb(n, size), math.comb(n + lost, size), math.comb(n, size))

    equal = sum(math.comb(n, size) for n in known.values())
    # Most are equal when all that is missing has the commonest score, fewest when all differ.
    top = max(known.values(), default=0)
    most = equal - math.comb(top, size) + math.comb(top + lost, size)
    return of(0.0), of(1.0), chance(equal, most, equal)


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
