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
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float, Int
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
    head = config.head_dim or config.hidden_size // config.num_attention_heads
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
class _Layer:
    """One layer's weights, as the twin uses them; `*_in` are [out, in], `*_out` are [in, out]."""

    attention_norm_D: Tensor
    attention_in: Tensor  # query, key and value rows; the first two with paired halves
    attention_in_bias: Tensor | None
    head_norm_JW: Tensor | None  # J = H + K: one row a query or key head
    attention_out: Tensor
    attention_out_bias: Tensor | None
    mlp_norm_D: Tensor
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
        self._final_norm_D = model.model.norm.weight.detach()
        self._layers = [self._read_layer(layer) for layer in model.model.layers]
        root = torch.tensor(self._final_norm_D.numel() * self._epsilon, dtype=torch.float64)
        self._floor = root.sqrt().to(self._final_norm_D)

    # --- weights

    def _read_layer(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
        norms = None
        if "q_norm" in attention._modules:
            norms = torch.cat(
                [
                    self._paired(attention.q_norm.weight).expand(self._heads, -1),
                    self._paired(attention.k_norm.weight).expand(self._kv_heads, -1),
                ]
            )
        bias = None
        if query.bias is not None:
            bias = torch.cat([self._paired(query.bias), self._paired(key.bias), value.bias])
        return _Layer(
            attention_norm_D=layer.input_layernorm.weight.detach(),
            attention_in=torch.cat(
                [self._paired(query.weight), self._paired(key.weight), value.weight]
            ).detach(),
            attention_in_bias=bias,
            head_norm_JW=norms,
            attention_out=attention.o_proj.weight.detach().t(),
            attention_out_bias=attention.o_proj.bias,
            mlp_norm_D=layer.post_attention_layernorm.weight.detach(),
            mlp_in=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).detach(),
            mlp_in_bias=None
            if mlp.gate_proj.bias is None
            else torch.cat([mlp.gate_proj.bias, mlp.up_proj.bias]),
            mlp_out=mlp.down_proj.weight.detach().t(),
            mlp_out_bias=mlp.down_proj.bias,
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
        device = tokens_PS.device
        self._rows, self._filled, self._most = source_B.numel(), slots, slots + room
        self._rotation_NW = self._angles(self._most, device)
        self._cache = self._allocate(self._rows, slots + min(room, _FIRST_SLOTS))
        step = max(1, _PREFILL_TOKENS // slots)
        logits = []
        for first in range(0, prompts, step):
            piece = slice(first, first + step)
            chosen_B = (source_B >= first) & (source_B < first + step)
            rows = chosen_B.nonzero().squeeze(-1)
            logits.append(
                self._read(tokens_PS[piece], attend_PS[piece], source_B[rows] - first, rows)
            )
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
            normed = self._norm(x_ND, layer.attention_norm_D, self._floor)
            mixed = F.linear(normed, layer.attention_in, layer.attention_in_bias)
            mixed = mixed.view(count, -1, self._width)
            turned = mixed[:, :turning]
            if layer.head_norm_JW is not None:
                turned.copy_(self._norm(turned, layer.head_norm_JW, None))
            pairs = torch.view_as_complex(turned.view(count, turning, -1, 2))
            pairs *= rotation_NW
            seen = attention(index, mixed[:, :heads], mixed[:, heads:]).view(count, -1)
            if layer.attention_out_bias is not None:
                x_ND = x_ND + layer.attention_out_bias
            x_ND = torch.addmm(x_ND, seen, layer.attention_out)
            normed = self._norm(x_ND, layer.mlp_norm_D, self._floor)
            gate, up = F.linear(normed, layer.mlp_in, layer.mlp_in_bias).chunk(2, dim=-1)
            if layer.mlp_out_bias is not None:
                x_ND = x_ND + layer.mlp_out_bias
            x_ND = torch.addmm(x_ND, F.silu(gate).mul_(up), layer.mlp_out)
        return x_ND

    def _norm(self, x: Tensor, weight: Tensor, floor: Tensor | None) -> Tensor:
        """x / sqrt(mean(x**2) + epsilon) * weight; the mean as transformers takes it, in fp32."""
        if x.dtype == torch.float32 and floor is not None:
            # sqrt(sum(x**2) + D * epsilon): fewer operations for the same number
            size = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)
            return x / size * weight
        low = x.float()
        scale = torch.rsqrt(low.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return weight * (low * scale).to(x.dtype)

    def _logits(self, x_BD: Tensor) -> Tensor:
        return F.linear(self._norm(x_BD, self._final_norm_D, self._floor), self._head_VD)
