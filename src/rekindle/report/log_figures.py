"""Figures of a log's page: what its groups were over steps, with intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rekindle.report.charts import GROUP_CLASSES, stacked_classes
from rekindle.report.spec import (
    Datum,
    Figure,
    Spec,
    Style,
    by_run,
    frame,
    intervals,
    marks,
    nearest,
    nominal,
    quantitative,
    run_dash,
    tooltip_of,
)
from rekindle.signals.run_diagnosis.log_finding import Estimate
from rekindle.signals.run_diagnosis.shares import SHOWN, StepShares

CLASSES = {name: GROUP_CLASSES[name] for name in GROUP_CLASSES if name in SHOWN}
_STEP = quantitative("step", "step", axis={"tickMinStep": 1})
_SHARE = quantitative("value", None, scale={"domain": [0, 1]}, axis={"format": ".0%"})
Series = Mapping[str, Sequence[tuple[StepShares, Estimate]]]  # by the log's name


def class_figures(number: int, name: str, steps: Sequence[StepShares]) -> list[Figure]:
    """The classes of one log, stacked, and each with its interval; none of fewer than two steps."""
    steps = [row for row in steps if not math.isnan(row.share["mixed"].value)]
    if len(steps) < 2:
        return []
    return [
        stacked_classes(f"shares-{number}", f"{name}: all groups", [_wide(row) for row in steps]),
        _class_curves(f"classes-{number}", f"{name}: each class, 95 % intervals", steps),
    ]


def over_logs(
    figure_id: str, title: str, what: str, series: Series, styles: Sequence[Style]
) -> Figure | None:
    """A share over steps, a line a log; None where no log has two steps."""
    values: list[Datum] = [
        {"run": name, **_datum(row, estimate)}
        for name, rows in series.items()
        if len(rows) > 1
        for row, estimate in rows
        if not math.isnan(estimate.value)
    ]
    if not values:
        return None
    tooltip = tooltip_of(run="log", steps="steps", shown=f"{what}, 95 % interval", n="prompts")
    layers: list[Spec] = [
        *intervals(values, "y", _SHARE, type="area", opacity=0.16, clip=True),
        marks("line", {"y": _SHARE, **run_dash(styles)}, strokeWidth=1.8),
        marks("point", {"y": _SHARE}, filled=True, size=30, opacity=1),
        nearest({"x": _STEP, "y": _SHARE, "tooltip": tooltip}),
    ]
    last = {str(row["run"]): row for row in values}
    ends = "; ".join(f"{name}: {row['shown']} at the end" for name, row in last.items())
    alt = f"{title}: {what} over steps. {ends}."
    return Figure(figure_id, title, alt, values, by_run(layers, {"x": _STEP}, styles, height=150))


def _class_curves(figure_id: str, title: str, steps: Sequence[StepShares]) -> Figure:
    values: list[Datum] = [
        {"class": name, "label": label, **_datum(row, row.share[name])}
        for name, label in CLASSES.items()
        for row in steps
        if not math.isnan(row.share[name].value)
    ]
    colour = nominal("class", {name: _line_colour(name) for name in CLASSES})
    tooltip = tooltip_of(
        label="class", steps="steps", shown="share of groups, 95 % interval", n="prompts"
    )
    layers: list[Spec] = [
        *intervals(values, "y", _SHARE, type="area", opacity=0.16, clip=True),
        marks("line", {"y": _SHARE}, strokeWidth=1.8),
        nearest({"x": _STEP, "y": _SHARE, "tooltip": tooltip}),
    ]
    first, last = steps[0], steps[-1]
    shares = "; ".join(
        f"{label} {first.share[name]} at steps {_steps(first)}, {last.share[name]} at steps "
        f"{_steps(last)}"
        for name, label in CLASSES.items()
    )
    drawing = {
        **frame(layers, {"x": _STEP, "color": colour}, height=150, classes=list(CLASSES)),
        "transform": [{"filter": "indexof(classes, datum.class) >= 0"}],
    }
    return Figure(figure_id, title, f"{title}: {shares}.", values, drawing)


def _line_colour(name: str) -> str:
    """The colour of a class, nearer to the ink: a line needs more contrast than an area."""
    return f"color-mix(in srgb, var(--class-{name.replace('_', '-')}) 65%, var(--ink))"


def _wide(row: StepShares) -> dict[str, float | None]:
    """The shares of some steps, at their middle."""
    shares = {name: _known(estimate.value) for name, estimate in row.share.items()}
    return {"step": _middle(row), **shares}


def _datum(row: StepShares, estimate: Estimate) -> dict[str, str | float | None]:
    return {
        "step": _middle(row),
        "steps": _steps(row),
        "value": round(estimate.value, 4),
        "low": _known(estimate.ci_low),
        "high": _known(estimate.ci_high),
        "shown": str(estimate),
        "n": estimate.n,
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _middle(row: StepShares) -> int:
    return (row.first + row.last) // 2


def _steps(row: StepShares) -> str:
    return str(row.first) if row.first == row.last else f"{row.first} to {row.last}"
