"""Out of memory: half the micro-batch once, told and kept; then a clear end, nothing lost."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from rekindle.engine import update as engine
from rekindle.errors import MemoryExhaustedError, TrainingError
from rekindle.training.train import train

ROWS = [{"id": f"p{i}", "prompt": f"{i}+{i % 3}=", "answer": str(i % 5)} for i in range(40)]
CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: x"
ERRORS = [RuntimeError(CPU), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")]


def recipe(base):
    return {
        "method": "grpo",
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        "sample": {"max_new_tokens": 4},
        "optim": {"steps": 3, "problems": 4, "lr": 1e-2, "micro_tokens": 400},
        "eval": {"problems": 3, "samples": 2},
        "checkpoint": {"every": 50},
    }


def even(problems, texts):
    return [float(len(text) % 2 == 0) for text in texts]


def run(base, out, mode="new"):
    return train(recipe(base), out, task=ROWS, reward=even, quiet=True, mode=mode)


def final(out):
    return load_file(out / "final" / "model.safetensors")


def room_for(monkeypatch, tokens, *, from_update=0, error=ERRORS[0]):
    """From an update on, a micro-batch of more padded tokens is too large for the machine."""
    real, seen = engine.weighted_sum, []

    def sized(loss_BT, weight_BT):
        if loss_BT.numel() > tokens and len(seen) >= from_update:
            raise error
        return real(loss_BT, weight_BT)

    monkeypatch.setattr(engine, "weighted_sum", sized)
    step = engine._step

    def counted(state):
        seen.append(1)
        step(state)

    monkeypatch.setattr(engine, "_step", counted)


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "run"
    run(base, out)
    return out


def largest_loss(base, tmp_path, monkeypatch):
    """Padded completion tokens of the largest micro-batch of the run."""
    sizes, real = [], engine.weighted_sum

    def noted(loss_BT, weight_BT):
        sizes.append(loss_BT.numel())
        return real(loss_BT, weight_BT)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "weighted_sum", noted)
        run(base, tmp_path / "noted")
    return max(sizes)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_half_the_micro_batch_is_the_same_step(
    base, tmp_path, straight, monkeypatch, capsys, error
):
    size = largest_loss(base, tmp_path, monkeypatch)
    room_for(monkeypatch, size - 1, from_update=1, error=error)
    run(base, tmp_path / "run")
    told = capsys.readouterr().err
    ((whole, half),) = re.findall(r"halved, from (\d+) to (\d+) padded tokens", told)
    assert int(half) == int(whole) // 2 < 200  # of what was tried, not of what was allowed
    ours, theirs = final(tmp_path / "run"), final(straight)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-9, rtol=1e-9)


def checkpoint_of(out):
    return json.loads((max((out / "checkpoints").iterdir()) / "state.json").read_text())


def test_where_the_half_is_too_large_the_run_ends_with_its_last_step_kept(
    base, tmp_path, straight, monkeypatch, capsys
):
    with monkeypatch.context() as patched:
        room_for(patched, 0, from_update=1)
        with pytest.raises(MemoryExhaustedError, match=r"step 2 does not fit") as stop:
            run(base, tmp_path / "run")
    assert "optim.micro_tokens" in str(stop.value)
    assert "a checkpoint is written" in capsys.readouterr().err
    state = checkpoint_of(tmp_path / "run")
    assert state["step"] == 1
    assert 0 < state["scalars"]["micro_tokens"] < 200
    run(base, tmp_path / "run", mode="resume")  # with more memory: it goes on, in halves
    ours, theirs = final(tmp_path / "run"), final(straight)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-9, rtol=1e-9)
    assert "halved" not in capsys.readouterr().err


def test_other_errors_are_no_want_of_memory(base, tmp_path, monkeypatch):
    room_for(monkeypatch, 0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(base, tmp_path / "run")


def test_an_optimizer_that_does_not_fit_is_no_reason_to_split_the_batch(
    base, tmp_path, monkeypatch, capsys
):
    def full(self, closure=None):
        raise ERRORS[0]

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(TrainingError, match="the optimizer does not fit into the memory at step 1"):
        run(base, tmp_path / "run")
    told = capsys.readouterr().err
    assert "halved" not in told
    assert "a checkpoint is written" not in told  # some weights may have been stepped
