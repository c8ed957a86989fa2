"""eval.json as comparisons read it: checked as a whole, so that what is missing is named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rekindle.errors import DataError
from rekindle.files import read_json

Eval = Mapping[str, Any]
_FIELDS = {
    "task": str, "split": str, "n_samples": int, "metrics": dict, "levels": dict, "problems": list,
    "outcomes": list,
}  # fmt: skip


def read_eval(path: Path | str) -> Eval:
    """The content of an eval.json.

    Raises:
        DataError: the file is missing or broken, or is not what `rekindle eval` writes; file and
            field are named.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise _not_ours(path, got=found, wanted=f"an object with {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if not isinstance(found.get(name), kind):
            got = found[name] if name in found else f"no '{name}' among {sorted(found)}"
            raise _not_ours(path, got=got, wanted=f"'{name}' as a JSON {_NAMES[kind]}")
    _check_problems(path, found["problems"])
    _check_outcomes(path, found["outcomes"], len(found["problems"]), found["n_samples"])
    one_each = {
        "greedy_outcomes": found.get("greedy_outcomes"),
        "majority": found.get("majority"),
        **(found.get("values") or {}),
    }
    for name, values in one_each.items():
        if values is None:
            continue
        if not _numbers(values, len(found["problems"])):
            raise _not_ours(path, got=values, wanted=f"'{name}': a number or null for each problem")
        if name in _SCORES and not _within(values):
            raise _not_ours(path, got=values, wanted=f"'{name}': scores from 0 to 1, or null")
    return found


_SCORES = ("greedy_outcomes", "majority")
_NAMES = {str: "string", int: "number", dict: "object", list: "list"}


def _check_problems(path: Path | str, problems: Sequence[Any]) -> None:
    for problem in problems:
        if not (isinstance(problem, dict) and "id" in problem and "level" in problem):
            raise _not_ours(path, got=problem, wanted="'problems': an id and a level for each")
    if not problems:
        raise _not_ours(path, got="no problem", wanted="at least one problem")


def _check_outcomes(path: Path | str, outcomes: Sequence[Any], problems: int, samples: int) -> None:
    widths = {len(row) if isinstance(row, list) else None for row in outcomes}
    if len(outcomes) != problems or len(widths) != 1 or widths & {None, 0}:
        raise _not_ours(
            path,
            got=f"{len(outcomes)} rows for {problems} problems",
            wanted="'outcomes': a row for each problem, as many samples in each",
        )
    for row in outcomes:
        if not (_numbers(row, len(row)) and _within(row)):
            raise _not_ours(path, got=row, wanted="'outcomes': scores from 0 to 1, or null")
    if widths != {samples}:
        raise _not_ours(
            path,
            got=f"{widths.pop()} samples of each problem in 'outcomes', n_samples {samples}",
            wanted="as many as n_samples says",
        )


def _within(scores: Sequence[float | None]) -> bool:
    return all(x is None or 0 <= x <= 1 for x in scores)


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(x is None or isinstance(x, int | float) for x in values)
    )


def _not_ours(path: Path | str, *, got: object, wanted: str) -> DataError:
    return DataError(
        f"{path} is not an evaluation",
        got=got,
        wanted=wanted,
        fix="give the eval.json that `rekindle eval` or `rekindle train` wrote",
    )
