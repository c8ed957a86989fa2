"""What a model is held in, and what its matrix products are made in.

    model.dtype   trained parameters      evaluated models        products   the rest
    float32       fp32                    fp32                    fp32       fp32
    bfloat16      fp32, the masters       linear maps bf16        bf16       fp32
    float16       refused                 linear maps fp16        fp16       fp32
    float64       fp64                    fp64                    fp64       fp64

The base of an adapter is not trained: its linear maps are held as those of evaluated models are,
where that loses nothing of them, as with a base that was published in bf16.

An update of 1e-6 is smaller than what bf16 can add to a weight, so what is trained stays in fp32
and each forward rounds it (`torch.autocast`). A linear map that is held rounded multiplies the same
numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rekindle.ops.forwards import Forward, replaced_forwards

_LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def product_dtype(name: str) -> torch.dtype | None:
    """What `model.dtype: name` multiplies in, where that is less than the parameters have."""
    return _LOW.get(name)


def held_dtype(name: str) -> torch.dtype:
    """What parameters are loaded in under `model.dtype: name`: fp32, or fp64."""
    return torch.float64 if name == "float64" else torch.float32


def products_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products within the block are made in `dtype`; None: in that of their factors.

    What needs the range or the digits (norms, softmax, losses, sums of squares) stays in fp32: the
    lists of `torch.autocast`. Inside a block, a trained weight is rounded once.
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@torch.no_grad()
def raise_to_masters(model: nn.Module) -> None:
    """Parameters and buffers of 16 bits become fp32, in place; ties stay."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype in _LOW.values():
            tensor.data = tensor.data.float()


@torch.no_grad()
def round_linear_maps(
    model: nn.Module, dtype: torch.dtype | None, *, if_exact: bool = False
) -> None:
    """Hold the weights of linear maps in `dtype`, in place, to save their memory; None: no change.

    A weight that is also an embedding stays: what is looked up is not rounded.

    Args:
        if_exact: only those that `dtype` holds as they are.
    """
    if dtype is None:
        return
    looked_up = {id(p) for m in model.modules() if type(m) is not nn.Linear for p in _own(m)}
    for module in model.modules():
        if type(module) is not nn.Linear:
            continue
        for parameter in _own(module):
            if parameter.dtype != torch.float32 or id(parameter) in looked_up:
                continue
            rounded = parameter.data.to(dtype)
            if not if_exact or torch.equal(rounded.float(), parameter.data):
                parameter.data = rounded


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    return module.parameters(recurse=False)


def full_precision(heads: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Within the block, these modules of one input compute in fp32, whatever is around them."""
    return replaced_forwards(heads, _in_full)


def _in_full(forward: Forward) -> Forward:
    def run(x: Tensor) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x if x.dtype == torch.float64 else x.float())

    return run
