"""Which trainer wrote a log: the formats that are known, found by their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.signals.logs.mapped import KEYS, find_tables, open_mapped
from rekindle.signals.logs.nemo_rl import is_nemo, open_nemo
from rekindle.signals.logs.open_instruct import is_open_instruct, open_open_instruct
from rekindle.signals.logs.prime_rl import is_prime, open_prime
from rekindle.signals.logs.record import LogReader
from rekindle.signals.logs.skyrl import is_skyrl, open_skyrl
from rekindle.signals.logs.tables import column_names
from rekindle.signals.logs.trl import is_trl, open_trl
from rekindle.signals.logs.verl import is_verl, open_verl


class LogFormat(NamedTuple):
    """A trainer's layout."""

    name: str
    found_by: str
    switch: str  # the setting that makes the trainer write it
    is_it: Callable[[Path], bool]
    open: Callable[[Path], LogReader]


FORMATS: tuple[LogFormat, ...] = (
    LogFormat(
        "trl",
        "completions/completions_*.parquet",
        "GRPOConfig(log_completions=True)",
        is_trl,
        open_trl,
    ),
    LogFormat(
        "nemo_rl",
        "train_data_step<N>.jsonl",
        "on by default, in logger.log_dir",
        is_nemo,
        open_nemo,
    ),
    LogFormat(
        "prime_rl",
        "rollouts/step_<N>/train/all/traces.jsonl",
        "on by default",
        is_prime,
        open_prime,
    ),
    LogFormat("verl", "<step>.jsonl", "trainer.rollout_data_dir=DIR", is_verl, open_verl),
    LogFormat(
        "open_instruct",
        "<run>_rollouts_<shard>.jsonl",
        "--save_traces --rollouts_save_path DIR",
        is_open_instruct,
        open_open_instruct,
    ),
    LogFormat(
        "skyrl",
        "dumped_evals/global_step_<N>_evals/<source>.jsonl",
        "trainer.dump_eval_results (evaluations alone)",
        is_skyrl,
        open_skyrl,
    ),
)


def open_log(
    path: Path, *, format: str | None = None, columns: Mapping[str, str] | None = None
) -> LogReader:
    """A log, by its files, by the format that was named, or by mapped columns.

    Raises:
        ConfigError: the format is unknown.
        DataError: there is no log that is known; what is there is described.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", wanted="a run's directory, or a file of rollouts")
    if columns:
        return open_mapped(path, columns)
    names = [known.name for known in FORMATS]
    if format is not None and format not in names:
        raise ConfigError(
            f"--format {format} is unknown",
            wanted=", ".join(names),
            fix=did_you_mean(format, names),
        )
    for known in FORMATS:
        if format in (None, known.name) and known.is_it(path):
            return known.open(path)
    raise _unknown(path, format)


def _unknown(path: Path, format: str | None) -> DataError:
    files = find_tables(path)
    columns = ", ".join(column_names(files[0])) or "no columns"
    known = "; ".join(f"{one.name}: {one.found_by}" for one in FORMATS)
    return DataError(
        f"{path} is no log of {format}" if format else f"{path} is no log that is known",
        got=f"{len(files)} file{'s' if len(files) > 1 else ''}, {files[0].name} with {columns}",
        wanted=known,
        why="a layout that is not known is not guessed",
        fix="name the columns: --map score=COLUMN,text=COLUMN,group=COLUMN,step=COLUMN "
        f"(keys: {', '.join(KEYS)})",
    )
