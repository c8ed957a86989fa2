"""Which models the decode twin can serve, and their weights as it uses them.

The twin's weights are copies, joined and reordered, of the weights as they are now: read them for
each batch of rollouts and drop them before the weights change. What is not known to be computed
alike, `supports` refuses; the sampler then goes through the transformers forward.

Axes: D hidden width, E rows of a joined projection, H query heads, K key-value heads, W head width.
"""

import functools
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_MAX_PARAMETERS = 100_000_000  # above, arithmetic outweighs what the twin saves, and copies cost
_ATTENTION = frozenset({"eager", "sdpa", "flash_attention_2", "flash_attention_3"})
_ROPE = frozenset({"default", "linear", "llama3"})  # angles are position times a fixed frequency
_PARTS = ("ForCausalLM", "Model", "DecoderLayer", "Attention", "MLP", "RMSNorm", "RotaryEmbedding")


def supports(model: Any) -> bool:
    """Whether the twin computes exactly what `model(...)` would, and is worth its copies.

    A white list: the plain transformers Llama, Qwen2 or Qwen3 classes throughout, ordinary fp32 or
    fp64 weights on one CPU or CUDA device, full attention, positions rotated at fixed frequencies,
    nothing hooked, wrapped, adapted, quantised or replaced, at most 100M parameters.
    """
    kind: type = type(model)
    if kind not in _families():
        return False
    config, rotary = model.config, model.model.rotary_emb
    return bool(
        config._attn_implementation in _ATTENTION
        and config.rope_parameters["rope_type"] in _ROPE
        and 2 * rotary.inv_freq.shape[0] == model.model.layers[0].self_attn.head_dim
        and _is_plain(model, _classes(kind))
    )


@functools.cache
def _families() -> frozenset[type]:
    # Loaded here: transformers takes seconds to import.
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

    return frozenset({LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM})


@functools.cache
def _classes(kind: type) -> frozenset[type]:
    """The classes that a plain model of this kind is made of."""
    from transformers.activations import SiLUActivation

    family, home = kind.__name__.removesuffix("ForCausalLM"), vars(sys.modules[kind.__module__])
    own = {home[family + part] for part in _PARTS}
    return frozenset(own | {nn.ModuleList, nn.Linear, nn.Embedding, nn.SiLU, SiLUActivation})


def _is_plain(model: Any, allowed: frozenset[type]) -> bool:
    first = model.lm_head.weight
    if first.dtype not in (torch.float32, torch.float64):
        return False
    if first.device.type not in ("cpu", "cuda"):
        return False
    parameters = 0
    for module in model.modules():
        own = vars(module)
        changed = module._forward_hooks or module._forward_pre_hooks or "forward" in own
        if type(module) not in allowed or changed or own.get("sliding_window") is not None:
            return False
        for weight in module.parameters(recurse=False):
            parameters += weight.numel()
            if (
                type(weight) is not nn.Parameter  # quantised and sharded ones are subclasses
                or weight.dtype != first.dtype
                or weight.device != first.device
            ):
                return False
    return parameters <= _MAX_PARAMETERS


class Norm(NamedTuple):
    """x / sqrt(mean(x**2) + epsilon) * gain, the mean over the last axis, of width D."""

    gain: Tensor | None  # None: part of the projection that follows; in fp32 times sqrt(D)
    epsilon: float
    floor: Tensor  # sqrt(D * epsilon)
    paired: bool  # x has the order of `_pairing`

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            # transformers takes the mean in fp32 whatever the weights, so the order of terms counts
            low = x.float()
            terms = low.unflatten(-1, (-1, 2)).mT.flatten(-2) if self.paired else low
            scale = torch.rsqrt(terms.pow(2).mean(-1, keepdim=True) + self.epsilon)
            normed = (low * scale).double()
        else:
            # hypot(|x|, sqrt(D * epsilon)) = sqrt(D) sqrt(mean(x**2) + epsilon): fewer operations
            normed = x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.floor)
        return normed if self.gain is None else normed.mul_(self.gain)


