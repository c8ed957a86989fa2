"""Problems from a `datasets` id, or from local files that `datasets` loads (extra [hub]).

Splits are train, validation (dev) and test unless `splits` says otherwise. A dataset with a train
split alone is split by a hash of the prompt, 80 / 10 / 10; where only dev is missing, it is the
tenth of train that the hash would give it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from rekindle.errors import ConfigError, DataError, did_you_mean, missing_extra
from rekindle.records import Problem
from rekindle.tasks.rows import Listed, by_hash, check_verifier, problems_of, split_of_row
from rekindle.tasks.task import refuse_unknown, stable_hash

_KEYS = ("dataset", "config", "revision", "data_files", "splits", "columns", "limit")
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_COLUMNS = ("prompt", "answer", "solution", "messages", "id", "level")


class _Rows(Protocol):
    """One split of a dataset, as `datasets` gives it."""

    column_names: list[str]

    def select(self, indices: Iterable[int]) -> _Rows: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Mapping[str, object]]: ...


def load_hub(settings: Mapping[str, object], *, verifier: str, needs_answer: bool = True) -> Listed:
    """Load a dataset and read its rows as problems.

    Args:
        settings: `dataset` (id, a directory made by `save_to_disk`, or a builder such as `json` or
            `parquet` with `data_files`), `config`, `revision`, `splits` (ours -> theirs), `columns`
            (ours -> theirs), `limit` (rows of each split).
        verifier: exact, numeric or math.

    Raises:
        ConfigError: a setting, split or column that does not exist.
        DataError: the dataset cannot be loaded, or a row cannot be used.
        MissingExtraError: `datasets` is not installed.
    """
    check_verifier(verifier)
    refuse_unknown("hub", settings, _KEYS)
    dataset, limit = settings.get("dataset"), settings.get("limit")
    if not dataset:
        raise ConfigError("task 'hub' needs a dataset", fix="--set task.args.dataset=openai/gsm8k")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ConfigError("task.args.limit is not a count", got=limit, wanted="1 or more rows")
    columns = _names(settings, "columns", _COLUMNS)
    chosen = _names(settings, "splits", tuple(_SPLITS))
    loaded = _load(settings)
    for theirs in chosen.values():
        if theirs not in loaded:
            raise ConfigError(
                f"dataset '{dataset}' has no split '{theirs}'", fix=did_you_mean(theirs, loaded)
            )
    splits = {
        ours: _read(loaded[theirs], f"{dataset}[{theirs}]", columns, limit, needs_answer)
        for ours, theirs in {**_SPLITS, **chosen}.items()
        if theirs in loaded
    }
    if not splits:
        raise DataError(
            f"dataset '{dataset}' has none of the splits {', '.join(_SPLITS.values())}",
            got=sorted(loaded),
            fix="name one, e.g. --set task.args.splits.train=<name>",
        )
    source = [
        (ours, p.id, p.level, p.prompt, p.messages, p.answer, p.solution)
        for ours, problems in sorted(splits.items())
        for p in problems
    ]
    return Listed(
        name="hub",
        splits=_with_dev(splits),
        verifier=verifier,
        source=f"{stable_hash(*source):016x}",
    )


def _with_dev(splits: dict[str, list[Problem]]) -> dict[str, list[Problem]]:
    if list(splits) == ["train"]:
        return by_hash(splits["train"])
    if "train" not in splits or "dev" in splits:
        return splits
    dev = [problem for problem in splits["train"] if split_of_row(problem) == "dev"]
    train = [problem for problem in splits["train"] if split_of_row(problem) != "dev"]
    return {**splits, "train": train, "dev": dev}


def _names(settings: Mapping[str, object], key: str, known: tuple[str, ...]) -> dict[str, str]:
    given = settings.get(key) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"task.args.{key} is not a mapping", got=given, wanted="ours: theirs")
    refuse_unknown("hub", given, known, f"task.args.{key}")
    return {str(ours): str(theirs) for ours, theirs in given.items()}


def _load(settings: Mapping[str, object]) -> Mapping[str, _Rows]:
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise missing_extra("datasets", extra="hub", needed_for="task 'hub'") from error
    name = str(settings["dataset"])
    saved = any((Path(name) / file).exists() for file in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            loaded = datasets.load_from_disk(name)
        else:
            loaded = datasets.load_dataset(
                name,
                settings.get("config"),
                revision=settings.get("revision"),
                data_files=settings.get("data_files"),
            )
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"dataset '{name}' could not be loaded",
            got=str(error).strip().split("\n")[0],
            fix="check id, config and network; offline, give local files as task.args.data_files",
        ) from error
    return loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _read(
    rows: _Rows, name: str, columns: Mapping[str, str], limit: int | None, needs_answer: bool
) -> list[Problem]:
    for theirs in columns.values():
        if theirs not in rows.column_names:
            raise ConfigError(
                f"{name} has no column '{theirs}'", fix=did_you_mean(theirs, rows.column_names)
            )
    first = rows if limit is None else rows.select(range(min(limit, len(rows))))
    mapped = ({**row, **{ours: row[theirs] for ours, theirs in columns.items()}} for row in first)
    return problems_of(
        enumerate(mapped), f"{name} row ", task=name, seen={}, needs_answer=needs_answer
    )
