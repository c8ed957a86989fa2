"""Rollouts for the browser: read, shortened, thinned to what a page can carry, and packed.

The text comes from a model and may be anything; here it stays data. Numbers that are undefined stay
None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import PlainValidator

from rekindle.report.formatting import grouped
from rekindle.report.reading import (
    FiniteNumber,
    Json,
    Lenient,
    PlainText,
    WholeNumber,
    number,
    numbers,
    text_of,
    whole,
)

HEAD, TAIL = 4500, 1500  # characters kept of a long text
COLUMNS = (
    "step", "group", "prompt", "sample", "text", "score", "missing", "parts", "reward",
    "advantage", "class", "tokens", "logprob", "finish", "line",
)  # fmt: skip


def shorten(text: str, where: str = "samples.jsonl has them") -> str:
    """`text`, or its two ends, how much was left out between them, and where it is whole."""
    if len(text) <= HEAD + TAIL:
        return text
    left_out = len(text) - HEAD - TAIL
    gap = f"\n\n[… {left_out:,} characters are left out here; {where} …]\n\n"
    return text[:HEAD] + gap + text[-TAIL:]


def prompt_text(value: object) -> str:
    """The prompt as text; a chat is one block a message."""
    if not isinstance(value, list):
        return text_of(value)
    blocks = []
    for message in value:
        if isinstance(message, Mapping):
            blocks.append(f"{text_of(message.get('role'))}: {text_of(message.get('content'))}")
        elif isinstance(message, list) and len(message) == 2:
            blocks.append(f"{text_of(message[0])}: {text_of(message[1])}")
    return "\n\n".join(blocks)


def _length(tokens: object) -> int:
    return len(tokens) if isinstance(tokens, list) else whole(tokens)


Shortened = Annotated[str, PlainValidator(lambda value: shorten(prompt_text(value)))]


class Sample(Lenient):
    """One row of samples.jsonl; `line` is its line number there, `parts` every further number."""

    line: int
    step: WholeNumber
    group: PlainText = ""
    problem: PlainText = ""
    level: PlainText = ""
    prompt: Shortened = ""
    answer: Annotated[str | None, PlainValidator(lambda value: shorten(text_of(value)))] = None
    sample: WholeNumber = 0
    text: Shortened
    score: FiniteNumber = None
    missing: Annotated[str | None, PlainValidator(text_of)] = None
    parts: Mapping[str, float | None]
    reward: FiniteNumber = None
    advantage: FiniteNumber = None
    group_class: PlainText = ""
    tokens: Annotated[int | None, PlainValidator(_length)] = None
    sum_logprob: FiniteNumber = None
    finish: PlainText = ""


def read_sample(line: int, row: Mapping[str, Json]) -> Sample | None:
    """A row as a `Sample`, texts shortened; None for a row without a step or a text."""
    if number(row.get("step")) is None or not isinstance(row.get("text"), str):
        return None
    fields = Sample.model_fields.keys() - {"line"}
    known = {key: value for key, value in row.items() if key in fields and value is not None}
    further = {key: value for key, value in row.items() if key not in fields}
    parts = numbers(row.get("parts")) | numbers(further)
    return Sample.model_validate({**known, "line": line, "parts": parts})


def thin(samples: Sequence[Sample], budget: int) -> tuple[Sequence[Sample], str]:
    """At most about `budget` bytes of rollouts: whole steps, evenly spread, first and last kept.

    Also what to say about the rest; empty: all are there.
    """
    sizes: dict[int, int] = {}
    for sample in samples:
        sizes[sample.step] = sizes.get(sample.step, 0) + _size(sample)
    if sum(sizes.values()) <= budget:
        return samples, ""
    steps = sorted(sizes)
    count = len(steps) - 1
    chosen: list[Sample] = []
    while count >= 2 and not chosen:
        keep = {steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)}
        if sum(sizes[step] for step in keep) <= budget:
            chosen = [sample for sample in samples if sample.step in keep]
        count = int(count * 0.95)
    chosen = chosen or _last_groups(samples, budget)
    shown_steps = len({sample.step for sample in chosen})
    note = (
        f"{len(chosen):,} of {len(samples):,} logged rollouts are on this page ({shown_steps:,} of "
        f"{len(steps):,} steps, evenly spread), to keep it fast; samples.jsonl has them all."
    )
    return chosen, note


Packed = Mapping[str, Sequence[Json]]  # lists of rows and prompts, as the page's script reads them


def pack(samples: Sequence[Sample]) -> Packed:
    """Columns and rows, with each prompt once."""
    prompts: dict[tuple[str, str, str, str | None], int] = {}
    rows: list[list[Json]] = []
    for s in samples:
        key = (s.problem, s.level, s.prompt, s.answer)
        prompt = prompts.setdefault(key, len(prompts))
        rows.append(
            [
                s.step, s.group, prompt, s.sample, s.text, s.score, s.missing, s.parts,
                rounded(s.reward), rounded(s.advantage), s.group_class, s.tokens,
                rounded(s.sum_logprob), s.finish, s.line,
            ]
        )  # fmt: skip
    return {"columns": list(COLUMNS), "prompts": [list(key) for key in prompts], "rows": rows}


def rounded(value: float | None, digits: int = 6) -> float | None:
    """Six significant digits: more would weigh on the page and say nothing."""
    if value is None or not math.isfinite(value):
        return None
    if value == 0:
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def _last_groups(samples: Sequence[Sample], budget: int) -> list[Sample]:
    """Even two steps are too much: whole groups from the last step on, as far as they fit."""
    chosen: list[Sample] = []
    spent = 0
    groups = grouped(samples, lambda sample: (sample.step, sample.group))
    for group in reversed(groups.values()):
        spent += sum(map(_size, group))
        if spent > budget and chosen:
            break
        chosen += group
    return sorted(chosen, key=lambda sample: sample.line)


def _size(sample: Sample) -> int:
    """Bytes on the page: what is written as an escape in JSON counts as that."""
    texts = (sample.text, sample.missing or "", sample.prompt if sample.sample == 0 else "")
    return 160 + 24 * len(sample.parts) + sum(len(json.dumps(text)) for text in texts)
