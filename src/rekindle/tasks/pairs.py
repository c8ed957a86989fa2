"""Pairs of answers from a file, with the columns that Hugging Face data sets and TRL have:
`prompt`, `chosen` and `rejected`, each a text or a list of messages.

The prompt may stand in a column, or in both sides: whole conversations are the prompt up to the
last turn, and texts up to where they part (TRL's implicit prompt), at a turn of an `Assistant:`
where they are transcripts, else between two words. UltraFeedback has it in both places, which must
agree.
"""

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from rekindle.errors import DataError, did_you_mean
from rekindle.files import sha256_file
from rekindle.tasks.chats import Turns, is_chat, read_turns, sound_text
from rekindle.tasks.hub import open_dataset
from rekindle.tasks.sources import Stored, is_saved, open_files
from rekindle.tasks.text_files import Table

_PROMPTS = ("prompt", "question", "instruction", "problem", "query")
_TURN = "\n\nAssistant:"  # of a transcript, as in HH-RLHF
_SCORES = ("score_chosen", "score_rejected")


class PairRow(TypedDict):
    """A better and a worse answer to one prompt."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    messages: NotRequired[Sequence[Sequence[str]]]  # (role, content), where the prompt is a chat
    place: NotRequired[str]  # of its row, where it is from a file


class PairFile(NamedTuple):
    """Pairs that can be trained on; how many were left out, by reason; how rows were read."""

    pairs: list[PairRow]
    skipped: Counter[str]
    notes: tuple[str, ...] = ()


class _Sides(NamedTuple):
    prompt: str | None
    messages: Turns
    chosen: str
    rejected: str


def each_pair(path: Path, notes: Counter[str]) -> Iterator[tuple[str, PairRow]]:
    """The pairs of a file or saved dataset, each with its place; `notes` counts how they are read.

    Of a dataset with splits only train is read.

    Raises:
        DataError: a row cannot be read.
        MissingExtraError: the file needs pyarrow or `datasets`.
    """
    saved = is_saved(path)
    stored = open_dataset(str(path), {}, {}, None) if saved else open_files([str(path)])
    for table in _train_tables(stored, notes):
        several = len(stored.splits.get("", ())) > 1
        for number, row in table.rows:
            where = f"{table.where}{number}"
            name = f"{table.stem}-{number}" if several else str(number)
            yield where, _pair(where, name, row, notes)


def pairs_fingerprint(path: Path | str) -> str:
    """SHA-256 of a file's bytes, or of the data files of a saved dataset."""
    if not is_saved(path):
        return sha256_file(path)
    files = sorted(Path(path).rglob("*.arrow"))
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()


def read_pairs(path: Path, *, keep_equal: bool = False) -> PairFile:
    """The pairs of a file that teach something.

    Left out and counted: an empty chosen, and unless `keep_equal` chosen equal to rejected.

    Raises:
        DataError: a row cannot be read, an id is there twice, or no pair is left.
    """
    pairs: list[PairRow] = []
    skipped, notes = Counter[str](), Counter[str]()
    for _, pair in each_pair(path, notes):
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
    sentences = tuple(f"{n:,} row{'s' * (n != 1)}: {note}" for note, n in notes.items())
    return PairFile(pairs, skipped, sentences)


def pairs_of_file(path: Path | str | None, *, keep_equal: bool = False) -> list[PairRow]:
    """The pairs of `read_pairs`; how many were left out, and why, is a warning."""
    pairs, skipped, _ = read_pairs(Path(str(path)), keep_equal=keep_equal)
    if skipped:
        reasons = ", ".join(f"{times}: {reason}" for reason, times in skipped.most_common())
        warnings.warn(f"{path}: pairs left out ({reasons})", stacklevel=2)
    return pairs


def _train_tables(stored: Stored, notes: Counter[str]) -> list[Table]:
    if "" in stored.splits:
        return stored.splits[""]
    if "train" not in stored.splits:
        raise DataError("there are no pairs in a train split", got=", ".join(stored.splits))
    for split in stored.splits.keys() - {"train"}:
        notes[f"split {split} is not read"] += 1
    return stored.splits["train"]


def _pair(where: str, name: str, row: Mapping[str, object], notes: Counter[str]) -> PairRow:
    for side in ("chosen", "rejected"):
        if row.get(side) is None:
            raise DataError(
                f"{where} has no '{side}'",
                got=sorted(row),
                wanted="prompt, chosen, rejected",
                why="a pair is a better and a worse answer to one prompt",
                fix=f"add '{side}' to that line, or remove the line. {did_you_mean(side, row)}",
            )
    column = _prompt_column(where, row)
    prompt = None if column is None else row[column]
    chats = [
        is_chat(row[side]) or not isinstance(row[side], str) for side in ("chosen", "rejected")
    ]
    parted = _of_chats if all(chats) else _of_mixed if any(chats) else _of_texts
    sides, note = parted(where, prompt, row)
    notes[f"{note}, the prompt is '{column}'" if column else note] += 1
    others = [key for key, value in row.items() if value is not None and key not in _KNOWN]
    if others := [key for key in others if key != column]:
        notes[f"not read: {', '.join(others)}"] += 1
    high, low = (row.get(score) for score in _SCORES)
    if isinstance(high, int | float) and isinstance(low, int | float) and high < low:
        notes["score_chosen is below score_rejected: the two may be swapped"] += 1
    ask = sides.messages[-1][1] if sides.prompt is None else sides.prompt
    pair: PairRow = {
        "id": name if row.get("id") is None else str(row["id"]),
        "prompt": ask,
        "chosen": sides.chosen,
        "rejected": sides.rejected,
        "place": where,
    }
    if sides.messages:
        pair["messages"] = sides.messages
    return pair


