"""Lines, points, areas and bars: learning curves, logged quantities, before against after, pass@k,
what groups were like over time, where the time went, how many tokens.

Numbers that come from an evaluation are written out here (`shown`), so that a tooltip says exactly
what the tables say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rekindle.report.averages import mean_interval
from rekindle.report.formatting import count, estimate, in_nats, percent
from rekindle.report.load import RunData
from rekindle.report.run_files import Evaluation, Metric, Over
from rekindle.report.samples import rounded
from rekindle.report.spec import (
    MOST_MEANS,
    Datum,
    Figure,
    Spec,
    Style,
    binned,
    bounded,
    by_run,
    frame,
    intervals,
    marks,
    nearest,
    nominal,
    quantitative,
    rows_of_names,
    run_colour,
    run_dash,
    styles_of,
    tooltip_of,
)

# Of an axis: 1.2k, 0.4; d3's own prefixes would make that 400m.
_LABEL = "abs(datum.value) >= 1000 ? format(datum.value, '~s') : format(datum.value, '.3~g')"
_SMOOTH_FROM = 30  # steps: shorter series show their raw line only
_STEP = quantitative("step", "step", axis={"tickMinStep": 1})
_MOST_DOTS = 40  # evaluations of a run; a longer curve is a line alone
_BEFORE = "datum.when == 'before'"
_APART, _SPREAD = 0.07, 0.24  # of points at one k: between two, and between the first and the last
GROUP_CLASSES = {
    "all_wrong": "all wrong",
    "tied": "tied",
    "mixed": "mixed",
    "all_right": "all right",
    "missing": "missing",
}
NO_SIGNAL = {"no_signal": "equal rewards"}


def learning_curve(
    figure_id: str,
    title: str,
    series: Sequence[tuple[str, Evaluation, Metric]],
    styles: Sequence[Style],
    *,
    metric: str,
    top: float | None,
) -> Figure:
    """A metric over steps for several runs, each point with its interval."""
    values: list[Datum] = [
        {"run": run, "step": evaluation.step, **_estimate(cell, metric), "n": evaluation.n_runs}
        for run, evaluation, cell in series
        if cell.value is not None
    ]
    share = _share(metric, top)
    many = {"n": "runs"} if any(evaluation.n_runs > 1 for _, evaluation, _ in series) else {}
    tooltip = tooltip_of(run="run", step="step", shown=f"{metric}, 95 % interval", **many)
    layers: list[Spec] = [
        *intervals(values, "y", share, type="area", opacity=0.16),
        marks("line", {"y": share, **run_dash(styles)}, strokeWidth=1.8),
        nearest({"x": _STEP, "y": share, "tooltip": tooltip}),
    ]
    if len(values) <= _MOST_DOTS * len(styles):
        layers.insert(-1, marks("point", {"y": share}, filled=True, size=34, opacity=1))
    final = max((evaluation.step for _, evaluation, _ in series), default=0)
    last = [row for row in values if row["step"] == final]
    ends = "; ".join(f"{row['run']}: {row['shown']} at step {row['step']}" for row in last)
    alt = f"{title}: {metric} over training steps. {ends}."
    drawing = by_run(layers, {"x": _STEP}, styles, height=150)
    return Figure(figure_id, title, alt, values, drawing)


def metric_curve(
    figure_id: str,
    title: str,
    keys: Sequence[str],
    runs: Sequence[RunData],
    styles: Sequence[Style],
    *,
    over: Over = "step",
) -> Figure | None:
    """A logged quantity over steps, or one number a round, for the runs that log it; else None.

    Of each run the first of `keys` that it logs. A run: raw faint, running mean strong. An arm of a
    study: means over its runs with their spread.
    """
    drawn = [(run, key) for run in runs if (key := run.first_logged(keys, over))]
    if not drawn:
        return None
    styles = styles_of(styles, [run.name for run, _ in drawn])
    values = [point for run, key in drawn for point in _series(run, key, over)]
    smooth = any(len(run.log(over)) >= _SMOOTH_FROM for run, _ in drawn if not run.members)
    step: Spec = {**_STEP, "title": None if over == "step" else over}
    axis: Spec = {"labelExpr": _LABEL, "tickCount": 4}
    level = quantitative("value", None, scale={"zero": False}, axis=axis)
    raw = marks(
        "line",
        {"y": level, **run_dash(styles)},
        strokeWidth=1.7 if bounded(values) else 1,
        opacity=0.35 if smooth else 1,
    )
    layers = [*intervals(values, "y", level, type="area", opacity=0.14), raw]
    if smooth:
        window: Spec = {"op": "mean", "field": "value", "as": "mean"}
        means: Spec = {"window": [window], "frame": [-4, 4], "groupby": ["run"]}
        mean: Spec = {"y": {**level, "field": "mean"}, **run_dash(styles)}
        layers.append({"transform": [means], **marks("line", mean, strokeWidth=1.9)})
    counted = {"n": "runs"} if any("n" in point for point in values) else {}
    tooltip = tooltip_of(run="run", step=over, value=f"{title}|.4~g", **counted)
    layers.append(nearest({"x": step, "y": level, "tooltip": tooltip}))
    names = sorted(run.name for run, _ in drawn)
    time = "training steps" if over == "step" else "rounds"
    alt = f"{title} over {time}, for {', '.join(names)}. {_ends(values)}"
    drawing = by_run(layers, {"x": step}, styles, height=112)
    return Figure(figure_id, title, alt, values, drawing)


def _series(run: RunData, key: str, over: Over) -> list[Datum]:
    """A quantity of a run; of an arm, means over its `n` runs and their 95 % t-interval."""
    logged = [(row.at, row.values.get(key)) for row in run.log(over)]
    if len(run.members) < 2:
        return [
            {"run": run.name, "step": at, "value": rounded(value, 5)}
            for at, value in binned(logged)
        ]
    each = []
    for member in run.members:
        known = {row.at: row.values.get(key) for row in member.log(over)}
        if known:
            each.append(binned([(at, known.get(at)) for at, _ in logged], most=MOST_MEANS))
    points: list[Datum] = []
    for cells in zip(*each, strict=True):
        values = [value for _, value in cells if value is not None]
        low, high = mean_interval(values)  # most such quantities are shares
        mean = sum(values) / len(values) if values else None
        ends = {"value": rounded(mean, 5), "low": rounded(low, 5), "high": rounded(high, 5)}
        points.append({"run": run.name, "step": cells[0][0], "n": len(values), **ends})
    return points


def _ends(points: Sequence[Datum]) -> str:
    """Where each line begins and ends, for those who cannot see it."""
    ends = []
    for run in dict.fromkeys(point["run"] for point in points):
        known = [p["value"] for p in points if p["run"] == run and p["value"] is not None]
        if known:
            ends.append(f"{run}: {known[0]:.3g} first, {known[-1]:.3g} last")
    return "; ".join(ends) + "."


def before_after(
    figure_id: str,
    title: str,
    rows: Sequence[tuple[str, str, str, Metric]],
    styles: Sequence[Style],
    *,
    metric: str,
) -> Figure:
    """A dumbbell for each level and run: `rows` are (level, run, "before" | "after", metric)."""
    known = [row for row in rows if row[-1].value is not None]
    order = [f"{style.run}|{when}" for style in styles for when in ("before", "after")]
    values: list[Datum] = [
        {
            "level": level,
            "run": run,
            "when": when,
            "place": f"{run}|{when}",
            **_estimate(cell, metric),
        }
        for level, run, when, cell in known
    ]
    drawn = {row["place"] for row in values}
    levels = list(dict.fromkeys(level for level, *_ in known))
    share = _share(metric, None)
    domain = [place for place in order if place in drawn]
    shared: Spec = {
        "y": {
            **rows_of_names("level", levels, labelPadding=8), "scale": {"paddingInner": 0.35},
        },
        "yOffset": {"field": "place", "type": "nominal", "sort": None, "scale": {"domain": domain}},
    }  # fmt: skip
    tooltip = tooltip_of(run="run", level="level", when="when", shown=f"{metric}, 95 % interval")
    points: Spec = {"x": share, "fill": _hollow_before(styles), "tooltip": tooltip}
    layers = [
        *intervals(values, "x", share, type="rule", strokeWidth=1.6),
        marks("point", points, size=52, strokeWidth=1.6, opacity=1),
    ]
    height = max(90, len(levels) * (16 + 11 * len(drawn)))
    drawing = by_run(layers, shared, styles, height=height)
    alt = f"{title}: " + "; ".join(
        f"{row['run']}, {row['level']}, {row['when']} {row['shown']}" for row in values
    )
    return Figure(figure_id, title, alt, values, drawing, wide=True)


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
    apart = min(_APART, _SPREAD / max(1, len(series) - 1))
    values: list[Datum] = [
        {
            "run": run,
            "when": when,
            "k": k,
            # neighbours on a log axis, so that intervals do not hide each other
            "x": k * 2 ** (apart * (series.index((run, when)) - (len(series) - 1) / 2)),
            **_estimate(cell, "pass@k"),
        }
        for run, when, k, cell in rows
        if cell.value is not None
    ]
    scale: Spec = {"type": "log", "base": 2, "domain": [0.8, max(ks, default=1) * 1.25]}
    axis: Spec = {"values": ks, "format": "d", "grid": False}
    along = quantitative("x", "k", scale=scale, axis=axis)
    share = _share("pass@k", top)
    tooltip = tooltip_of(run="run", when="when", k="k", shown="pass@k, 95 % interval")
    dash: Spec = {
        "strokeDash": {"condition": {"test": _BEFORE, "value": [3, 3]}, "value": [1, 0]},
        "detail": {"field": "when"},
    }
    points: Spec = {"y": share, "fill": _hollow_before(styles), "tooltip": tooltip}
    layers = [
        marks("line", {"y": share, **dash}, strokeWidth=1.4),
        *intervals(values, "y", share, type="rule", strokeWidth=1.2, opacity=0.7),
        marks("point", points, size=42, strokeWidth=1.5, opacity=1),
    ]
    alt = f"{title}: pass@k. " + "; ".join(
        f"{row['run']} {row['when']}, k = {row['k']}: {row['shown']}" for row in values
    )
    drawing = by_run(layers, {"x": along}, styles, height=150)
    return Figure(figure_id, title, alt, values, drawing)


def group_classes(figure_id: str, run: RunData) -> Figure | None:
    """Shares of groups over time as a stacked area; None when the run logs no groups."""
    wide = _shares(run)
    return stacked_classes(figure_id, run.name, wide) if wide else None


def stacked_classes(
    figure_id: str, title: str, wide: Sequence[Mapping[str, float | None]]
) -> Figure:
    """Shares of groups as a stacked area: of each `step` the share of each of `GROUP_CLASSES`."""
    first, last = wide[0], wide[-1]
    logged = {  # older runs know neither tied groups nor those of equal rewards
        name: label
        for name, label in (GROUP_CLASSES | NO_SIGNAL).items()
        if any(row.get(name) is not None for row in wide)
    }
    fold: Sequence[Spec] = [
        {"fold": [name for name in logged if name in GROUP_CLASSES], "as": ["class", "share"]},
        {"filter": "indexof(classes, datum.class) >= 0"},
        {"calculate": f"indexof({list(GROUP_CLASSES)}, datum.class)", "as": "order"},
    ]
    ends: Spec = {"domain": [first["step"], last["step"]], "nice": False}
    step = quantitative("step", "step", axis={"tickMinStep": 1}, scale=ends)
    share = quantitative(
        "share", "share of groups",
        stack="zero", scale={"domain": [0, 1]}, axis={"format": ".0%", "grid": False},
    )  # fmt: skip
    looks = {name: f"var(--class-{name.replace('_', '-')})" for name in GROUP_CLASSES}
    colour = nominal("class", looks)
    tooltip = tooltip_of(step="step", **{name: f"{label}|.1%" for name, label in logged.items()})
    area: Spec = {"y": share, "color": colour, "order": {"field": "order"}}
    layers: list[Spec] = [
        {"transform": fold, **marks("area", area, opacity=0.92)},
        nearest({"x": step, "tooltip": tooltip}, mark="rule"),
    ]
    shares = "; ".join(
        f"{label} {percent(first[name])} at step {first['step']}, {percent(last[name])} at step "
        f"{last['step']}"
        for name, label in logged.items()
    )
    drawing = frame(layers, {"x": step}, height=150, classes=list(GROUP_CLASSES))
    return Figure(figure_id, title, f"{title}: {shares}.", wide, drawing)


def bars(
    figure_id: str,
    title: str,
    rows: Sequence[tuple[str, str, float]],
    *,
    colours: Mapping[str, str],
    unit: str,
    param: str,
    stacked: bool = True,
) -> Figure:
    """Horizontal bars: `rows` are (run, part, amount), `colours` part -> CSS variable.

    Not `stacked`: the parts side by side, where their sum means nothing.
    """
    values: list[Datum] = [
        {"run": run, "part": part, "value": rounded(amount), "shown": count(amount)}
        for run, part, amount in rows
        if amount > 0
    ]
    runs = list(dict.fromkeys(run for run, _, _ in rows))
    parts = list(colours)
    axis: Spec = {"labelExpr": _LABEL, "tickCount": 6}
    stack: Spec = {} if stacked else {"stack": None}
    beside: Spec = {} if stacked else {"yOffset": {"field": "part", "scale": {"domain": parts}}}
    chosen: Sequence[Spec] = [
        {"filter": f"indexof({param}, datum.part) >= 0"},
        {"calculate": f"indexof({parts}, datum.part)", "as": "order"},
    ]
    bar: Spec = {
        "x": quantitative("value", unit, axis=axis, **stack),
        "color": nominal("part", {part: f"var({c})" for part, c in colours.items()}),
        "order": {"field": "order"},
        "tooltip": tooltip_of(run="run", part="part", shown=unit),
        **beside,
    }
    layer: Spec = {"transform": chosen, **marks("bar", bar, height={"band": 0.62})}
    y = rows_of_names("run", runs, labelPadding=8, labelLimit=130)
    drawing = frame([layer], {"y": y}, height=28 * max(1, len(runs)), **{param: parts})
    alt = f"{title}: " + "; ".join(f"{v['run']}, {v['part']} {v['shown']} {unit}" for v in values)
    return Figure(figure_id, title, alt, values, drawing, wide=True)


def _shares(run: RunData) -> list[dict[str, float | None]]:
    """A row a step (or bin of steps) with the share of each class, where there is any."""
    columns = {
        name: binned([(row.at, row.values.get(f"groups/{name}")) for row in run.rows])
        for name in GROUP_CLASSES | NO_SIGNAL
    }
    wide = [
        {"step": step} | {name: rounded(column[i][1], 4) for name, column in columns.items()}
        for i, (step, _) in enumerate(columns["mixed"])
    ]
    return [row for row in wide if any(row[name] is not None for name in GROUP_CLASSES)]


def _share(title: str, top: float | None) -> Spec:
    """An axis of shares in percent, from 0 to `top` where axes are to be compared."""
    scale: Spec = {"zero": True} if top is None else {"domain": [0, top]}
    axis = {"format": ".3~g" if in_nats(title) else ".0%"}
    return quantitative("value", title, scale=scale, axis=axis)


def _estimate(cell: Metric, metric: str) -> Datum:
    """A metric as it is drawn, and as the tables write it."""
    shown = estimate(cell, name=metric)
    return {"value": cell.value, "low": cell.low, "high": cell.high, "shown": shown}


def _hollow_before(styles: Sequence[Style]) -> Spec:
    return {"condition": {"test": _BEFORE, "value": "var(--paper)"}, **run_colour(styles)}


def ceiling(metrics: Sequence[Metric]) -> float:
    """The top of a shared axis: the next tenth above every interval, at most 1."""
    highest = max((min(1.0, m.high or m.value or 0.0) for m in metrics), default=1.0)
    return min(1.0, max(0.1, math.ceil(highest * 10 + 1e-9) / 10))
