"""Areas and bars: what groups were like over time, where the time went, how many tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rekindle.report.charts import LABEL
from rekindle.report.formatting import count, percent
from rekindle.report.load import RunData
from rekindle.report.samples import rounded
from rekindle.report.spec import (
    Datum,
    Figure,
    Spec,
    binned,
    frame,
    marks,
    nearest,
    nominal,
    quantitative,
    rows_of_names,
    tooltip_of,
)

GROUP_CLASSES = {
    "all_wrong": "all wrong",
    "mixed": "mixed",
    "all_right": "all right",
    "missing": "missing",
}


def group_classes(figure_id: str, run: RunData) -> Figure | None:
    """Shares of groups over time as a stacked area; None when the run logs no groups."""
    wide = _shares(run)
    if not wide:
        return None
    first, last = wide[0], wide[-1]
    fold: Sequence[Spec] = [
        {"fold": list(GROUP_CLASSES), "as": ["class", "share"]},
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
    tooltip = tooltip_of(
        step="step", **{name: f"{label}|.1%" for name, label in GROUP_CLASSES.items()}
    )
    area: Spec = {"y": share, "color": colour, "order": {"field": "order"}}
    layers: list[Spec] = [
        {"transform": fold, **marks("area", area, opacity=0.92)},
        nearest({"x": step, "tooltip": tooltip}, mark="rule"),
    ]
    shares = "; ".join(
        f"{label} {percent(first[name])} at step {first['step']}, {percent(last[name])} at step "
        f"{last['step']}"
        for name, label in GROUP_CLASSES.items()
    )
    drawing = frame(layers, {"x": step}, height=150, classes=list(GROUP_CLASSES))
    return Figure(figure_id, run.name, f"{run.name}: {shares}.", wide, drawing)


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
    axis: Spec = {"labelExpr": LABEL, "tickCount": 6}
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
        for name in GROUP_CLASSES
    }
    wide = [
        {"step": step} | {name: rounded(columns[name][i][1], 4) for name in GROUP_CLASSES}
        for i, (step, _) in enumerate(columns["mixed"])
    ]
    return [row for row in wide if any(row[name] is not None for name in GROUP_CLASSES)]
