"""Problems from a `datasets` id, or from local files that `datasets` loads (extra [hub])."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rekindle.errors import ConfigError, DataError, missing_extra
from rekindle.tasks.rows import Listed, by_hash, check_verifier, problem_of
from rekindle.tasks.task import stable_hash

_KEYS = ("dataset", "config", "revision", "data_files", "splits", "columns", "limit")
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


def load_hub(settings: Mapping[str, Any], *, verifier: str) -> Listed:
    """Load a dataset and read its rows as problems.

    Args:
        settings: `dataset` (id, or a builder such as `json` with `data_files`), `config`,
            `revision`, `splits` (ours -> theirs), `columns` (ours -> theirs), `limit` (rows).
        verifier: exact or numeric.
    """
    check_verifier(verifier)
    for key in settings:
        if key not in _KEYS:
            raise ConfigError(
                f"task 'hub' takes no setting 'task.args.{key}'",
                wanted=f"one of: {', '.join(_KEYS)}",
            )
    if "dataset" not in settings:
        raise ConfigError("task 'hub' needs a dataset", fix="--set task.args.dataset=openai/gsm8k")
    loaded = _load(settings)
    columns = dict(settings.get("columns") or {})
    splits = {**_SPLITS, **dict(settings.get("splits") or {})}
    problems = {
        ours: [
            problem_of(
                {**row, **{name: row.get(theirs_name) for name, theirs_name in columns.items()}},
                where=f"{settings['dataset']}[{theirs}] row {i}",
                number=i,
                task=f"{settings['dataset']}-{theirs}",
            )
            for i, row in enumerate(_rows(loaded[theirs], settings.get("limit")))
        ]
        for ours, theirs in splits.items()
        if theirs in loaded
    }
    if not problems:
        raise DataError(
            f"dataset '{settings['dataset']}' has none of the splits",
            got=sorted(loaded),
            wanted=splits,
            fix="--set task.args.splits.train=<name>",
        )
    if list(problems) == ["train"]:
        problems = by_hash(problems["train"])
    prints = [loaded[name]._fingerprint for name in sorted(loaded)]
    return Listed(
        name="hub",
        splits=problems,
        verifier=verifier,
        source=f"{stable_hash(*prints, sorted(columns.items())):016x}",
    )


def _load(settings: Mapping[str, Any]) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("datasets", extra="hub", needed_for="task 'hub'") from error
    try:
        return datasets.load_dataset(
            settings["dataset"],
            settings.get("config"),
            revision=settings.get("revision"),
            data_files=settings.get("data_files"),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"dataset '{settings['dataset']}' could not be loaded",
            got=str(error).strip().split("\n")[0],
            fix="check id, config and network; offline, give local files as task.args.data_files",
        ) from error


def _rows(dataset: Any, limit: int | None) -> Any:
    return dataset if limit is None else dataset.select(range(min(limit, len(dataset))))
