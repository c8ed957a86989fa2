"""TensorBoard, W&B and trackio as copies of the metrics rows (extra [trackers]); never the source
of truth. An exporter that fails is dropped with a warning, and the run goes on.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rekindle.errors import missing_extra

Export = Callable[[int, Mapping[str, float]], None]


def open_exporters(
    names: Sequence[str], directory: Path, config: Mapping[str, Any]
) -> dict[str, Export]:
    """One function per exporter, which takes a step and its numbers."""
    makers = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    return {name: makers[name](directory, config) for name in names}


def export(exporters: dict[str, Export], step: int, row: Mapping[str, float]) -> None:
    """Send a row to all; one that fails is removed."""
    for name, send in list(exporters.items()):
        try:
            send(step, row)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            del exporters[name]
            warnings.warn(
                f"exporter '{name}' failed and is off for the rest of this run: {error}",
                stacklevel=2,
            )


def _tensorboard(directory: Path, config: Mapping[str, Any]) -> Export:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing_extra("tensorboard", extra="trackers", needed_for="TensorBoard") from error
    writer = SummaryWriter(str(directory / "tensorboard"))

    def send(step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return send


def _wandb(directory: Path, config: Mapping[str, Any]) -> Export:
    try:
        import wandb
    except ImportError as error:
        raise missing_extra("wandb", extra="trackers", needed_for="W&B") from error
    session = wandb.init(project="rekindle", dir=str(directory), config=dict(config))
    return lambda step, row: session.log(dict(row), step=step)


def _trackio(directory: Path, config: Mapping[str, Any]) -> Export:
    try:
        import trackio
    except ImportError as error:
        raise missing_extra("trackio", extra="trackers", needed_for="trackio") from error
    trackio.init(project="rekindle", name=directory.name, config=dict(config))
    return lambda step, row: trackio.log({"step": step, **row})
