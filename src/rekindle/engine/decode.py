"""A twin of the transformers forward for small Llama-like models, made for generating tokens.

A transformers decode step of a small model is almost all Python and small copies. The twin computes
the same function with fewer, fused operations: one projection for query, key and value and one for
gate and up; keys and values in one tensor of shape [layers, 2, rows, heads, slots, width] that
batched products read without copies; the rotation of positions as one complex product.

The twin holds copies of the weights as they are when it is made: make one for each batch of
rollouts, and drop it before the weights change. What it does not know, `supports` refuses.

Axes: B rows, P prompts, S prompt slots, N rows or rows x slots, D width, H query heads, K key-value
heads, W width of a head, L layers, V vocabulary.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

_MAX_PARAMETERS = 100_000_000  # above, arithmetic outweighs what the twin saves and copies cost
_PREFILL_TOKENS = 16_384  # padded prompt tokens read at once
_FIRST_SLOTS = 64  # cache slots beyond the prompt that are allocated at first
_ATTENTION = frozenset({"eager", "sdpa", "flash_attention_2", "flash_attention_3"})
_ROPE = frozenset({"default", "linear", "llama3"})  # angles are position times a fixed frequency


def supports(model: Any) -> bool:
    """Whether the twin computes exactly what `model(...)` would, and is worth its copies.

    A white list: the plain transformers Llama, Qwen2 or Qwen3 classes throughout, ordinary fp32 or
    fp64 weights on one device, nothing hooked, wrapped, quantised, adapted or windowed.
    """
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

    if type(model) not in (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM):
        return False
    config = model.config
    head = model.model.layers[0].self_attn.head_dim
    plain = (
        config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] in _ROPE
        and model.model.rotary_emb.inv_freq.shape[0] * 2 == head
        and config._attn_implementation in _ATTENTION
        and not _slides(config)
    )
    return plain and _is_untouched(model) and _has_plain_weights(model)


def _slides(config: Any) -> bool:
    kinds = config.to_dict().get("layer_types") or ()
    return any(kind != "full_attention" for kind in kinds)


def _is_untouched(model: Any) -> bool:
    """Every module is of the classes that the architecture is made of, and is called as written."""
    family = type(model).__name__.removesuffix("ForCausalLM")
    own = ("ForCausalLM", "Model", "DecoderLayer", "Attention", "MLP", "RMSNorm", "RotaryEmbedding")
    names = {f"{family}{part}" for part in own} | {"SiLUActivation"}
    home = type(model).__module__
    for module in model.modules():
        kind = type(module)
        if not (
            kind in (nn.ModuleList, nn.Linear, nn.Embedding, nn.SiLU)
            or (kind.__name__ in names and kind.__module__ in (home, "transformers.activations"))
        ):
            return False
        hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        if hooked:
            return False
    return True


def _has_plain_weights(model: Any) -> bool:
    weights = list(model.parameters())
    first = weights[0]
    return (
        first.dtype in (torch.float32, torch.float64)
        and first.device.type in ("cpu", "cuda")
        and sum(weight.numel() for weight in weights) <= _MAX_PARAMETERS
        and all(
            type(weight.data) is Tensor
            and weight.dtype == first.dtype
            and weight.device == first.device
            for weight in weights
        )
    )


@dataclass(frozen=True)
class _Norm:
    """x / sqrt(mean(x**2) + epsilon) * gain, the mean over the last axis, of width D."""

    gain: Tensor  # fp32: times sqrt(D)
    epsilon: float
    floor: Tensor  # sqrt(D * epsilon)
    paired: bool  # x has the order of `Twin._paired`

    @classmethod
    def of(cls, gain: Tensor, epsilon: float, *, paired: bool = False) -> Self:
        width = gain.shape[-1]
        if gain.dtype == torch.float32:
            gain = gain * width**0.5
        return cls(gain.detach(), epsilon, gain.new_tensor((width * epsilon) ** 0.5), paired)

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            # transformers takes the mean in fp32 whatever the weights, so the order of terms counts
            low = x.float()
            terms = low.unflatten(-1, (-1, 2)).mT.flatten(-2) if self.paired else low
            scale = torch.rsqrt(terms.pow(2).mean(-1, keepdim=True) + self.epsilon)
            return self.gain * (low * scale).double()
        # hypot(|x|, sqrt(D * epsilon)) = sqrt(D) * sqrt(mean(x**2) + epsilon), in fewer operations
        size = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.floor)
        return (x / size).mul_(self.gain)


@dataclass(frozen=True)
class _Layer:
    """One layer's weights, as the twin uses them; `*_in` are [out, in], `*_out` are [in, out]."""

    attention_norm: _Norm
    attention_in: Tensor  # query, key and value rows; the first two with paired halves
    attention_in_bias: Tensor | None
    head_norm: _Norm | None  # one gain for each query or key head
    attention_out: Tensor
    attention_out_bias: Tensor | None
    mlp_norm: _Norm
    mlp_in: Tensor  # gate rows, then up rows
    mlp_in_bias: Tensor | None
    mlp_out: Tensor
    mlp_out_bias: Tensor | None


