"""Rows of a user's file: each is named by its line, and is written again with more columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.outputs import OutputFile


class SourceRow(NamedTuple):
    """One JSON object of a file. A column that cannot be used is a DataError that names `where`."""

    where: str  # file:line
    columns: dict[str, Any]

    def text(self, name: str) -> str:
        """A column that must be a text."""
        value = self.columns.get(name)
        if not isinstance(value, str):
            raise DataError(
                f"{self.where} has no text '{name}'",
                got=value if name in self.columns else self.columns,
                wanted='{"gold": "...", "text": "..."}',
                fix="numbers must be texts too: how they are written is part of the answer",
            )
        return value

    def number(self, name: str) -> float:
        """A finite number; true and false are 1 and 0; nan where it is null or not there."""
        value = self.columns.get(name)
        if value is None:
            return math.nan
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(
                f"{self.where}: '{name}' is not a number",
                got=value,
                wanted="a finite number, or null when it is missing",
            )
        return float(value)


def read_rows(path: Path) -> list[SourceRow]:
    """The rows of a JSONL file.

    Raises:
        DataError: the file is missing or empty, or a line is not a JSON object; it is named.
    """
    return [SourceRow(f"{path}:{line}", row) for line, row in read_jsonl(path)]


def rows_file(output: Path, input: Path, *, overwrite: bool) -> OutputFile:
    """The file that `--output` names, checked: the rows have no place for a mark."""
    out = OutputFile(output, option="--output", reads=(input,), overwrite=overwrite)
    out.check()
    return out


def write_columns(
    out: OutputFile, rows: Sequence[SourceRow], columns: Mapping[str, Sequence[object]]
) -> None:
    """The same rows, in order, with one value of each column added; nothing else changes."""
    out.write_jsonl(
        {**row.columns, **{name: values[i] for name, values in columns.items()}}
        for i, row in enumerate(rows)
    )
