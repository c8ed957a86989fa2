"""How a model is held once it is loaded, and how it is written: what dtype, which attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rekindle.engine.capabilities import check_attention, check_dtype
from rekindle.engine.config import ModelConfig
from rekindle.engine.progress import say
from rekindle.errors import ConfigError, ModelError
from rekindle.ops.forwards import layers_of, recomputing
from rekindle.ops.precision import (
    held_dtype,
    product_dtype,
    products_in,
    raise_to_masters,
    round_linear_maps,
)

Use = Literal["training", "evaluation"]


def prepare_model(model: Any, config: ModelConfig, device: torch.device, use: Use) -> None:
    """Hold a model as its use asks, and have it compute as the recipe says; in place.

    Raises:
        ConfigError: a dtype or an attention that is not to be had, or no layers to recompute.
    """
    check_dtype(config.dtype, device)
    check_attention(config, device)
    hold(model, config, use)
    if config.attention != "auto":
        _set_attention(model, config)
    if config.activation_checkpointing and not layers_of(model):
        raise ConfigError(
            "model.activation_checkpointing has no effect on this model",
            got=f"'{config.name}', of type {type(model).__name__}",
            wanted="layers that transformers can checkpoint",
            fix="--set model.activation_checkpointing=false",
        )


def hold(model: Any, config: ModelConfig, use: Use) -> None:
    """Hold parameters as their use asks, in place; a quantised model stays as it is."""
    if config.quantize != "none":
        return
    if use == "training":
        raise_to_masters(model)
    else:
        round_linear_maps(model, product_dtype(config.dtype))


def _set_attention(model: Any, config: ModelConfig) -> None:
    try:
        model.set_attn_implementation(config.attention)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"model.attention: {config.attention} is not available for '{config.name}'",
            got=str(error).strip().splitlines()[0],
            wanted="an attention that transformers has for this model",
            fix="--set model.attention=auto",
        ) from error


@contextmanager
def computing(model: Any, config: ModelConfig, device: torch.device) -> Iterator[None]:
    """Forward passes in the block multiply in `model.dtype`, and recompute layers where asked.

    A trained weight is rounded once in a block: it must not change within, and the passes of a
    block either all have gradients or none has.
    """
    layers = layers_of(model) if config.activation_checkpointing else ()
    with products_in(product_dtype(config.dtype), device), recomputing(layers):
        yield


def save_plain(model: Any, directory: Path, dtype: str | None) -> None:
    """Write weights and config in Hugging Face layout; what rounding loses is said in one line.

    Args:
        dtype: of the floating weights written; None: as they are held.

    Raises:
        ModelError: a weight is beyond the range of `dtype`.
    """
    kind = None if dtype is None else written_dtype(dtype)
    if kind is None or kind == model.dtype:
        model.save_pretrained(directory)
        return
    weights, moved = _rounded(model, kind)
    if not math.isfinite(moved):
        raise ModelError(
            f"the weights do not fit into model.save_dtype: {dtype}",
            wanted="bfloat16, which has the range of float32",
            fix="--set model.save_dtype=bfloat16",
        )
    own = model.dtype
    model.save_pretrained(directory, state_dict=weights)
    model.config.dtype = kind
    model.config.save_pretrained(directory)
    model.config.dtype = own
    say(
        f"final weights are rounded to {dtype}, which moves them by {moved:.1e} of their norm: "
        "what training changed by less is lost (model.save_dtype)"
    )


def written_dtype(name: str) -> torch.dtype:
    """What `model.save_dtype: name` writes weights in."""
    return product_dtype(name) or held_dtype(name)


@torch.no_grad()
def _rounded(model: Any, kind: torch.dtype) -> tuple[dict[str, Tensor], float]:
    """The weights in another dtype, ties kept, and how far that moves them, of their norm."""
    weights: dict[str, Tensor] = {}
    known: dict[int, Tensor] = {}
    moved = whole = 0.0
    for name, tensor in model.state_dict().items():
        place = tensor.data_ptr()
        if place not in known:
            known[place] = tensor.to(kind) if tensor.is_floating_point() else tensor
            if tensor.is_floating_point():
                moved += float((known[place].to(tensor.dtype) - tensor).double().square().sum())
                whole += float(tensor.double().square().sum())
        weights[name] = known[place]
    return weights, math.sqrt(moved / whole) if whole else 0.0