class Layer(NamedTuple):
    """One layer; `*_in` are [out, in], `*_out` are [in, out]."""

    attention_in: Tensor  # query, key and value rows, the first two reordered by `_pairing`,
    # columns times the gain of the norm before it
    attention_in_bias: Tensor | None
    head_norm: Norm | None  # one row of gains for each query or key head
    attention_out: Tensor
    attention_out_bias: Tensor | None
    mlp_in: Tensor  # gate rows, then up rows; columns times the gain of the norm before it
    mlp_in_bias: Tensor | None
    mlp_out: Tensor
    mlp_out_bias: Tensor | None


@dataclass(frozen=True)
class Weights:
    """A model's weights without gradients; `read` them anew whenever they may have changed."""

    heads: int
    kv_heads: int
    head_width: int
    frequency: Tensor  # [W / 2], radians a position
    rotation_scale: float
    embedding_VD: Tensor
    norm: Norm  # before each attention and each MLP
    layers: list[Layer]
    final_norm: Norm
    head_VD: Tensor

    @staticmethod
    @torch.no_grad()
    def read(model: Any) -> "Weights":
        """The weights of a model that `supports` accepts, as they are now."""
        config, rotary = model.config, model.model.rotary_emb
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        width, epsilon = 2 * rotary.inv_freq.shape[0], config.rms_norm_eps
        embedding_VD = model.model.embed_tokens.weight.detach()
        order_E = _pairing(heads + kv_heads, kv_heads, width).to(embedding_VD.device)
        floors = {
            size: embedding_VD.new_tensor((size * epsilon) ** 0.5)
            for size in (width, embedding_VD.shape[1])
        }

        def scaled(gain: Tensor) -> Tensor:
            # in fp32, `Norm` leaves sqrt(D) to the gain
            return gain * gain.shape[-1] ** 0.5 if gain.dtype == torch.float32 else gain.detach()

        def norm(gain: Tensor | None, *, size: int, paired: bool = False) -> Norm:
            return Norm(None if gain is None else scaled(gain), epsilon, floors[size], paired)

        def layer(source: Any) -> Layer:
            attention, mlp = source.self_attn, source.mlp
            query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
            head_norm = None
            if "q_norm" in attention._modules:
                gains = [attention.q_norm.weight] * heads + [attention.k_norm.weight] * kv_heads
                gain_HW = torch.stack(gains)[:, order_E[:width]]
                head_norm = norm(gain_HW, size=width, paired=True)
            joined_bias = _joined(query.bias, key.bias, value.bias)
            return Layer(
                attention_in=torch.cat([query.weight, key.weight, value.weight])[order_E].mul_(
                    scaled(source.input_layernorm.weight)
                ),
                attention_in_bias=None if joined_bias is None else joined_bias[order_E],
                head_norm=head_norm,
                attention_out=attention.o_proj.weight.detach().t(),
                attention_out_bias=_joined(attention.o_proj.bias),
                mlp_in=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).mul_(
                    scaled(source.post_attention_layernorm.weight)
                ),
                mlp_in_bias=_joined(mlp.gate_proj.bias, mlp.up_proj.bias),
                mlp_out=mlp.down_proj.weight.detach().t(),
                mlp_out_bias=_joined(mlp.down_proj.bias),
            )

        return Weights(
            heads=heads,
            kv_heads=kv_heads,
            head_width=width,
            frequency=rotary.inv_freq.float(),
            rotation_scale=rotary.attention_scaling,
            embedding_VD=embedding_VD,
            norm=norm(None, size=embedding_VD.shape[1]),
            layers=[layer(source) for source in model.model.layers],
            final_norm=norm(model.model.norm.weight, size=embedding_VD.shape[1]),
            head_VD=model.lm_head.weight.detach(),
        )


@functools.cache
def _pairing(turning: int, still: int, width: int) -> Tensor:
    """Rows of a joined projection, so that the two of a head that rotate together are neighbours.

    Queries and keys (the `turning` heads) are reordered alike, which leaves their products as they
    were; values stay.
    """
    rows_E = torch.arange((turning + still) * width)
    pairs = rows_E[: turning * width].view(turning, 2, width // 2).transpose(1, 2)
    return torch.cat([pairs.reshape(-1), rows_E[turning * width :]])


def _joined(*biases: Tensor | None) -> Tensor | None:
    present = [bias for bias in biases if bias is not None]
    return torch.cat(present) if present else None
