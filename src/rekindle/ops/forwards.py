"""Another forward for some modules of a model, for as long as a block lasts.

A model is never changed for good: what is copied, saved or inspected has its own forwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from rekindle.ops.heap import release_heap

Forward = Callable[..., Any]


@contextmanager
def replaced_forwards(
    modules: Iterable[nn.Module], around: Callable[[Forward], Forward]
) -> Iterator[None]:
    """Within the block, `around(forward)` stands for the forward of each module.

    The modules are as they were afterwards; hooks run around it, as ever.
    """
    changed = [module for module in modules if "forward" not in vars(module)]
    for module in changed:
        module.forward = around(module.forward)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def recomputing(layers: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Within the block, these layers keep their inputs alone, and are run again by the backward
    pass: activation checkpointing (arXiv 1604.06174).

    A layer stays in the mode it is in, train or eval: transformers' own setting works in train mode
    alone, in which layers drop activations out. Random draws are repeated. On a CPU the heap's
    holes are given back before a layer is run again: the allocator would keep them.
    """
    return replaced_forwards(layers, _recomputed)


def _recomputed(forward: Forward) -> Forward:
    # Loaded here: it is needed where the setting is on.
    from torch.utils.checkpoint import checkpoint

    def run(*args: Any, **kwargs: Any) -> Any:
        # a second run would extend a cache of keys and values once more
        cached = kwargs.get("past_key_values") is not None or kwargs.get("layer_past") is not None
        if cached or not torch.is_grad_enabled():
            return forward(*args, **kwargs)

        def layer(*inputs: Any) -> Any:
            if inputs[0].device.type == "cpu":
                release_heap()
            return forward(*inputs, **kwargs)

        return checkpoint(layer, *args, use_reentrant=False)

    return run


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers that transformers knows how to recompute; none in a model of its own kind."""
    # Loaded here: transformers takes seconds to import.
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
