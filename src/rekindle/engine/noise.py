"""NEFTune's noise on input embeddings, arXiv 2310.05914.

Axes: R rows, S columns, D width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rekindle.engine.layout import Layout


@contextmanager
def noisy_embeddings(model: Any, layout: Layout, *, alpha: float) -> Iterator[None]:
    """Within the block, embeddings of the model get uniform(-1, 1) noise times alpha / sqrt(L D).

    Args:
        layout: of the block's forward pass; L is counted for each document.
        alpha: 0 changes nothing and draws nothing.

    The noise comes from torch's global generator, which a checkpoint holds.
    """
    if alpha == 0:
        yield
        return
    lengths_RS = layout.lengths_RS

    def add(module: nn.Module, inputs: object, embedded_RSD: Tensor) -> Tensor:
        size_RS = alpha / (lengths_RS * embedded_RSD.shape[-1]).to(embedded_RSD).sqrt()
        noise_RSD = torch.empty_like(embedded_RSD).uniform_(-1, 1)
        return embedded_RSD + noise_RSD * size_RS[:, :, None]

    with model.get_input_embeddings().register_forward_hook(add):
        yield
