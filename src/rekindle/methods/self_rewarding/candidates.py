"""Judged candidates of a prompt, and how a pair is made of two of them.

Each candidate is by the model that wrote it: `current`, `initial`, `future`. Which two make a pair
is said in the papers' files.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

from rekindle.errors import DataError

Ties = Literal["first", "shortest"]


class JudgedCandidate(NamedTuple):
    """An answer and its judgement; `score` None: missing. `cut`: it ended at the length limit."""

    text: str
    score: float | None
    cut: bool = False
    source: str = ""  # hash of the model that wrote it


class PromptCandidates(NamedTuple):
    """A prompt's candidates, by the model that wrote them; None: it has not been sampled."""

    id: object
    current: Sequence[JudgedCandidate]
    initial: Sequence[JudgedCandidate] | None = None
    future: Sequence[JudgedCandidate] | None = None


class Pick(NamedTuple):
    """A pair, or the reason why there is none; nothing where none is wanted."""

    chosen: JudgedCandidate | None = None
    rejected: JudgedCandidate | None = None
    reason: str | None = None


class Picks(NamedTuple):
    """The pairs of one prompt; `d2` is Temporal Self-Rewarding's second."""

    d1: Pick
    d2: Pick = Pick()


class PicksRow(TypedDict):
    """A prompt's picks as plain data: {"chosen", "rejected"}, or null where there is no pair."""

    id: object
    d1: dict[str, str] | None
    d2: dict[str, str] | None


# --- what both papers pick by


def score_of(candidate: JudgedCandidate) -> float:
    """The score of a candidate that is known to have one; nan otherwise."""
    return math.nan if candidate.score is None else candidate.score


def best(
    candidates: Sequence[JudgedCandidate], *, ties: Ties, choose_cut: bool
) -> JudgedCandidate | None:
    """The highest score among those that may be chosen, None when there is none.

    Of equal ones the first, or with `shortest` the shortest (and of these the first).
    """
    usable = [c for c in candidates if c.score is not None and (choose_cut or not c.cut)]
    length = (lambda c: -len(c.text)) if ties == "shortest" else (lambda c: 0)
    return max(usable, key=lambda c: (score_of(c), length(c)), default=None)


def worst(candidates: Sequence[JudgedCandidate]) -> JudgedCandidate | None:
    """The lowest score, of equal ones the first; None when none has a score."""
    usable = [c for c in candidates if c.score is not None]
    return min(usable, key=score_of, default=None)


def pick(chosen: JudgedCandidate | None, rejected: JudgedCandidate | None) -> Pick:
    """The pair, if there is anything to learn from it."""
    if rejected is None:
        return Pick(reason="no answer with a judgement")
    if chosen is None:
        return Pick(reason="every judged answer was cut off")
    if score_of(chosen) <= score_of(rejected):
        return Pick(reason="equal scores")
    if chosen.text == rejected.text:
        return Pick(reason="chosen is rejected")
    if not chosen.text.strip():
        return Pick(reason="chosen is empty")
    return Pick(chosen, rejected)


# --- rows from a file, and for one


def read_candidates(
    row: Mapping[str, object], *, initial: bool = False, future: bool = False
) -> PromptCandidates:
    """The candidates in a row {"id", "current", "initial", "future"}, each a list of
    {"text", "score"}.

    Args:
        row: of a file.
        initial: whether the initial model's candidates are needed.
        future: whether the future model's are read where there are any.

    Raises:
        DataError: no id, no list, no text, or a score that is neither null nor a finite number.
    """
    if row.get("id") is None:
        raise DataError("a row has no 'id'", got=dict(row), wanted="an id, to name it by")
    return PromptCandidates(
        row["id"],
        _candidates(row, "current"),
        _candidates(row, "initial") if initial else None,
        _candidates(row, "future") if future and row.get("future") is not None else None,
    )


def picks_rows(
    prompts: Sequence[PromptCandidates], picks: Sequence[Picks]
) -> tuple[list[PicksRow], Counter[str]]:
    """Picks as rows of plain data, and how many pairs are not there, by reason."""
    skipped = Counter(
        f"{name}: {one.reason}"
        for both in picks
        for name, one in zip(("d1", "d2"), both, strict=True)
        if one.reason is not None
    )
    rows: list[PicksRow] = [
        {"id": prompt.id, "d1": _texts(both.d1), "d2": _texts(both.d2)}
        for prompt, both in zip(prompts, picks, strict=True)
    ]
    return rows, skipped


def _texts(one: Pick) -> dict[str, str] | None:
    if one.chosen is None or one.rejected is None:
        return None
    return {"chosen": one.chosen.text, "rejected": one.rejected.text}


def _candidates(row: Mapping[str, object], field: str) -> list[JudgedCandidate]:
    items = row.get(field)
    if not isinstance(items, list):
        raise DataError(
            f"row '{row.get('id')}' has no usable '{field}'",
            got="nothing" if items is None else items,
            wanted='a list of {"text": ..., "score": number or null}',
        )
    return [_candidate(f"row '{row['id']}'", field, item) for item in items]


def _candidate(where: str, field: str, item: object) -> JudgedCandidate:
    if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
        raise DataError(
            f"{where}: an entry of '{field}' is no candidate",
            got=item,
            wanted='{"text": ..., "score": number or null}',
        )
    score = item.get("score")
    if score is not None and not _is_number(score):
        raise DataError(
            f"{where}: a candidate of '{field}' has no usable score",
            got=score,
            wanted="a finite number, or null where the judgement is missing",
        )
    return JudgedCandidate(
        item["text"],
        None if score is None else float(score),
        cut=item.get("finish") == "length",
        source=str(item.get("source", "")),
    )


def _is_number(value: object) -> bool:
    # not infinite, nan, or an integer of hundreds of digits
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max
