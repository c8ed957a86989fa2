"""The policy: a causal language model, its tokenizer, and the only calls of `model(...)`.

Axes: B sequences, S prompt and completion tokens, T completion tokens, V vocabulary, D width.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rekindle.chat import SYSTEM_ROLES, ChatTemplate, Message, check_template_args
from rekindle.engine.attention import inputs_of, supports_branches
from rekindle.engine.config import ModelConfig
from rekindle.engine.device import pick_device
from rekindle.engine.holding import Use, computing, prepare_model, save_model
from rekindle.engine.integrity import located
from rekindle.engine.layout import Arrangement, Layout, lay_out
from rekindle.engine.loading import check_loaded, not_loaded, special_ids
from rekindle.engine.progress import say
from rekindle.engine.prompts import check_prompt
from rekindle.errors import ConfigError, DataError, ModelError
from rekindle.ops.logprobs import TokenScores, chunked_token_scores, token_scores
from rekindle.ops.precision import (
    held_dtype,
    product_dtype,
    raise_to_masters,
    round_linear_maps,
)
from rekindle.records import Problem

# Heads that are one plain linear map: the chunked scorer may then skip the [T, V] logits.
_PLAIN_HEADS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_CHUNK_ABOVE_VOCAB = 16_384
# A forward and backward pass more costs a CPU as much as so many tokens; a small model, whose time
# goes into calls, so many more (tokens times parameters); a GPU waits for nothing but its calls.
_PASS_COST, _SMALL, _PASS_COST_GPU = 8.0, 2e7, 1024.0
_say_once = cache(say)


@dataclass
class Policy:
    """A causal LM with the token ids that matter.

    `eos_id` ends what SFT teaches; `eos_ids` are all ids that end a generation. `context` is the
    longest sequence the positions allow.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    context: int
    eos_id: int
    eos_ids: tuple[int, ...]
    pad_id: int
    config: ModelConfig

    @classmethod
    def load(cls, config: ModelConfig, *, use: Use = "training") -> "Policy":
        """Load by testbed name, directory or hub id, and check what training relies on.

        Args:
            use: `evaluation` holds linear maps in a `model.dtype` of 16 bits, for half the memory.

        Raises:
            ModelError: it does not exist, has no usable end token, or its tokenizer has ids that
                the model lacks.
            ConfigError: a dtype or an attention that is not to be had on this device.
        """
        source = located(config.name)
        # Loaded here: transformers takes seconds to import.
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        options: dict[str, bool | str] = {"trust_remote_code": config.trust_remote_code}
        if config.revision is not None:
            options["revision"] = config.revision
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=held_dtype(config.dtype),
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                output_loading_info=True,
                **options,
            )
        except (OSError, ValueError) as error:
            raise not_loaded(config, source, error) from error
        model, facts = loaded
        check_loaded(config, facts["missing_keys"], facts["mismatched_keys"])
        return cls.of(model, tokenizer, config, use=use)

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
        model.to(device).eval()
        policy = cls(
            model=model,
            tokenizer=tokenizer,
            device=device,
            context=int(model.config.max_position_embeddings),
            eos_id=eos_id,
            eos_ids=eos_ids,
            pad_id=pad_id,
            config=config,
        )
        policy._tell_date()
        return policy

    def save(self, directory: Path, *, dtype: str | None = None) -> None:
        """Write model, config and tokenizer in Hugging Face layout, weights as safetensors.

        Args:
            dtype: of the weights written; None: as they are held.
        """
        save_model(self.model, directory, dtype)
        self.tokenizer.save_pretrained(directory)

    def frozen_copy(self) -> "Policy":
        """The same policy, copied now and without gradients: a reference that cannot drift."""
        twin = self.trainable_copy()
        round_linear_maps(twin.model, self.products)
        twin.model.requires_grad_(False)
        return twin

    def trainable_copy(self) -> "Policy":
        """The same policy, copied now, with gradients: trained without changing this one."""
        twin = copy.copy(self)
        twin.model = copy.deepcopy(self.model).eval().requires_grad_(True)
        raise_to_masters(twin.model)
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
        if self._uses_template(problem):
            tokens = self._template.prompt(self._messages(problem), _named(problem))
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
        turns = self._messages(Problem(id="", prompt="?"))
        return self._template.opens_thought(turns, "a prompt")

    def encode_completion(self, problem: Problem, text: str) -> tuple[int, ...]:
        """Token ids of an answer to `problem`, closed by the end token; see `ChatTemplate`.

        Raises:
            DataError: the chat template refuses the answered prompt, or prompt and answer cannot
                be told apart in it.
            ConfigError: the problem needs a chat template, and none is used.
        """
        if not self._uses_template(problem):
            tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return (*tokens, self.eos_id)
        completion = self._template.completion(self._messages(problem), text, _named(problem))
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
        question = self._messages(Problem(id="", prompt="?"))
        with suppress(DataError, ModelError):  # told where a prompt is made
            if self._template.writes_date(question, "a prompt"):
                _say_once(
                    f"the chat template of '{self.config.name}' writes the date: it is "
                    f"{self.config.template_date} on every day (model.template_date)"
                )

    def _uses_template(self, problem: Problem) -> bool:
        mode = self.config.chat_template
        has_one = self.tokenizer.chat_template is not None
        if not has_one and (mode == "always" or problem.messages is not None):
            raise ConfigError(
                f"{_named(problem)} needs a chat template, and the tokenizer of "
                f"'{self.config.name}' has none",
                fix="use an instruct model, or give 'prompt' instead of 'messages'",
            )
        used = has_one and mode != "never"
        roles = [role for role, _ in problem.messages or ()]
        if not used and roles not in ([], ["user"]):
            raise ConfigError(
                f"{_named(problem)} has several turns, and model.chat_template is never",
                got=f"roles: {', '.join(roles)}",
                wanted="one turn of the user",
                why="without a template only the text of the last turn would be left",
                fix="--set model.chat_template=auto, or give one 'prompt' instead of 'messages'",
            )
        if not used and self.config.system is not None:
            _say_once(
                f"model.system has no effect: '{self.config.name}' is used without a chat template"
            )
        return used

    def _messages(self, problem: Problem) -> list[Message]:
        turns = problem.messages if problem.messages is not None else (("user", problem.prompt),)
        system = self.config.system
        if system is not None:
            if any(role in SYSTEM_ROLES for role, _ in turns):
                _say_once("rows that have a system turn of their own keep it: not model.system")
            else:
                turns = (("system", system), *turns)
        return [{"role": role, "content": content} for role, content in turns]

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
        targets_1N = layout.targets_N[None]
        if not self._has_plain_head():
            logits_NV = self._states(self.model, "logits", layout)
        else:
            hidden_ND, head_VD = self.hidden(layout), self.head()
            if entropy == "detached" and self.model.config.vocab_size > _CHUNK_ABOVE_VOCAB:
                with self.computing():
                    scores = chunked_token_scores(
                        hidden_ND[None], head_VD, targets_1N, temperature=temperature
                    )
                return TokenScores(*(layout.spread(values_1N[0]) for values_1N in scores))
            with self.computing():
                logits_NV = hidden_ND @ head_VD.T
        scores = token_scores(logits_NV[None], targets_1N, temperature=temperature, entropy=entropy)
        return TokenScores(*(layout.spread(values_1N[0]) for values_1N in scores))

    def hidden(self, layout: Layout) -> Float[Tensor, "N D"]:
        """Last hidden states in front of the completion tokens, sequence by sequence."""
        self.head()
        return self._states(self.model.model, "last_hidden_state", layout)

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

    def head(self) -> Float[Tensor, "V D"]:
        """The output embedding, for heads that are one plain linear map.

        Raises:
            ModelError: the head has a bias, scale or soft cap, or is of a kind not known to have
                none.
        """
        if not self._has_plain_head():
            raise ModelError(
                f"the head of '{self.config.name}' cannot be mixed",
                got=f"model type {self.model.config.model_type}",
                wanted=f"one of {', '.join(sorted(_PLAIN_HEADS))}, without a bias",
                why="a bias, scale or soft cap would have to be applied before the mix",
                fix="use a model of these families",
            )
        return self.model.lm_head.weight  # type: ignore[no-any-return]

    def _has_plain_head(self) -> bool:
        known = self.model.config.model_type in _PLAIN_HEADS
        return known and self.model.lm_head.bias is None

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


def _named(problem: Problem) -> str:
    return f"problem '{problem.id}'"


def _positions(attend_BS: Bool[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    return (attend_BS.long().cumsum(dim=1) - 1).clamp(min=0)
