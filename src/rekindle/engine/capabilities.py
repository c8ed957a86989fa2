"""Settings that need something of the device, or a package: refused early where it is not there."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from rekindle.engine.config import ModelConfig, OptimConfig
from rekindle.errors import ConfigError


def check_trainable(config: ModelConfig) -> None:
    """Refuse to train in a dtype whose small gradients would be lost.

    Raises:
        ConfigError: `model.dtype` is float16.
    """
    if config.dtype == "float16":
        raise ConfigError(
            "model.dtype: float16 cannot be trained",
            got="float16",
            wanted="bfloat16, float32 or float64",
            why="gradients below 6e-8 become 0 in it, which needs a scaled loss; bfloat16 has the "
            "same size and the range of float32",
            fix="--set model.dtype=bfloat16 (evaluation in float16 is fine)",
        )


def check_dtype(name: str, device: torch.device) -> None:
    """Whether the device can compute in a dtype.

    Raises:
        ConfigError: it cannot.
    """
    why = _lack_of(name, device)
    if why is not None:
        raise ConfigError(
            f"model.dtype: {name} is not available on {device}",
            got=name,
            wanted="float32, which every device has",
            why=why,
            fix="--set model.dtype=float32, or another model.device",
        )


def _lack_of(name: str, device: torch.device) -> str | None:
    if device.type == "mps" and name == "float64":
        return "Apple's GPUs have no float64"
    if device.type == "cuda" and name == "bfloat16":
        # what older cards emulate is slower than float32
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return None if native else "this card has no bfloat16 (it needs compute capability 8.0)"
    if name in ("bfloat16", "float16") and not torch.amp.is_autocast_available(device.type):
        return f"torch has no autocast for {device.type}"
    return None


def check_attention(config: ModelConfig, device: torch.device) -> None:
    """Whether `model.attention` can be had.

    Raises:
        ConfigError: flash attention without its package, without CUDA, or in 32 bits.
    """
    if config.attention != "flash_attention_2":
        return
    wanted = "the package flash-attn, a CUDA device, and model.dtype bfloat16 or float16"
    lacking = None
    if device.type != "cuda":
        lacking = f"device {device}"
    elif find_spec("flash_attn") is None:
        lacking = "no package flash-attn"
    elif config.dtype not in ("bfloat16", "float16"):
        lacking = f"model.dtype {config.dtype}"
    if lacking is not None:
        raise ConfigError(
            "model.attention: flash_attention_2 is not available",
            got=lacking,
            wanted=wanted,
            why="its kernels are written for CUDA, and for 16 bits",
            fix="--set model.attention=auto, or install it: pip install flash-attn",
        )


def check_optimizer(optim: OptimConfig, device: torch.device) -> None:
    """Whether `optim.name` can be had, and whether `optim.betas` is read by it.

    Raises:
        ConfigError: 8-bit moments without torchao or without CUDA; betas that nobody reads.
    """
    betas = OptimConfig.model_fields["betas"].default
    if optim.name == "adafactor" and optim.betas != betas:
        raise ConfigError(
            "optim.betas has no effect with optim.name: adafactor",
            got=list(optim.betas),
            why="it has no first moment, and its second decays by a schedule of its own",
            fix="remove optim.betas",
        )
    if optim.name != "adamw_8bit":
        return
    if device.type != "cuda" or find_spec("torchao") is None:
        lacking = f"device {device}" if device.type != "cuda" else "no package torchao"
        raise ConfigError(
            "optim.name: adamw_8bit is not available",
            got=lacking,
            wanted="a CUDA device, and the package torchao",
            why="its step is a kernel that torchao compiles for the GPU",
            fix="pip install torchao, or --set optim.name=adafactor, which needs still less memory",
        )
