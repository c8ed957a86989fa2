"""A forest plot: what every comparison of a study found, on one axis for each metric."""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.report.spec import Figure, Spec, bounded, frame, tooltip_of
from rekindle.report.verdict import VerdictRow
from rekindle.report.words import IN_NATS, difference, plural

_LOOKS = {"helps": ("var(--good)", "triangle-up"), "does not": ("var(--bad)", "triangle-down")}
_OTHER = ("var(--soft)", "circle")
_LINE = 24  # px a comparison; on a phone its name has two lines
_NARROW = "containerSize()[0] < 560"
_NAME = (
    f"{_NARROW} ? [split(datum.label, ' against ')[0], "
    "'against ' + split(datum.label, ' against ')[1]] : datum.label"
)
_DECLARED = " ◆"


def forest_figures(claims: Sequence[VerdictRow]) -> list[Figure]:
    """One figure a metric, in the order of the claims; those without a difference are left out."""
    by_metric: dict[str, list[VerdictRow]] = {}
    for claim in claims:
        if claim.change is not None and claim.change.value is not None:
            by_metric.setdefault(claim.metric, []).append(claim)
    return [_forest(f"forest-{i}", *item) for i, item in enumerate(by_metric.items())]


def _forest(figure_id: str, metric: str, claims: Sequence[VerdictRow]) -> Figure:
    several = len({claim.where for claim in claims}) > 1
    values = [_value(claim, several=several) for claim in claims]
    order = [row["name"] for row in values]
    words = list(_LOOKS) + sorted({claim.verdict for claim in claims} - set(_LOOKS))
    colours, shapes = zip(*(_LOOKS.get(word, _OTHER) for word in words), strict=True)
    along: Spec = {
        "field": "value",
        "type": "quantitative",
        "title": f"difference, {'nats' if _in_nats(metric) else 'points'}",
        "scale": {"zero": True},
    }
    shared: Spec = {
        "y": {
            "field": "name",
            "type": "nominal",
            "title": None,
            "sort": order,
            "axis": {
                "domain": False,
                "ticks": False,
                "labelExpr": _NAME,
                "labelLimit": 320,
                "labelLineHeight": 11,
                "labelOffset": {"expr": f"{_NARROW} ? -5 : 0"},
                "labelOverlap": False,
                "grid": True,
            },
        },
        "color": _by_verdict(words, colours),
    }
    zero: Spec = {
        "mark": {"type": "rule", "color": "var(--ink)", "strokeWidth": 1},
        "encoding": {"x": {"datum": 0, "type": "quantitative"}, "y": None, "color": None},
    }
    shown = tooltip_of(
        name="comparison", shown="difference, 95 % interval", verdict="verdict", runs="rests on"
    )
    layers: list[Spec] = [
        zero,
        {
            "mark": {"type": "rule", "strokeWidth": 1.8},
            "encoding": {"x": {**along, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 62, "opacity": 1},
            "encoding": {"x": along, "shape": _by_verdict(words, shapes), "tooltip": shown},
        },
    ]
    if not bounded(values):
        del layers[1]
    spec = frame(values, layers, shared, height=_LINE * len(order))
    told = "; ".join(f"{row['name']} {row['shown']}, {row['verdict']}" for row in values)
    return Figure(figure_id, metric, f"Differences in {metric}: {told}.", spec, wide=True)


def _by_verdict(words: Sequence[str], looks: Sequence[str]) -> Spec:
    scale = {"domain": list(words), "range": list(looks)}
    return {"field": "verdict", "type": "nominal", "scale": scale, "legend": None}


def _value(claim: VerdictRow, *, several: bool) -> Spec:
    assert claim.change is not None
    assert claim.change.value is not None
    low, high = claim.change.low, claim.change.high
    scale = 1 if _in_nats(claim.metric) else 100
    name = claim.subject + (f", {claim.where}" if several else "")
    return {
        "name": name + (_DECLARED if claim.main else ""),
        "value": scale * claim.change.value,
        "low": None if low is None else scale * low,
        "high": None if high is None else scale * high,
        "shown": _shown(claim.metric, claim.change.value, low, high),
        "verdict": claim.verdict,
        "runs": f"{plural(claim.n_runs, 'pair')} of runs, {plural(claim.n_problems, 'problem')}",
    }


def _shown(metric: str, value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{difference(metric, value)} (no interval)"
    ends = ", ".join(difference(metric, end) for end in (low, high))
    return f"{difference(metric, value)} [{ends}]"


def _in_nats(metric: str) -> bool:
    return metric.split(" ")[0] in IN_NATS
