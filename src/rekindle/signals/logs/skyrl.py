"""SkyRL's evaluations: `dumped_evals/global_step_<N>_evals/<source>.jsonl`, written by default.

Read from its source (a9564572e, `trainer_utils.py`). A row is `input_prompt, output_response,
score, stop_reason, env_class, env_extras, data_source`. How it misleads:

* Training batches (`trainer.dump_data_batch`) are pickles, which run code when they are loaded:
  they never are. What can be read are evaluations.
* `score` is a number, or a list of one a token, of which the sum is the reward.
* `aggregated_results.jsonl` beside the rows holds metrics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rekindle.signals.logs.lines import Damage, Extract, Row, each_line, plain
from rekindle.signals.logs.mapped import as_cut, as_number, as_text, natural
from rekindle.signals.logs.metrics import read_objects
from rekindle.signals.logs.record import LogAbout, LoggedRow, Place
from rekindle.signals.logs.tables import column_names

NAME = "skyrl"
NEEDED = {"input_prompt", "output_response", "score"}
_TOTALS = "aggregated_results.jsonl"
_STEP = re.compile(r"global_step_(\d+)_evals$")
_NO_TRAINING = (
    "every row is of an evaluation: shares are those of evaluation prompts. SkyRL writes training "
    "batches as pickles (trainer.dump_data_batch), which are never loaded"
)


@dataclass(frozen=True)
class SkyReader:
    """The rows of dumped evaluations."""

    about: LogAbout
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in order."""
        for file, path in enumerate(self.about.files):
            yield from each_line(path, _row_maker(file, _step_of(path)), self.damage)


def is_skyrl(path: Path) -> bool:
    """Whether a directory holds SkyRL's dumped evaluations."""
    files = _dumps(path)
    return bool(files) and set(column_names(files[0])) >= NEEDED


def open_skyrl(path: Path) -> SkyReader:
    """The evaluations of a SkyRL run.

    Raises:
        DataError: its files cannot be read.
    """
    files = _dumps(path)
    history = tuple(
        {**numbers, "step": float(step)}
        for place in dict.fromkeys(file.parent for file in files)
        if (step := _step_of(place / _TOTALS)) is not None and (place / _TOTALS).is_file()
        for numbers in read_objects(place / _TOTALS)
    )
    about = LogAbout(NAME, "evaluations", tuple(files), notes=(_NO_TRAINING,), history=history)
    return SkyReader(about)


def _dumps(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    places = [path, path / "dumped_evals"]
    found = [f for place in places for kind in ("*.jsonl", "*_evals/*.jsonl", "eval_only/*.jsonl")
             for f in place.glob(kind)]  # fmt: skip
    return sorted(
        {file for file in found if file.name != _TOTALS and file.stat().st_size}, key=natural
    )


def _step_of(path: Path) -> int | None:
    found = _STEP.search(path.parent.name)
    return None if found is None else int(found[1])


def _row_maker(file: int, step: int | None) -> Extract[LoggedRow]:
    def make(row: Row, line: int) -> LoggedRow:
        extras = plain(row.get("env_extras"))
        spec = extras.get("reward_spec", extras) if isinstance(extras, dict) else None
        gold = spec.get("ground_truth") if isinstance(spec, dict) else None
        return LoggedRow(
            place=Place(file, line),
            step=step,
            prompt=as_text(row.get("input_prompt")),
            text=as_text(row.get("output_response")),
            score=_score(plain(row.get("score"))),
            cut=as_cut(row.get("stop_reason")),
            gold=None if gold is None else as_text(gold),
        )

    return make


def _score(value: object) -> float | None:
    """A number, or the sum of one a token."""
    if isinstance(value, list):
        known = [number for one in value if (number := as_number(one)) is not None]
        return sum(known) if known and len(known) == len(value) else None
    return as_number(value)
