"""Problems from stored data: files, directories, saved datasets and hub ids, under one reader.

A directory or dataset has splits of its own; where it has none but train, as one file has none, a
hash of the prompt decides, 80 % train, 10 % dev, 10 % test. Where only dev is missing from a saved
dataset or a hub id, it is the tenth of train that the hash would give it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Literal

from rekindle.errors import ConfigError
from rekindle.records import Problem
from rekindle.tasks.checks import refuse_shared
from rekindle.tasks.formats import check_columns
from rekindle.tasks.hub import open_dataset
from rekindle.tasks.problem_rows import RowReader
from rekindle.tasks.rows import Listed, by_hash, check_verifier, split_of_row
from rekindle.tasks.sources import SPLITS, Stored, is_hub_id, is_saved, open_files, split_name
from rekindle.tasks.task import refuse_unknown, stable_hash

SharedRows = Literal["refuse", "tell"]
_FILE_KEYS = ("columns", "limit")
_HUB_KEYS = ("dataset", "config", "revision", "data_files", "splits", "columns", "limit")


def load_stored(
    name: str,
    places: Sequence[str],
    settings: Mapping[str, object],
    *,
    columns: Mapping[str, str],
    verifier: str,
    needs_answer: bool = True,
    shared_rows: SharedRows = "refuse",
) -> Listed:
    """Read and check all rows.

    Args:
        name: of the task.
        places: files, patterns or directories, or one saved dataset or hub id.
        settings: `columns` and `limit` (rows of each split); of datasets also `config`, `revision`,
            `data_files`, `splits` (ours -> theirs).
        columns: field -> column; what they do not say is read off the columns' names.
        verifier: exact, numeric, math or code.
        shared_rows: whether problems of dev or test that are in train are refused.

    Raises:
        ConfigError: a setting, split or column that does not exist.
        DataError: nothing can be loaded, or a row cannot be used; file and row are named.
        MissingExtraError: the data needs pyarrow or `datasets`.
    """
    check_verifier(verifier)
    limit = _limit(settings.get("limit"))
    reader = RowReader(_columns(settings, columns), needs_answer, verifier)
    stored, chosen = _open(name, places, settings, limit)
    by_file = stored.source is not None
    parts: dict[str, list[Problem]] = {}
    for split, tables in stored.splits.items():
        if not by_file:
            reader.seen.clear()  # splits of a dataset may count their ids alike
        rows = (problem for table in tables for problem in reader.problems(table))
        parts[split] = list(islice(rows, limit))
    splits, made = _splits(parts, reader, whole=by_file)
    copied = len({*chosen.values()}) < len(chosen) or bool({*chosen.values()} & {*chosen})
    told = refuse_shared(splits, tell=made or copied or shared_rows == "tell")
    return Listed(
        name=name,
        splits=splits,
        verifier=verifier,
        source=stored.source or f"{stable_hash(*_content(parts)):016x}",
        notes=(*reader.notes(), *stored.notes, *told),
    )


def _open(
    name: str, places: Sequence[str], settings: Mapping[str, object], limit: int | None
) -> tuple[Stored, Mapping[str, str]]:
    """The tables, and which of their splits the user chose for ours."""
    dataset = settings.get("dataset") if name == "hub" else None
    if name == "hub" and not dataset:
        raise ConfigError("task 'hub' needs a dataset", fix="--set task.args.dataset=openai/gsm8k")
    if len(places) == 1 and (is_saved(places[0]) or (name != "jsonl" and is_hub_id(places[0]))):
        dataset = places[0]
    keys = _HUB_KEYS if dataset else _FILE_KEYS
    refuse_unknown(name, settings, keys if name == "hub" else [k for k in keys if k != "dataset"])
    if not dataset:
        return open_files(places), {}
    chosen = _names(settings, "splits")
    refuse_unknown(name, chosen, SPLITS, "task.args.splits")
    return open_dataset(str(dataset), settings, chosen, limit), chosen


def _splits(
    parts: dict[str, list[Problem]], reader: RowReader, *, whole: bool
) -> tuple[dict[str, list[Problem]], bool]:
    """Splits of what was read, and whether they are made here."""
    if list(parts) == [""]:
        named = [split_name(split) if split else None for split in reader.splits]
        if None not in named and len({*named}) > 1:
            rows = list(zip(parts[""], named, strict=False))
            return {s: [p for p, own in rows if own == s] for s in SPLITS if s in named}, False
        return by_hash(parts[""]), True
    if whole:
        return parts, False
    if list(parts) == ["train"]:
        return by_hash(parts["train"]), True
    if "train" not in parts or "dev" in parts:
        return parts, False
    dev = [problem for problem in parts["train"] if split_of_row(problem) == "dev"]
    train = [problem for problem in parts["train"] if split_of_row(problem) != "dev"]
    return {**parts, "train": train, "dev": dev}, False


def _content(parts: Mapping[str, Sequence[Problem]]) -> list[object]:
    return [
        (split or "train", p.id, p.level, p.prompt, p.messages, p.answer, p.solution)
        for split, problems in sorted(parts.items())
        for p in problems
    ]


def _columns(settings: Mapping[str, object], columns: Mapping[str, str]) -> Mapping[str, str]:
    inner = _names(settings, "columns")
    if inner and columns:
        raise ConfigError(
            "the columns are chosen twice",
            got="task.columns and task.args.columns",
            fix="keep task.columns",
        )
    return check_columns(columns) if columns else check_columns(inner, "task.args.columns")


def _names(settings: Mapping[str, object], key: str) -> dict[str, str]:
    given = settings.get(key) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"task.args.{key} is not a mapping", got=given, wanted="ours: theirs")
    return {str(ours): str(theirs) for ours, theirs in given.items()}


def _limit(given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError("task.args.limit is not a count", got=given, wanted="1 or more rows")
    return given
