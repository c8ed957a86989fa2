"""A training loop small enough to be killed hundreds of times: it uses every part of a run's state.

Imports no transformers, so that a fork of it is quick.
"""

import builtins
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rekindle.engine import manifest
from rekindle.engine import state as state_module
from rekindle.engine.run import Run
from rekindle.engine.state import TrainState

STEPS, EVERY = 6, 2
CONFIG = {"seed": 0, "checkpoint": {"every": EVERY, "keep": 2, "keep_finished": True}}
SPARSE = {
    "seed": 0,
    "checkpoint": {"every": 3, "keep": 1, "keep_finished": True},
}  # fewer file operations
PRINTS = {"data": "d", "model": "m"}
CHECKED = __name__ != "__main__"  # under pytest, shape checks draw from `random`


def fresh():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return TrainState(models={"policy": model}, optimizer=optimizer, schedule=lambda step: 0.1)


def take_step(state):
    """A step that depends on weights, moments, dropout, the random sources and a scalar."""
    model = state.models["policy"]
    mean = float(state.scalars.get("mean") or 0)
    noise = float(np.random.normal()) + mean + (0.0 if CHECKED else random.gauss(0.0, 1.0))
    loss = (model(torch.randn(16, 4)) - noise).square().mean()
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.scalars["mean"] = 0.9 * mean + 0.1 * noise
    return float(loss.detach()), noise


def train(
    directory,
    mode,
    *,
    pause=0.0,
    config=CONFIG,
    prints=PRINTS,
    quiet=True,
    group=None,
    finish=True,
    after_log=lambda step: None,
):
    with Run.open(
        directory, config=config, fingerprints=prints, mode=mode, quiet=quiet, group=group
    ) as run:
        state = run.restore(fresh())
        for step in run.steps(state, total=STEPS):
            loss, noise = take_step(state)
            time.sleep(pause)
            row = {"loss": loss, "time/step": time.perf_counter()}
            samples = [{"step": step, "noise": noise}, {"step": step, "text": "é\n"}]
            run.log(step, row, samples=samples)
            after_log(step)
            if step == 3:
                run.log_eval(step, {"metrics": {"pass@1": {"value": 0.5}}})
        if finish:
            run.finish(lambda aside: save_file(state.models["policy"].state_dict(), aside / "m.st"))


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def warm_up():
    """What is loaded or asked once, in the parent instead of in every fork."""
    take_step(fresh())
    manifest.make_manifest(command="", seed=0, fingerprints={}, processes=1)


warm_up()


def outcome(directory):
    """Everything that must be the same after any crash; times left out."""
    directory = Path(directory)
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    files = sorted(
        path
        for path in directory.rglob("*")
        if path.is_file() and path.name not in {"metrics.jsonl", ".lock", "COMPLETE.json"}
    )
    found = {
        "rows": [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows],
        "files": [path.relative_to(directory).as_posix() for path in files],
        "samples": (directory / "samples.jsonl").read_text(),
        "final": digest(load_file(directory / "final" / "m.st")),
    }
    for place in sorted((directory / "checkpoints").iterdir()):
        state = json.loads((place / "state.json").read_text())
        draws = load_file(place / "rng.safetensors")
        if CHECKED:
            del state["rng"][0]["python"], draws["rank/0/python/words"]
        found[place.name] = [state, digest(draws)] + [
            digest(load_file(place / f"{name}.safetensors")) for name in ("policy", "optimizer")
        ]
    return found


def digest(tensors):
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(f"{name} {tensors[name].dtype}".encode() + tensors[name].numpy().tobytes())
    return sha.hexdigest()


def in_child(work):
    """Run `work` in a fork; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Bomb:
    """Counts the file operations of this process; something happens at the n-th.

    Args:
        at: which.
        action: what happens; kill -9 unless told otherwise.
        torn: only writes count, and half of it is done before; else nothing of the operation is.
        spare: names of operations that do not count.
    """

    def __init__(self, at, *, action=die, torn=False, spare=()):
        self.at, self.action, self.torn, self.spare, self.count = at, action, torn, spare, 0
        self._undo = []

    def due(self):
        self.count += 1
        return self.count == self.at

    def arm(self):
        """Replace the operations of this process."""
        for module, name in [
            (os, "replace"),
            (os, "fsync"),
            (os, "truncate"),
            (os, "mkdir"),
            (os, "rmdir"),
            (os, "unlink"),
        ]:
            if name not in self.spare:
                self._replace(module, name, self._plain(vars(module)[name]))
        if "open" not in self.spare:
            self._replace(builtins, "open", self._open(builtins.open))
        self._replace(state_module, "save_file", self._save(save_file))

    def disarm(self):
        for module, name, operation in self._undo:
            setattr(module, name, operation)

    def _replace(self, module, name, operation):
        self._undo.append((module, name, vars(module)[name]))
        setattr(module, name, operation)

    def _plain(self, operation):
        def wrapped(*args, **kwargs):
            if not self.torn and self.due():
                self.action()
            return operation(*args, **kwargs)

        return wrapped

    def _open(self, operation):
        def wrapped(path, mode="r", *args, **kwargs):
            if not set(mode) & set("wax+"):
                return operation(path, mode, *args, **kwargs)
            if not self.torn and self.due():
                self.action()
            return Written(operation(path, mode, *args, **kwargs), self)

        return wrapped

    def _save(self, operation):
        def wrapped(tensors, path):
            if self.due():
                if self.torn:
                    operation(tensors, path)
                    Path(path).write_bytes(Path(path).read_bytes()[:-5])
                self.action()
            return operation(tensors, path)

        return wrapped


class Written:
    """An open file whose writes a bomb counts."""

    def __init__(self, file, bomb):
        self._file, self._bomb = file, bomb

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def write(self, raw):
        if self._bomb.due():
            if self._bomb.torn:
                self._file.write(raw[: len(raw) // 2])
                self._file.flush()
            self._bomb.action()
        return self._file.write(raw)

    def flush(self):
        self._file.flush()

    def fileno(self):
        return self._file.fileno()


def main(place):
    """Without shape checks, so with python's own random source too: killed in each step."""
    train(place / "straight", "new")
    straight = outcome(place / "straight")
    for last in range(1, STEPS + 1):
        directory = place / f"killed-{last}"
        in_child(lambda d=directory, n=last: train(d, "new", after_log=lambda s: s == n and die()))
        train(directory, "resume")
        assert outcome(directory) == straight, last


if __name__ == "__main__":
    main(Path(sys.argv[1]))
