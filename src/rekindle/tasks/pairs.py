"""Pairs of answers from a file, with the columns that Hugging Face data sets and TRL have:
`prompt`, `chosen` and `rejected`, each a text or a list of messages.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from rekindle.errors import DataError
from rekindle.files import read_jsonl


class PairRow(TypedDict):
    """A better and a worse answer to one prompt."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    messages: NotRequired[Sequence[Sequence[str]]]  # (role, content), where the prompt is a chat


class PairFile(NamedTuple):
    """Pairs that can be trained on, and how many were left out, by reason."""

    pairs: list[PairRow]
    skipped: Counter[str]


def read_pairs(path: Path) -> PairFile:
    """The pairs of a JSONL file that teach something.

    Left out and counted: chosen equal to rejected, an empty chosen.

    Raises:
        DataError: a row cannot be read, an id is there twice, or no pair is left.
    """
    pairs: list[PairRow] = []
    skipped = Counter[str]()
    for pair in _rows(path):
        if pair["chosen"] == pair["rejected"]:
            skipped["chosen is rejected"] += 1
        elif not pair["chosen"].strip():
            skipped["chosen is empty"] += 1
        else:
            pairs.append(pair)
    _refuse_twice(path, pairs)
    if not pairs:
        raise DataError(
            f"{path} has no pair to train on",
            got=dict(skipped) or "no rows",
            why="equal answers give no preference",
        )
    return PairFile(pairs, skipped)


def read_recipe_pairs(path: str | None) -> list[PairRow]:
    """The pairs of a recipe's file; how many were left out, and why, is a warning."""
    pairs, skipped = read_pairs(Path(str(path)))
    if skipped:
        reasons = ", ".join(f"{times}: {reason}" for reason, times in skipped.most_common())
        warnings.warn(f"{path}: pairs left out ({reasons})", stacklevel=2)
    return pairs


def pairs_to_look_at(path: Path) -> list[PairRow]:
    """The pairs of a file as they are, equal sides too; of an empty chosen there is a warning.

    Raises:
        DataError: a row cannot be read, an id is there twice, or no pair is left.
    """
    rows = list(_rows(path))
    pairs = [pair for pair in rows if pair["chosen"].strip()]
    if len(pairs) < len(rows):
        empty = len(rows) - len(pairs)
        warnings.warn(f"{path}: pairs left out ({empty}: chosen is empty)", stacklevel=2)
    _refuse_twice(path, pairs)
    if not pairs:
        raise DataError(f"{path} has no pair to look at", got=f"{len(rows)} rows", wanted="one")
    return pairs


def _rows(path: Path) -> Iterator[PairRow]:
    return (_pair(f"{path}:{line}", line, row) for line, row in read_jsonl(path))


def _refuse_twice(path: Path, pairs: Sequence[PairRow]) -> None:
    twice = [name for name, n in Counter(pair["id"] for pair in pairs).items() if n > 1]
    if twice:
        raise DataError(f"{path} has an id twice", got=twice[:5], fix="give each pair its own id")


def _pair(where: str, line: int, row: Mapping[str, object]) -> PairRow:
    prompt, messages = row.get("prompt"), None
    if prompt is None:
        raise DataError(
            f"{where} has no 'prompt'",
            got=sorted(row),
            wanted="prompt, chosen, rejected",
            fix="split the prompt off where chosen and rejected hold whole conversations",
        )
    if not isinstance(prompt, str):
        messages = _turns(where, "prompt", prompt)
        prompt = messages[-1][1]
    pair: PairRow = {
        "id": str(row.get("id", line)),
        "prompt": prompt,
        "chosen": _answer(where, "chosen", row),
        "rejected": _answer(where, "rejected", row),
    }
    if messages is not None:
        pair["messages"] = messages
    return pair


def _answer(where: str, side: str, row: Mapping[str, object]) -> str:
    value = row.get(side)
    if isinstance(value, str):
        return value
    if value is None:
        raise DataError(
            f"{where} has no '{side}'",
            got=sorted(row),
            wanted="prompt, chosen, rejected",
            why="a pair is a better and a worse answer to one prompt",
            fix=f"add '{side}' to that line, or remove the line",
        )
    turns = _turns(where, side, value)
    if len(turns) != 1 or turns[0][0] != "assistant":
        raise DataError(
            f"{where}: '{side}' is not one answer",
            got=[role for role, _ in turns],
            wanted="one message by the assistant, the rest in 'prompt'",
        )
    return turns[0][1]


def _turns(where: str, name: str, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value or not all(map(_is_turn, value)):
        raise DataError(
            f"{where} has no usable '{name}'",
            got=value,
            wanted='a text, or [{"role": ..., "content": ...}, ...]',
        )
    return tuple((turn["role"], turn["content"]) for turn in value)


def _is_turn(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
