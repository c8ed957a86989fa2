"""The files of a stage that makes rows: rows.jsonl, and stage.json, which is written last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rekindle.errors import RunDirectoryError
from rekindle.files import clear_leftovers, read_json, read_jsonl, remove_tree, sha256_file

Number = int | float | None
Fact = Number | Mapping[str, Number]  # a number, or numbers by name
ROWS, RECORD = "rows.jsonl", "stage.json"


class StageRecord(NamedTuple):
    """What `stage.json` says beside what the rows were made from."""

    generated: int
    facts: Mapping[str, Fact]


def stage_number(name: str) -> int:
    """2, of `02-dpo`."""
    return int(name.split("-")[0])


def is_finished(directory: Path, inputs: Mapping[str, object]) -> bool:
    """Whether the stage is there, made from these inputs; what was cut off is removed."""
    clear_leftovers(directory)
    if not (directory / RECORD).exists():
        remove_tree(directory)
        return False
    record = read_json(directory / RECORD)
    before = record["inputs"]
    changed = [
        f"{key}: {before.get(key)!r} -> {inputs.get(key)!r}"
        for key in dict.fromkeys([*inputs, *before])
        if before.get(key) != inputs.get(key)
    ]
    if changed:
        raise RunDirectoryError(
            f"{directory} was made from something else:\n    " + "\n    ".join(changed),
            why="later stages would rest on rows that this run would not have made",
            fix=f"remove {directory} and what follows it, or start again with --overwrite",
        )
    if sha256_file(directory / ROWS) != record["rows_sha256"]:
        raise RunDirectoryError(
            f"{directory / ROWS} was changed since the stage was finished",
            why="the record beside it would then be of other rows",
            fix=f"restore it, or remove {directory} and what follows it to make it again",
        )
    return True


def read_stage(directory: Path) -> tuple[StageRecord, list[dict[str, Any]]]:
    """The record and the rows of a finished stage."""
    facts = read_json(directory / RECORD)
    for key in ("stage", "inputs", "kept", "dropped", "seconds", "rows_sha256"):
        del facts[key]
    return StageRecord(facts.pop("generated"), facts), read_stage_rows(directory / ROWS)


def read_stage_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none where it is empty or not there."""
    kept = path.exists() and path.stat().st_size > 0  # a stage may have kept nothing
    return [row for _, row in read_jsonl(path)] if kept else []
