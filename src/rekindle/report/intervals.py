"""Drawings of intervals: a forest plot of all comparisons, and a whisker beside each number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rekindle.report.formatting import grouped, in_nats, nice_step, plural
from rekindle.report.spec import (
    Datum,
    Figure,
    Spec,
    frame,
    intervals,
    marks,
    nominal,
    quantitative,
    rows_of_names,
    tooltip_of,
)
from rekindle.report.verdict import VerdictRow

_LOOKS = {"helps": ("var(--good)", "triangle-up"), "does not": ("var(--bad)", "triangle-down")}
_OTHER = ("var(--soft)", "circle")
_LINE = 24  # px a comparison; on a phone its name has two lines
_NARROW = "containerSize()[0] < 560"
_NAME = (
    f"{_NARROW} ? [split(datum.label, ' against ')[0], "
    "'against ' + split(datum.label, ' against ')[1]] : datum.label"
)
_DECLARED = " ◆"
_HALF = 84  # units of a whisker's drawing from its middle to its end


def forest_figures(claims: Sequence[VerdictRow]) -> list[Figure]:
    """One figure a metric, in the order of the claims; those without a difference are left out."""
    known = (c for c in claims if c.change is not None and c.change.value is not None)
    by_metric = grouped(known, lambda claim: claim.metric)
    return [_forest(f"forest-{i}", *item) for i, item in enumerate(by_metric.items())]


def _forest(figure_id: str, metric: str, claims: Sequence[VerdictRow]) -> Figure:
    several = len({claim.where for claim in claims}) > 1
    names = [
        c.subject + (f", {c.where}" if several else "") + (_DECLARED if c.main else "")
        for c in claims
    ]
    values = [_datum(claim, name) for claim, name in zip(claims, names, strict=True)]
    looks = _LOOKS | dict.fromkeys(sorted({c.verdict for c in claims} - set(_LOOKS)), _OTHER)
    colours, shapes = ({verdict: look[i] for verdict, look in looks.items()} for i in (0, 1))
    unit = "nats" if in_nats(metric) else "points"
    along = quantitative("value", f"difference, {unit}", scale={"zero": True})
    shared: Spec = {
        "y": rows_of_names(
            "name", names,
            labelExpr=_NAME, labelLimit=320, labelLineHeight=11,
            labelOffset={"expr": f"{_NARROW} ? -5 : 0"}, labelOverlap=False, grid=True,
        ),
        "color": nominal("verdict", colours),
    }  # fmt: skip
    zero: Spec = {"x": {"datum": 0, "type": "quantitative"}, "y": None, "color": None}
    shown = tooltip_of(
        name="comparison", shown="difference, 95 % interval", verdict="verdict", runs="rests on"
    )
    points: Spec = {"x": along, "shape": nominal("verdict", shapes), "tooltip": shown}
    layers = [
        marks("rule", zero, color="var(--ink)", strokeWidth=1),
        *intervals(values, "x", along, type="rule", strokeWidth=1.8),
        marks("point", points, filled=True, size=62, opacity=1),
    ]
    texts = "; ".join(
        f"{name} {claim.change_text}, {claim.verdict}"
        for name, claim in zip(names, claims, strict=True)
    )
    drawing = frame(layers, shared, height=_LINE * len(names))
    return Figure(
        figure_id, metric, f"Differences in {metric}: {texts}.", values, drawing, wide=True
    )


def _datum(claim: VerdictRow, name: str) -> Datum:
    assert claim.change is not None
    scale = 1 if in_nats(claim.metric) else 100
    ends = {"value": claim.change.value, "low": claim.change.low, "high": claim.change.high}
    return {
        "name": name,
        **{key: None if end is None else scale * end for key, end in ends.items()},
        "shown": claim.change_text,
        "verdict": claim.verdict,
        "runs": f"{plural(claim.n_runs, 'pair')} of runs, {plural(claim.n_problems, 'problem')}",
    }


Ends = tuple[float | None, float | None, float | None]  # of an interval: low, value, high


class Whisker(NamedTuple):
    """A change and its interval in the units of the drawing."""

    low: float
    value: float
    high: float


def whisker(change: Ends, shown: Iterable[Ends]) -> Whisker | None:
    """An interval on a scale that ends at a round number and holds all that are `shown` on it;
    None without one."""
    low, value, high = change
    if low is None or value is None or high is None:
        return None
    ends = [abs(end) for one, _, other in shown for end in (one, other) if end is not None]
    reach = max(ends, default=0.0)
    return Whisker(*(round(100 + _HALF * x / nice_step(reach), 1) for x in (low, value, high)))


def whiskers(
    rows: Sequence[VerdictRow], *, by_metric: bool = False
) -> Callable[[VerdictRow], Whisker | None]:
    """Each row's interval as a drawing, all on one scale, or those of each metric on one; None
    where there is none to draw."""

    def ends(row: VerdictRow) -> Ends:
        return (row.change.low, row.change.value, row.change.high) if row.change else (None,) * 3

    def whisker_of(row: VerdictRow) -> Whisker | None:
        alike = (each for each in rows if each.metric == row.metric or not by_metric)
        return whisker(ends(row), map(ends, alike))

    return whisker_of
