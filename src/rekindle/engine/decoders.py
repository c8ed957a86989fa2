"""Next-token logits of a growing batch, through transformers.

Small Llama-like models have a quicker decoder, `engine/small_decoder/decode.py`; two models at once
are decoded by `engine/contrast.py`.

Axes: P prompts, B rows (samples of prompts), S prompt slots, V vocabulary.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from rekindle.engine.policy import Policy


@runtime_checkable
class Decoder(Protocol):
    """Next-token logits of a batch that only grows longer and loses rows."""

    def begin(self, tokens_PS: Tensor, attend_PS: Tensor, source_B: Tensor, *, room: int) -> Tensor:
        """Read left-padded prompts; row b goes on from prompt `source_B[b]`. Logits, [B, V]."""

    def extend(self, tokens_B: Tensor) -> Tensor:
        """Append a token to each row. Logits, [B, V]."""

    def keep(self, order_B: Tensor) -> None:
        """Go on with these rows, in this order."""


class ModelDecoder:
    """The decoder of any causal LM, through the transformers forward and its dynamic cache."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def begin(self, tokens_PS: Tensor, attend_PS: Tensor, source_B: Tensor, *, room: int) -> Tensor:
        device, self._logits_to = self._policy.device, tokens_PS.device
        source_B, attend_PS = source_B.to(device), attend_PS.to(device)
        self._past = self._policy.fresh_cache()
        logits_PV = self._policy.extend(self._past, tokens_PS.to(device), attend_PS)
        self._past.reorder_cache(source_B)  # selects rows of every kind of cache
        self._filled = tokens_PS.shape[1]
        new = torch.ones(source_B.numel(), room, dtype=torch.bool, device=device)
        self._attend = torch.cat([attend_PS[source_B], new], dim=1)
        return logits_PV[source_B].to(self._logits_to)

    def extend(self, tokens_B: Tensor) -> Tensor:
        self._filled += 1
        tokens_B1, attend_BS = tokens_B.to(self._attend.device)[:, None], self._attend
        logits_BV = self._policy.extend(self._past, tokens_B1, attend_BS[:, : self._filled])
        return logits_BV.to(self._logits_to)

    def keep(self, order_B: Tensor) -> None:
        order_B = order_B.to(self._attend.device)
        self._past.reorder_cache(order_B)
        self._attend = self._attend[order_B]
