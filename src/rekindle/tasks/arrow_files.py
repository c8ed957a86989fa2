"""Rows of parquet files and of `datasets`, every value as its own type writes it.

The extra [hub] brings pyarrow and datasets. A 32-bit 0.1 is "0.1" and not the 64-bit number nearest
to it, a class is its name and not its index, a decimal keeps its places.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rekindle.errors import DataError, missing_extra
from rekindle.tasks.text_files import Table, WrittenFloat

_BATCH = 1000  # rows in memory at once, beside the problems that they become
_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti")  # of `datasets`
Change = Callable[[Any], object]


class Media:
    """An image, a sound or the like, which no text model reads."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind.lower()}>"


def parquet_table(path: Path, stem: str) -> Table:
    """The rows of a parquet file, counted from 0 as pandas and `datasets` do.

    Raises:
        DataError: it is missing, cut off, or no parquet; also while rows are read.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra("pyarrow", extra="hub", needed_for=f"the file {path}") from error
    if not path.exists():
        raise DataError(f"{path} does not exist", fix="check the path")
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        count = file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error

    if not count:
        raise DataError(f"{path} is empty", wanted="a row at least")
    features = _features_of(schema.metadata)
    batches = _explained(path, file.iter_batches(batch_size=_BATCH))
    return Table(f"{path} row ", stem, _rows(batches, schema, features), tuple(schema.names))


def dataset_table(where: str, dataset: Any, *, limit: int | None = None) -> Table:
    """The rows of one split of a `datasets.DatasetDict`, counted from 0."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if not count:
        raise DataError(f"{where} is empty", wanted="a row at least")
    part = dataset if count == len(dataset) else dataset.select(range(count))
    tables = _explained(where, part.with_format("arrow").iter(_BATCH))
    schema = part.features.arrow_schema
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    rows = _rows(tables, schema, features)
    return Table(f"{where} row ", where, rows, tuple(dataset.column_names))


def plain_float(value: Any) -> WrittenFloat | float:
    """The shortest text that gives the number back in its own type, without an exponent where that
    stays short; nan and infinity as they are."""
    import numpy as np

    if not math.isfinite(value):
        return float(value)
    if value and not 1e-12 <= abs(value) < 1e21:
        return WrittenFloat(str(value))
    return WrittenFloat(np.format_float_positional(value, unique=True, trim="0"))


def _explained(place: Path | str, batches: Iterable[Any]) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from batches
    except (pa.ArrowException, OSError) as error:
        raise _broken(place, error) from error


def _broken(place: Path | str, error: Exception) -> DataError:
    return DataError(
        f"{place} cannot be read{' as parquet' if isinstance(place, Path) else ''}",
        got=str(error).strip().split("\n")[0],
        fix="copy or download it again: it was cut off, or is another format",
    )


def _features_of(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, object]:
    """What `datasets` notes of columns in a parquet file: names of classes, images."""
    raw = (metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        noted = json.loads(raw)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}  # another tool's note under that name
    return noted if isinstance(noted, dict) else {}


def _rows(
    batches: Iterable[Any], schema: Any, features: Mapping[str, object]
) -> Iterator[tuple[int, Mapping[str, object]]]:
    changes = {field.name: _change(field.type, features.get(field.name)) for field in schema}
    number = 0
    for batch in batches:
        columns = {
            name: _values(batch.column(i), changes.get(name))
            for i, name in enumerate(batch.schema.names)
        }
        for values in zip(*columns.values(), strict=True):
            yield number, dict(zip(columns, values, strict=True))
            number += 1


def _values(column: Any, change: Change | None) -> list[object]:
    values: list[object] = column.to_pylist()
    return values if change is None else [None if v is None else change(v) for v in values]


def _change(kind: Any, feature: object) -> Change | None:
    """What makes a plain value of one of an arrow type; None: nothing is to be done."""
    import pyarrow.types as types

    noted = feature if isinstance(feature, Mapping) else {}
    if noted.get("_type") in _MEDIA:
        media = Media(str(noted["_type"]))
        return lambda _: media
    if noted.get("_type") == "ClassLabel" and isinstance(names := noted.get("names"), list):
        return lambda index: names[index] if 0 <= index < len(names) else None
    if types.is_dictionary(kind):
        return _change(kind.value_type, None)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = feature[0] if isinstance(feature, list) and feature else noted.get("feature")
        return _of_list(_change(kind.value_type, inner))
    if types.is_struct(kind):
        return _of_struct(kind, noted)
    return _of_leaf(kind)


def _of_list(change: Change | None) -> Change | None:
    if change is None:
        return None
    return lambda items: [None if item is None else change(item) for item in items]


def _of_struct(kind: Any, noted: Mapping[str, object]) -> Change | None:
    fields = [kind.field(i) for i in range(kind.num_fields)]
    if {field.name for field in fields} == {"bytes", "path"}:
        media = Media("Image or audio")
        return lambda _: media
    # A Sequence of a struct is noted as one feature, and stored as lists in a struct.
    changes = {f.name: change for f in fields if (change := _change(f.type, noted.get(f.name)))}
    if not changes:
        return None
    return lambda row: {
        name: changes[name](value) if name in changes and value is not None else value
        for name, value in row.items()
    }


def _of_leaf(kind: Any) -> Change | None:
    import numpy as np
    import pyarrow.types as types

    if types.is_float16(kind) or types.is_float32(kind):
        small = np.float16 if types.is_float16(kind) else np.float32
        return lambda value: plain_float(small(value))
    if types.is_float64(kind):
        return plain_float
    if types.is_decimal(kind):
        return lambda value: format(value, "f") if isinstance(value, Decimal) else str(value)
    if types.is_date(kind):
        return lambda value: value.isoformat() if isinstance(value, date) else str(value)
    if types.is_timestamp(kind):
        return lambda value: value if isinstance(value, datetime) else str(value)
    return None
