"""Linear maps of fp32 on a CPU by oneDNN, where torch alone would take MKL.

torch multiplies fp32 matrices on x86 by MKL. On an AMD EPYC of 2024 (AVX-512, one thread) oneDNN,
which torch brings for bf16 and for compiled graphs, takes 0.65 of MKL's time for 8 rows, 0.6 for
16 to 64 and 0.5 from 128 on, on weights as they lie. Sums are in another order: results differ in
the last bits of fp32.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def quick_linears(model: nn.Module) -> Iterator[None]:
    """While this is open, the plain `nn.Linear` layers of a model multiply by oneDNN.

    Without gradients, and only for fp32 weights on an x86 CPU; all other calls are as ever.
    Wrapped, quantised, sharded and replaced layers are left alone.
    """
    changed = [
        module
        for module in model.modules()
        if _available() and isinstance(module, nn.Linear) and _is_plain(module)
    ]
    for module in changed:
        module.forward = partial(_linear, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    """x @ weight.T + bias."""
    weight, bias = module.weight, module.bias
    plain = (
        x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    )
    if not plain or torch.is_autocast_enabled("cpu") or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    multiply: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
    return multiply(x, weight, bias, "none", [], "")


def _is_plain(module: nn.Linear) -> bool:
    return (
        type(module) is nn.Linear  # a subclass may compute something else
        and "forward" not in vars(module)
        and type(module.weight) is nn.Parameter
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
    )


def _available() -> bool:
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return bool(onednn) and platform.machine() in ("x86_64", "AMD64")
