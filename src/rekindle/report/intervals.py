"""Drawings of intervals: a forest plot of all comparisons, and a whisker beside each number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rekindle.report.formatting import grouped, in_nats, nice_step, plural
from rekindle.report.run_files import Metric
from rekindle.report.spec import (
    Datum,
    Figure,
    Spec,
    frame,
    intervals,
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
    names = [_name(claim, several=several) for claim in claims]
    values = [_datum(claim, name) for claim, name in zip(claims, names, strict=True)]
    looks = _LOOKS | dict.fromkeys(
        sorted({claim.verdict for claim in claims} - set(_LOOKS)), _OTHER
    )
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
    zero: Spec = {
        "mark": {"type": "rule", "color": "var(--ink)", "strokeWidth": 1},
        "encoding": {"x": {"datum": 0, "type": "quantitative"}, "y": None, "color": None},
    }
    shown = tooltip_of(
        name="comparison", shown="difference, 95 % interval", verdict="verdict", runs="rests on"
    )
    layers: list[Spec] = [
        zero,
        *intervals(values, "x", along, type="rule", strokeWidth=1.8),
        {
            "mark": {"type": "point", "filled": True, "size": 62, "opacity": 1},
            "encoding": {"x": along, "shape": nominal("verdict", shapes), "tooltip": shown},
        },
    ]
    texts = "; ".join(
        f"{name} {claim.change_text}, {claim.verdict}"
        for name, claim in zip(names, claims, strict=True)
    )
    drawing = frame(layers, shared, height=_LINE * len(names))
    return Figure(
        figure_id, metric, f"Differences in {metric}: {texts}.", values, drawing, wide=True
    )


def _name(claim: VerdictRow, *, several: bool) -> str:
    where = f", {claim.where}" if several else ""
    return claim.subject + where + (_DECLARED if claim.main else "")


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


class Whisker(NamedTuple):
    """A change and its interval in the units of the drawing."""

    low: float
    value: float
    high: float


def whisker(
    low: float | None, value: float | None, high: float | None, *, reach: float
) -> Whisker | None:
    """An interval on a scale whose ends are a round number, at least `reach`; None without one."""
    if low is None or value is None or high is None:
        return None
    end = nice_step(reach)
    return Whisker(*(round(100 + _HALF * x / end, 1) for x in (low, value, high)))


def whiskers(
    rows: Sequence[VerdictRow], *, by_metric: bool = False
) -> Callable[[VerdictRow], Whisker | None]:
    """Each row's interval as a drawing, all on one scale, or those of each metric on one; None
    where there is none to draw."""
    reach: dict[str, float] = {}

    def scale_of(row: VerdictRow) -> str:
        return row.metric if by_metric else ""

    for row in rows:
        for end in (row.change.low, row.change.high) if row.change else ():
            if end is not None:
                reach[scale_of(row)] = max(reach.get(scale_of(row), 0.0), abs(end))

    def whisker_of(row: VerdictRow) -> Whisker | None:
        value, low, high, _ = row.change or Metric(None, None, None, None)
        return whisker(low, value, high, reach=reach.get(scale_of(row), 0.0))

    return whisker_of
