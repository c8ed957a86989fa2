"""A training loop small enough to be killed hundreds of times; it uses all of a run's state."""

import builtins
import hashlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rekindle.engine import state as state_module
from rekindle.engine.run import Run
from rekindle.engine.state import TrainState

STEPS, EVERY = 6, 2


def fresh():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return TrainState(models={"policy": model}, optimizer=optimizer, schedule=lambda step: 0.1)


def train(directory, mode, *, pause=0.0, config=None, quiet=True, group=None):
    """STEPS steps that depend on weights, moments, three random sources and a scalar."""
    config = config or {"seed": 0, "checkpoint": {"every": EVERY, "keep": 2}}
    with Run.open(
        directory, config=config, fingerprints={"data": "d", "model": "m"}, mode=mode, quiet=quiet
    ) as run:
        state = run.restore(fresh())
        model = state.models["policy"]
        for step in run.steps(state, total=STEPS):
            noise = float(np.random.normal()) + float(state.scalars.get("mean") or 0)
            loss = (model(torch.randn(16, 4)) - noise).square().mean()
            loss.backward()
            state.optimizer.step()
            state.optimizer.zero_grad()
            state.scalars["mean"] = 0.9 * float(state.scalars.get("mean") or 0) + 0.1 * noise
            time.sleep(pause)
            row = {"loss": float(loss.detach()), "time/step": time.perf_counter()}
            run.log(
                step, row, samples=[{"step": step, "noise": noise}, {"step": step, "text": "é\n"}]
            )
        run.finish(lambda place: save_file(dict(model.state_dict()), place / "model.safetensors"))


def warm_up():
    """What torch imports on first use, once in the parent instead of in every fork."""
    state = fresh()
    state.models["policy"](torch.zeros(1, 4)).sum().backward()
    state.optimizer.step()


warm_up()


def outcome(directory):
    """Everything that must be the same after any crash, as one hash; times left out."""
    directory = Path(directory)
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    plain = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
    digest = hashlib.sha256(json.dumps(plain).encode())
    digest.update((directory / "samples.jsonl").read_bytes())
    final = load_file(directory / "final" / "model.safetensors")
    for name in sorted(final):
        digest.update(final[name].numpy().tobytes())
    last = directory / "checkpoints" / f"step-{STEPS:06d}"
    plain = json.loads((last / "state.json").read_text())
    del plain["python_rng"]  # the shape checks of the tests draw from it
    digest.update(json.dumps(plain).encode())
    for file in sorted(last.glob("*.safetensors")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def in_child(work):
    """Run `work` in a fork; the exit status as os.waitpid gives it."""
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
    return os.waitpid(child, 0)[1]


class Bomb:
    """Counts file operations and kills the process at the n-th, before or after it is done."""

    def __init__(self, at, *, after, action=None):
        self.at, self.after, self.count = at, after, 0
        self.action = action or (lambda: os.kill(os.getpid(), signal.SIGKILL))

    def wrap(self, operation, counts=lambda *args, **kwargs: True):
        def wrapped(*args, **kwargs):
            if not counts(*args, **kwargs):
                return operation(*args, **kwargs)
            self.count += 1
            mine = self.count == self.at
            if mine and not self.after:
                self.action()
            try:
                return operation(*args, **kwargs)
            finally:
                if mine and self.after:
                    self.action()

        return wrapped

    def arm(self):
        """Replace the operations of this process; only for a child that ends."""

        def writes(path, mode="r", *args, **kwargs):
            return any(letter in str(mode) for letter in "wax+")

        for module, name in [
            (os, "replace"),
            (os, "fsync"),
            (os, "truncate"),
            (os, "mkdir"),
            (os, "unlink"),
            (shutil, "rmtree"),
        ]:
            setattr(module, name, self.wrap(getattr(module, name)))
        builtins.open = self.wrap(builtins.open, writes)
        state_module.save_file = self.wrap(state_module.save_file)
