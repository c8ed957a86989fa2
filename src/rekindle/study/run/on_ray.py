"""Workers on a Ray cluster (extra `[ray]`): one task a job.

Run directories must be on storage that every node sees under the same path. A run whose worker or
node is lost goes on from its checkpoint on another.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from rekindle.engine.threads import calm_threads
from rekindle.errors import missing_extra
from rekindle.study.run.jobs import Job, Outcome, run_job


class RayPool:
    """As many jobs at once as the cluster has cores (cards, where it has any).

    Args:
        slots: at most so many; None: as the cluster has room.

    Raises:
        MissingExtraError: ray is not installed.
    """

    def __init__(self, slots: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing_extra("ray", extra="ray", needed_for="--executor ray") from error
        self._ray: Any = ray
        self._mine = not ray.is_initialized()
        if self._mine:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        room = ray.cluster_resources()
        self._cards = room.get("GPU", 0.0) >= 1
        self._slots = slots or int(room["GPU" if self._cards else "CPU"])
        # Ray would run a lost task again by itself; the study counts tries, so it must hear of it.
        cards = 1 if self._cards else 0
        self._task = ray.remote(num_cpus=1, num_gpus=cards, max_retries=0)(_run)
        self._running: dict[Any, tuple[Job, float]] = {}

    @property
    def slots(self) -> int:
        """How many run at once."""
        return self._slots

    def submit(self, job: Job) -> None:
        """Hand a job to the cluster."""
        self._running[self._task.remote(job, str(Path.cwd()))] = (job, time.monotonic())

    def wait(self, seconds: float) -> list[Outcome]:
        """What ended; a job whose worker or node died ends as `lost`."""
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._outcome(reference) for reference in ready]

    def stop(self) -> list[Outcome]:
        """Cancel what runs (it goes on from its last checkpoint later) and leave the cluster."""
        outcomes = []
        for reference, (job, began) in self._running.items():
            self._ray.cancel(reference, force=True)
            outcomes.append(Outcome(job, "stopped", "", time.monotonic() - began))
        self._running.clear()
        if self._mine:
            self._ray.shutdown()
        return outcomes

    def _outcome(self, reference: Any) -> Outcome:
        job, began = self._running.pop(reference)
        errors = self._ray.exceptions
        spent = time.monotonic() - began
        try:
            found: Outcome = self._ray.get(reference)
            return found
        except errors.RayTaskError as error:
            return Outcome(job, "failed", str(error.cause), spent)
        except errors.RayError as error:  # its worker, node or object is gone
            return Outcome(job, "lost", type(error).__name__, spent)


def _run(job: Job, directory: str) -> Outcome:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    calm_threads()
    os.chdir(directory)
    return run_job(job)
