"""Pairs of answers from a file, with the columns that Hugging Face data sets and TRL have:
`prompt`, `chosen` and `rejected`, each a text or a list of messages.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.tasks.rows import read_turns


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


def read_pairs(path: Path, *, keep_equal: bool = False) -> PairFile:
    """The pairs of a JSONL file that teach something.

    Left out and counted: an empty chosen, and unless `keep_equal` chosen equal to rejected.

    Raises:
        DataError: a row cannot be read, an id is there twice, or no pair is left.
    """
    pairs: list[PairRow] = []
    skipped = Counter[str]()
    for line, row in read_jsonl(path):
        pair = _pair(f"{path}:{line}", line, row)
        if pair["chosen"] == pair["rejected"] and not keep_equal:
            skipped["chosen is rejected"] += 1
        elif not pair["chosen"].strip():
            skipped["chosen is empty"] += 1
        else:
            pairs.append(pair)
    twice = [name for name, n in Counter(pair["id"] for pair in pairs).items() if n > 1]
    if twice:
        raise DataError(f"{path} has an id twice", got=twice[:5], fix="give each pair its own id")
    if not pairs:
        raise DataError(
            f"{path} has no pair to {'look at' if keep_equal else 'train on'}",
            got=dict(skipped) or "no rows",
            why=None if keep_equal else "equal answers give no preference",
        )
    return PairFile(pairs, skipped)


def pairs_of_file(path: Path | str | None, *, keep_equal: bool = False) -> list[PairRow]:
    """The pairs of `read_pairs`; how many were left out, and why, is a warning."""
    pairs, skipped = read_pairs(Path(str(path)), keep_equal=keep_equal)
    if skipped:
        reasons = ", ".join(f"{times}: {reason}" for reason, times in skipped.most_common())
        warnings.warn(f"{path}: pairs left out ({reasons})", stacklevel=2)
    return pairs


def _pair(where: str, line: int, row: Mapping[str, object]) -> PairRow:
    prompt, messages = row.get("prompt"), None
    if prompt in (None, []):
        raise DataError(
            f"{where} has no 'prompt'",
            got=sorted(row),
            wanted="prompt, chosen, rejected",
            fix="split the prompt off where chosen and rejected hold whole conversations",
        )
    if not isinstance(prompt, str):
        messages = read_turns(prompt, where, "prompt")
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
    turns = read_turns(value, where, side)
    if len(turns) != 1 or turns[0][0] != "assistant":
        raise DataError(
            f"{where}: '{side}' is not one answer",
            got=[role for role, _ in turns],
            wanted="one message by the assistant, the rest in 'prompt'",
        )
    return turns[0][1]
