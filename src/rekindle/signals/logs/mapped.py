"""Any table of rollouts: JSONL, parquet or CSV, by the columns that `--map` names."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.signals.logs.lines import Damage, Extract, Row, floats, number, plain
from rekindle.signals.logs.record import LogAbout, LoggedRow, LogSplit, Place
from rekindle.signals.logs.tables import SUFFIXES, column_names, each_row, left_out, whole_files

KEYS = {
    "score": "the reward that was used",
    "text": "the answer",
    "prompt": "what was asked",
    "group": "answers with the same value in one step compete",
    "step": "of training",
    "rm": "a reward model's score",
    "verifier": "right or wrong, where score is a sum of rewards",
    "logprob": "of the answer, nats, by the trainer: its sum, or one a token",
    "sampler_logprob": "the same by the sampler",
    "tokens": "how many the answer has",
    "advantage": "as training used it",
    "cut": "whether the token limit ended the answer; also `length` and `stop`",
    "split": "train or eval",
    "trained": "false where a group was filtered out before the update",
    "gold": "the reference answer",
}
LARGEST = 2**53  # of whole numbers that are read as such
_EVAL = ("eval", "evaluation", "val", "valid", "validation", "test", "dev")


@dataclass(frozen=True)
class MappedReader:
    """The rows of files with one layout.

    Attributes:
        columns: of the file, by the keys of `KEYS`; further ones are rewards by their name.
    """

    about: LogAbout
    columns: Mapping[str, str]
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in order."""
        for file, path in enumerate(self.about.files):
            yield from each_row(path, row_maker(self.columns, file), self.damage)


def open_mapped(path: Path, columns: Mapping[str, str]) -> MappedReader:
    """A file, or a directory of files of one kind, by the columns that were named.

    Raises:
        ConfigError: a key is unknown, the score is not mapped, or a column is not there.
        DataError: there is no file that can be read.
    """
    for key in columns:
        base = key.removeprefix("reward.")
        if key not in KEYS and base == key:
            raise ConfigError(
                f"--map has no '{key}'",
                wanted=", ".join(KEYS) + ", or reward.NAME for a further reward",
                fix=did_you_mean(key, KEYS),
            )
    if "score" not in columns:
        raise ConfigError(
            "--map names no score",
            wanted="score=COLUMN",
            why="without the reward of each rollout nothing can be said of groups",
        )
    files = find_tables(path)
    files, left = whole_files(files)
    if not files:
        raise DataError(
            f"{path} has no row",
            got=f"{left[0].name} is empty or not written to its end",
            wanted="a file with rows",
            fix="wait until its first rows are written",
        )
    there = next((names for file in files if (names := column_names(file))), ())
    if not there:
        raise DataError(
            f"{path} has no whole row",
            got=f"{files[0].name} without one",
            wanted="one JSON object a line, or a table with rows",
        )
    for key, column in columns.items():
        if column.split(".")[0] not in there and column not in there:
            raise ConfigError(
                f"--map {key}={column}: there is no such column in {files[0]}",
                wanted=", ".join(there) or "an object with keys",
                fix=did_you_mean(column, there),
            )
    about = LogAbout("mapped", None, tuple(files), notes=left_out(left))
    return MappedReader(about, dict(columns))


def find_tables(path: Path) -> list[Path]:
    """The files that may hold rows, in the order of their names' numbers.

    Raises:
        DataError: there is none.
    """
    tables = tables_under(path)
    if not tables:
        raise DataError(
            f"{path} has no log that can be read",
            got="no such file" if not path.exists() else "no file of these kinds",
            wanted=" or ".join(SUFFIXES),
        )
    return tables


def tables_under(path: Path) -> list[Path]:
    """The files of the kinds that may hold rows."""
    files = [path] if path.is_file() else sorted(path.rglob("*"), key=natural)
    return [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]


