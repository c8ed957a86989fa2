"""A twin of the transformers forward for small Llama-like models, made for generating tokens.

A transformers decode step of a small model is almost all Python and small copies. The twin computes
the same function with fewer, fused operations: one projection for query, key and value and one for
gate and up; keys and values in one tensor of shape [layers, 2, rows, heads, slots, width] that
batched products read without copies; the rotation of positions as one complex product.

What it can serve, and how it holds the weights, is in `engine/small_decoder/fused.py`.

Axes: B rows, P prompts, S prompt slots, N rows or rows x slots, D width, H query heads, K key-value
heads, W width of a head, L layers, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rekindle.engine.small_decoder.fused import Weights

_Attention = Callable[[int, Tensor, Tensor], Tensor]

CPU_ROWS = 256  # rows beyond these only push the cache out of the processor's own
_PREFILL_TOKENS = 16_384  # padded prompt tokens read at once
_FIRST_SLOTS = 64  # cache slots beyond the prompt that are allocated at first
_LEAST_SLOTS = 16  # below, torch's batched products and softmax take paths several times as slow,
_MANY_PRODUCTS = 64  # which matters where there are many
_KEPT_BYTES = 256 * 2**20


class Memory:
    """Room for a cache that outlives it: fresh pages can cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self._flat: Tensor | None = None

    def reserve(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised tensor; it shares its memory with the ones reserved before."""
        count = math.prod(shape)
        if self._flat is None or self.fits(like) < count:
            self._flat = torch.empty(count, dtype=like.dtype, device=like.device)
        return self._flat[:count].view(*shape)

    def fits(self, like: Tensor) -> int:
        """Elements that can be reserved without fresh memory."""
        flat = self._flat
        alike = flat is not None and (flat.dtype, flat.device) == (like.dtype, like.device)
        return flat.numel() if flat is not None and alike else 0

    def trim(self) -> None:
        """Keep no more than is cheap to keep; CUDA's own allocator keeps what it needs."""
        flat = self._flat
        if flat is not None and (
            flat.device.type == "cuda" or flat.numel() * flat.itemsize > _KEPT_BYTES
        ):
            self._flat = None


class Twin:
    """The decoder of one batch: `begin` reads prompts, `extend` appends a token to each row.

    Args:
        weights: of the model as it is now.
        memory: where the cache lives; one cache at a time.
    """

    def __init__(self, weights: Weights, memory: Memory) -> None:
        self._weights, self._memory = weights, memory
        self._heads, self._kv_heads = weights.heads, weights.kv_heads
        self._width, self._head_VD = weights.head_width, weights.head_VD

    # --- the decoder

    def begin(
        self,
        tokens_PS: Int[Tensor, "P S"],
        attend_PS: Bool[Tensor, "P S"],
        source_B: Int[Tensor, " B"],
        *,
        room: int,
    ) -> Float[Tensor, "B V"]:
        """Read left-padded prompts once each; row b goes on from prompt `source_B[b]`.

        Args:
            source_B: not decreasing.
            room: the most tokens that will be appended.

        Returns:
            Logits of the first new token of each row.
        """
        self._rows = source_B.numel()
        short = _LEAST_SLOTS - tokens_PS.shape[1]
        if short > 0 and self._rows * self._kv_heads >= _MANY_PRODUCTS:
            tokens_PS, attend_PS = F.pad(tokens_PS, (short, 0)), F.pad(attend_PS, (short, 0))
        prompts, slots = tokens_PS.shape
        self._filled, self._most = slots, slots + room
        self._rotation_NW = self._angles(self._most)
        fits = self._memory.fits(self._head_VD) // math.prod(self._shape(slots=1))
        allocated = min(self._most, max(slots + _FIRST_SLOTS, fits))
        self._cache = self._memory.reserve(self._shape(allocated), self._head_VD)
        step = max(1, _PREFILL_TOKENS // slots)
        starts = range(0, prompts, step)
        bounds = torch.tensor([*starts, prompts], device=source_B.device)
        firsts = torch.searchsorted(source_B.contiguous(), bounds).tolist()
        logits = [
            self._read(
                tokens_PS[start : start + step],
                attend_PS[start : start + step],
                source_B[first:last] - start,
                first,
            )
            for start, (first, last) in zip(starts, pairwise(firsts), strict=True)
        ]
        lengths_P = attend_PS.sum(dim=1)
        self._position_B = lengths_P[source_B]
        # Slots left of a shorter prompt hold nothing: they get no attention, now or later.
        self._bias = None
        if bool((lengths_P < slots).any()):
            blocked_PS = torch.zeros_like(attend_PS, dtype=self._cache.dtype)
            blocked_PS.masked_fill_(~attend_PS, -torch.inf)
            self._bias = blocked_PS[source_B].repeat_interleave(self._kv_heads, 0)[:, None]
        self._view_cache()
        self._logits_BV = torch.cat(logits)
        return self._logits_BV

    def extend(self, tokens_B: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Append one token to each row; logits of the one after it, valid until the next call."""
        if self._filled == self._cache.shape[4]:
            self._grow()
        slot, self._filled = self._filled, self._filled + 1
        into_L = self._slots.select(-2, slot).unbind(0)
        keys_L = self._keys.narrow(-1, 0, self._filled).unbind(0)
        values_L = self._values.narrow(-2, 0, self._filled).unbind(0)
        shape = (self._rows * self._kv_heads, self._heads // self._kv_heads, self._width)
        scale, prompt = self._width**-0.5, 0 if self._bias is None else self._bias.shape[-1]

        def attention(layer: int, query_BHW: Tensor, kv_BEW: Tensor) -> Tensor:
            into_L[layer].copy_(kv_BEW.view(into_L[layer].shape))
            scores = torch.bmm((query_BHW * scale).view(shape), keys_L[layer])
            if self._bias is not None:
                scores.narrow(-1, 0, prompt).add_(self._bias)
            return torch.bmm(torch.softmax(scores, dim=-1), values_L[layer])

        rotation = self._rotation_NW.index_select(0, self._position_B)
        self._position_B += 1
        normed = self._weights.final_norm(self._run(tokens_B, rotation, attention))
        return torch.mm(normed, self._head_VD.t(), out=self._logits_BV[: self._rows])

    def keep(self, order_B: Int[Tensor, " B"]) -> None:
        """Go on with these rows, in this order.

        Rows that stay in their places cost nothing, so fill the places of dropped rows from the
        end.
        """
        rows = order_B.numel()
        moved = (order_B != torch.arange(rows, device=order_B.device)).nonzero().squeeze(-1)
        if moved.numel():
            used = self._cache[..., : self._filled, :]
            used.index_copy_(2, moved, used.index_select(2, order_B[moved]))
        self._rows = rows
        self._position_B = self._position_B[order_B]
        if self._bias is not None:
            heads = self._bias.view(-1, self._kv_heads, *self._bias.shape[1:])
            self._bias = heads[order_B].flatten(0, 1)
        self._view_cache()

    # --- the network

    def _run(self, tokens_N: Tensor, rotation_NW: Tensor, attention: _Attention) -> Tensor:
        """Hidden states of tokens; `attention(layer, queries, keys and values)` joins them."""
        turning = self._heads + self._kv_heads
        x_ND = F.embedding(tokens_N, self._weights.embedding_VD)
        count = tokens_N.numel()
        for index, layer in enumerate(self._weights.layers):
            normed = self._weights.norm(x_ND)
            mixed = F.linear(normed, layer.attention_in, layer.attention_in_bias)
            mixed = mixed.view(count, -1, self._width)
            turned = mixed.narrow(1, 0, turning)
            if layer.head_norm is not None:
                turned.copy_(layer.head_norm(turned))
            pairs = torch.view_as_complex(turned.view(count, turning, -1, 2))
            pairs *= rotation_NW
            query, kv = mixed.split_with_sizes((self._heads, 2 * self._kv_heads), dim=1)
            seen = attention(index, query, kv).view(count, -1)
            if layer.attention_out_bias is not None:
                x_ND = x_ND + layer.attention_out_bias
            x_ND = torch.addmm(x_ND, seen, layer.attention_out)
            normed = self._weights.norm(x_ND)
            gate, up = F.linear(normed, layer.mlp_in, layer.mlp_in_bias).chunk(2, dim=-1)
            if layer.mlp_out_bias is not None:
                x_ND = x_ND + layer.mlp_out_bias
            x_ND = torch.addmm(x_ND, F.silu(gate).mul_(up), layer.mlp_out)
        return x_ND

    def _read(self, tokens_PS: Tensor, attend_PS: Tensor, source_R: Tensor, first: int) -> Tensor:
        """Logits after prompts; their keys and values go to rows `first ..` of the cache."""
        prompts, slots = tokens_PS.shape
        last = first + source_R.numel()
        visible = _visible(attend_PS)

        def attention(layer: int, query_NHW: Tensor, kv_NEW: Tensor) -> Tensor:
            query = query_NHW.view(prompts, slots, self._heads, -1).transpose(1, 2)
            both = kv_NEW.view(prompts, slots, 2, self._kv_heads, -1).permute(2, 0, 3, 1, 4)
            self._cache[layer, :, first:last, :, :slots] = both.index_select(1, source_R)
            seen = F.scaled_dot_product_attention(
                query,
                both[0],
                both[1],
                attn_mask=visible,
                is_causal=visible is None,
                enable_gqa=self._heads != self._kv_heads,
            )
            return seen.transpose(1, 2).reshape(prompts * slots, -1)

        position_N = (attend_PS.long().cumsum(dim=1) - 1).clamp_(min=0).flatten()
        x_ND = self._run(tokens_PS.flatten(), self._rotation_NW[position_N], attention)
        last_PD = x_ND.view(prompts, slots, -1)[:, -1]
        logits_PV = F.linear(self._weights.final_norm(last_PD), self._head_VD)
        return logits_PV.index_select(0, source_R)

    # --- the cache

    def _angles(self, positions: int) -> Tensor:
        """exp(i * angle) for each position and pair; angles in fp32, as transformers has them."""
        frequency, scale = self._weights.frequency, self._weights.rotation_scale
        place = torch.arange(positions, device=frequency.device, dtype=torch.float32)
        angle = place[:, None] * frequency
        kind = self._head_VD.dtype
        turn = torch.complex((angle.cos() * scale).to(kind), (angle.sin() * scale).to(kind))
        return turn[:, None]

    def _shape(self, slots: int) -> tuple[int, ...]:
        return (len(self._weights.layers), 2, self._rows, self._kv_heads, slots, self._width)

    def _grow(self) -> None:
        slots = min(self._most, self._filled + max(_FIRST_SLOTS, self._filled // 2))
        # copied first: with fewer rows than before, the new cache may lie on the old one
        held = self._cache[:, :, : self._rows].clone()
        self._cache = self._memory.reserve(self._shape(slots), self._head_VD)
        self._cache[..., : self._filled, :] = held
        self._view_cache()

    def _view_cache(self) -> None:
        """Views of the live rows; rows and heads are one axis for the batched products."""
        live = self._cache[:, :, : self._rows]
        self._slots = live.transpose(1, 2)
        self._keys = live[:, 0].flatten(1, 2).transpose(-1, -2)
        self._values = live[:, 1].flatten(1, 2)


def _visible(attend_PS: Tensor) -> Tensor | None:
    """Which slots see which, [P, 1, S, S]; None where there is no padding: all earlier ones."""
    if bool(attend_PS.all()):
        return None
    slots, device = attend_PS.shape[1], attend_PS.device
    earlier_SS = torch.ones(slots, slots, dtype=torch.bool, device=device).tril()
    # A padding slot sees itself: a row of softmax without any entry would be nan.
    itself_SS = torch.eye(slots, dtype=torch.bool, device=device)
    return ((earlier_SS & attend_PS[:, None]) | itself_SS)[:, None]
