"""Lines and points: learning curves, logged quantities, before against after, pass@k.

Numbers that come from an evaluation are written out here (`shown`), so that a tooltip says exactly
what the tables say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from rekindle.report.load import Evaluation, Metric, RunData
from rekindle.report.samples import number, rounded
from rekindle.report.spec import (
    Figure,
    Spec,
    Style,
    binned,
    by_run,
    nearest,
    run_colour,
    run_dash,
    tooltip_of,
)
from rekindle.report.words import estimate

_LABEL = "abs(datum.value) >= 1000 ? format(datum.value, '~s') : format(datum.value, '.3~g')"
_SMOOTH_FROM = 30  # steps: shorter series show their raw line only
_STEP: Spec = {
    "field": "step",
    "type": "quantitative",
    "title": "step",
    "axis": {"tickMinStep": 1},
}
_BEFORE = "datum.when == 'before'"


def learning_curve(
    figure_id: str,
    title: str,
    series: Sequence[tuple[str, Evaluation, Metric]],
    styles: Sequence[Style],
    *,
    metric: str,
    top: float,
) -> Figure:
    """A metric over steps for several runs, each point with its interval."""
    values = [
        {
            "run": run,
            "step": evaluation.step,
            "value": cell.value,
            "low": cell.low,
            "high": cell.high,
            "shown": estimate(cell),
        }
        for run, evaluation, cell in series
        if cell.value is not None
    ]
    share = _share(metric, top)
    tooltip = tooltip_of(run="run", step="step", shown=f"{metric}, 95 % interval")
    layers: list[Spec] = [
        {
            "mark": {"type": "area", "opacity": 0.16},
            "encoding": {"y": {**share, "field": "low"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": {"y": share, **run_dash(styles)},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 34, "opacity": 1},
            "encoding": {"y": share},
        },
        nearest({"x": _STEP, "y": share, "tooltip": tooltip}),
    ]
    final = max((evaluation.step for _, evaluation, _ in series), default=0)
    last = [row for row in values if row["step"] == final]
    ends = "; ".join(f"{row['run']}: {row['shown']} at step {row['step']}" for row in last)
    alt = f"{title}: {metric} over training steps, 0 to {top:.0%}. {ends}."
    spec = by_run(values, layers, {"x": _STEP, "color": run_colour(styles)}, styles, height=150)
    return Figure(id=figure_id, title=title, alt=alt, spec=spec)


def metric_curve(
    figure_id: str,
    title: str,
    key: str,
    runs: Sequence[RunData],
    styles: Sequence[Style],
    *,
    over: Literal["step", "round"] = "step",
) -> Figure:
    """A logged quantity over steps for several runs: raw faint, running mean strong; or one number
    a round."""
    values: list[dict[str, Any]] = []
    longest = 0
    for run in runs:
        rows = run.rows if over == "step" else run.rounds
        points = [(int(row[over]), number(row.get(key))) for row in rows]
        if any(value is not None for _, value in points):
            longest = max(longest, len(points))
            values += [
                {"run": run.name, "step": step, "value": rounded(value, 5)}
                for step, value in binned(points)
            ]
    smooth = longest >= _SMOOTH_FROM
    step = {**_STEP, "title": None if over == "step" else over}
    level = {
        "field": "value",
        "type": "quantitative",
        "title": None,
        "scale": {"zero": False},
        "axis": {"labelExpr": _LABEL, "tickCount": 4},
    }
    raw = {"type": "line", "strokeWidth": 1, "opacity": 0.35 if smooth else 1}
    layers: list[Spec] = [
        {"mark": raw, "encoding": {"y": level}},
        nearest(
            {
                "x": step,
                "y": level,
                "tooltip": tooltip_of(run="run", step=over, value=f"{title}|.4~g"),
            }
        ),
    ]
    if smooth:
        window = {"op": "mean", "field": "value", "as": "mean"}
        layers.insert(
            1,
            {
                "transform": [{"window": [window], "frame": [-4, 4], "groupby": ["run"]}],
                "mark": {"type": "line", "strokeWidth": 1.9},
                "encoding": {"y": {**level, "field": "mean"}, **run_dash(styles)},
            },
        )
    present = sorted({row["run"] for row in values})
    time = "training steps" if over == "step" else "rounds"
    alt = f"{title} over {time}, for {', '.join(present)}."
    spec = by_run(values, layers, {"x": step, "color": run_colour(styles)}, styles, height=112)
    return Figure(id=figure_id, title=title, alt=alt, spec=spec)


def before_after(
    figure_id: str,
    title: str,
    rows: Sequence[tuple[str, str, str, Metric]],
    styles: Sequence[Style],
    *,
    metric: str,
) -> Figure:
    """A dumbbell for each level and run: `rows` are (level, run, "before" | "after", metric)."""
    order = [f"{style.run}|{when}" for style in styles for when in ("before", "after")]
    values = [
        {
            "level": level,
            "run": run,
            "when": when,
            "place": f"{run}|{when}",
            "value": cell.value,
            "low": cell.low,
            "high": cell.high,
            "shown": estimate(cell),
        }
        for level, run, when, cell in rows
        if cell.value is not None
    ]
    present = {row["place"] for row in values}
    levels = list(dict.fromkeys(row["level"] for row in values))
    share = _share(metric, None)
    domain = [place for place in order if place in present]
    shared = {
        "y": {
            "field": "level",
            "type": "nominal",
            "title": None,
            "sort": levels,
            "scale": {"paddingInner": 0.35},
            "axis": {"domain": False, "ticks": False, "labelPadding": 8},
        },
        "yOffset": {"field": "place", "type": "nominal", "sort": None, "scale": {"domain": domain}},
        "color": run_colour(styles),
    }
    tooltip = tooltip_of(run="run", level="level", when="when", shown=f"{metric}, 95 % interval")
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1.6},
            "encoding": {"x": {**share, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "size": 52, "strokeWidth": 1.6, "opacity": 1},
            "encoding": {"x": share, "fill": _hollow_before(styles), "tooltip": tooltip},
        },
    ]
    height = max(90, len(levels) * (16 + 11 * len(present)))
    spec = by_run(values, layers, shared, styles, height=height)
    alt = f"{title}: " + "; ".join(
        f"{row['run']}, {row['level']}, {row['when']} {row['shown']}" for row in values
    )
    return Figure(id=figure_id, title=title, alt=alt, spec=spec, wide=True)


def pass_at_k(
    figure_id: str,
    title: str,
    rows: Sequence[tuple[str, str, int, Metric]],
    styles: Sequence[Style],
    *,
    top: float,
) -> Figure:
    """pass@k over k, before (dashed, hollow) and after: `rows` are (run, when, k, metric)."""
    series = list(dict.fromkeys((run, when) for run, when, _, _ in rows))
    ks = sorted({k for _, _, k, _ in rows})
    values = [
        {
            "run": run,
            "when": when,
            "k": k,
            # neighbours on a log axis, so that intervals do not hide each other
            "x": k * 2 ** (0.07 * (series.index((run, when)) - (len(series) - 1) / 2)),
            "value": cell.value,
            "low": cell.low,
            "high": cell.high,
            "shown": estimate(cell),
        }
        for run, when, k, cell in rows
        if cell.value is not None
    ]
    along = {
        "field": "x",
        "type": "quantitative",
        "title": "k",
        "scale": {"type": "log", "base": 2, "domain": [0.8, max(ks, default=1) * 1.25]},
        "axis": {"values": ks, "format": "d", "grid": False},
    }
    share = _share("pass@k", top)
    tooltip = tooltip_of(run="run", when="when", k="k", shown="pass@k, 95 % interval")
    dash = {
        "strokeDash": {"condition": {"test": _BEFORE, "value": [3, 3]}, "value": [1, 0]},
        "detail": {"field": "when"},
    }
    layers: list[Spec] = [
        {"mark": {"type": "line", "strokeWidth": 1.4}, "encoding": {"y": share, **dash}},
        {
            "mark": {"type": "rule", "strokeWidth": 1.2, "opacity": 0.7},
            "encoding": {"y": {**share, "field": "low"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "size": 42, "strokeWidth": 1.5, "opacity": 1},
            "encoding": {"y": share, "fill": _hollow_before(styles), "tooltip": tooltip},
        },
    ]
    alt = f"{title}: pass@k. " + "; ".join(
        f"{row['run']} {row['when']}, k = {row['k']}: {row['shown']}" for row in values
    )
    spec = by_run(values, layers, {"x": along, "color": run_colour(styles)}, styles, height=150)
    return Figure(id=figure_id, title=title, alt=alt, spec=spec)


def _share(title: str, top: float | None) -> Spec:
    """An axis of shares in percent, from 0 to `top` where axes are to be compared."""
    return {
        "field": "value",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": True} if top is None else {"domain": [0, top]},
        "axis": {"format": ".0%"},
    }


def _hollow_before(styles: Sequence[Style]) -> Spec:
    return {"condition": {"test": _BEFORE, "value": "var(--paper)"}, **run_colour(styles)}


def ceiling(metrics: Sequence[Metric]) -> float:
    """The top of a shared axis: the next tenth above every interval, at most 1."""
    highest = max((min(1.0, m.high or m.value or 0.0) for m in metrics), default=1.0)
    return min(1.0, max(0.1, math.ceil(highest * 10 + 1e-9) / 10))