_KNOWN = {"id", "chosen", "rejected", *_SCORES}


def _prompt_column(where: str, row: Mapping[str, object]) -> str | None:
    names = [name for name in _PROMPTS if row.get(name) not in (None, [])]
    if len(names) > 1 and names[0] != "prompt":
        raise DataError(
            f"{where} can be read in two ways: its prompt may be '{names[0]}' or '{names[1]}'",
            why="nothing is guessed between two readings",
            fix="rename the one that is meant to 'prompt'",
        )
    return names[0] if names else None


def _of_chats(where: str, prompt: object, row: Mapping[str, object]) -> tuple[_Sides, str]:
    """Both sides are messages: the last is the answer, those before are the prompt."""
    chosen, rejected = (read_turns(row[side], where, side) for side in ("chosen", "rejected"))
    for side, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1][0] != "assistant":
            raise _not_one(where, side, turns)
    if chosen[:-1] != rejected[:-1]:
        raise DataError(
            f"{where}: chosen and rejected part before the last turn",
            got=f"{len(chosen)} and {len(rejected)} turns",
            wanted="one conversation up to the answer",
            why="a pair compares two answers to one prompt",
            fix="cut both where they part",
        )
    before, last = chosen[:-1], (chosen[-1][1], rejected[-1][1])
    if prompt is None:
        if not before:
            raise _no_prompt(where, row)
        return _Sides(None, before, *last), "chosen and rejected are whole conversations"
    asked = _asked(where, prompt)
    if not before:
        text = prompt if isinstance(prompt, str) and not is_chat(prompt) else None
        return _Sides(
            text, () if text is not None else asked, *last
        ), "chosen and rejected are messages"
    if before != asked and before[-1:] != asked:
        raise DataError(
            f"{where}: the prompt is there twice, and not the same",
            got=f"'prompt' {asked[-1][1][:80]!r}, before the answers {before[-1][1][:80]!r}",
            wanted="one prompt",
            fix="remove the column, or what is before the answers",
        )
    return _Sides(None, before, *last), "chosen and rejected are whole conversations"


def _of_mixed(where: str, prompt: object, row: Mapping[str, object]) -> tuple[_Sides, str]:
    """One side is a text and the other messages: each must be one answer."""
    sides = [_answer(where, side, row) for side in ("chosen", "rejected")]
    return _of_texts(where, prompt, {**row, "chosen": sides[0], "rejected": sides[1]})


def _of_texts(where: str, prompt: object, row: Mapping[str, object]) -> tuple[_Sides, str]:
    """Both sides are texts: answers, or with the prompt before them."""
    chosen, rejected = (_answer(where, side, row) for side in ("chosen", "rejected"))
    if prompt is None:
        return _implicit(where, chosen, rejected, row)
    if isinstance(prompt, str) and not is_chat(prompt):
        asked = sound_text(prompt, where, "prompt")
        return _Sides(asked, (), chosen, rejected), "chosen and rejected are texts"
    turns = _asked(where, prompt)
    return _Sides(None, turns, chosen, rejected), "chosen and rejected are texts"


def _implicit(
    where: str, chosen: str, rejected: str, row: Mapping[str, object]
) -> tuple[_Sides, str]:
    """The prompt is how both texts begin."""
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
    shared = chosen[: sum(1 for _ in alike)]
    at = shared.rfind(_TURN)
    if at >= 0:
        at, what = at + len(_TURN), "transcripts: the prompt is what is before the last Assistant:"
    else:  # between two words; the blank goes with the answer
        words = list(re.finditer(r"(?<=\S)(?=\s)", chosen[: len(shared) + 1]))
        at = words[-1].start() if words else 0
        what = "texts, whose prompt is how both begin"
    if not shared[:at].strip():
        raise _no_prompt(where, row)
    return _Sides(chosen[:at], (), chosen[at:], rejected[at:]), f"chosen and rejected are {what}"


def _asked(where: str, prompt: object) -> Turns:
    if isinstance(prompt, str) and not is_chat(prompt):
        return (("user", sound_text(prompt, where, "prompt")),)
    return read_turns(prompt, where, "prompt")


def _answer(where: str, side: str, row: Mapping[str, object]) -> str:
    value = row.get(side)
    if isinstance(value, str) and not is_chat(value):
        return sound_text(value, where, side)
    turns = read_turns(value, where, side)
    if len(turns) != 1 or turns[0][0] != "assistant":
        raise _not_one(where, side, turns)
    return turns[0][1]


def _not_one(where: str, side: str, turns: Turns) -> DataError:
    return DataError(
        f"{where}: '{side}' is not one answer",
        got=[role for role, _ in turns],
        wanted="one message by the assistant, or a conversation that ends with one",
    )


def _no_prompt(where: str, row: Mapping[str, object]) -> DataError:
    return DataError(
        f"{where} has no 'prompt'",
        got=sorted(row),
        wanted="prompt, chosen, rejected",
        fix="split the prompt off where chosen and rejected hold whole conversations, or write "
        "these as lists of messages",
    )
