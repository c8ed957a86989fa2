"""What the stages of a run left: a record each, and the pairs that were trained on.

A pair's sides carry all that the run knows of them: the score, every single mark of the judge, who
wrote the text, the answer that was read out of it. They are put together from the stages' rows,
which name a text by its problem, its words and the hash of the model that wrote it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rekindle.methods.catalog import METHODS
from rekindle.report.reading import read_object, read_rows
from rekindle.report.samples import number, prompt_text, shorten, text_of

_PAIRS = re.compile(r"\d+-(pairs(?:-.+)?)")
_NUMBERED = re.compile(r"\d+-(.+)")
_ROUND = re.compile(r"-(\d+)$")
_WRITER = {"candidates": "current", "initial": "initial", "ahead": "future"}
_MOST_VOTES = 5  # answers of a vote that are named
Part = float | str | None


class Stage(NamedTuple):
    """The record of a stage that made rows; `facts` are its further numbers."""

    name: str
    kept: float
    dropped: Mapping[str, float]
    generated: float
    seconds: float
    facts: Mapping[str, float | None]


class Side(NamedTuple):
    """One answer of a pair: its text and everything that is known of it, in words or numbers."""

    text: str
    score: float | None
    by: str
    parts: Mapping[str, Part]


class Pair(NamedTuple):
    """A pair as it was trained on; `line` of the file at `path` (inside the run directory)."""

    path: str
    line: int
    stage: str
    problem: str
    prompt: str
    chosen: Side
    rejected: Side
    parts: Mapping[str, Part]


def read_stages(run: Path, notes: list[str]) -> list[Stage]:
    """The records of the stages that made rows, in their order."""
    found = []
    for path in sorted(run.glob("stages/*/stage.json")):
        record = read_object(path, notes, "")
        match = _NUMBERED.fullmatch(path.parent.name)
        dropped = record.get("dropped")
        skip = {"kept", "generated", "seconds"}
        facts = {k: number(v) for k, v in record.items() if k not in skip and _numeric(v)}
        found.append(
            Stage(
                name=match.group(1) if match else path.parent.name,
                kept=int(number(record.get("kept")) or 0),
                dropped={
                    str(reason): int(number(times) or 0)
                    for reason, times in (dropped if isinstance(dropped, Mapping) else {}).items()
                },
                generated=number(record.get("generated")) or 0.0,
                seconds=number(record.get("seconds")) or 0.0,
                facts=facts,
            )
        )
    return found


def read_pairs(run: Path, config: Mapping[str, Any], notes: list[str]) -> list[Pair]:
    """Every pair that the run was trained on: of its stages, or of the file that it names."""
    places = [p for p in sorted(run.glob("stages/*-pairs*")) if _PAIRS.fullmatch(p.name)]
    if places:
        known = _Known(run, notes)
        return [pair for place in places for pair in _of_stage(run, place, known, notes)]
    method = str(config.get("method"))
    section = config.get(method)
    named = section.get("pairs") if isinstance(section, Mapping) else None
    from_file = method in METHODS and "pairs file" in METHODS[method].needs
    if not from_file or not isinstance(named, str):
        return []
    if not Path(named).is_file():
        notes.append(f"The pairs that it was trained on ({named}) are not here.")
        return []
    return [
        pair
        for line, row in read_rows(Path(named), notes)
        if (pair := _pair(row, named, line, "", _Known(None, notes), {})) is not None
    ]


class _Known:
    """What the other stages say of a text: by (problem, text, hash of the model)."""

    def __init__(self, run: Path | None, notes: list[str]) -> None:
        self._facts: dict[tuple[str, str, str], dict[str, Part]] = {}
        self._votes: dict[str, Counter[str]] = {}
        written: dict[tuple[str, str, str, int], list[tuple[str, str, str]]] = {}
        for place, row in _rows(run, notes):
            name = _ROUND.sub("", place)
            round_ = place.removeprefix(name)
            at = int(number(row.get("sample")) or 0)
            if isinstance(row.get("text"), str):
                key = (text_of(row.get("id")), row["text"], text_of(row.get("source")))
                self._facts.setdefault(key, _facts_of(row))
                role = _WRITER.get(name, "")
                written.setdefault((round_, role, key[0], at), []).append(key)
                if place == "samples":
                    votes = self._votes.setdefault(key[0], Counter())
                    votes[text_of(row.get("answer")) or "none"] += 1
            elif name.startswith("judged"):
                role = text_of(row.get("role"))
                for key in written.get((round_, role, text_of(row.get("id")), at), []):
                    self._facts[key] |= _judged(row)

    def of(self, problem: str, text: str, source: str) -> dict[str, Part]:
        return dict(self._facts.get((problem, text, source), {}))

    def votes(self, problem: str) -> str:
        """`1234 (7), 1243 (2)`: how often each answer was sampled; empty without a vote."""
        common = self._votes.get(problem, Counter()).most_common(_MOST_VOTES)
        return ", ".join(f"{answer} ({times})" for answer, times in common)


def _rows(run: Path | None, notes: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(stage name, row) of the stages that hold texts or judgements, in their order."""
    for path in sorted(run.glob("stages/*/rows.jsonl")) if run else ():
        match = _NUMBERED.fullmatch(path.parent.name)
        name = match.group(1) if match else path.parent.name
        if not name.startswith(("pairs", "judge-data", "halves", "kept")):
            for _, row in read_rows(path, notes):
                yield name, row


