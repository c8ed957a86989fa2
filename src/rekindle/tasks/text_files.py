"""Rows of JSONL, JSON and CSV files, every value as it is written.

A number keeps its text beside its value: 1.50 stays "1.50", 0.00001 is no 1e-05, and integers have
no largest. Cells of a CSV are texts; an empty one is nothing.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from rekindle.errors import DataError
from rekindle.files import decoded, each_jsonl, readable

_LISTED = "a list of objects, or one object a line"
_CHATS = {"prompt", "completion", "messages", "conversations", "chosen", "rejected"}


class WrittenFloat(float):
    """A float that knows how it was written; its `str` is that text."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        """The number that a text is."""
        number = super().__new__(cls, text)
        number.text = str(text)
        return number

    def __str__(self) -> str:
        """As it was written."""
        return self.text


class Table(NamedTuple):
    """The rows of one file or split, read while they are used.

    `where` and a row's number name the row in errors; `stem` begins the ids of rows without one.
    """

    where: str
    stem: str
    rows: Iterator[tuple[int, Mapping[str, object]]]
    columns: tuple[str, ...] = ()  # where they are known before the rows are


def text_tables(path: Path, stem: str) -> dict[str, Table]:
    """The rows of a .jsonl, .ndjson, .json, .csv or .tsv file, under the name "".

    A JSON file may also hold lists of objects by split, {"train": [...], "test": [...]}: then they
    are under these names.

    Raises:
        DataError: at once or while the rows are read; file and row are named.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        return {"": Table(f"{path}:", stem, _csv_rows(path))}
    if path.suffix.lower() != ".json" or _is_jsonl(path):
        return {"": Table(f"{path}:", stem, each_jsonl(path, loads))}
    tables = {}
    for name, items in _json_lists(path).items():
        where = f"{path} {name} row " if name else f"{path} row "
        tables[name] = Table(where, f"{stem}-{name}" if name else stem, _items(where, items))
    return tables


def loads(text: str) -> object:
    """JSON whose numbers keep their text.

    Raises:
        ValueError: no JSON, or an object has a key twice.
    """
    return _DECODER.decode(text)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice}' is there twice")
    return row


_DECODER = json.JSONDecoder(parse_float=WrittenFloat, object_pairs_hook=_unique)


def _is_jsonl(path: Path) -> bool:
    """Whether the first line that is not blank is a row of its own, as `to_json` writes it."""
    with readable(path), open(path, "rb") as file:
        begin = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        if not begin.startswith(b"{"):
            return not begin  # an empty file, which is told as one
        file.seek(0)
        line = next(raw for raw in file if raw.removeprefix(b"\xef\xbb\xbf").strip())
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # an object of several lines, or a broken row
            return line.rstrip().endswith(b"}")
    if value and all(isinstance(item, dict) and "0" in item for item in value.values()):
        return False  # pandas' own layout, column by column
    by_split = all(_is_list_of_rows(item) for item in value.values())
    return not by_split or bool(value.keys() & _CHATS)


def _is_list_of_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value[:3])


def _json_lists(path: Path) -> dict[str, list[object]]:
    with readable(path):
        text = decoded(path.read_bytes(), str(path))
    try:
        value = loads(text)
    except (ValueError, RecursionError) as error:  # integers of thousands of digits, deep nesting
        known = error if isinstance(error, json.JSONDecodeError) else None
        raise DataError(
            f"{path}:{known.lineno} is not valid JSON" if known else f"{path} is not valid JSON",
            got=known.msg if known else str(error).split(";")[0],
            wanted=_LISTED,
            fix="mend that place; a file that was cut off must be copied again",
        ) from error
    if isinstance(value, dict) and value and all(map(_is_list_of_rows, value.values())):
        return value
    if not isinstance(value, list):
        raise DataError(
            f"{path} is no list of rows",
            got=f"an object of {', '.join(list(value)[:5])}" if isinstance(value, dict) else value,
            wanted=f"{_LISTED}, or lists of objects by split",
            fix="pandas writes one with to_json(path, orient='records')",
        )
    if not value:
        raise DataError(f"{path} is empty", wanted=_LISTED)
    return {"": value}


def _items(where: str, items: list[object]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise DataError(f"{where}{number} is not a JSON object", got=item, wanted="{...}")
        yield number, item


# --- CSV


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Rows by the line on which they begin."""
    csv.field_size_limit(sys.maxsize)  # its own is 128 KiB, less than a long solution
    with readable(path), open(path, "rb") as file:
        lines = _Lines(path, file)
        head = next(lines, "")
        reader = csv.reader(lines, delimiter=_delimiter(path, head), strict=True)
        begun, empty = 1, True
        try:
            names = next(csv.reader([head], delimiter=_delimiter(path, head)), [])
            _check_names(path, names)
            begun = 2
            for cells in reader:
                if cells:
                    empty = False
                    yield begun, _csv_row(f"{path}:{begun}", names, cells)
                begun = lines.number + 1
        except csv.Error as error:
            raise DataError(
                f"{path}:{begun} is not valid CSV",
                got=str(error),
                wanted='cells as RFC 4180 has them: quotes around commas, "" for a quote',
                fix="mend that row, or write the file with a CSV library, lines ended by \\n",
            ) from error
    if empty:
        raise DataError(f"{path} is empty", wanted="a line of names, and a row at least")


class _Lines:
    """The lines of a CSV file as text, counted."""

    def __init__(self, path: Path, file: Iterator[bytes]) -> None:
        self.path, self.file, self.number = path, file, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = next(self.file)
        self.number += 1
        where = f"{self.path}:{self.number}"
        if b"\0" in raw and raw[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(
                f"{where} has a NUL byte", why="text files have none: a write was cut off, or the "
                "file is UTF-16 or no text", fix="write the file again, as UTF-8",
            )  # fmt: skip
        return decoded(raw, where, first=self.number == 1)


def _delimiter(path: Path, head: str) -> str:
    """Tab or semicolon where the names are set apart by these alone."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    others = [mark for mark in ";\t" if mark in head]
    return others[0] if others and "," not in head else ","


def _check_names(path: Path, names: list[str]) -> None:
    if not any(name.strip() for name in names):
        raise DataError(f"{path} is empty", wanted="a line of names, and a row at least")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(
            f"{path} has the column '{twice[0]}' twice",
            got=names,
            fix="give each column a name of its own",
        )


def _csv_row(where: str, names: list[str], cells: list[str]) -> Mapping[str, object]:
    if len(cells) != len(names):
        raise DataError(
            f"{where} has {len(cells)} cells",
            got=cells,
            wanted=f"{len(names)}, one for each of {', '.join(names)}",
            fix="put quotes around cells with commas in them",
        )
    return {name: cell or None for name, cell in zip(names, cells, strict=True)}
