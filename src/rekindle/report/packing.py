"""Figures' data by columns, each text once: a page with five arms stays small and opens at once.

`page.js` turns `{"rows": 3, "columns": {"run": {"texts": ["a", "b"], "at": [0, 0, 1]}, "x": [1, 2,
3]}}` back into rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def packed(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of plain data as columns."""
    names = dict.fromkeys(name for row in values for name in row)
    columns = {name: _column([row.get(name) for row in values]) for name in names}
    return {"rows": len(values), "columns": columns}


def _column(cells: list[Any]) -> Any:
    texts = {cell: None for cell in cells if isinstance(cell, str)}
    if not texts or len(texts) * 2 > len(cells):
        return cells
    if not all(isinstance(cell, str) for cell in cells):
        return cells
    places = {text: place for place, text in enumerate(texts)}
    return {"texts": list(texts), "at": [places[cell] for cell in cells]}