def _facts_of(row: Mapping[str, Any]) -> dict[str, Part]:
    named = {"answer read": row.get("answer"), "ended by": row.get("finish")}
    found: dict[str, Part] = {
        name: shorten(text_of(value)) for name, value in named.items() if value is not None
    }
    if number(row.get("tokens")) is not None:
        found["tokens"] = number(row.get("tokens"))
    return found


def _judged(row: Mapping[str, Any]) -> dict[str, Part]:
    marks = row.get("marks")
    found: dict[str, Part] = {}
    if isinstance(marks, list):
        shown = ["unreadable" if number(m) is None else f"{number(m):g}" for m in marks]
        found["marks of the judge"] = ", ".join(shown)
    if row.get("reason"):
        found["no judgement"] = text_of(row["reason"])
    return found


def _of_stage(run: Path, place: Path, known: _Known, notes: list[str]) -> list[Pair]:
    path = place / "rows.jsonl"
    match = _PAIRS.fullmatch(place.name)
    if not path.is_file() or match is None:
        notes.append(f"The pairs of {place.name} are not here.")
        return []
    record = read_object(place / "stage.json", notes, "who wrote the pairs is unknown")
    inputs = record.get("inputs")
    sources = inputs.get("sources") if isinstance(inputs, Mapping) else None
    # The first role of a model: in round 1 the initial model is the current one.
    items = list(sources.items()) if isinstance(sources, Mapping) else []
    roles = {str(print_): str(role) for role, print_ in reversed(items)}
    name, shown = match.group(1), str(path.relative_to(run))
    found = [_pair(row, shown, line, name, known, roles) for line, row in read_rows(path, notes)]
    return [pair for pair in found if pair is not None]


def _pair(
    row: Mapping[str, Any],
    path: str,
    line: int,
    stage: str,
    known: _Known,
    roles: Mapping[str, str],
) -> Pair | None:
    if row.get("chosen") is None or row.get("rejected") is None:
        return None
    problem = text_of(row.get("id", line))
    chosen, rejected = (_side(row, name, problem, known, roles) for name in ("chosen", "rejected"))
    parts: dict[str, Part] = {}
    if chosen.score is not None and rejected.score is not None:
        parts["gap"] = chosen.score - rejected.score
    if number(row.get("confidence")) is not None:
        parts["confidence of the vote"] = number(row.get("confidence"))
    if known.votes(problem):
        parts["votes"] = known.votes(problem)
    if row.get("weak_side"):
        parts["weak side"] = text_of(row["weak_side"])
    prompt = row.get("messages") or row.get("prompt")
    return Pair(path, line, stage, problem, shorten(prompt_text(prompt)), chosen, rejected, parts)


def _side(
    row: Mapping[str, Any], name: str, problem: str, known: _Known, roles: Mapping[str, str]
) -> Side:
    value = row[name]
    text = value if isinstance(value, str) else prompt_text(value)
    source = text_of(row.get(f"{name}_source"))
    by = " ".join(part for part in (roles.get(source, ""), source[:10]) if part)
    score = number(row.get(f"{name}_score"))
    return Side(shorten(text), score, by, known.of(problem, text, source))


def pack_pairs(pairs: Sequence[Pair], budget: int) -> tuple[dict[str, Any], str]:
    """Pairs as the page's script reads them, within about `budget` bytes, evenly spread, and what
    to say about those that are left out."""
    size = sum(_size(pair) for pair in pairs)
    step = max(1, -(-size // max(1, budget)))
    kept = list(pairs[::step])
    prompts: dict[tuple[str, str], int] = {}
    rows = []
    for pair in kept:
        place = prompts.setdefault((pair.problem, pair.prompt), len(prompts))
        sides = [[s.text, s.score, s.by, dict(s.parts)] for s in (pair.chosen, pair.rejected)]
        rows.append([pair.stage, place, *sides, dict(pair.parts), pair.path, pair.line])
    note = ""
    if len(kept) < len(pairs):
        note = f"{len(kept):,} of {len(pairs):,} pairs are on this page, evenly spread"
    return {"prompts": [list(key) for key in prompts], "rows": rows}, note


def _size(pair: Pair) -> int:
    texts = (pair.chosen.text, pair.rejected.text, pair.prompt)
    return 380 + sum(len(text.encode("utf-8", "replace")) for text in texts)


def _numeric(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
