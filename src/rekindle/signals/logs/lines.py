"""JSON lines of any size, parsed one at a time; numbers of token lists never become Python objects.

A log of a run that still goes on ends in half a line: it is left out. Other lines that are no JSON
are left out too, and counted; a file of which one line in twenty is broken is no log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import simdjson
from numpy.typing import NDArray

from rekindle.errors import DataError
from rekindle.files import readable

T = TypeVar("T")
LONGEST = 256_000_000  # bytes of a line
BUFFER = 1 << 20  # bytes that are read at once
HUGE = 1e100  # what no reward is; its square is still a number
FEW = 0.05  # share of broken lines that a log may have
Row = Mapping[str, object]  # or a simdjson.Object, which answers to the same calls
Extract = Callable[[Row, int], T]


class Damage:
    """What was left out of the files while they were read."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}  # by where the first of a file is and why

    def add(self, path: Path, line: int, why: str) -> None:
        """Count a line."""
        place = next((key for key in self.lines if key.startswith(f"{path}:")), None)
        key = place or f"{path}:{line}: {why}"
        self.lines[key] = self.lines.get(key, 0) + 1

    def sentences(self) -> list[str]:
        """One a file."""
        return [
            f"left out: {count} line{'s' * (count > 1)} that cannot be read ({place})"
            for place, count in self.lines.items()
        ]


def each_line(
    path: Path, extract: Extract[T], damage: Damage, *, until: bytes | None = None
) -> Iterator[T]:
    """What `extract` makes of each line that is a JSON object.

    Args:
        until: a key of the object; it and what follows are not parsed, where they are not read. In
            a text the quotes around it would be escaped, so that it is found as a key alone.
        extract: takes an object and its line, from 1; the object is gone at the next line, so that
            no list or object of it may be kept: see `plain` and `floats`.

    Raises:
        DataError: the file cannot be read, a line is longer than 256 MB, or many are broken.
    """
    parser = simdjson.Parser()
    key = None if until is None else b', "' + until + b'": '
    good = bad = number = 0
    with readable(path), open(path, "rb", buffering=BUFFER) as file:
        for line in _lines(file, path):
            number += 1
            if line.isspace():
                continue
            try:
                row = _parsed(parser, line if key is None else _head(line, key))
            except ValueError as error:
                if line.endswith(b"\n"):
                    bad += 1
                    damage.add(path, number, _shortened(error))
                else:
                    damage.add(path, number, "not written to its end")
                continue
            good += 1
            made = extract(row, number)
            del row
            yield made
    if bad > max(1, FEW * good) or (bad and not good):
        raise DataError(
            f"{path} is no log of rollouts",
            got=f"{bad} of its {good + bad} lines are not JSON objects",
            wanted="one JSON object a line",
        )


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of a file; where it is large enough for one that is too long, these are refused."""
    if os.fstat(file.fileno()).st_size <= LONGEST:
        yield from file
        return
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if len(line) >= LONGEST and not line.endswith(b"\n"):
            raise DataError(
                f"{path}:{number} is too long a line",
                got="more than 256 MB",
                wanted="one rollout a line",
                fix="check that the file is a log of rollouts",
            )
        yield line


def _head(line: bytes, key: bytes) -> bytes:
    """An object up to a key; the whole line where it has no such key or no end."""
    end = line.find(key)
    return line[:end] + b"}" if end > 0 and line.endswith(b"}\n") else line


def _parsed(parser: simdjson.Parser, line: bytes) -> Row:
    """A line as an object; what simdjson refuses (NaN, long integers) json may still read."""
    row: object
    try:
        row = parser.parse(line)
    except (ValueError, RuntimeError):
        row = _by_json(line)
    if isinstance(row, simdjson.Object | dict):
        return row
    raise ValueError("it is not an object")


def _by_json(line: bytes) -> object:
    """Half of a pair of surrogates, which no file can hold, becomes a question mark."""
    try:
        found = json.loads(line)
        if b"\\ud" in line.lower():
            text = json.dumps(found, ensure_ascii=False)
            found = json.loads(text.encode("utf-8", "replace"))
        return found
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _shortened(error: ValueError) -> str:
    return str(error).splitlines()[0][:80]


def plain(value: object) -> object:
    """A value of a row as Python has it."""
    if isinstance(value, simdjson.Array):
        return value.as_list()
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value


def number(value: object) -> float | None:
    """A value as a number; None where it is none, not finite, beyond 1e100 or missing."""
    if isinstance(value, bool | int | float):
        try:
            return float(value) if abs(value) < HUGE else None  # nan is not below it either
        except OverflowError:  # an integer beyond the largest number
            return None
    return None


def floats(value: object) -> NDArray[np.float64] | None:
    """A list of numbers as an array that is its own; None where it is none."""
    try:
        if isinstance(value, simdjson.Array):
            return np.array(value.as_buffer(of_type="d")).view(np.float64)
        return np.asarray(value, dtype=np.float64) if isinstance(value, list) else None
    except (TypeError, ValueError):
        return None
