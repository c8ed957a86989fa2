"""Entries of reasoning-gym's datasets, the same in every process for one seed.

Some generators walk over sets of strings, whose order follows the hash seed, another one in each
process. In 0.1.25 isomorphic_strings, polynomial_multiplication and ransom_note then give other
questions, knight_swap and word_ladder other answers, some programs of codeio both. So entries are
generated in one child process, whose hash seed is fixed; it is started once and asked as often as
needed.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import IO, TypedDict, cast

from rekindle.errors import DataError

_HASH_SEED = "0"


class Entry(TypedDict):
    """One problem of a reasoning-gym dataset."""

    question: str
    answer: str | None
    metadata: Mapping[str, object]


class GeneratorError(ValueError):
    """What a dataset raised while it generated entries: its type and message."""


class Caught(AbstractContextManager["Caught"]):
    """Keeps what a dataset's code raises, which may be anything."""

    error: Exception | None = None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self.error = error
        return self.error is not None

    def __str__(self) -> str:
        return "" if self.error is None else f"{type(self.error).__name__}: {self.error}"


def entries_of(
    dataset: str, seed: int, size: int, settings: Mapping[str, object]
) -> tuple[list[object] | None, str | None]:
    """The entries of a dataset, or what it raised."""
    import reasoning_gym

    entries: list[object] = []
    caught = Caught()
    with caught:
        entries = list(reasoning_gym.create_dataset(dataset, seed=seed, size=size, **settings))
    return (entries, None) if caught.error is None else (None, str(caught))


def generate(
    dataset: str, *, seed: int, size: int, settings: Mapping[str, object], here: bool = False
) -> Sequence[Entry]:
    """`size` entries by the dataset's own generator.

    Args:
        here: in this process, for a dataset that the user has registered in it.

    Raises:
        GeneratorError: the dataset refuses its settings, or fails.
        DataError: the process that generates ended.
    """
    request = (dataset, seed % 2**31, size, dict(settings))
    entries, error = entries_of(*request) if here else _generator(os.getpid()).ask(request)
    if entries is None:
        raise GeneratorError(error)
    return cast(list[Entry], entries)


class _Generator:
    """A child process that is asked one thing at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()
        atexit.register(self.close)

    def ask(self, request: object) -> tuple[list[object] | None, str | None]:
        """Its reply. An interrupted call ends the process, and the next one starts another."""
        with self._lock:
            process = self._process or self._start()
            answered = False
            try:
                pickle.dump(request, cast(IO[bytes], process.stdin))
                cast(IO[bytes], process.stdin).flush()
                reply: tuple[list[object] | None, str | None]
                reply = pickle.load(cast(IO[bytes], process.stdout))
                answered = True
            except (EOFError, OSError) as error:
                raise DataError(
                    "the process that generates reasoning-gym's problems ended",
                    got=f"exit code {process.wait()}",
                    wanted="its reply",
                    fix="look for what killed it, memory above all, and start again",
                ) from error
            finally:
                if not answered:
                    self.close()
            return reply

    def close(self) -> None:
        """End the process; a later call starts another."""
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return
        process.kill()
        process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rekindle.tasks.gym_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": _HASH_SEED},
        )
        return self._process


@cache
def _generator(process: int) -> _Generator:
    """The generator of this process, one for all its tasks; a fork has its own."""
    return _Generator()
