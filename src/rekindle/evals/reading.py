"""The content of eval.json: its shape, and how it is read and checked as a whole.

Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from rekindle.errors import DataError
from rekindle.files import read_json


class Cell(TypedDict):
    """One metric with its 95 % interval over `n` problems; null where it is undefined."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class LevelCells(TypedDict):
    """The metrics of one level."""

    n_problems: int
    metrics: dict[str, Cell]


class EvalProblem(TypedDict):
    """Which problem an outcome is of."""

    id: str
    level: str


class MissingScores(TypedDict):
    """How many answers have no score, and why."""

    count: int
    reasons: dict[str, int]


class AnswerLengths(TypedDict):
    """Mean tokens of an answer, and the share that ended at the limit; null without answers."""

    mean: float | None
    truncated: float | None


class CalibrationBin(TypedDict):
    """Answers of similar confidence: how many, their mean confidence, and the share correct."""

    n: int
    confidence: float
    correct: float


class Calibration(TypedDict):
    """Expected calibration error over `n` answers; null where nothing was graded."""

    ece: float | None
    n: int
    bins: list[CalibrationBin]


class Eval(TypedDict):
    """The content of eval.json. What comparisons need is always there; a score is 0 to 1, or null.

    `outcomes` has a row a problem, a score a sample; `greedy_outcomes`, `majority` and each of
    `values` have a number a problem.
    """

    task: str
    split: str
    n_samples: int
    metrics: dict[str, Cell]
    levels: dict[str, LevelCells]
    problems: list[EvalProblem]
    outcomes: list[list[float | None]]
    greedy_outcomes: NotRequired[list[float | None] | None]
    majority: NotRequired[list[float | None]]
    values: NotRequired[dict[str, list[float | None]]]
    calibration: NotRequired[Calibration]
    step: NotRequired[int]  # of the run that was evaluated
    model: NotRequired[str]
    seed: NotRequired[int]
    n_problems: NotRequired[int]
    sampling: NotRequired[object]  # a SampleConfig as plain data
    k: NotRequired[list[int]]
    missing: NotRequired[MissingScores]
    length: NotRequired[AnswerLengths]
    time: NotRequired[dict[str, float]]  # seconds


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
    content = read_json(path)
    if not isinstance(content, dict):
        raise _not_an_eval(path, got=content, wanted=f"an object with {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if not isinstance(content.get(name), kind):
            got = content[name] if name in content else f"no '{name}' among {sorted(content)}"
            raise _not_an_eval(path, got=got, wanted=f"'{name}' as a JSON {_NAMES[kind]}")
    result = cast(Eval, content)
    count = len(result["problems"])
    _check_problems(path, result["problems"])
    _check_outcomes(path, result["outcomes"], count, result["n_samples"])
    rows = {
        "greedy_outcomes": result.get("greedy_outcomes"),
        "majority": result.get("majority"),
        **(result.get("values") or {}),
    }
    for name, values in rows.items():
        if values is None:
            continue
        if not _are_numbers(values, count):
            wanted = f"'{name}': a number or null for each problem"
            raise _not_an_eval(path, got=values, wanted=wanted)
        if name in _SCORES and not _are_scores(values):
            raise _not_an_eval(path, got=values, wanted=f"'{name}': scores from 0 to 1, or null")
    return result


_SCORES = ("greedy_outcomes", "majority")
_NAMES = {str: "string", int: "number", dict: "object", list: "list"}


def _check_problems(path: Path | str, problems: Sequence[object]) -> None:
    for problem in problems:
        if not (isinstance(problem, dict) and "id" in problem and "level" in problem):
            raise _not_an_eval(path, got=problem, wanted="'problems': an id and a level for each")
    if not problems:
        raise _not_an_eval(path, got="no problem", wanted="at least one problem")


def _check_outcomes(
    path: Path | str, outcomes: Sequence[Sequence[float | None]], problems: int, samples: int
) -> None:
    widths = {len(row) if isinstance(row, list) else None for row in outcomes}
    if len(outcomes) != problems or len(widths) != 1 or widths & {None, 0}:
        raise _not_an_eval(
            path,
            got=f"{len(outcomes)} rows for {problems} problems",
            wanted="'outcomes': a row for each problem, as many samples in each",
        )
    for row in outcomes:
        if not (_are_numbers(row, len(row)) and _are_scores(row)):
            raise _not_an_eval(path, got=row, wanted="'outcomes': scores from 0 to 1, or null")
    if widths != {samples}:
        raise _not_an_eval(
            path,
            got=f"{widths.pop()} samples of each problem in 'outcomes', n_samples {samples}",
            wanted="as many as n_samples says",
        )


def _are_scores(scores: Sequence[float | None]) -> bool:
    return all(x is None or 0 <= x <= 1 for x in scores)


def _are_numbers(values: object, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(x is None or isinstance(x, int | float) for x in values)
    )


def _not_an_eval(path: Path | str, *, got: object, wanted: str) -> DataError:
    return DataError(
        f"{path} is not an evaluation",
        got=got,
        wanted=wanted,
        fix="give the eval.json that `rekindle eval` or `rekindle train` wrote",
    )
