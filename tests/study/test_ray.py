"""The same study on a Ray cluster of one node: the same tables, and a lost worker is survived."""

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("ray")

from rekindle.study.on_ray import RayPool
from rekindle.study.runner import run_study
from study.test_runner import Inline, file, tables  # noqa: F401

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # ray's own, at import and at the end
]


def test_ray_makes_the_same_tables_and_survives_a_lost_worker(file):  # noqa: F811
    study = file(seeds=[0])
    straight = run_study(study, Path("straight"), executor=Inline(), quiet=True)
    pool = RayPool(2)
    real, killed = pool.wait, []

    def wait(seconds):
        begun = [job for job, _ in pool._running.values() if (job.out / "checkpoints").exists()]
        if begun and not killed:
            holder = int((begun[0].out / ".lock").read_text())
            killed.append(holder)
            os.kill(holder, signal.SIGKILL)
        return real(0.05)

    pool.wait = wait
    found = run_study(study, Path("out"), executor=pool, quiet=True)
    assert killed
    assert tables(found) == tables(straight)
