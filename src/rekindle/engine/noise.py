"""NEFTune's noise on input embeddings, arXiv 2310.05914.

Axes: B sequences, S tokens, D width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn


@contextmanager
def noisy_embeddings(model: Any, attend_BS: Bool[Tensor, "B S"], *, alpha: float) -> Iterator[None]:
    """Within the block, embeddings of the model get uniform(-1, 1) noise times alpha / sqrt(L D).

    Args:
        attend_BS: True at real tokens; L is counted for each sequence.
        alpha: 0 changes nothing and draws nothing.

    The noise comes from torch's global generator, which a checkpoint holds.
    """
    if alpha == 0:
        yield
        return
    length_B = attend_BS.sum(dim=1)

    def add(module: nn.Module, inputs: object, embedded_BSD: Tensor) -> Tensor:
        size_B = alpha / (length_B * embedded_BSD.shape[-1]).to(embedded_BSD).sqrt()
        noise_BSD = torch.empty_like(embedded_BSD).uniform_(-1, 1)
        return embedded_BSD + noise_BSD * size_B[:, None, None]

    with model.get_input_embeddings().register_forward_hook(add):
        yield
