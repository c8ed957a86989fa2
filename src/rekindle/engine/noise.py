"""NEFTune's noise on input embeddings, arXiv 2310.05914.

Axes: R rows, S columns, D width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn


@contextmanager
def noisy_embeddings(model: Any, lengths_RS: Int[Tensor, "R S"], *, alpha: float) -> Iterator[None]:
    """Within the block, embeddings of the model get uniform(-1, 1) noise times alpha / sqrt(L D).

    Args:
        lengths_RS: at each input, L of its sequence.
        alpha: 0 changes nothing and draws nothing.

    The noise comes from torch's global generator, which a checkpoint holds.
    """
    if alpha == 0:
        yield
        return

    def add(module: nn.Module, inputs: object, embedded_RSD: Tensor) -> Tensor:
        size_RS = alpha / (lengths_RS * embedded_RSD.shape[-1]).to(embedded_RSD).sqrt()
        noise_RSD = torch.empty_like(embedded_RSD).uniform_(-1, 1)
        return embedded_RSD + noise_RSD * size_RS[:, :, None]

    with model.get_input_embeddings().register_forward_hook(add):
        yield
