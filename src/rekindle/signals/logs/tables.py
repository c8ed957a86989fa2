"""Rows of a file as mappings: JSONL, parquet or CSV, without loading it whole."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from rekindle.errors import DataError
from rekindle.files import readable
from rekindle.signals.logs.lines import Damage, Extract, each_line

T = TypeVar("T")
BATCH = 2_000  # rows of a parquet file that are Python objects at once
SUFFIXES = (".jsonl", ".ndjson", ".parquet", ".csv", ".tsv")


def each_row(
    path: Path, extract: Extract[T], damage: Damage, *, until: bytes | None = None
) -> Iterator[T]:
    """What `extract` makes of each row of a file, and its line or number from 1; see `each_line`.

    Raises:
        DataError: the file cannot be read, or is of no kind that is known.
    """
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return each_line(path, extract, damage, until=until)
    if suffix == ".parquet":
        return _parquet(path, extract)
    if suffix in (".csv", ".tsv"):
        return _csv(path, extract, "\t" if suffix == ".tsv" else ",")
    raise DataError(
        f"{path} is of an unknown kind", got=suffix or "no suffix", wanted=" or ".join(SUFFIXES)
    )


def column_names(path: Path) -> tuple[str, ...]:
    """The columns of a file: of JSONL the keys of its first row."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return tuple(_opened(path).schema_arrow.names)
    return next(iter(each_row(path, lambda row, _: tuple(row.keys()), Damage())), ())


def _opened(path: Path):  # type: ignore[no-untyped-def]
    import pyarrow
    from pyarrow import parquet

    with readable(path):
        try:
            return parquet.ParquetFile(path)
        except pyarrow.ArrowInvalid as error:
            raise DataError(
                f"{path} cannot be read",
                got=str(error).splitlines()[0],
                wanted="a whole parquet file",
                why="a file that is still being written has no end yet",
                fix="wait for its step, or move the file away",
            ) from None


def _parquet(path: Path, extract: Extract[T]) -> Iterator[T]:
    number = 0
    for batch in _opened(path).iter_batches(batch_size=BATCH):
        for row in batch.to_pylist():
            number += 1
            yield extract(row, number)


def _csv(path: Path, extract: Extract[T], delimiter: str) -> Iterator[T]:
    csv.field_size_limit(sys.maxsize)
    with readable(path), open(path, encoding="utf-8-sig", newline="", errors="replace") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter=delimiter), start=1):
            yield extract(row, number)
