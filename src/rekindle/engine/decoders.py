"""Next-token logits of a growing batch: through transformers, and of two models at once.

Small Llama-like models have a quicker decoder, `engine/small_decoder/decode.py`.

Axes: P prompts, B rows (samples of prompts), S prompt slots, V vocabulary.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from rekindle.engine.policy import Policy
from rekindle.ops.mixing import mixed_logits


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
    """The decoder of any causal LM, through the transformers forward and a cache allocated once."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def begin(self, tokens_PS: Tensor, attend_PS: Tensor, source_B: Tensor, *, room: int) -> Tensor:
        from rekindle.engine.cache import allocate  # transformers takes seconds to import

        device, self._logits_to = self._policy.device, tokens_PS.device
        source_B, attend_PS = source_B.to(device), attend_PS.to(device)
        self._past = self._policy.fresh_cache()
        logits_PV = self._policy.extend(self._past, tokens_PS.to(device), attend_PS)
        allocate(self._past, source_B, room=room)
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


class ContrastDecoder:
    """Two decoders that read and append the same tokens: z + c (z - z_weak)."""

    def __init__(self, strong: Decoder, weak: Decoder, strength: float) -> None:
        self._both, self._lam = (strong, weak), 1 + strength

    def begin(self, tokens_PS: Tensor, attend_PS: Tensor, source_B: Tensor, *, room: int) -> Tensor:
        strong_BV, weak_BV = (
            decoder.begin(tokens_PS, attend_PS, source_B, room=room) for decoder in self._both
        )
        return mixed_logits(strong_BV, weak_BV, lam=self._lam)

    def extend(self, tokens_B: Tensor) -> Tensor:
        strong_BV, weak_BV = (decoder.extend(tokens_B) for decoder in self._both)
        return mixed_logits(strong_BV, weak_BV, lam=self._lam)

    def keep(self, order_B: Tensor) -> None:
        for decoder in self._both:
            decoder.keep(order_B)
