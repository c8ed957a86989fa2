"""A key-value cache that is allocated once: a token is written into its slot, nothing is copied.

The cache of transformers grows by concatenation, so every token copies all that is there. Layers
of plain and of sliding attention are replaced after the prompts were read; layers of other kinds
(recurrent, convolutional, indexed) stay as they are. This module imports transformers: load it
where it is used.

Axes: P prompts, B rows (samples of prompts), K key-value heads, S slots, W width of a head.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class AllocatedLayer(DynamicLayer):
    """The keys and values of one attention layer, [B, K, S, W], with room for what will come.

    Args:
        layer: as it is after the prompts were read.
        source_B: row b goes on from prompt `source_B[b]`.
        room: the most tokens that will be appended to a row.
        window: slots that are visible at most, the newest included; None: all.
    """

    def __init__(
        self, layer: DynamicLayer, source_B: Tensor, *, room: int, window: int | None = None
    ) -> None:
        super().__init__()
        read = [states for states in (layer.keys, layer.values) if states is not None]
        self._window, self._seen = window, layer.get_seq_length()
        self.is_sliding = window is not None
        self._both = [_with_room(states_PKSW, source_B, room) for states_PKSW in read]
        self._filled, self._rows = read[0].shape[2], source_B.numel()
        self.dtype, self.device = layer.dtype, layer.device
        self.is_initialized = True
        self.keys, self.values = self._visible()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the keys and values of new tokens, [B, K, T, W]; all that they may see."""
        new = key_states.shape[2]
        for held, states in zip(self._both, (key_states, value_states), strict=True):
            held.narrow(0, 0, self._rows).narrow(2, self._filled, new).copy_(states)
        self._filled += new
        self._seen += new
        keys, values = self.keys, self.values = self._visible(new)
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens that were read, whether or not they are still held."""
        return self._seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many slots new tokens see, and the place of the first of them."""
        total = self._seen + query_length
        if self._window is None:
            return total, 0
        length = min(total, self._window - 1 + query_length)
        return length, total - length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with these rows, in this order; rows that stay in their places cost nothing."""
        rows = beam_idx.numel()
        moved = (beam_idx != torch.arange(rows, device=beam_idx.device)).nonzero().squeeze(-1)
        if moved.numel():
            for held in self._both:
                used = held.narrow(2, 0, self._filled)
                used.index_copy_(0, moved, used.index_select(0, beam_idx[moved]))
        self._rows = rows
        self.keys, self.values = self._visible()

    def _visible(self, new: int = 1) -> tuple[Tensor, Tensor]:
        length = self._filled
        if self._window is not None:
            length = min(length, self._window - 1 + new)
        keys, values = (
            held.narrow(0, 0, self._rows).narrow(2, self._filled - length, length)
            for held in self._both
        )
        return keys, values


def allocate(past: Any, source_B: Tensor, *, room: int) -> None:
    """Make row b of a transformers cache go on from prompt `source_B[b]`, with room to grow.

    Args:
        past: a `DynamicCache` that has read P prompts; changed in place.
        source_B: prompts of the rows.
        room: the most tokens that will be appended to a row.
    """
    for place, layer in enumerate(past.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            past.layers[place] = AllocatedLayer(layer, source_B, room=room)
        elif type(layer) is DynamicSlidingWindowLayer and layer.is_initialized:
            window = int(layer.sliding_window)
            past.layers[place] = AllocatedLayer(layer, source_B, room=room, window=window)
        else:
            layer.reorder_cache(source_B)  # selects rows, of every kind of cache


def row_bytes(past: Any, slots: int) -> int:
    """Bytes that a row of `slots` tokens will take, by a cache that has read one token in one row.

    Keys and values grow with the tokens, up to a sliding window; the states of other kinds of
    layers stay as they are.
    """
    total = 0
    for layer in past.layers:
        if isinstance(layer, DynamicLayer) and layer.is_initialized:
            window = layer.sliding_window if isinstance(layer, DynamicSlidingWindowLayer) else slots
            held = [states for states in (layer.keys, layer.values) if states is not None]
            total += min(slots, window) * sum(states.nbytes for states in held)
        for name, states in vars(layer).items():
            if name in ("conv_states", "recurrent_states"):
                total += sum(state.nbytes for state in states.values() if state is not None)
    return total


def _with_room(read_PKSW: Tensor, source_B: Tensor, room: int) -> Tensor:
    _, heads, slots, width = read_PKSW.shape
    held = read_PKSW.new_empty(source_B.numel(), heads, slots + room, width)
    held.narrow(2, 0, slots).copy_(read_PKSW.index_select(0, source_B))
    return held
