"""Rows of a file as mappings: JSONL, parquet or CSV, without loading it whole."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rekindle.errors import DataError
from rekindle.files import readable
from rekindle.signals.logs.lines import Damage, Extract, each_line

T = TypeVar("T")
_MAGIC = b"PAR1"  # the last bytes of a parquet file
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


def whole_files(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that can be read, and those that are empty or, as parquet, have no end yet."""
    whole = [file for file in files if _is_whole(file)]
    return whole, [file for file in files if file not in set(whole)]


def left_out(files: Sequence[Path]) -> tuple[str, ...]:
    """What is said of files that were left out."""
    if not files:
        return ()
    count = f"{len(files)} file{'s' * (len(files) > 1)}"
    return (f"left out: {count}, empty or not written to the end ({files[0]})",)


def _is_whole(path: Path) -> bool:
    size = path.stat().st_size
    if path.suffix.lower() != ".parquet" or size < 2 * len(_MAGIC):
        return size > 0 and path.suffix.lower() != ".parquet"
    with readable(path), open(path, "rb") as file:
        file.seek(-len(_MAGIC), os.SEEK_END)
        return file.read() == _MAGIC


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
