"""How fast a device is: timed on the loaded model or on a product, or assumed and said so."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from rekindle.engine.config import DeviceConfig
from rekindle.engine.decoders import ModelDecoder
from rekindle.engine.device import set_threads
from rekindle.engine.integrity import located
from rekindle.engine.policy import Policy
from rekindle.engine.update import LossFn, add_gradient
from rekindle.methods.sft import sft_objective
from rekindle.training.dry_run.data import Row, batch_of

# Of a GPU that is not here: what training reaches of an H100's 989 TFLOP/s and 3.35 TB/s, roughly.
GPU_FLOPS, GPU_BYTES = 300e12, 1.7e12
_TOKENS, _STEPS, _ROWS = 128, 8, 4  # of the probe
_PRODUCT, _COPY = 1024, 16_000_000


class Rates(NamedTuple):
    """How fast a device works.

    Attributes:
        flops: floating point operations a second, in an update.
        bytes: read and written a second.
        decode: seconds of a decoding step, by its rows; None where it was not timed.
        source: where the numbers come from, as a sentence has it.
    """

    flops: float
    bytes: float
    decode: Callable[[int], float] | None
    source: str


def assumed_rates() -> Rates:
    """Of a GPU that is not here."""
    text = f"{GPU_FLOPS / 1e12:.0f} TFLOP/s and {GPU_BYTES / 1e12:.1f} TB/s, assumed of a GPU"
    return Rates(GPU_FLOPS, GPU_BYTES, None, text)


def rates_of_product(device: torch.device) -> Rates:
    """Timed on a product of matrices and a copy; a training reaches less."""
    a = torch.ones(_PRODUCT, _PRODUCT, device=device)
    big = torch.ones(_COPY, device=device)
    product = _seconds(lambda: a @ a, device)
    copy = _seconds(lambda: big + big, device)
    flops, bandwidth = 0.7 * 2 * _PRODUCT**3 / product, 8 * _COPY / copy
    text = f"{flops / 1e9:.0f} GFLOP/s, timed on a product of matrices (the model was not run)"
    return Rates(flops, bandwidth, None, text)


def rates_of_model(policy: Policy, *, flops_a_token: float, threads: DeviceConfig) -> Rates:
    """Timed on the loaded model: a short update, and a few tokens for a few rows.

    Args:
        flops_a_token: of an update, forward and backward.
    """
    device = policy.device
    set_threads(threads.threads, parameters=sum(p.numel() for p in policy.model.parameters()))
    micro = batch_of([Row(_TOKENS // 4, _TOKENS // 4, p) for p in range(2)]).whole().to(device)
    loss: LossFn = sft_objective(policy)

    def update() -> None:
        add_gradient([policy.model], loss, micro)
        policy.model.zero_grad(set_to_none=True)

    work = _seconds(update, device)
    flops = flops_a_token * micro.layout.tokens_RS.numel() / work
    bandwidth = rates_of_product(device).bytes
    one, several = (_decoding(policy, rows) for rows in (1, _ROWS))
    a_row = max(several - one, 0.0) / (_ROWS - 1)
    text = f"{flops / 1e9:.1f} GFLOP/s, timed on the model"
    return Rates(flops, bandwidth, lambda rows: one + a_row * (rows - 1), text)


@torch.no_grad()
def _decoding(policy: Policy, rows: int) -> float:
    """Seconds of a step."""
    decoder = ModelDecoder(policy)
    tokens_PS = torch.ones(1, _TOKENS // 4, dtype=torch.long, device=policy.device)
    source_B = torch.zeros(rows, dtype=torch.long, device=policy.device)
    decoder.begin(tokens_PS, tokens_PS > 0, source_B, room=_STEPS)
    next_B = torch.ones(rows, dtype=torch.long, device=policy.device)
    decoder.extend(next_B)
    began = time.perf_counter()
    for _ in range(_STEPS - 2):
        decoder.extend(next_B).sum().item()  # waits for the device
    return (time.perf_counter() - began) / (_STEPS - 2)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the second call: the first one makes ready."""
    spent = 0.0
    for _ in range(2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.perf_counter() - began
    return max(spent, 1e-9)


def has_weights(name: str) -> bool:
    """Whether a model's weights are on this machine, in a directory."""
    source = Path(located(name))
    return source.is_dir() and any(source.glob("*.safetensors"))
