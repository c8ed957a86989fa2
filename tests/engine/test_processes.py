"""Two gloo processes take the same steps as one: weights, metrics and samples."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import tiny

WORKER = Path(__file__).with_name("dp_worker.py")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_with(processes, tree, out):
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(tree), str(out)],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "WORLD_SIZE": str(processes),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "ACCELERATE_USE_CPU": "true",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(outputs)


_MORE = [pytest.param(method, marks=pytest.mark.slow) for method in ("dapo", "rl_zvp")]


@pytest.mark.parametrize("method", ["grpo", "lens", "hero", "sft", *_MORE])
def test_two_processes_take_the_same_steps_as_one(method, tmp_path):
    base = tmp_path / "base"
    tiny.policy(dtype="float64").save(base)
    rows = [
        {"id": f"p{i}", "prompt": f"{i}+{i % 3}=", "answer": str(i % 5), "solution": str(i % 5)}
        for i in range(40)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "method": method,
        "seed": 3,
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        "task": {"name": "jsonl", "path": str(data)},
        "sample": {"max_new_tokens": 5},
        "optim": {"steps": 3, "problems": 5, "lr": 1e-2, "micro_tokens": 64},
        "eval": {"problems": 4, "samples": 2},
        "checkpoint": {"every": 2},
    }
    if method != "sft":
        tree["grpo" if method == "dapo" else method] = {"group_size": 24}
        tree["reward"] = {"source": "random"}
        tree["task"]["brittle"] = 0.5
    run_with(1, tree, tmp_path / "one")
    run_with(2, tree, tmp_path / "two")
    one = load_file(tmp_path / "one" / "final" / "model.safetensors")
    two = load_file(tmp_path / "two" / "final" / "model.safetensors")
    assert one.keys() == two.keys()
    moved = False
    start = load_file(base / "model.safetensors")
    for name in one:
        assert (one[name] - two[name]).abs().max() < 1e-9, name
        moved = moved or bool((one[name] != start[name]).any())
    assert moved
    logs = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for a, b in zip(*logs, strict=True):
        for key in a:
            if not key.startswith("time/"):
                assert b[key] == pytest.approx(a[key], abs=1e-8, nan_ok=True), key
