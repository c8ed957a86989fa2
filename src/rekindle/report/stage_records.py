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
from typing import NamedTuple

from rekindle.methods.catalog import METHODS
from rekindle.report.reading import (
    Json,
    number,
    numbers,
    read_object,
    read_rows,
    text_of,
    texts,
    whole,
)
from rekindle.report.run_files import Settings
from rekindle.report.samples import Packed, prompt_text, shorten

_PAIRS = re.compile(r"\d+-(pairs(?:-.+)?)")
_NUMBERED = re.compile(r"\d+-(.+)")
_ROUND = re.compile(r"-(\d+)$")
_WRITER = {"candidates": "current", "initial": "initial", "ahead": "future"}
_MOST_VOTES = 5  # answers of a vote that are named
Fact = float | str | None


class Stage(NamedTuple):
    """The record of a stage that made rows; `facts` are its further numbers."""

    name: str
    kept: float
    dropped: Mapping[str, float]
    generated: float
    seconds: float
    facts: Mapping[str, float | None]


class PairSide(NamedTuple):
    """One answer of a pair: its text and everything that is known of it, in words or numbers."""

    text: str
    score: float | None
    by: str
    facts: Mapping[str, Fact]


class TrainedPair(NamedTuple):
    """A pair as it was trained on; `line` of the file at `path` (inside the run directory)."""

    path: str
    line: int
    stage: str
    problem: str
    prompt: str
    chosen: PairSide
    rejected: PairSide
    facts: Mapping[str, Fact]


def read_stages(run: Path, notes: list[str]) -> list[Stage]:
    """The records of the stages that made rows, in their order."""
    files = sorted(run.glob("stages/*/stage.json"))
    records = {path: read_object(path, notes) or {} for path in files}
    skip = {"kept", "generated", "seconds"}
    return [
        Stage(
            name=_name_of(path),
            kept=whole(record.get("kept")),
            dropped={why: whole(times) for why, times in numbers(record.get("dropped")).items()},
            generated=number(record.get("generated")) or 0.0,
            seconds=number(record.get("seconds")) or 0.0,
            facts={key: value for key, value in numbers(record).items() if key not in skip},
        )
        for path, record in records.items()
    ]


def _name_of(path: Path) -> str:
    """The stage whose file this is, without its number."""
    match = _NUMBERED.fullmatch(path.parent.name)
    return match[1] if match else path.parent.name


def read_pairs(run: Path, settings: Settings, notes: list[str]) -> list[TrainedPair]:
    """Every pair that the run was trained on: of its stages, or of the file that it names."""
    stages = [path for path in sorted(run.glob("stages/*-pairs*")) if _PAIRS.fullmatch(path.name)]
    if stages:
        known = _KnownTexts(run, notes)
        return [pair for stage in stages for pair in _of_stage(run, stage, known, notes)]
    file, method = settings.pairs_file, METHODS.get(settings.method)
    if method is None or "pairs file" not in method.needs or not file:
        return []
    if not Path(file).is_file():
        notes.append(f"The pairs that it was trained on ({file}) are not here.")
        return []
    known = _KnownTexts(None, notes)
    return read_rows(Path(file), notes, lambda line, row: _pair(row, file, line, "", known, {}))


class _KnownTexts:
    """What the other stages say of a text: by (problem, text, hash of the model)."""

    def __init__(self, run: Path | None, notes: list[str]) -> None:
        self._facts: dict[tuple[str, str, str], dict[str, Fact]] = {}
        self._votes: dict[str, Counter[str]] = {}
        written: dict[tuple[str, str, str, int], list[tuple[str, str, str]]] = {}
        for stage, row in _rows(run, notes):
            name = _ROUND.sub("", stage)
            round_ = stage.removeprefix(name)
            at, text = whole(row.get("sample")), row.get("text")
            if isinstance(text, str):
                key = (text_of(row.get("id")), text, text_of(row.get("source")))
                self._facts.setdefault(key, _facts_of(row))
                role = _WRITER.get(name, "")
                written.setdefault((round_, role, key[0], at), []).append(key)
                if stage == "samples":
                    votes = self._votes.setdefault(key[0], Counter())
                    votes[text_of(row.get("answer")) or "none"] += 1
            elif name.startswith("judged"):
                role = text_of(row.get("role"))
                for key in written.get((round_, role, text_of(row.get("id")), at), []):
                    self._facts[key] |= _judged(row)

    def of(self, problem: str, text: str, source: str) -> dict[str, Fact]:
        return dict(self._facts.get((problem, text, source), {}))

    def votes(self, problem: str) -> str:
        """`1234 (7), 1243 (2)`: how often each answer was sampled; empty without a vote."""
        common = self._votes.get(problem, Counter()).most_common(_MOST_VOTES)
        return ", ".join(f"{answer} ({times})" for answer, times in common)


