"""Which trainer wrote a log: the formats that are known, found by their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.signals.logs.mapped import open_mapped, tables_under
from rekindle.signals.logs.metrics import NAME as METRICS
from rekindle.signals.logs.metrics import open_metrics
from rekindle.signals.logs.nemo_rl import is_nemo, open_nemo
from rekindle.signals.logs.open_instruct import is_open_instruct, open_open_instruct
from rekindle.signals.logs.prime_rl import is_prime, open_prime
from rekindle.signals.logs.record import LogReader
from rekindle.signals.logs.skyrl import is_skyrl, open_skyrl
from rekindle.signals.logs.trl import is_trl, open_trl
from rekindle.signals.logs.unknown import NO_ROLLOUTS, unknown
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
    """A log, by its files, by the format that was named, or by mapped columns; else its metrics.

    Raises:
        ConfigError: the format is unknown.
        DataError: there is no log that is known; what is there is described.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", wanted="a run's directory, or a file of rollouts")
    found_by = {known.name: known.found_by for known in FORMATS}
    if columns and tables_under(path):
        return open_mapped(path, columns)
    names = [*(known.name for known in FORMATS), METRICS, *NO_ROLLOUTS]
    if format is not None and format not in names:
        raise ConfigError(
            f"--format {format} is unknown",
            wanted=", ".join(names),
            fix=did_you_mean(format, names),
        )
    for known in FORMATS:
        if not columns and format in (None, known.name) and known.is_it(path):
            return known.open(path)
    metrics = None if columns else open_metrics(path)
    if metrics is not None:
        return metrics
    raise unknown(path, format, found_by)
