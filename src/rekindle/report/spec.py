"""What every figure shares: the frame, how runs are told apart, and what follows the pointer.

Figures are Vega-Lite specifications, drawn by the page's script. Colours are CSS variables, so that
light, dark and print need no second drawing. Every spec declares the parameter that it obeys
(`runs`, `classes`, `parts`, ...): the legends on the page set them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rekindle.report.reading import Json

Spec = Mapping[str, Json]  # a part of a Vega-Lite specification
Datum = Mapping[str, str | float | None]  # a row of a figure's data

MOST_POINTS = 400  # of a line; longer runs are shown as means of neighbouring steps
MOST_MEANS = 80  # the same of a line that is a mean over runs and has a band
_DASHES = ([1.0, 0.0], [5.0, 3.0], [1.5, 2.5], [8.0, 3.0, 2.0, 3.0])
_HUES = 8


@dataclass(frozen=True)
class Figure:
    """A chart and what is said around it; `alt` is read to those who cannot see it.

    `drawing` is the specification of the chart without its data, `values`.
    """

    id: str
    title: str
    alt: str
    values: Sequence[Datum]
    drawing: Spec
    wide: bool = False

    @property
    def spec(self) -> Spec:
        """The whole specification, as Vega-Lite takes it."""
        return {"data": {"values": list(self.values)}, **self.drawing}

    @property
    def packed(self) -> Spec:
        """The same with the data by columns and each text once: a page with five arms stays small
        and opens at once.

        `page.js` turns `{"rows": 3, "columns": {"run": {"texts": ["a", "b"], "at": [0, 0, 1]}, "x":
        [1, 2, 3]}}` back into rows.
        """
        return {"data": {"values": packed(self.values)}, **self.drawing}


def packed(values: Sequence[Datum]) -> Spec:
    """Rows of plain data as columns; see `Figure.packed`."""
    names = dict.fromkeys(name for row in values for name in row)
    columns = {name: _column([row.get(name) for row in values]) for name in names}
    return {"rows": len(values), "columns": columns}


def _column(cells: Sequence[str | float | None]) -> Json:
    texts = [cell for cell in cells if isinstance(cell, str)]
    number_of = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    if not texts or len(texts) < len(cells) or len(number_of) * 2 > len(cells):
        return cells
    return {"texts": list(number_of), "at": [number_of[text] for text in texts]}


@dataclass(frozen=True)
class Style:
    """How a run is drawn everywhere: a hue for its recipe, a dash for its place among repeats."""

    run: str
    hue: int
    dash: Sequence[float]


def run_styles(arms: Sequence[Sequence[str]]) -> list[Style]:
    """One style a run; `arms` are lists of runs that repeat one recipe."""
    if len(arms) == 1:
        arms = [[name] for name in arms[0]]
    return [
        Style(run=name, hue=1 + arm % _HUES, dash=_DASHES[place % len(_DASHES)])
        for arm, names in enumerate(arms)
        for place, name in enumerate(names)
    ]


def binned(
    points: Sequence[tuple[int, float | None]], *, most: int = MOST_POINTS
) -> list[tuple[int, float | None]]:
    """At most `most` points: means over neighbouring steps, at their middle step."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    out: list[tuple[int, float | None]] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        known = [value for _, value in part if value is not None]
        mean = sum(known) / len(known) if known else None
        out.append((part[len(part) // 2][0], mean))
    return out


def bounded(values: Sequence[Datum]) -> bool:
    """Whether any row has an interval."""
    return any(row.get("low") is not None for row in values)


def styles_of(styles: Sequence[Style], runs: Collection[str]) -> list[Style]:
    """The styles of some of the runs."""
    return [style for style in styles if style.run in runs]


def by_run(layers: Sequence[Spec], encoding: Spec, styles: Sequence[Style], *, height: int) -> Spec:
    """A figure with a hue for each run that obeys the legend of runs."""
    shared = {**encoding, "color": run_colour(styles)}
    return {
        **frame(layers, shared, height=height, runs=[style.run for style in styles]),
        "transform": [{"filter": "indexof(runs, datum.run) >= 0"}],
    }


def frame(layers: Sequence[Spec], encoding: Spec, *, height: int, **params: Sequence[str]) -> Spec:
    """A layered figure as wide as its place; `params`: what legends set, and all that they show."""
    obeyed = {"params": [{"name": name, "value": params[name]} for name in params]}
    size: Spec = {"width": "container", "height": height}
    return {**size, "encoding": encoding, "layer": list(layers), **(obeyed if params else {})}


def marks(kind: str, encoding: Spec, **look: Json) -> Spec:
    """A layer of marks of one kind."""
    return {"mark": {"type": kind, **look}, "encoding": encoding}


def quantitative(field: str, title: str | None, **more: Json) -> Spec:
    """A channel of numbers."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def nominal(field: str, looks: Mapping[str, Json]) -> Spec:
    """A channel of names, each with its look: a colour, a shape, a dash."""
    scale: Spec = {"domain": list(looks), "range": list(looks.values())}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def rows_of_names(field: str, names: Sequence[str], **axis: Json) -> Spec:
    """An axis with a row for each name, in this order."""
    plain: Spec = {"domain": False, "ticks": False, **axis}
    return {"field": field, "type": "nominal", "title": None, "sort": list(names), "axis": plain}


def intervals(
    values: Sequence[Datum], axis: Literal["x", "y"], channel: Spec, **mark: Json
) -> list[Spec]:
    """The layer of the intervals of an axis: areas or rules from `low` to `high`.

    No layer where no row has an interval: of one that has nothing to draw, Vega complains.
    """
    ends: Spec = {axis: {**channel, "field": "low"}, f"{axis}2": {"field": "high"}}
    return [{"mark": mark, "encoding": ends}] if bounded(values) else []


def run_colour(styles: Sequence[Style]) -> Spec:
    """The hue of each run."""
    return nominal("run", {style.run: f"var(--run-{style.hue})" for style in styles})


def run_dash(styles: Sequence[Style]) -> Spec:
    """The dash of each run."""
    return {"strokeDash": nominal("run", {style.run: list(style.dash) for style in styles})}


def nearest(encoding: Spec, *, mark: str = "point") -> Spec:
    """What follows the pointer: the nearest value, with its tooltip."""
    pointed: Spec = {"condition": {"param": "pointed", "empty": False, "value": 1}, "value": 0}
    look: Spec = {"type": mark, "color": "var(--ink)", "strokeWidth": 1}
    if mark == "point":
        look = {**look, "filled": False, "size": 90, "strokeWidth": 1.5}
    select: Spec = {
        "type": "point",
        "nearest": True,
        "on": "pointerover",
        "clear": "pointerout",
        **({"encodings": ["x"]} if mark == "rule" else {}),
    }
    return {
        "params": [{"name": "pointed", "select": select}],
        "mark": look,
        "encoding": {**encoding, "opacity": pointed},
    }


def tooltip_of(**fields: str) -> Spec:
    """What the tooltip shows: field -> its title, after `|` the number format.

    Written as an expression, because Vega-Lite's own tooltip loses text fields of `nearest` marks.
    """
    shown = []
    for field, entry in fields.items():
        title, _, how = entry.partition("|")
        value = f"(datum.datum || datum)[{json.dumps(field)}]"
        if how:
            value = f"isValid({value}) ? format({value}, {json.dumps(how)}) : 'undefined'"
        shown.append(f"{json.dumps(title)}: {value}")
    return {"value": {"expr": "{" + ", ".join(shown) + "}"}}