class Twin:
    """The decoder of one batch: `begin` reads prompts, `extend` appends a token to each row.

    Args:
        model: a model that `supports` accepts; its weights are copied now.
    """

    def __init__(self, model: Any) -> None:
        config, rotary = model.config, model.model.rotary_emb
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = 2 * rotary.inv_freq.shape[0]
        self._epsilon = config.rms_norm_eps
        self._frequency = rotary.inv_freq.float()
        self._rotation_scale = rotary.attention_scaling
        self._embedding_VD = model.model.embed_tokens.weight.detach()
        self._head_VD = model.lm_head.weight.detach()
        self._final_norm = _Norm.of(model.model.norm.weight, self._epsilon)
        self._layers = [self._read_layer(layer) for layer in model.model.layers]

    # --- weights

    def _read_layer(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
        head_norm = None
        if "q_norm" in attention._modules:
            query_gain = self._paired(attention.q_norm.weight).expand(self._heads, -1)
            key_gain = self._paired(attention.k_norm.weight).expand(self._kv_heads, -1)
            gains = torch.cat([query_gain, key_gain])
            head_norm = _Norm.of(gains, self._epsilon, paired=True)
        bias = None
        if query.bias is not None:
            bias = torch.cat([self._paired(query.bias), self._paired(key.bias), value.bias])
        return _Layer(
            attention_norm=_Norm.of(layer.input_layernorm.weight, self._epsilon),
            attention_in=torch.cat(
                [self._paired(query.weight), self._paired(key.weight), value.weight]
            ).detach(),
            attention_in_bias=_detached(bias),
            head_norm=head_norm,
            attention_out=attention.o_proj.weight.detach().t(),
            attention_out_bias=_detached(attention.o_proj.bias),
            mlp_norm=_Norm.of(layer.post_attention_layernorm.weight, self._epsilon),
            mlp_in=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).detach(),
            mlp_in_bias=None
            if mlp.gate_proj.bias is None
            else torch.cat([mlp.gate_proj.bias, mlp.up_proj.bias]).detach(),
            mlp_out=mlp.down_proj.weight.detach().t(),
            mlp_out_bias=_detached(mlp.down_proj.bias),
        )

    def _paired(self, weight: Tensor) -> Tensor:
        """Rows of each head reordered so that the two that rotate together are neighbours.

        Queries and keys are reordered alike, which leaves their products as they were.
        """
        halves = weight.detach().reshape(-1, 2, self._width // 2, *weight.shape[1:])
        return halves.transpose(1, 2).reshape(weight.shape)

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
        prompts, slots = tokens_PS.shape
        self._rows, self._filled, self._most = source_B.numel(), slots, slots + room
        self._rotation_NW = self._angles(self._most, tokens_PS.device)
        self._cache = self._allocate(self._rows, slots + min(room, _FIRST_SLOTS))
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
        return torch.cat(logits)

    def extend(self, tokens_B: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Append one token to each row; logits of the one after it."""
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
                scores[..., :prompt] += self._bias
            return torch.bmm(torch.softmax(scores, dim=-1), values_L[layer])

        rotation = self._rotation_NW.index_select(0, self._position_B)
        self._position_B += 1
        return self._logits(self._run(tokens_B, rotation, attention))

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

    def _run(self, tokens_N: Tensor, rotation_NW: Tensor, attention: Any) -> Tensor:
        """Hidden states of tokens; `attention(layer, queries, keys and values)` joins them."""
        heads, turning = self._heads, self._heads + self._kv_heads
        x_ND = F.embedding(tokens_N, self._embedding_VD)
        count = tokens_N.numel()
        for index, layer in enumerate(self._layers):
            mixed = F.linear(
                layer.attention_norm(x_ND), layer.attention_in, layer.attention_in_bias
            )
            mixed = mixed.view(count, -1, self._width)
            turned = mixed[:, :turning]
            if layer.head_norm is not None:
                turned.copy_(layer.head_norm(turned))
            pairs = torch.view_as_complex(turned.view(count, turning, -1, 2))
            pairs *= rotation_NW
            seen = attention(index, mixed[:, :heads], mixed[:, heads:]).view(count, -1)
            if layer.attention_out_bias is not None:
                x_ND = x_ND + layer.attention_out_bias
            x_ND = torch.addmm(x_ND, seen, layer.attention_out)
            gate, up = F.linear(layer.mlp_norm(x_ND), layer.mlp_in, layer.mlp_in_bias).chunk(
                2, dim=-1
            )
            if layer.mlp_out_bias is not None:
                x_ND = x_ND + layer.mlp_out_bias
            x_ND = torch.addmm(x_ND, F.silu(gate).mul_(up), layer.mlp_out)
        return x_ND

    def _logits(self, x_BD: Tensor) -> Tensor:
        return F.linear(self._final_norm(x_BD), self._head_VD)

    def _read(self, tokens_PS: Tensor, attend_PS: Tensor, source_R: Tensor, first: int) -> Tensor:
        """Logits after prompts; their keys and values go to rows `first ..` of the cache."""
        prompts, slots = tokens_PS.shape
        device, last = tokens_PS.device, first + source_R.numel()
        # A padding slot sees itself: a row of softmax without any entry would be nan.
        before_SS = torch.ones(slots, slots, dtype=torch.bool, device=device).tril()
        itself_SS = torch.eye(slots, dtype=torch.bool, device=device)
        allowed = ((before_SS & attend_PS[:, None]) | itself_SS)[:, None]

        def attention(layer: int, query_NHW: Tensor, kv_NEW: Tensor) -> Tensor:
            query = query_NHW.view(prompts, slots, self._heads, -1).transpose(1, 2)
            both = kv_NEW.view(prompts, slots, 2, self._kv_heads, -1).permute(2, 0, 3, 1, 4)
            self._cache[layer, :, first:last, :, :slots] = both.index_select(1, source_R)
            seen = F.scaled_dot_product_attention(
                query, both[0], both[1], attn_mask=allowed, enable_gqa=True
            )
            return seen.transpose(1, 2).reshape(prompts * slots, -1)

        position_N = (attend_PS.long().cumsum(dim=1) - 1).clamp_(min=0).flatten()
        x_ND = self._run(tokens_PS.flatten(), self._rotation_NW[position_N], attention)
        return self._logits(x_ND.view(prompts, slots, -1)[:, -1]).index_select(0, source_R)

    # --- the cache

    def _angles(self, positions: int, device: torch.device) -> Tensor:
        """exp(i * angle) for each position and pair; angles in fp32, as transformers has them."""
        place = torch.arange(positions, device=device, dtype=torch.float32)
        angle = place[:, None] * self._frequency.to(device)
        cosine, sine = angle.cos() * self._rotation_scale, angle.sin() * self._rotation_scale
        kind = self._head_VD.dtype
        return torch.complex(cosine.to(kind), sine.to(kind))[:, None]

    def _allocate(self, rows: int, slots: int) -> Tensor:
        shape = (len(self._layers), 2, rows, self._kv_heads, slots, self._width)
        return torch.empty(shape, dtype=self._head_VD.dtype, device=self._head_VD.device)

    def _grow(self) -> None:
        slots = min(self._most, self._filled + max(_FIRST_SLOTS, self._filled // 2))
        larger = self._allocate(self._rows, slots)
        larger[..., : self._filled, :] = self._cache[:, :, : self._rows]
        self._cache = larger
        self._view_cache()

    def _view_cache(self) -> None:
        """Views of the live rows; rows and heads are one axis for the batched products."""
        live = self._cache[:, :, : self._rows]
        self._slots = live.transpose(1, 2)
        self._keys = live[:, 0].flatten(1, 2).transpose(-1, -2)
        self._values = live[:, 1].flatten(1, 2)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()
