"""What real runs are made of: the table of runs (in `benchmarks/`), data, and a reward model."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _real_cases import REWARDS, Inputs, write_data


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A directory that all workers of this session have."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def inputs(shared, smollm):
    """Data on disk, and where the reward model will be."""
    with open(shared / "data.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "data").exists():
            write_data(shared / "data")
    return Inputs(smollm, shared / "data", shared / "reward" / "final")


@pytest.fixture(scope="session")
def reward(inputs):
    """The run of the reward model that other runs have, made once for all workers."""
    run = inputs.reward.parent
    with open(run.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not run.exists():
            command = [sys.executable, "-m", "rekindle", *REWARDS["reward"](inputs, run), "--quiet"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            assert done.returncode == 0, done.stderr
    return run
