"""Data that `datasets` loads (extra [hub]): hub ids, and directories made by `save_to_disk`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rekindle.errors import ConfigError, DataError, did_you_mean, missing_extra
from rekindle.tasks.arrow_files import dataset_table
from rekindle.tasks.sources import Stored, is_saved, open_files, split_name

# Builders whose files are read here: `datasets` rewrites numbers and dates of JSON and CSV.
_BUILDERS = {
    "json": (".jsonl", ".json", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet",),
}
_PICKED = ("train", "validation", "test")


def open_dataset(
    name: str, settings: Mapping[str, object], chosen: Mapping[str, str], limit: int | None
) -> Stored:
    """The splits of a dataset.

    Args:
        name: a hub id, a directory made by `save_to_disk`, or a builder with `data_files`.
        settings: `config`, `revision`, `data_files`.
        chosen: our split -> theirs; train, dev (validation) and test where it says nothing.
        limit: rows of each split.

    Raises:
        ConfigError: a split that does not exist.
        DataError: the dataset cannot be loaded.
        MissingExtraError: `datasets` is not installed.
    """
    files = _local_files(name, settings.get("data_files"))
    if files is not None:
        stored = open_files(files)
        if list(stored.splits) == [""] and len(files) == 1:  # the content alone identifies it
            splits = {"train": [stored.splits[""][0]._replace(stem=f"{name}[train]")]}
            stored = stored._replace(splits=splits)
        return stored._replace(source=None)
    loaded = _load(_datasets(name), name, settings)
    loaded = loaded if isinstance(loaded, Mapping) else {"train": loaded}
    for theirs in chosen.values():
        if theirs not in loaded:
            raise ConfigError(
                f"dataset '{name}' has no split '{theirs}'", fix=did_you_mean(theirs, loaded)
            )
    usual = {split: theirs for theirs in loaded if (split := _usual_split(theirs, loaded))}
    splits = {
        ours: [dataset_table(f"{name}[{theirs}]", loaded[theirs], limit=limit)]
        for ours, theirs in {**usual, **chosen}.items()
    }
    if not splits:
        raise DataError(
            f"dataset '{name}' has none of the splits {', '.join(_PICKED)}",
            got=sorted(loaded),
            fix="name one, e.g. --set task.args.splits.train=<name>",
        )
    others = sorted({*loaded} - {*usual.values(), *chosen.values()})
    notes = [f"{name}: split {theirs} is not read" for theirs in others]
    builders = {part.info.builder_name for part in loaded.values()} & {"json", "csv"}
    notes += [
        f"{name}: read by the {builder} loader of `datasets`, whose numbers and dates may not be "
        "as they were written"
        for builder in builders
    ]
    return Stored(splits, None, tuple(notes))


def _usual_split(theirs: str, loaded: Mapping[str, object]) -> str | None:
    """Ours, where a name is one of the usual three, or the only one that says so."""
    ours = split_name(theirs) if theirs.isalpha() else None
    alike = [name for name in loaded if name.isalpha() and split_name(name) == ours]
    return ours if theirs in _PICKED or len(alike) == 1 else None


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        needed_for = f"the saved dataset {name}" if is_saved(name) else "task 'hub'"
        raise missing_extra("datasets", extra="hub", needed_for=needed_for) from error
    return datasets


def _local_files(name: str, data_files: object) -> list[str] | None:
    """The files of a builder, where all lie here; None: `datasets` finds them."""
    listed = [data_files] if isinstance(data_files, str) else data_files
    if name not in _BUILDERS or not isinstance(listed, list | tuple) or not listed:
        return None
    here = all(Path(str(file)).suffix in _BUILDERS[name] for file in listed)
    return [str(file) for file in listed] if here else None


def _saved(datasets: Any, name: str) -> Any:
    try:
        return datasets.load_from_disk(name)
    except (OSError, ValueError, RuntimeError, LookupError, TypeError) as error:  # no rows; torn
        raise DataError(
            f"the saved dataset {name} cannot be read",
            got=str(error).strip().split("\n")[0],
            wanted="what save_to_disk writes, with a row at least",
            fix="save it again",
        ) from error


def _load(datasets: Any, name: str, settings: Mapping[str, object]) -> Any:
    from datasets.exceptions import DatasetsError

    if is_saved(name):
        return _saved(datasets, name)
    try:
        return datasets.load_dataset(
            name,
            settings.get("config"),
            revision=settings.get("revision"),
            data_files=settings.get("data_files"),
        )
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"dataset '{name}' could not be loaded",
            got=str(error).strip().split("\n")[0],
            why=None if Path(name).exists() else "there is no such file or directory here either",
            fix="check id, config and network; a file is read by its path: task.name: FILE",
        ) from error
