"""TensorBoard, W&B and trackio as copies of the metrics rows (extra [trackers]); never the source
of truth. One that fails is dropped with a warning, and the run goes on.
"""

import importlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from rekindle.engine.progress import say
from rekindle.errors import missing_extra
from rekindle.files import read_json

# What network, disk and queues raise below the libraries' own errors, and what they raise on a
# value that they do not like. A MemoryError or an AssertionError is not theirs to swallow.
_COMMON = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError)


class Connection(NamedTuple):
    """An open connection: takes (step, numbers) until it is closed."""

    send: Callable[[int, Mapping[str, float]], object]
    close: Callable[[], object]


class Exporter(NamedTuple):
    """How to connect at a step, and what failing looks like."""

    start: Callable[[int], Connection]
    errors: tuple[type[Exception], ...]


class Exporters:
    """The exporters of a run; each is opened with its first row.

    Args:
        names: of them.
        directory: the run directory.
        config: the resolved recipe, shown beside the numbers.

    Raises:
        MissingExtraError: one of the packages is not installed.
    """

    def __init__(self, names: Sequence[str], directory: Path, config: Mapping[str, object]) -> None:
        self._working = {name: _MAKERS[name](directory, config) for name in names}
        self._open: dict[str, Connection] = {}

    def send(self, step: int, row: Mapping[str, float]) -> None:
        """A row to all of them."""
        for name, exporter in list(self._working.items()):
            try:
                if name not in self._open:
                    self._open[name] = exporter.start(step)
                self._open[name].send(step, row)
            except exporter.errors as error:
                del self._working[name]
                self._open.pop(name, None)
                _warn(name, error)

    def close(self) -> None:
        """Let them write what they still hold."""
        while self._open:
            name, connection = self._open.popitem()
            try:
                connection.close()
            except self._working[name].errors as error:
                _warn(name, error)


def _warn(name: str, error: Exception) -> None:
    # No warnings.warn: where warnings are errors, it would end the run.
    say(
        f"warning: exporter '{name}' failed and is off for the rest of this run "
        f"({type(error).__name__}: {error}); metrics.jsonl has all rows"
    )


def _tensorboard(directory: Path, config: Mapping[str, object]) -> Exporter:
    _package("tensorboard", "TensorBoard")
    from torch.utils.tensorboard import SummaryWriter

    def start(step: int) -> Connection:
        # Rows from here on are new: a run that was killed may have sent some of them before.
        writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step)

        def send(step: int, row: Mapping[str, float]) -> None:
            for name, value in row.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        return Connection(send, writer.close)

    return Exporter(start, _COMMON)


def _wandb(directory: Path, config: Mapping[str, object]) -> Exporter:
    wandb = _package("wandb", "W&B")

    def start(step: int) -> Connection:
        name, run_id = _names(directory)
        return _session(wandb, config, name=name, id=run_id, dir=str(directory))

    return Exporter(start, (*_COMMON, wandb.Error))


def _trackio(directory: Path, config: Mapping[str, object]) -> Exporter:
    trackio = _package("trackio", "trackio")
    network = importlib.import_module("httpx").HTTPError  # what trackio sends rows with

    def start(step: int) -> Connection:
        return _session(trackio, config, name="-".join(_names(directory)))

    return Exporter(start, (*_COMMON, network, sqlite3.Error))


def _session(package: ModuleType, config: Mapping[str, object], **own: str) -> Connection:
    session = package.init(project="rekindle", resume="allow", config=dict(config), **own)
    return Connection(lambda step, row: session.log(dict(row), step=step), session.finish)


def _package(name: str, needed_for: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing_extra(name, extra="trackers", needed_for=needed_for) from error


def _names(directory: Path) -> tuple[str, str]:
    """The run's name and its id: the same for all sessions of a run, another for every run."""
    return directory.resolve().name, str(read_json(directory / "manifest.json")["id"])


_MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
