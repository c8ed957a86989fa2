"""TRL's `GRPOTrainer` and `RLOOTrainer`: `completions/*.parquet` and `trainer_state.json`.

Seen with TRL 1.16. A row is `step, prompt, completion, <one column a reward function>, <extra
columns>, advantage`. How it misleads, each found by running it:

* A step that logs writes the newest generation batch again: with `steps_per_generation` 2 and
  `num_iterations` 2 four files hold the same rows.
* It holds one generation batch. With `logging_steps` 5 one batch in five is on disk.
* An evaluation writes into the file of its step, in place of the training rows. One that is smaller
  than a generation batch pushes out as many of its rows, and stays in the files of the training
  steps that follow, until the next batch.
* Columns of numbers that `log_extra` added look like rewards: the trainer's state names those that
  are.
* The reward that was used is a weighted sum; the weights are in no file that can be read.
  `training_args.bin` is a pickle, which is never loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rekindle.errors import DataError
from rekindle.files import decoded, readable
from rekindle.signals.logs.lines import Damage, Extract, Row, number
from rekindle.signals.logs.mapped import as_text, natural
from rekindle.signals.logs.record import LogAbout, LoggedRow, Place
from rekindle.signals.logs.tables import column_names, each_row, left_out, whole_files

NAME = "trl"
_FIXED = ("step", "prompt", "completion", "advantage")
# What `log_extra` writes of the reference answer, by the names that data sets have for it.
_GOLDS = ("answer", "solution", "ground_truth", "gold", "target", "reference", "label")
_CARD = re.compile(r"^- TRL: (\S+)$", re.MULTILINE)
_WEIGHTS = (
    "the weights of several rewards are in no file that can be read: their sum with weights of 1 "
    "is taken for the reward (--map score=COLUMN where a column has it)"
)


@dataclass(frozen=True)
class TRLReader:
    """The rows of a TRL run's `completions/`."""

    about: LogAbout
    rewards: tuple[str, ...]
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in order."""
        for file, path in enumerate(self.about.files):
            yield from each_row(path, _row_maker(self.rewards, file), self.damage)


def is_trl(path: Path) -> bool:
    """Whether a directory is the output of TRL's online trainers, or its `completions/`."""
    return bool(_tables(path))


def open_trl(path: Path) -> TRLReader:
    """The log of a TRL run.

    Raises:
        DataError: its files cannot be read.
    """
    files, left = whole_files(_tables(path))
    if not files:
        raise DataError(
            f"{path} has no table of completions that is written to its end",
            got=f"{len(left)} without an end",
            wanted="a whole parquet file",
            fix="wait until a step has logged",
        )
    columns = dict.fromkeys(name for file in _ends(files) for name in column_names(file))
    numeric = set().union(*(_numeric_columns(file) for file in _ends(files)))
    state = read_state(path if path.name != "completions" else path.parent)
    named = {name.split("/", 1)[1].rpartition("/")[0] for row in state.history for name in row
             if name.startswith("rewards/")}  # fmt: skip
    rewards = tuple(
        name
        for name in columns
        if name not in _FIXED and name in numeric and (not named or name in named)
    )
    notes = [*left_out(left), *([_WEIGHTS] if len(rewards) > 1 else [])]
    if not rewards:
        raise DataError(
            f"{files[0]} has no column of a reward",
            got=", ".join(columns),
            wanted="a column of numbers beside step, prompt, completion and advantage",
            fix="name it: --map score=COLUMN",
        )
    history = tuple(state.history)
    evals = {
        int(entry["step"]) for entry in history if any(name.startswith("eval_") for name in entry)
    }
    return TRLReader(
        LogAbout(
            format=NAME,
            version=_version(path),
            files=tuple(files),
            steps_taken=state.steps,
            eval_steps=frozenset(evals),
            settings=state.settings,
            notes=tuple(notes),
            history=history,
        ),
        rewards,
    )


def _version(path: Path) -> str | None:
    """TRL's, by the model card that it writes."""
    for place in (path, path.parent):
        card = place / "README.md"
        if card.is_file() and (found := _CARD.search(card.read_text("utf-8", "replace"))):
            return f"TRL {found[1]}"
    return None


def _ends(files: list[Path]) -> list[Path]:
    return [files[0], files[-1]]


def _tables(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    for place in (path / "completions", path):
        found = sorted(place.glob("completions_*.parquet"), key=natural)
        if found:
            return found
    return []


def _numeric_columns(path: Path) -> set[str]:
    import pyarrow
    from pyarrow import parquet

    with readable(path):
        schema = parquet.ParquetFile(path).schema_arrow
    return {
        name
        for name, kind in zip(schema.names, schema.types, strict=True)
        if pyarrow.types.is_floating(kind)
        or pyarrow.types.is_integer(kind)
        or pyarrow.types.is_null(kind)
    }


def _row_maker(rewards: tuple[str, ...], file: int) -> Extract[LoggedRow]:
    def make(row: Row, line: int) -> LoggedRow:
        parts = {name: number(row.get(name)) for name in rewards}
        known = [value for value in parts.values() if value is not None]
        step = row.get("step")
        return LoggedRow(
            place=Place(file, line),
            step=int(step) if isinstance(step, int | str) else None,
            prompt=as_text(row.get("prompt")),
            text=as_text(row.get("completion")),
            score=math.fsum(known) if known else None,
            parts=parts,
            advantage=number(row.get("advantage")),
            gold=next((gold for name in _GOLDS if isinstance(gold := row.get(name), str)), None),
        )

    return make


# --- the trainer's state


@dataclass(frozen=True)
class TrainerState:
    """What `trainer_state.json` of the newest checkpoint says."""

    steps: int | None
    history: tuple[Mapping[str, float], ...]
    settings: Mapping[str, object]


def read_state(path: Path) -> TrainerState:
    """The newest `trainer_state.json` under a run's directory; empty where there is none.

    Raises:
        DataError: it is there and cannot be read.
    """
    places = sorted(path.glob("checkpoint-*/trainer_state.json"), key=natural)
    if (path / "trainer_state.json").is_file():
        places.append(path / "trainer_state.json")
    best = TrainerState(None, (), {})
    for place in places:
        state = _state_of(place)
        if best.steps is None or (state.steps or 0) >= best.steps:
            best = state
    return best


def _state_of(path: Path) -> TrainerState:
    with readable(path):
        text = decoded(path.read_bytes(), str(path))
    try:
        content = json.loads(text)
        entries = [entry for entry in content["log_history"] if isinstance(entry.get("step"), int)]
        steps = int(content["global_step"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not the state of a trainer",
            got=str(error)[:80],
            wanted="a JSON object with global_step and log_history",
            fix="move it away: the rows can be read without it",
        ) from None
    history = tuple(
        {name: float(v) for name, v in entry.items() if isinstance(v, int | float)}
        for entry in entries
    )
    keys = ("logging_steps", "eval_steps", "max_steps", "num_train_epochs", "train_batch_size")
    return TrainerState(steps, history, {key: content[key] for key in keys if key in content})
