"""The content of eval.json: its shape, and how it is read and checked as a whole.

Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

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
    unreadable: NotRequired[int]  # answers that the verifier cannot read; they are wrong
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
    for holds, got, wanted in _checks(content):
        if not holds:
            raise DataError(
                f"{path} is not an evaluation",
                got=got,
                wanted=wanted,
                fix="give the eval.json that `rekindle eval` or `rekindle train` wrote",
            )
    return cast(Eval, content)


_SCORES = ("greedy_outcomes", "majority")
_NAMES = {str: "string", int: "number", dict: "object", list: "list"}


def _checks(content: Any) -> Iterator[tuple[bool, object, str]]:
    """Whether it holds, what is there, what should be; each relies on those before it."""
    yield isinstance(content, dict), content, f"an object with {', '.join(_FIELDS)}"
    for name, kind in _FIELDS.items():
        got = content[name] if name in content else f"no '{name}' among {sorted(content)}"
        yield isinstance(content.get(name), kind), got, f"'{name}' as a JSON {_NAMES[kind]}"
    problems, outcomes, samples = content["problems"], content["outcomes"], content["n_samples"]
    for problem in problems:
        known = isinstance(problem, dict) and "id" in problem and "level" in problem
        yield known, problem, "'problems': an id and a level for each"
    yield bool(problems), "no problem", "at least one problem"
    widths = {len(row) if isinstance(row, list) else None for row in outcomes}
    yield (
        len(outcomes) == len(problems) and len(widths) == 1 and not widths & {None, 0},
        f"{len(outcomes)} rows for {len(problems)} problems",
        "'outcomes': a row for each problem, as many samples in each",
    )
    for row in outcomes:
        scores = _are_numbers(row, len(row)) and _are_scores(row)
        yield scores, row, "'outcomes': scores from 0 to 1, or null"
    got = f"{len(outcomes[0])} samples of each problem in 'outcomes', n_samples {samples}"
    yield widths == {samples}, got, "as many as n_samples says"
    rows = {name: content.get(name) for name in _SCORES} | (content.get("values") or {})
    for name, values in rows.items():
        if values is not None:
            numbers = _are_numbers(values, len(problems))
            yield numbers, values, f"'{name}': a number or null for each problem"
            scores = name not in _SCORES or _are_scores(values)
            yield scores, values, f"'{name}': scores from 0 to 1, or null"


def _are_scores(scores: Sequence[float | None]) -> bool:
    return all(x is None or 0 <= x <= 1 for x in scores)


def _are_numbers(values: object, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(x is None or isinstance(x, int | float) for x in values)
    )
