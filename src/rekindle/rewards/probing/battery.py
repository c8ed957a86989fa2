"""The battery: graded answers to probe a reward with.

    comparing   one value in many spellings, each beside a near miss
    reading     where an answer stands: thoughts, tags, boxes, cues, what is cut
    mixed       other fields and habits: finance, physics, code, other languages, chatter

A row says what a careful teacher would give a text, and why. The files are in battery/, one JSON
object a line; a gold that is a JSON number is
read as its text, as a task reads its answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

BATTERIES = ("comparing", "reading", "mixed")


@dataclass(frozen=True)
class BatteryRow:
    """A text, and what it deserves.

    `echo` marks a text that equals the gold once it is worked out (3+4 for 7): whether that is an
    answer depends on the question.
    """

    answers: str  # what the gold is an answer of: exact, numeric or math
    gold: str
    text: str
    right: bool
    kind: str
    reason: str
    cut: bool = False  # the text ended at the token limit
    thought_open: bool = False  # the prompt's template had opened a thought
    echo: bool = False
    prompt: str = "Solve the problem. Put the final answer in \\boxed{}."


@cache
def read_battery(name: str) -> tuple[BatteryRow, ...]:
    """The rows of one of `BATTERIES`, in the order of its file."""
    text = files(__package__).joinpath("battery", f"{name}.jsonl").read_text(encoding="utf-8")
    return tuple(_row(json.loads(line)) for line in text.split("\n") if line)


def spread(rows: Sequence[BatteryRow], most: int | None) -> Sequence[BatteryRow]:
    """At most so many rows, evenly from the first to the last; all of them where None."""
    if most is None or len(rows) <= most:
        return rows
    return [rows[i * len(rows) // most] for i in range(most)]


def _row(fields: Mapping[str, object]) -> BatteryRow:
    return BatteryRow(
        answers=str(fields["verifier"]),
        gold=str(fields["gold"]),
        text=str(fields["text"]),
        right=fields["score"] == 1,
        kind=str(fields["kind"]),
        reason=str(fields["reason"]),
        cut=fields.get("cut") is True,
        thought_open=fields.get("thought_open") is True,
        echo=fields.get("echo") is True,
    )
