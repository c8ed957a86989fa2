"""What a computation holds in memory and costs: it is run on tensors that have a shape and no data.

The library's own code is run, under torch's `FakeTensorMode`: how attention is computed, how the
head is chunked and what is kept for the backward pass are not modelled here, but what they are.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Part = Literal["weights", "gradients", "activations", "logits", "cache"]
PartOf = Callable[[Tensor], Part]

_aten = torch.ops.aten
# the CPU's attention has no formula of its own there
_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        _aten._scaled_dot_product_flash_attention
    ],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
}


class Trace(NamedTuple):
    """What was alive at the peak, in bytes, by part; and all the floating point operations."""

    parts: Counter[Part]
    flops: int

    @property
    def peak(self) -> int:
        """Bytes of all parts."""
        return self.parts.total()


class Meter(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is active, until they are freed.

    Args:
        part_of: what a new tensor is for.
        gradients: the `.grad` of parameters, which are there already: what is added to one of them
            in training is added in place, and under a mode it is not.
    """

    def __init__(self, part_of: PartOf, gradients: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._part_of = part_of
        self._gradients = {_key(gradient) for gradient in gradients}
        self._alive: dict[int, tuple[Part, int]] = {}
        self._bytes: Counter[Part] = Counter()
        self._peak: Counter[Part] = Counter()
        self._flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, and count what it made."""
        kwargs = kwargs or {}
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if inputs and not any(isinstance(x, FakeTensor) for x in inputs):
            with _disable_current_modes():  # small tensors of numbers keep their data
                return func(*args, **kwargs)
        if func is _aten.equal.default:
            return True  # what was expected of numbers is asked: they are as expected
        out = func(*args, **kwargs)
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self._flops += int(formula(*args, **kwargs, out_val=out))
        there = {_key(x) for x in inputs}
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor) and _key(x) not in there]
        if func is _aten.add.Tensor and _key(args[0]) in self._gradients:
            self._gradients.update(map(_key, made))
            return out
        for tensor in made:
            self._count(tensor)
        return out

    def reset(self) -> None:
        """Look for the peak from here on; what is alive stays."""
        self._peak = Counter(self._bytes)

    def alive(self, part: Part) -> int:
        """Bytes that are there now."""
        return self._bytes[part]

    def trace(self) -> Trace:
        """What was counted so far."""
        return Trace(Counter(self._peak), self._flops)

    def _count(self, tensor: Tensor) -> None:
        if tensor.is_sparse:
            return  # made of tensors that are counted themselves
        key, storage = _key(tensor), tensor.untyped_storage()
        if key in self._alive or key in self._gradients:
            return
        part, size = self._part_of(tensor), storage.nbytes()
        self._alive[key] = part, size
        self._bytes[part] += size
        weakref.finalize(storage, self._free, key).atexit = False
        if self._bytes.total() > self._peak.total():
            self._peak = Counter(self._bytes)

    def _free(self, key: int) -> None:
        part, size = self._alive.pop(key)
        self._bytes[part] -= size


def without_data() -> FakeTensorMode:
    """The mode in which tensors that are made have a shape and no data."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def _key(tensor: Any) -> int:
    held = tensor._values() if tensor.is_sparse else tensor
    return int(held.untyped_storage()._cdata)
