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
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

WORKER = Path(__file__).with_name("dp_worker.py")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_two(trees, out):
    """The recipes in two processes, which are started once for all of them."""
    port, file = free_port(), out / "trees.json"
    file.write_text(json.dumps(trees))
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(file), str(out)],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "WORLD_SIZE": "2",
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
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)


def tree_of(method, base, data):
    tree = {
        "method": method,
        "seed": 3,
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        # its first version takes a digit of an untrained model for an answer: some are right
        "task": {"name": "jsonl", "path": str(data), "verifier_version": 1},
        "sample": {"max_new_tokens": 5},
        "optim": {"steps": 3, "problems": 5, "lr": 1e-2, "micro_tokens": 64},
        "eval": {"problems": 4, "samples": 2},
        "checkpoint": {"every": 2},
    }
    if method != "sft":
        tree["grpo" if method == "dapo" else method] = {"group_size": 24}
        tree["reward"] = {"source": "random"}
        tree["task"]["brittle"] = 0.5
    return tree


TOGETHER = {
    method: methods
    for methods in (("grpo", "lens", "hero", "sft"), ("dapo", "rl_zvp"))
    for method in methods
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A method's start, its run in this process, and its run in two."""
    place = tmp_path_factory.mktemp("processes")
    base, data, done = place / "base", place / "data.jsonl", {}
    tiny.policy(dtype="float64").save(base)
    rows = [
        {"id": f"p{i}", "prompt": f"{i}+{i % 3}=", "answer": str(i % 5), "solution": str(i % 5)}
        for i in range(40)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def of(method):
        if method not in done:
            trees = {name: tree_of(name, base, data) for name in TOGETHER[method]}
            out = place / method
            (out / "two").mkdir(parents=True)
            for name, tree in trees.items():
                train(make_recipe(tree), out / "one" / name, quiet=True)
            run_two(trees, out / "two")
            done.update({name: (out / "one" / name, out / "two" / name) for name in trees})
        return base, *done[method]

    return of


_MORE = [pytest.param(method, marks=pytest.mark.slow) for method in ("dapo", "rl_zvp")]


@pytest.mark.parametrize("method", ["grpo", "lens", "hero", "sft", *_MORE])
def test_two_processes_take_the_same_steps_as_one(method, trained):
    base, alone, both = trained(method)
    one = load_file(alone / "final" / "model.safetensors")
    two = load_file(both / "final" / "model.safetensors")
    assert one.keys() == two.keys()
    moved = False
    start = load_file(base / "model.safetensors")
    for name in one:
        assert (one[name] - two[name]).abs().max() < 1e-9, name
        moved = moved or bool((one[name] != start[name]).any())
    assert moved
    logs = [
        [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (alone, both)
    ]
    for a, b in zip(*logs, strict=True):
        for key in a:
            if not key.startswith("time/"):
                assert b[key] == pytest.approx(a[key], abs=1e-8, nan_ok=True), key
