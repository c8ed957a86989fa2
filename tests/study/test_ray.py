"""The same study on a Ray cluster of one node: the same tables, and a lost worker is survived."""

import os
import signal

import pytest

pytest.importorskip("ray")

from rekindle.study.run.executors import RayPool
from study.costless_runs import results_of
from study.inline_runs import Inline, tables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # ray's own, at import and at the end
]


@pytest.mark.parametrize("deaths", [1, 2])
def test_ray_makes_the_same_tables_and_survives_a_lost_worker(file, deaths):
    """A run whose worker dies once is tried again; twice, and it is a failure by name, which a
    later session mends. The other runs go on either way."""
    study = file(seeds=[0])
    straight = results_of(study, "straight", executor=Inline())
    pool, killed = RayPool(2), []
    real = pool.wait

    def wait(seconds):
        begun = [job for job, _ in pool._running.values() if (job.out / "checkpoints").exists()]
        for job in begun:
            holder = int((job.out / ".lock").read_text() or 0)
            if len(killed) < deaths and holder and holder not in (pid for _, pid in killed):
                if killed and killed[0][0] != job.out:
                    continue  # the same run again
                killed.append((job.out, holder))
                os.kill(holder, signal.SIGKILL)
        return real(0.05)

    pool.wait = wait
    found = results_of(study, "out", executor=pool)
    assert len(killed) == deaths
    if deaths == 2:
        (failure,) = found["failed"]
        assert failure["why"].endswith(", 2 times")
        assert "WorkerCrashedError" in failure["why"]
        assert found["unfinished"] == 1
        found = results_of(study, "out", executor=Inline(), mode="resume")
    assert tables(found) == tables(straight)
