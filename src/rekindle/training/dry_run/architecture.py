"""A model by its config alone: its size, and what a computation with it holds and costs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn

from rekindle.engine.adapters.policies import with_adapter
from rekindle.engine.attention import assume_branches, supports_branches
from rekindle.engine.config import ModelConfig
from rekindle.engine.integrity import located
from rekindle.engine.layout import Arrangement
from rekindle.engine.loading import load_config, load_tokenizer
from rekindle.engine.policy import Policy
from rekindle.errors import ModelError
from rekindle.ops.precision import round_linear_maps
from rekindle.training.dry_run.tracing import Meter, Part

# Of a deep model so many layers are traced first, and so many more then.
_FEW, _MORE = 2, 2
KEPT = "kept"


class Size(NamedTuple):
    """Of a policy: its parameters, and what they take in memory."""

    total: int
    trained: int
    total_bytes: int
    trained_bytes: int
    reference_bytes: int  # of a frozen copy, beside the policy


@dataclass(frozen=True)
class Architecture:
    """A model without its weights.

    Attributes:
        settings: how the recipe holds it.
        config: transformers' config of the language model.
        tokenizer: the model's; None where it is not there.
        branches: as `attention.supports_branches`.
    """

    settings: ModelConfig
    config: Any
    tokenizer: Any | None
    branches: bool

    @classmethod
    def read(cls, settings: ModelConfig) -> Architecture:
        """From config.json, and the tokenizer beside it where there is one.

        Raises:
            DataError, ModelError: there is no such model, or its config cannot be used.
        """
        source = located(settings.name)
        config = load_config(settings, source)
        try:
            tokenizer = load_tokenizer(settings, source)
        except ModelError:
            tokenizer = None
        if tokenizer is not None and len(tokenizer) <= len(tokenizer.all_special_tokens):
            tokenizer = None  # some families make an empty one of no files
        language = config.get_text_config(decoder=True)
        return cls(settings, language, tokenizer, _branches(language))

    def policy(self, layers: int | None = None) -> Policy:
        """A policy whose weights have no data, of so many layers; under `without_data`."""
        policy = self._on_meta(layers)
        known: dict[Tensor, nn.Parameter] = {}  # tied weights stay so
        for module in policy.model.modules():
            for name, tensor in module._parameters.items():
                if tensor is not None:
                    if tensor not in known:
                        empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                        known[tensor] = nn.Parameter(empty, requires_grad=tensor.requires_grad)
                    module._parameters[name] = known[tensor]
            for name, tensor in module._buffers.items():
                if tensor is not None:
                    module._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return policy

    def _on_meta(self, layers: int | None) -> Policy:
        from transformers import AutoModelForCausalLM

        config = self._of_layers(self.config.num_hidden_layers if layers is None else layers)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            model.to = lambda _: model  # weights without data are on no device
            for module in model.modules():
                if isinstance(module, nn.Embedding):
                    module.padding_idx = None  # a gradient without its rows has no known shape
            assume_branches(model, self.branches)
            policy = Policy.of(model, self.tokenizer or _any_tokenizer(), self.settings)
            lora, products = self.settings.lora, policy.products
            if lora is not None and not lora.dora and self.published_in == products:
                round_linear_maps(model, products)  # as `hold_base` has what loses nothing
            return policy if lora is None else with_adapter(policy, lora, seed=0)

    @property
    def published_in(self) -> torch.dtype | None:
        """What the weights are written in, by the config; None: it does not say."""
        dtype: torch.dtype | None = self.config.dtype
        return dtype

    @cached_property
    def size(self) -> Size:
        """Of the whole model."""
        return self._size_of(None)

    @property
    def vocabulary(self) -> int:
        """Rows of the head."""
        return int(self.config.vocab_size)

    @cached_property
    def arrangement(self) -> Arrangement:
        """How the rows of an update may lie."""
        return self._on_meta(None).arrangement()

    def at_full_depth(self, counted: Callable[[int], Counter[str]]) -> Counter[str]:
        """What a function of the number of layers counts at all of them.

        Of a deep model whose layers are alike it is called for two small numbers, and the rest
        follows: a layer costs as much as the next. That holds once the peak is where most of what
        the forward pass keeps (`KEPT`) is there, and not in the embedding's gradient.
        """
        layers, few = int(self.config.num_hidden_layers), _FEW
        while self._is_uniform and few + _MORE < layers:
            less, more = counted(few), counted(few + _MORE)
            if all(c["activations"] >= 0.9 * c[KEPT] for c in (less, more)):
                times = (layers - few) / _MORE
                keys = {**less, **more}
                return Counter({k: round(less[k] + times * (more[k] - less[k])) for k in keys})
            few *= 2
        return counted(layers)

    def meter(self, *policies: Policy) -> Meter:
        """A meter for these policies; their gradients are made, as training makes them."""
        gradients = []
        for policy in policies:
            for parameter in policy.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
                    gradients.append(parameter.grad)
        return Meter(self._part_of(policies[0].model), gradients)

    def _part_of(self, model: nn.Module) -> Callable[[Tensor], Part]:
        shapes = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
        shapes |= {shape[::-1] for shape in shapes}
        rows = self.vocabulary
        cached = {self.config.to_dict().get(name) for name in _CACHED_HEADS}

        def part_of(tensor: Tensor) -> Part:
            shape = tuple(tensor.shape)
            if shape in shapes:
                return "weights" if tensor.dtype == torch.bfloat16 else "gradients"
            if rows in shape:
                return "logits"
            if len(shape) == 4 and shape[1] in cached and not torch.is_grad_enabled():
                return "cache"
            return "activations"

        return part_of

    @cached_property
    def _is_uniform(self) -> bool:
        """Whether every layer is like the first."""
        kinds = self.config.to_dict().get("layer_types") or ["one"]
        if len(set(kinds)) > 1:
            return False
        if self.config.num_hidden_layers <= _FEW + 1:
            return False
        few, more = (self._size_of(depth).total for depth in (_FEW, _FEW + 1))
        return bool(self.size.total == few + (self.config.num_hidden_layers - _FEW) * (more - few))

    def _size_of(self, layers: int | None) -> Size:
        with torch.device("meta"):
            return _size(self._on_meta(layers))

    def _of_layers(self, layers: int) -> Any:
        tree = self.config.to_dict()
        if layers == self.config.num_hidden_layers:
            return copy.deepcopy(self.config)  # a model writes its own dtype into it
        tree["num_hidden_layers"] = layers
        if tree.get("layer_types"):
            tree["layer_types"] = tree["layer_types"][:layers]
        return type(self.config).from_dict(tree)


_SMALL = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_CACHED_HEADS: Sequence[str] = ("num_key_value_heads", "num_attention_heads", "n_head")


def _branches(config: Any) -> bool:
    """Tried on a model of the same kind with weights, as small as its config lets it be."""
    from transformers import AutoModelForCausalLM

    tree = config.to_dict()
    kinds = list(dict.fromkeys(tree.get("layer_types") or []))
    small = {**tree, **{key: value for key, value in _SMALL.items() if key in tree}}
    small["num_hidden_layers"] = max(2, len(kinds))
    if kinds:
        small["layer_types"] = (kinds * 2)[: small["num_hidden_layers"]]
    try:
        model = AutoModelForCausalLM.from_config(type(config).from_dict(small))
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError):
        return False  # of a family whose sizes go by other names
    return supports_branches(model.eval())


def _size(policy: Policy) -> Size:
    parameters = list(policy.model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    there = {p.untyped_storage()._cdata for p in parameters}
    # the reference of a fresh adapter is the model without it
    frozen = [] if policy.adapter else policy.frozen_copy().model.parameters()
    apart = [p for p in frozen if p.untyped_storage()._cdata not in there]
    return Size(
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in trained),
        sum(p.nbytes for p in parameters),
        sum(p.nbytes for p in trained),
        sum(p.nbytes for p in apart),
    )


def _any_tokenizer() -> Any:
    """A stand-in: what is traced needs the ids of an end token and a pad token."""
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
