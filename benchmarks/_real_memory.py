"""Peak memory on real models; each function is to run in a process of its own."""

from __future__ import annotations

import gc
import json
import random
import tempfile
from pathlib import Path

import torch

from _real_common import PAD, Row, forget_peak, resident

_GIB, _MIB = 2**30, 2**20
_LONG = 2048
_RANK = 8


def _settled() -> float:
    gc.collect()
    forget_peak()
    return resident("VmRSS")


def _long_batch(policy, tokens: int):
    """One row: a prompt of a token, and an answer that fills the rest."""
    from rekindle.engine.batch import count, pack

    draw = random.Random(0)
    ids = [draw.randrange(3, policy.drawable) for _ in range(tokens)]
    prompts, completions = [(ids[0],)], [tuple(ids[1:])]
    return pack(prompts, completions, reduction="token", total=count(completions))


def _policy(source: Path, *, checkpointing: bool = False):
    from rekindle.engine.config import ModelConfig
    from rekindle.engine.policy import Policy

    config = ModelConfig(name=str(source), device="cpu", activation_checkpointing=checkpointing)
    return Policy.load(config)


def scoring(source: Path, *, limit: float) -> Row:
    """Log-probs of one row of 2,048 tokens, above the model."""
    from rekindle.engine.update import measure_batch

    policy = _policy(source)
    measure_batch(policy, _long_batch(policy, 8), micro_tokens=_LONG, temperature=1.0)
    base = _settled()
    measure_batch(policy, _long_batch(policy, _LONG), micro_tokens=_LONG, temperature=1.0)
    return _long_row("scoring", resident() - base, limit)


def training(source: Path, *, checkpointing: bool, limit: float) -> Row:
    """An SFT update of one row of 2,048 tokens, above model, gradients and moments."""
    from rekindle.engine.config import OptimConfig
    from rekindle.engine.device import Group
    from rekindle.engine.update import fresh_state, update
    from rekindle.methods.sft import sft_objective

    policy = _policy(source, checkpointing=checkpointing)
    state = fresh_state({"policy": policy.model}, OptimConfig(lr=1e-7))
    objective = sft_objective(policy)

    def step(tokens: int) -> None:
        parts = _long_batch(policy, tokens).split(_LONG, policy.arrangement())
        update(state, parts, objective, clip=1.0, group=Group(), device=policy.device)

    step(8)  # makes the moments
    for parameter in policy.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-9)  # not zeros: those take no memory yet
    base = _settled()
    step(_LONG)
    what = "training with activation checkpointing" if checkpointing else "training"
    return _long_row(what, resident() - base, limit)


def _long_row(what: str, peak: float, limit: float) -> Row:
    work = f"Gemma at T = 2,048, {what}: peak above model, gradients and optimizer"
    gib = round(peak / _GIB, 3)
    return Row(work, "GiB", gib, 1.0, gib, limit, 1, "the limit is in GiB")


# --- whole runs


def run_peak(source: Path, method: str, *, limit: float) -> Row:
    """Peak beyond the imports of a run with LoRA and activation checkpointing, in weights."""
    import peft  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    from rekindle.training.train import train

    base = resident("VmHWM")
    weights = (source / "model.safetensors").stat().st_size
    with tempfile.TemporaryDirectory() as directory:
        train(_recipe(source, method, Path(directory)), Path(directory) / "run", quiet=True)
    times = round((resident() - base) / weights, 3)
    work = f"peak RSS beyond the imports, {method} with LoRA and activation checkpointing"
    return Row(work, f"weights of {weights / 1e6:.0f} MB", times, 1.0, times, limit, 1)


def _recipe(source: Path, method: str, directory: Path) -> dict[str, object]:
    recipe: dict[str, object] = {
        "method": method,
        "model": {
            "name": str(source),
            "device": "cpu",
            "pad_token": PAD,
            "activation_checkpointing": True,
            "lora": {"rank": _RANK},
        },
        "task": {"name": "addition", "levels": ["2"]},
        "optim": {"steps": 2, "problems": 4, "micro_tokens": 512, "lr": 1e-5},
        "sample": {"max_new_tokens": 32},
        "eval": {"problems": 1, "samples": 1},
        "checkpoint": {"every": 1, "keep_finished": True},
    }
    if method == "grpo":
        recipe["grpo"] = {"group_size": 4}
    if method == "wmss":
        recipe["wmss"] = {"items": 16}
    if method == "dpo":
        recipe["dpo"] = {"pairs": str(_pairs_file(directory / "pairs.jsonl"))}
    return recipe


def _pairs_file(path: Path) -> Path:
    draw = random.Random(0)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    rows = [
        {
            "id": str(i),
            "prompt": " ".join(draw.choices(words, k=50)),
            "chosen": " ".join(draw.choices(words, k=80)),
            "rejected": " ".join(draw.choices(words, k=80)),
        }
        for i in range(16)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lora_checkpoint(source: Path, *, limit: float) -> Row:
    """Bytes of a run's newest checkpoint against its adapter's; no base tensor may be in it."""
    from safetensors import safe_open

    from rekindle.training.train import train

    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        train(_recipe(source, "sft", Path(directory)), run, quiet=True)
        newest = max(p for p in (run / "checkpoints").iterdir() if p.is_dir())
        size = sum(p.stat().st_size for p in newest.rglob("*") if p.is_file())
        adapter = (run / "final" / "adapter" / "adapter_model.safetensors").stat().st_size
        names = []
        for path in newest.rglob("*.safetensors"):
            with safe_open(path, "pt") as held:
                names += list(held.keys())
    base = [name for name in names if name.endswith(".weight") and "lora" not in name]
    if base:
        raise SystemExit(f"base tensors in a LoRA checkpoint: {base[:3]}")
    ratio = (size - _MIB) / adapter
    work = f"LoRA checkpoint (rank {_RANK}, a MiB left out) against the adapter"
    megabytes = (round(size / 1e6, 2), round(adapter / 1e6, 2))
    return Row(work, "MB", *megabytes, round(ratio, 3), limit, 1, "no base tensor in it")
