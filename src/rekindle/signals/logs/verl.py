"""verl's rollout dumps: `<step>.jsonl` in `trainer.rollout_data_dir`.

Seen with verl 0.9.1, read from its source: a row is `input, output, gts, score, step` and every key
that the reward function returned; the newer trainer writes `uid` as `{sample}_{rollout}_{output}`
instead. How it misleads:

* `input` was decoded without special tokens: prompts that differ in those alone look the same.
* With DAPO's `filter_groups` the groups without spread are gone before the dump.
* `score` is the sum of the token scores: an overlong buffer or a KL in the reward moves it off 0
  and 1; the parts are in the row where the reward function returned them.
* Validation files have the same columns: a directory named after validation is one.
* The reward function may return texts, as the answer that it found; "42" there is no reward.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rekindle.signals.logs.lines import Damage, Extract, Row, number
from rekindle.signals.logs.mapped import as_integer, as_number, as_text, natural
from rekindle.signals.logs.record import LogAbout, LoggedRow, LogSplit, Place
from rekindle.signals.logs.tables import column_names, each_row

NAME = "verl"
NEEDED = ("input", "output", "score")
_NO_REWARDS = (
    "input",
    "output",
    "gts",
    "score",
    "step",
    "uid",
    "request_id",
    "index",
    "data_source",
)
_VALIDATION = re.compile(r"(?:^|[^a-z])(?:val|valid|validation|eval|evaluation)(?:[^a-z]|$)")
_FILTER = (
    "DAPO's filter_groups removes groups without spread before they are written: a verl log "
    "without all-wrong groups is no proof that there were none (train/num_gen_batches tells)"
)


@dataclass(frozen=True)
class VerlReader:
    """The rows of a directory of `<step>.jsonl`."""

    about: LogAbout
    rewards: tuple[str, ...]
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in order."""
        for file, path in enumerate(self.about.files):
            extract = _row_maker(self.rewards, file, as_integer(path.stem), _split_of(path))
            yield from each_row(path, extract, self.damage)


def is_verl(path: Path) -> bool:
    """Whether a directory holds files `<step>.jsonl` with verl's columns."""
    files = _dumps(path)
    return bool(files) and set(NEEDED) <= set(column_names(files[0]))


def open_verl(path: Path) -> VerlReader:
    """The log of a verl run.

    Raises:
        DataError: its files cannot be read.
    """
    files = _dumps(path)
    names = dict.fromkeys(name for file in (files[0], files[-1]) for name in column_names(file))
    rewards = tuple(name for name in names if name not in _NO_REWARDS)
    version = "V1 trainer (uid)" if "uid" in names else "V0 trainer"
    return VerlReader(LogAbout(NAME, version, tuple(files), notes=(_FILTER,)), rewards)


def _dumps(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".jsonl" and path.stem.isdecimal() else []
    return [f for f in sorted(path.rglob("*.jsonl"), key=natural) if f.stem.isdecimal()]


def _split_of(path: Path) -> LogSplit | None:
    return "eval" if _VALIDATION.search(path.parent.name.lower()) else None


def _row_maker(
    rewards: tuple[str, ...], file: int, step: int | None, split: LogSplit | None
) -> Extract[LoggedRow]:
    def make(row: Row, line: int) -> LoggedRow:
        uid = row.get("uid")
        group = uid.split("_")[0] if isinstance(uid, str) else None
        own = as_integer(row.get("step"))
        gold = row.get("gts")
        parts = {name: number(row.get(name)) for name in rewards}
        return LoggedRow(
            place=Place(file, line),
            step=step if own is None else own,
            prompt=as_text(row.get("input")),
            text=as_text(row.get("output")),
            score=as_number(row.get("score")),
            parts={name: value for name, value in parts.items() if value is not None},
            group=group,
            split=split,
            gold=None if gold is None else as_text(gold),
        )

    return make