def natural(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Sorts step_10 behind step_9."""
    parts, digits = list[tuple[int, int | str]](), ""
    for character in [*str(path), ""]:
        if character.isdecimal() and character.isascii():
            digits += character
            continue
        if digits:
            parts.append((0, int(digits)))
            digits = ""
        parts.append((1, character))
    return tuple(parts)


def row_maker(columns: Mapping[str, str], file: int) -> Extract[LoggedRow]:
    """Makes a row of a mapping that stands in a file, by its number."""
    names = {key: column for key, column in columns.items() if key in KEYS}
    rewards = {
        key.removeprefix("reward."): column
        for key, column in columns.items()
        if key not in KEYS or key in ("rm", "verifier")
    }

    def value(row: Row, key: str) -> object:
        column = names.get(key)
        return None if column is None else _at(row, column)

    def make(row: Row, line: int) -> LoggedRow:
        logprob, by_token = summed(value(row, "logprob"))
        sampled, _ = summed(value(row, "sampler_logprob"))
        tokens = as_number(value(row, "tokens"))
        return LoggedRow(
            place=Place(file, line),
            step=as_integer(value(row, "step")),
            prompt=as_text(value(row, "prompt")),
            text=as_text(value(row, "text")),
            score=as_number(value(row, "score")),
            parts={name: as_number(_at(row, column)) for name, column in rewards.items()},
            group=as_key(value(row, "group")),
            advantage=as_number(value(row, "advantage")),
            tokens=by_token if tokens is None else int(tokens),
            cut=as_cut(value(row, "cut")),
            logprob=logprob,
            sampler_logprob=sampled,
            split=as_split(value(row, "split")),
            trained=as_flag(value(row, "trained")),
            gold=None if (gold := value(row, "gold")) is None else as_text(gold),
        )

    return make


# --- values as a field writes them


def _at(row: Row, column: str) -> object:
    """A column, or a.b within it where there is no column of that name."""
    found = row.get(column)
    if found is not None or "." not in column:
        return found
    first, _, rest = column.partition(".")
    inner = plain(row.get(first))
    return _at(inner, rest) if isinstance(inner, dict) else None


def as_number(value: object) -> float | None:
    """A number, also from a cell of a CSV or a list of one; None: it is none."""
    if isinstance(value, str):
        try:
            return number(float(value))
        except ValueError:
            flag = as_flag(value)
            return None if flag is None else float(flag)
    if isinstance(value, float | int):
        return number(value)
    inner = plain(value)
    if isinstance(inner, list) and len(inner) == 1:
        return as_number(inner[0])
    return number(inner)


def as_integer(value: object) -> int | None:
    """A whole number; None: it is none."""
    found = as_number(value)
    whole = found is not None and abs(found) < LARGEST and found == int(found)
    return int(found) if whole and found is not None else None


def as_flag(value: object) -> bool | None:
    """True or false, also as 0, 1 or a word; None: it is neither."""
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def as_cut(value: object) -> bool | None:
    """Whether an answer was cut: a flag, or the reason for which it ended."""
    if isinstance(value, str) and value.strip().lower() in ("length", "max_tokens", "truncated"):
        return True
    if isinstance(value, str) and value.strip().lower() in ("stop", "eos", "end_turn", "eos_token"):
        return False
    return as_flag(value)


def as_split(value: object) -> LogSplit | None:
    """Training or evaluation, by the names that the field has for it."""
    if value is None:
        return None
    flag = as_flag(value)
    if flag is not None:
        return "eval" if flag else "train"  # a column is_eval
    return "eval" if str(value).strip().lower() in _EVAL else "train"


def as_key(value: object) -> Hashable | None:
    """A group's name."""
    inner = plain(value)
    return json.dumps(inner) if isinstance(inner, list | dict) else inner


def as_text(value: object) -> str:
    """A text; a chat as its JSON, an answer in a chat as its last message."""
    inner = plain(value)
    if isinstance(inner, str):
        return inner
    if inner is None:
        return ""
    if isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict):
        content = inner[0].get("content")
        if isinstance(content, str):
            return content
    return json.dumps(inner, ensure_ascii=False)


def summed(value: object) -> tuple[float | None, int | None]:
    """A log-prob, and how many tokens it is the sum of where it came by token."""
    array = floats(value)
    if array is None:
        return as_number(value), None
    return (number(float(array.sum())), len(array)) if len(array) else (None, 0)
