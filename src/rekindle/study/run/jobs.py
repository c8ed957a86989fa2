"""What a worker does with one run or one preparation, wherever the worker is.

Imports nothing heavy at the top: a worker sets its environment first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from rekindle.errors import EXIT_RESUMABLE, RekindleError
from rekindle.files import open_append

_LONGEST_STEP = 120.0  # seconds that a run may be held by a worker whose study is gone
Ending = Literal["finished", "failed", "stopped", "lost"]


@dataclass(frozen=True)
class Job:
    """One run (`recipe`) or one preparation (`command`)."""

    out: Path  # its directory
    log: Path  # what it prints goes there
    recipe: Mapping[str, object] | None = None  # resolved, plain data
    command: tuple[str, ...] = ()  # arguments of `rekindle`


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    `lost`: its worker is gone (killed, out of memory) and the run can continue from its checkpoint;
    `stopped`: it got the signal to stop and saved; `failed`: it said why in `text`.
    """

    job: Job
    ending: Ending
    text: str = ""
    seconds: float = 0.0


def run_job(job: Job) -> Outcome:
    """Run a job in this process to its end. What it prints goes to its log.

    A mistake of the user is an outcome. Any other error ends the process: the executor sees that,
    and the traceback is in the log.
    """
    began = time.monotonic()

    def ended(ending: Ending, text: str = "") -> Outcome:
        return Outcome(job, ending, text, time.monotonic() - began)

    with _printed_to(job.log):
        if job.recipe is None:
            command = [sys.executable, "-m", "rekindle", *job.command]
            command += ["--resume"] if job.out.exists() else []
            code = subprocess.run(command, check=False).returncode
            if code == 0:
                return ended("finished")
            return ended("stopped" if code == EXIT_RESUMABLE else "failed", f"exit code {code}")
        # Loaded here: torch and transformers take seconds, once for each worker.
        from rekindle.training.recipe import make_recipe
        from rekindle.training.train import train

        _wait_for_orphan(job.out)
        try:
            train(make_recipe(job.recipe), job.out, mode="resume", quiet=True)
        except RekindleError as error:
            return ended("failed", str(error))
        except SystemExit as error:
            if error.code != EXIT_RESUMABLE:
                raise
            return ended("stopped")
    return ended("finished")


def _wait_for_orphan(directory: Path) -> None:
    """A study that was killed leaves workers that save and go within a step: wait for them."""
    from rekindle.engine.rundir import in_use

    began = time.monotonic()
    while in_use(directory) and time.monotonic() - began < _LONGEST_STEP:
        time.sleep(0.2)


def watch_study(alive: Connection) -> None:
    """Stop this process like SIGTERM once the study is gone, so that no orphan keeps a run.

    `alive`: the reading end of a pipe whose other end the study alone holds.
    """

    def watch() -> None:
        with suppress(EOFError, OSError):
            alive.recv_bytes()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _printed_to(log: Path) -> Iterator[None]:
    """Standard output and error of this process and its children; for good, if an error ends it:
    the traceback belongs there too."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(1), os.dup(2)]
    with open_append(log) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        yield
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(before, start=1):
            os.dup2(old, number)
            os.close(old)
