"""The policy: a causal language model, its tokenizer, and the only calls of `model(...)`.

Axes: B sequences, S prompt and completion tokens, T completion tokens, V vocabulary, D width.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rekindle.chat import ChatTemplate, check_template_args
from rekindle.engine.adapters.adapter import Adapter, copied
from rekindle.engine.adapters.loading import adapter_of, load_adapter, quantization
from rekindle.engine.adapters.merging import save_model
from rekindle.engine.attention import inputs_of, supports_branches
from rekindle.engine.config import ModelConfig
from rekindle.engine.device import pick_device
from rekindle.engine.heads import LARGE_VOCABULARY, head_of, no_hidden_states, not_mixable
from rekindle.engine.holding import Use, computing, hold, prepare_model
from rekindle.engine.integrity import located
from rekindle.engine.layout import Arrangement, Layout, lay_out
from rekindle.engine.loading import (
    context_of,
    load_model,
    load_tokenizer,
    refuse_encoder,
    special_ids,
    unapplied_settings,
)
from rekindle.engine.progress import say_once
from rekindle.engine.prompts import check_prompt, messages_of, named, uses_template
from rekindle.errors import DataError, ModelError
from rekindle.ops.heads import Head
from rekindle.ops.logprobs import TokenScores, head_scores, token_scores
from rekindle.ops.precision import held_dtype, product_dtype
from rekindle.records import Problem

# A forward and backward pass more costs a CPU as much as so many tokens; a small model, whose time
# goes into calls, so many more (tokens times parameters); a GPU waits for nothing but its calls.
_PASS_COST, _SMALL, _PASS_COST_GPU = 8.0, 2e7, 1024.0
_FRUGAL = 16 * 2**20  # bytes of logits held where activations are recomputed to save memory


class _Scoring(TypedDict):
    temperature: float
    entropy: Literal["detached", "grad"]


@dataclass
class Policy:
    """A causal LM with the token ids that matter.

    `eos_id` ends what SFT teaches; `eos_ids` are all ids that end a generation. `context` is the
    longest sequence the positions allow. Ids from `drawable` on are unknown to the tokenizer (the
    model's vocabulary may be padded), and never drawn. With an `adapter`, `model` has it inside,
    and nothing else is trained; see `engine/adapters`.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    context: int
    eos_id: int
    eos_ids: tuple[int, ...]
    pad_id: int
    config: ModelConfig
    drawable: int
    adapter: Adapter | None = None

    @classmethod
    def load(cls, config: ModelConfig, *, use: Use = "training") -> "Policy":
        """Load by testbed name, directory or hub id, and check what training relies on.

        Args:
            use: `evaluation` holds linear maps in a `model.dtype` of 16 bits, for half the memory.

        Raises:
            DataError, ModelError: it does not exist, its files are broken or do not agree, it is no
                causal model, has no usable end token, or its tokenizer has ids that the model
                lacks; its adapter is of another base.
            ConfigError: a dtype or an attention that is not to be had on this device.
        """
        if (place := adapter_of(config)) is not None:
            base = cls.load(place.base)
            model, adapter = load_adapter(base.model, place)  # it is of these weights, to the bit
            if use == "evaluation":
                hold(adapter.base.model, config, use)
            return replace(base, model=model, adapter=adapter, config=config)
        source, held = located(config.name), quantization(config)
        tokenizer = load_tokenizer(config, source)
        model = load_model(config, source, dtype=held_dtype(config.dtype), **held)
        policy = cls.of(model, tokenizer, config, use=use)
        policy._check_causal()
        return policy

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any, config: ModelConfig, *, use: Use = "training"
    ) -> "Policy":
        """Wrap a model and tokenizer that are already in memory; what is trained becomes fp32.

        Raises:
            ModelError: as `load`, of the tokenizer.
            ConfigError: as `load`; `template_args` that the chat template does not read.
        """
        check_template_args(
            tokenizer,
            config.template_args,
            used=config.chat_template != "never",
            owner=f"'{config.name}'",
        )
        eos_id, eos_ids, pad_id = special_ids(model, tokenizer, config)
        device = pick_device(config.device)
        prepare_model(model, config, device, use)
        (model if config.quantize != "none" else model.to(device)).eval()
        policy = cls(
            model=model,
            tokenizer=tokenizer,
            device=device,
            context=context_of(model.config),
            eos_id=eos_id,
            eos_ids=eos_ids,
            pad_id=pad_id,
            config=config,
            drawable=max(tokenizer.get_vocab().values()) + 1,
        )
        policy._head()  # tried before anything else changes what a forward pass gives
        policy._tell_date()
        for sentence in unapplied_settings(model, config.name):
            say_once(sentence)
        return policy

    def save(self, directory: Path, *, dtype: str | None = None) -> None:
        """Write model, config and tokenizer in Hugging Face layout, weights as safetensors; an
        adapter is merged into them, and lies beside them in `adapter/`.

        Args:
            dtype: of the weights written; None: as they are held, fp32 at least where merged.
        """
        save_model(self.model, self.adapter, directory, dtype)
        self.tokenizer.save_pretrained(directory)

    def frozen_copy(self) -> "Policy":
        """The same policy, copied now and without gradients: a reference that cannot drift."""
        return self._copied(trained=False)

    def trainable_copy(self) -> "Policy":
        """The same policy, copied now, with gradients: trained without changing this one."""
        return self._copied(trained=True)

    def _copied(self, *, trained: bool) -> "Policy":
        twin = copy.copy(self)
        twin.model, twin.adapter = copied(
            self.model, self.adapter, trained=trained, products=self.products
        )
        return twin

    @property
    def products(self) -> torch.dtype | None:
        """What matrix products are made in, where the parameters have more digits; else None."""
        return product_dtype(self.config.dtype)

    def computing(self) -> AbstractContextManager[None]:
        """How forward passes in the block are made, see `holding.computing`; sampling opens one
        around all its passes, in which weights are rounded once."""
        return computing(self.model, self.config, self.device)

    # --- text -> tokens

    def encode_prompt(self, problem: Problem) -> tuple[int, ...]:
        """Token ids of the prompt, through the chat template where there is one.

        Raises:
            DataError: the prompt is empty, begins with two BOS tokens or fills the context, or the
                chat template refuses it.
            ConfigError: the problem needs a chat template, and none is used.
        """
        if uses_template(problem, self.tokenizer, self.config):
            tokens = self._template.prompt(messages_of(problem, self.config), named(problem))
        else:
            tokens = self.tokenizer(problem.prompt)["input_ids"]
            closed = tokens and tokens[-1] in self.eos_ids  # some close what they encode
            if closed and not problem.prompt.endswith(self.tokenizer.eos_token):
                tokens = tokens[:-1]
        check_prompt(tokens, problem, self.tokenizer, self.context)
        return tuple(tokens)

    @property
    def chats(self) -> bool:
        """Whether prompts go through a chat template."""
        return self.tokenizer.chat_template is not None and self.config.chat_template != "never"

    @property
    def opens_thought(self) -> bool:
        """Whether the chat template ends a prompt inside a thought (`<think>`)."""
        if not self.chats:
            return False
        turns = messages_of(Problem(id="", prompt="?"), self.config)
        return self._template.opens_thought(turns, "a prompt")

    def encode_completion(self, problem: Problem, text: str) -> tuple[int, ...]:
        """Token ids of an answer to `problem`, closed by the end token; see `ChatTemplate`.

        Raises:
            DataError: the chat template refuses the answered prompt, or prompt and answer cannot
                be told apart in it.
            ConfigError: the problem needs a chat template, and none is used.
        """
        if not uses_template(problem, self.tokenizer, self.config):
            tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return (*tokens, self.eos_id)
        completion = self._template.completion(
            messages_of(problem, self.config), text, named(problem)
        )
        ends = [i for i, token in enumerate(completion) if token in self.eos_ids]
        return (*completion[: ends[-1] + 1],) if ends else (*completion, self.eos_id)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, special tokens left out."""
        plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(list(tokens), **plain))

    @property
    def _template(self) -> ChatTemplate:
        config = self.config
        return ChatTemplate(
            self.tokenizer,
            f"'{config.name}'",
            config.template_args,
            config.template_date,
        )

    def _tell_date(self) -> None:
        if self.tokenizer.chat_template is None or self.config.chat_template == "never":
            return
        question = messages_of(Problem(id="", prompt="?"), self.config)
        with suppress(DataError, ModelError):  # told where a prompt is made
            if self._template.writes_date(question, "a prompt"):
                say_once(
                    f"the chat template of '{self.config.name}' writes the date: it is "
                    f"{self.config.template_date} on every day (model.template_date)"
                )

    # --- tokens -> numbers: every forward pass of the library

    def arrangement(self) -> Arrangement:
        """How the rows of an update may lie for this model, and what passes and attention cost."""
        width = self.model.config.get_text_config().hidden_size
        size = sum(p.numel() for p in self.model.parameters())
        branches = self._branches()
        return Arrangement(
            shares=branches,
            packs=branches,
            pairs=6.0 * width,
            pass_cost=_PASS_COST + _SMALL / size if self.device.type == "cpu" else _PASS_COST_GPU,
        )

    def logprobs(
        self,
        layout: Layout,
        *,
        temperature: float = 1.0,
        entropy: Literal["detached", "grad"] = "detached",
    ) -> TokenScores:
        """Log-probs and entropies of the completion tokens, each given all earlier ones.

        Args:
            layout: of prompts and completions, on the policy's device.
            temperature: logits are divided by it.
            entropy: whether gradients flow through the entropies.

        Returns:
            `logprobs_BT` (with gradient) and `entropy_BT`, fp32 (fp64 for an fp64 model), in nats;
            0 as padding.
        """
        head, target_N = self._head(), layout.targets_N
        how: _Scoring = {"temperature": temperature, "entropy": entropy}
        if head is not None and head.weight.shape[0] > LARGE_VOCABULARY:
            budget = _FRUGAL if self.config.activation_checkpointing else None
            flat = head_scores(self.hidden(layout), head, target_N, budget=budget, **how)
            return TokenScores(*map(layout.spread, flat))
        if head is None:
            logits_NV = self._states(self.model, "logits", layout)
        else:
            logits_NV = head.logits(self.hidden(layout))
        scores = token_scores(logits_NV[None], target_N[None], **how)
        return TokenScores(*(layout.spread(values_1N[0]) for values_1N in scores))

    def hidden(self, layout: Layout) -> Float[Tensor, "N D"]:
        """Last hidden states in front of the completion tokens, sequence by sequence.

        Raises:
            ModelError: the model has no body apart from its head.
        """
        if self.model.base_model is self.model:
            raise no_hidden_states(self.config.name, self.model.config.model_type)
        return self._states(self.model.base_model, "last_hidden_state", layout)

    def _states(self, module: Any, name: str, layout: Layout) -> Float[Tensor, "N D"]:
        """An output of the model or its body in front of the completion tokens: every forward pass
        that is not decoding. A model that needs plain rows makes them of any other layout."""
        if not (layout.is_plain or self._branches()):
            layout = lay_out(layout.prompts, layout.completions).to(self.device)
        with self.computing():
            return layout.gather(module(**inputs_of(self.model, layout))[name])

    def _branches(self) -> bool:
        with self.computing():  # of its own: the trial has no gradients
            return supports_branches(self.model)

    def head(self) -> Head:
        """The map from hidden states to logits, with the model's own parameters.

        Raises:
            ModelError: the logits are not those of one linear map with a scale or soft cap.
        """
        head = self._head()
        if head is None:
            raise not_mixable(self.config.name, self.model.config.model_type)
        return head

    def _head(self) -> Head | None:
        name = self.config.name
        return head_of(self.model, self._few_outputs, product=self.products, name=name)

    def _check_causal(self) -> None:
        if self.model.config.to_dict().get("is_decoder", True):
            return  # else of a family that can be an encoder
        layout = lay_out([(1,), (1,)], [(2, 3, 1), (2, 1, 1)]).to(self.device)
        first_NV, second_NV = self._states(self.model, "logits", layout).chunk(2)
        change = (first_NV[:2] - second_NV[:2]).abs().max()
        if change > 1e-4 * first_NV.abs().max():
            raise refuse_encoder(self.config.name, self.model)

    def _few_outputs(self) -> tuple[Tensor, Tensor]:
        """Hidden states and logits of a few tokens."""
        layout = lay_out([(1,)], [(2, 3, 1)]).to(self.device)
        return self.hidden(layout), self._states(self.model, "logits", layout)

    def fresh_cache(self) -> Any:
        """The transformers cache from which `extend` begins."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    @torch.no_grad()
    def extend(
        self, past: Any, tokens_BT: Int[Tensor, "B T"], attend_BS: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        """Append tokens to each row of the cache, a left-padded prompt or one; logits of the next.

        `attend_BS` covers the cache and the new tokens, which are its last columns.
        """
        with self.computing():
            out = self.model(
                input_ids=tokens_BT,
                attention_mask=attend_BS.long(),
                position_ids=_positions(attend_BS)[:, -tokens_BT.shape[1] :],
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
        return out.logits[:, -1]  # type: ignore[no-any-return]


def _positions(attend_BS: Bool[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    return (attend_BS.long().cumsum(dim=1) - 1).clamp(min=0)
