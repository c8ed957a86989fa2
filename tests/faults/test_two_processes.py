"""A signal that reaches one of two gloo processes: both leave after the same step, resumable."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import toy

from rekindle.engine.checkpoint import find_checkpoint
from rekindle.errors import EXIT_RESUMABLE

pytestmark = pytest.mark.faults

WORKER = """
import sys
import toy
from rekindle.engine.device import Accelerated
toy.train(sys.argv[1], "new", pause=0.1, group=Accelerated(cpu=True))
"""


def launch(directory, *, port, rank):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    command = [sys.executable, "-c", WORKER, str(directory)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_both_leave_after_the_same_step(place):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = place / "run"
    processes = [launch(directory, port=port, rank=rank) for rank in (0, 1)]
    log = directory / "metrics.jsonl"
    try:
        deadline = time.monotonic() + 60
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        processes[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [EXIT_RESUMABLE] * 2, said
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    newest = find_checkpoint(directory / "checkpoints").directory
    assert newest is not None
    assert newest.name == f"step-{len(rows):06d}"
    assert len(rows) < toy.STEPS
    # each process has draws of its own in it
    assert len(json.loads((newest / "state.json").read_text())["rng"]) == 2
