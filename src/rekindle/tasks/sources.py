"""Where data lies: a file, several, a directory, a saved dataset or a hub id, as tables by split.

Splits are read off names: `train`, `dev` (validation, valid, val, eval) and `test`, as a directory
or hub dataset has them. One file, or several without such names, are one table: "".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from rekindle.errors import DataError
from rekindle.files import sha256_file
from rekindle.tasks.arrow_files import parquet_table
from rekindle.tasks.task import stable_hash
from rekindle.tasks.text_files import Table, text_tables

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
SPLITS = ("train", "dev", "test")
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves in a directory
_THEIRS = {"training": "train", "validation": "dev", "valid": "dev", "val": "dev", "eval": "dev"}
_ALL = "one of " + ", ".join(SUFFIXES)
_OWNER_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_PACKED = (".gz", ".zst", ".xz", ".bz2", ".zip", ".tar")
_ASIDE = {"dataset_infos.json", "dataset_info.json", "config.json", "package.json"}


class Stored(NamedTuple):
    """Tables by split, or all under ""; a hash of the files, None where there are none; and what
    is not read."""

    splits: dict[str, list[Table]]
    source: str | None
    notes: tuple[str, ...] = ()


def is_data(name: str) -> bool:
    """Whether the name of a task is a place of data: a file, a pattern, or a directory."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES or (has_magic(name) and "/" in name) or path.is_dir()


def is_hub_id(name: str) -> bool:
    """Whether a name looks like owner/name on the hub, and is not there as a file."""
    looks = _OWNER_NAME.fullmatch(name) is not None and not name.startswith(".")
    return looks and Path(name).suffix.lower() not in SUFFIXES and not Path(name).exists()


def task_place(task: str) -> dict[str, str]:
    """`task.name`, and `task.path` where it is a file of data or a directory.

    Raises:
        DataError: it looks like a path, and there is nothing that can be read.
    """
    if is_data(task):
        return {"name": "jsonl", "path": task}
    if Path(task).exists() or ("/" in task and not is_hub_id(task)):
        there = Path(task).exists()
        raise DataError(
            f"task '{task}' is {'in a format that is not read' if there else 'not there'}",
            wanted=f"a task's name (`rekindle tasks`), a file ({', '.join(SUFFIXES)}), a "
            "directory with train.jsonl, dev.jsonl, test.jsonl or made by save_to_disk, or the "
            "id of a data set on the hub",
            fix="check the path",
        )
    return {"name": task}


def is_saved(directory: Path | str) -> bool:
    """Whether a directory was made by `save_to_disk`."""
    return any((Path(directory) / name).exists() for name in SAVED)


def split_name(text: str) -> str | None:
    """The split that a name has as a word: train-00000-of-00002, gsm8k_test; None: no or two."""
    words = re.split(r"[^a-z]+", text.lower())
    names = {_THEIRS.get(word, word) for word in words} & {*SPLITS}
    return names.pop() if len(names) == 1 else None


def open_files(paths: Sequence[str]) -> Stored:
    """The tables of files, patterns and directories.

    Raises:
        DataError: nothing is there, or in a format that is not read, or a split is there twice.
    """
    files = [file for path in paths for file in _files_at(path)]
    alone = len(files) == 1 and not Path(paths[0]).is_dir()
    splits: dict[str, list[Table]] = {}
    stems = _stems(files)
    for file in files:
        split = "" if alone else split_name(file.stem) or ""
        for name, table in _tables(file, stems[file]).items():
            splits.setdefault(_named(name, file) if name else split, []).append(table)
    if "" in splits and len(splits) > 1:
        raise DataError(
            f"some files of {', '.join(paths)} name a split and some do not",
            got=", ".join(file.name for file in files[:8]),
            wanted="train, dev or test in the name of each, or of none",
            fix="rename them, or name the files",
        )
    source = f"{stable_hash(*[sha256_file(file) for file in files]):016x}"
    beside = {
        file for path in paths if Path(path).is_dir() for file in _data_files(files[0].parent)
    }
    notes = [f"{file} is not read" for file in sorted(beside - {*files})]
    return Stored(splits, source, tuple(notes))


