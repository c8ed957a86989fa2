"""Judged candidates: what a row of them holds, and what is made of it.

A row has a prompt's candidates by the model that wrote them: `current`, `initial`, `future`. The
rules that pick pairs are in the papers' files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rekindle.errors import DataError

Row = Mapping[str, Any]
NOT_ASKED = "not asked for"


class Candidate(NamedTuple):
    """An answer and its judgement; `score` None: missing. `cut`: it ended at the length limit."""

    text: str
    score: float | None
    cut: bool = False
    source: str = ""  # hash of the model that wrote it


class Pick(NamedTuple):
    """A pair, or the reason why there is none."""

    chosen: Candidate | None = None
    rejected: Candidate | None = None
    reason: str | None = None


class Picks(NamedTuple):
    """The pairs of one prompt; `d2` is Temporal Self-Rewarding's second."""

    d1: Pick
    d2: Pick


def score_of(candidate: Candidate) -> float:
    """The score of a candidate that is known to have one; nan otherwise."""
    return math.nan if candidate.score is None else candidate.score


def explained(
    found: Sequence[tuple[Any, Picks]],
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Picks as rows of plain data, and how many pairs are not there, by reason."""
    out, skipped = [], Counter[str]()
    for name, both in found:
        row: dict[str, Any] = {"id": name}
        for key, one in zip(("d1", "d2"), both, strict=True):
            row[key] = None
            if one.chosen is not None and one.rejected is not None:
                row[key] = {"chosen": one.chosen.text, "rejected": one.rejected.text}
            elif one.reason != NOT_ASKED:
                skipped[f"{key}: {one.reason}"] += 1
        out.append(row)
    return out, skipped


def id_of(row: Row) -> Any:
    """The row's id, which it must have."""
    if row.get("id") is None:
        raise DataError("a row has no 'id'", got=dict(row), wanted="an id, to name it by")
    return row["id"]


def candidates_of(row: Row, field: str) -> list[Candidate]:
    """The candidates in a row's field.

    Raises:
        DataError: no list, no text, or a score that is neither null nor a finite number.
    """
    found = row.get(field)
    if not isinstance(found, list):
        raise DataError(
            f"row '{row.get('id')}' has no usable '{field}'",
            got="nothing" if found is None else found,
            wanted='a list of {"text": ..., "score": number or null}',
        )
    return [_candidate(row, field, item) for item in found]


def _candidate(row: Row, field: str, item: Any) -> Candidate:
    if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
        raise DataError(
            f"row '{row.get('id')}': an entry of '{field}' is no candidate",
            got=item,
            wanted='{"text": ..., "score": number or null}',
        )
    score = item.get("score")
    if score is not None and not _is_number(score):
        raise DataError(
            f"row '{row.get('id')}': a candidate of '{field}' has no usable score",
            got=score,
            wanted="a finite number, or null where the judgement is missing",
        )
    return Candidate(
        item["text"],
        None if score is None else float(score),
        cut=item.get("finish") == "length",
        source=str(item.get("source", "")),
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