def _rows(run: Path | None, notes: list[str]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """(stage name, row) of the stages that hold texts or judgements, in their order."""
    for path in sorted(run.glob("stages/*/rows.jsonl")) if run else ():
        name = _name_of(path)
        if not name.startswith(("pairs", "judge-data", "halves", "kept")):
            for row in read_rows(path, notes, lambda _, row: row):
                yield name, row


def _facts_of(row: Mapping[str, Json]) -> dict[str, Fact]:
    named = {"answer read": row.get("answer"), "ended by": row.get("finish")}
    facts: dict[str, Fact] = {
        name: shorten(text_of(value)) for name, value in named.items() if value is not None
    }
    if number(row.get("tokens")) is not None:
        facts["tokens"] = number(row.get("tokens"))
    return facts


def _judged(row: Mapping[str, Json]) -> dict[str, Fact]:
    marks = row.get("marks")
    facts: dict[str, Fact] = {}
    if isinstance(marks, list):
        shown = ["unreadable" if number(m) is None else f"{number(m):g}" for m in marks]
        facts["marks of the judge"] = ", ".join(shown)
    if row.get("reason"):
        facts["no judgement"] = text_of(row["reason"])
    return facts


def _of_stage(run: Path, stage: Path, known: _KnownTexts, notes: list[str]) -> list[TrainedPair]:
    path = stage / "rows.jsonl"
    if not path.is_file():
        notes.append(f"The pairs of {stage.name} are not here.")
        return []
    record = read_object(stage / "stage.json", notes, "who wrote the pairs is unknown") or {}
    inputs = record.get("inputs")
    sources = texts(inputs.get("sources")) if isinstance(inputs, Mapping) else {}
    # The first role of a model: in round 1 the initial model is the current one.
    roles = {source: role for role, source in reversed(sources.items())}
    name, shown = _name_of(path), str(path.relative_to(run))
    return read_rows(path, notes, lambda line, row: _pair(row, shown, line, name, known, roles))


def _pair(
    row: Mapping[str, Json],
    path: str,
    line: int,
    stage: str,
    known: _KnownTexts,
    roles: Mapping[str, str],
) -> TrainedPair | None:
    if row.get("chosen") is None or row.get("rejected") is None:
        return None
    problem = text_of(row.get("id", line))
    chosen, rejected = (_side(row, name, problem, known, roles) for name in ("chosen", "rejected"))
    gap = None
    if chosen.score is not None and rejected.score is not None:
        gap = chosen.score - rejected.score
    facts: dict[str, Fact] = {
        "gap": gap,
        "confidence of the vote": number(row.get("confidence")),
        "votes": known.votes(problem) or None,
        "weak side": text_of(row.get("weak_side") or None) or None,
    }
    facts = {name: fact for name, fact in facts.items() if fact is not None}
    prompt = shorten(prompt_text(row.get("messages") or row.get("prompt")))
    return TrainedPair(path, line, stage, problem, prompt, chosen, rejected, facts)


def _side(
    row: Mapping[str, Json], name: str, problem: str, known: _KnownTexts, roles: Mapping[str, str]
) -> PairSide:
    value = row[name]
    text = value if isinstance(value, str) else prompt_text(value)
    source = text_of(row.get(f"{name}_source"))
    by = " ".join(part for part in (roles.get(source, ""), source[:10]) if part)
    score = number(row.get(f"{name}_score"))
    return PairSide(shorten(text), score, by, known.of(problem, text, source))


def pack_pairs(pairs: Sequence[TrainedPair], budget: int) -> tuple[Packed, str]:
    """Pairs with each prompt once, within about `budget` bytes, evenly spread, and what to say
    about those that are left out."""
    size = sum(_size(pair) for pair in pairs)
    step = max(1, -(-size // max(1, budget)))
    kept = list(pairs[::step])
    prompts: dict[tuple[str, str], int] = {}
    rows: list[list[Json]] = []
    for pair in kept:
        prompt = prompts.setdefault((pair.problem, pair.prompt), len(prompts))
        sides = (pair.chosen, pair.rejected)
        rows.append([pair.stage, prompt, *sides, pair.facts, pair.path, pair.line])
    note = ""
    if len(kept) < len(pairs):
        note = f"{len(kept):,} of {len(pairs):,} pairs are on this page, evenly spread"
    return {"prompts": [list(key) for key in prompts], "rows": rows}, note


def _size(pair: TrainedPair) -> int:
    texts = (pair.chosen.text, pair.rejected.text, pair.prompt)
    return 380 + sum(len(text.encode("utf-8", "replace")) for text in texts)
