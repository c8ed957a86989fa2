"""NeMo-RL's `train_data_step<N>.jsonl`, written by default into the run's log directory.

Read from its source (7ea279abf). A row holds slices of a batch of one: `rewards: [1.0]`, `content:
[[user text, assistant text]]` (texts in the order of turns, without roles), `token_ids: [[...]]`;
only `idx` is bare. How it misleads:

* There is no name of a group or prompt: a group is a run of rows whose first texts are equal.
* Tensors are padded: what counts is where `token_loss_mask` is 1.
* With dynamic sampling `rewards` are those of every generated row and `filtered_rewards` those of
  the kept ones.
* `prev_logprobs` are the trainer's and `generation_logprobs` the sampler's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import simdjson

from rekindle.signals.logs.lines import Damage, Extract, Row, floats, plain
from rekindle.signals.logs.mapped import as_number, natural
from rekindle.signals.logs.record import LogAbout, LoggedRow, LogSplit, Place
from rekindle.signals.logs.tables import column_names, each_row

NAME = "nemo_rl"
NEEDED = {"content", "rewards", "idx"}
TOKEN_ROWS = 10_000  # of a large log; the log-probs of the others are not read
_FILES = ("train_data_step*.jsonl", "val_data_step*.jsonl")


@dataclass(frozen=True)
class NemoReader:
    """The rows of `train_data_step<N>.jsonl`.

    Attributes:
        by_token: files of which the token lists are read.
    """

    about: LogAbout
    by_token: frozenset[int]
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in order."""
        for file, path in enumerate(self.about.files):
            step = int("".join(c for c in path.stem if c.isdecimal()))
            split: LogSplit = "eval" if path.name.startswith("val") else "train"
            by_token = file in self.by_token
            extract = _row_maker(file, step, split, by_token)
            until = None if by_token else b"input_lengths"
            yield from each_row(path, extract, self.damage, until=until)


def is_nemo(path: Path) -> bool:
    """Whether a directory holds NeMo-RL's files."""
    files = _dumps(path)
    return bool(files) and set(column_names(files[0])) >= NEEDED


def open_nemo(path: Path) -> NemoReader:
    """The log of a NeMo-RL run.

    Raises:
        DataError: its files cannot be read.
    """
    files = _dumps(path)
    by_token = _evenly_spread(files)
    notes = () if len(by_token) == len(files) else (_part(len(by_token), len(files)),)
    return NemoReader(LogAbout(NAME, None, tuple(files), notes=notes), by_token)


def _dumps(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted((file for kind in _FILES for file in path.rglob(kind)), key=natural)


def _part(read: int, of: int) -> str:
    return (
        f"log-probs and token counts are read of {read} of the {of} files, evenly spread: more "
        "would take longer and tell no more"
    )


def _evenly_spread(files: list[Path]) -> frozenset[int]:
    """As many files as hold about `TOKEN_ROWS` rows."""
    with open(files[0], "rb") as file:
        line = max(1, len(file.readline()))
    rows = sum(path.stat().st_size for path in files) / line
    count = min(len(files), max(1, round(len(files) * TOKEN_ROWS / max(rows, 1))))
    return frozenset(np.linspace(0, len(files) - 1, count).round().astype(int).tolist())


def _row_maker(file: int, step: int, split: LogSplit, by_token: bool) -> Extract[LoggedRow]:
    def make(row: Row, line: int) -> LoggedRow:
        turns = _turns(row)
        advantage = None
        tokens = logprob = sampled = gap = None
        if by_token:
            mask_T = _first(row, "token_loss_mask")
            if mask_T is not None:
                kept_T = mask_T > 0
                tokens = int(kept_T.sum())
                advantage = _mean(_first(row, "advantages"), kept_T)
                logprob, sampled, gap = _log_probs(row, kept_T)
        return LoggedRow(
            Place(file, line),
            step,
            turns[0],
            turns[1] if len(turns) == 2 else "\n".join(turns[1:]),
            _score(row["rewards"]),
            advantage=advantage,
            tokens=tokens,
            logprob=logprob,
            sampler_logprob=sampled,
            gap=gap,
            split=split,
        )

    return make


def _score(value: object) -> float | None:
    """A list of one reward, or the reward."""
    if isinstance(value, simdjson.Array) and len(value) == 1:
        value = value[0]
    return value if type(value) is float and value == value else as_number(value)


def _turns(row: Row) -> list[str]:
    """The texts of a conversation; roles are not written."""
    content = plain(row["content"])
    turns = content[0] if isinstance(content, list) and content else None
    if isinstance(turns, list) and turns and set(map(type, turns)) == {str}:
        return turns
    return ["", "" if content is None else str(content)]


def _first(row: Row, key: str) -> np.ndarray | None:
    """The one list of a slice of a batch of one."""
    value = row.get(key)
    if isinstance(value, simdjson.Array):
        return floats(value[0]) if len(value) else None
    return floats(value[0]) if isinstance(value, list) and value else None


def _mean(value_T: np.ndarray | None, kept_T: np.ndarray) -> float | None:
    if value_T is None or len(value_T) != len(kept_T) or not kept_T.any():
        return None
    return float(value_T[kept_T].mean())


def _log_probs(row: Row, kept_T: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Summed log-probs of the trainer and of the sampler, and their mean distance by token."""
    both = [_first(row, key) for key in ("prev_logprobs", "generation_logprobs")]
    kept = [
        values[kept_T] if values is not None and len(values) == len(kept_T) else None
        for values in both
    ]
    theirs, sampled = kept
    gap = None
    if theirs is not None and sampled is not None and len(theirs):
        gap = float(np.abs(theirs - sampled).mean())
    return (
        None if theirs is None else float(theirs.sum()),
        None if sampled is None else float(sampled.sum()),
        gap,
    )