def _tables(file: Path, stem: str) -> dict[str, Table]:
    if file.suffix.lower() == ".parquet":
        return {"": parquet_table(file, stem)}
    return text_tables(file, stem)


def _named(name: str, file: Path) -> str:
    """Our name of a list of rows in a JSON file; one that is no split is all there is."""
    split = split_name(name)
    if split is None and name not in ("data", "rows", "examples"):
        raise DataError(
            f"{file} has rows under '{name}', which is no split",
            wanted="train, dev, test, or data",
            fix="rename it",
        )
    return split or ""


def _files_at(path: str) -> list[Path]:
    place = Path(path)
    if place.is_dir():
        return _files_in(place)
    if not place.exists() and has_magic(path):
        files = sorted(Path(name) for name in glob(path, recursive=True))
        if not files:
            raise DataError(f"no file fits {path}", fix="check the pattern")
    else:
        files = [place]
    for file in files:
        _check_file(file)
    return files


def _check_file(file: Path) -> None:
    if not file.exists():
        raise DataError(f"{file} does not exist", fix="check the path")
    if file.suffix.lower() not in SUFFIXES:
        packed = file.suffix in _PACKED
        raise DataError(
            f"{file} is in a format that is not read",
            wanted=_ALL,
            fix="unpack it" if packed else "write one of these with pandas or `datasets`",
        )


def _files_in(directory: Path) -> list[Path]:
    """The data files of a directory, or of its `data/`, as hub repositories are laid out."""
    for place in (directory, directory / "data"):
        files = _data_files(place)
        if files:
            return _by_split(directory, files)
    raise DataError(
        f"{directory} holds no splits",
        wanted="train.jsonl, dev.jsonl or test.jsonl in it (.json, .csv and .parquet too)",
    )


def _data_files(place: Path) -> list[Path]:
    return [
        file
        for file in sorted(place.glob("*"))
        if file.suffix.lower() in SUFFIXES and file.name not in _ASIDE and file.is_file()
    ]


def _by_split(directory: Path, files: list[Path]) -> list[Path]:
    """The files of train, dev and test, in that order; all where they are shards of one table."""
    chosen = [file for split in SPLITS for file in _files_of(split, directory, files)]
    if chosen or len(files) == 1 or all(_is_shard(file) for file in files):
        return chosen or files
    raise DataError(
        f"{directory} holds no splits",
        got=", ".join(file.name for file in files[:8]),
        wanted="train, dev or test in the names of the files",
        fix="name the file that is meant: --task FILE, or task.path",
    )


def _files_of(split: str, directory: Path, files: list[Path]) -> list[Path]:
    """One file, that of the split's plain name first, or all its shards."""
    named = [file for file in files if split_name(file.stem) == split]
    plain = [file for file in named if file.stem == split]
    few = plain or named
    if len(few) > 1 and not (len({f.suffix for f in few}) == 1 and all(map(_is_shard, few))):
        raise DataError(
            f"{directory} holds {split} more than once",
            got=", ".join(file.name for file in few),
            wanted=f"one file, or shards such as {split}-00000-of-00002",
            fix="name the file that is meant, or remove the others",
        )
    return few


def _is_shard(file: Path) -> bool:
    return re.search(r"\d+-of-\d+$|^part-\d+", file.stem) is not None


def _stems(files: Iterable[Path]) -> dict[Path, str]:
    """Each file's stem, with its directory's name where two have the same."""
    listed = list(dict.fromkeys(files))
    stems = [file.stem for file in listed]
    return {
        file: file.stem if stems.count(file.stem) == 1 else str(file.with_suffix(""))
        for file in listed
    }
