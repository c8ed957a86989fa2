"""Reward models: text in, one number out. Scoring in process.

A `Scorer` gives each (problem, answer) a `Score`: a finite value, or missing with a reason. The
same text gets the same score within a call, whatever stands beside it in a batch.

Scoring reads text, not the policy's tokens: the reward model has a tokenizer of its own.

    chat template   messages of the problem (else its prompt as the user's), then the answer
    cls token       the pair encoding of prompt and answer, as encoders are trained
    else            prompt + answer + end token

Axes: B sequences, S tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rekindle.chat import ChatTemplate
from rekindle.errors import ModelError
from rekindle.files import sha256_file
from rekindle.model_files import (
    SAVE_TOKENIZER,
    Reading,
    check_config,
    check_weights,
)
from rekindle.ops.forwards import layers_of, recomputing
from rekindle.ops.precision import (
    full_precision,
    held_dtype,
    product_dtype,
    products_in,
    round_linear_maps,
)
from rekindle.records import Problem, Score

Answered = tuple[Problem, str]  # a problem, and an answer to it


@runtime_checkable
class Scorer(Protocol):
    """Anything that gives answers a number."""

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """A value or missing(reason) for each answer, in order.

        Raises:
            ServerUnavailableError: the source cannot be reached; nothing is known of these answers.
        """

    def fingerprint(self) -> str:
        """Hash of what decides the scores; a resumed run must find the same."""


def text_key(problem: Problem, text: str) -> str:
    """Hash of what was asked and answered; problems that differ in their id alone share it."""
    parts = [problem.prompt, text]
    for role, content in problem.messages or ():
        parts += [role, content]
    sized = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(sized.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass
class CachedScorer:
    """A scorer that scores each text once.

    `keep` texts are remembered between calls, the least recently used go first. 0 remembers none,
    so that a run that is resumed in between gives the same bits: what else is in a batch moves a
    score by rounding. Missing scores are never remembered.
    """

    scorer: Scorer
    keep: int = 0
    _known: OrderedDict[str, Score] = field(default_factory=OrderedDict)

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        keys = [text_key(problem, text) for problem, text in answers]
        scores = {key: self._known[key] for key in keys if key in self._known}
        new = {key: pair for key, pair in zip(keys, answers, strict=True) if key not in scores}
        if new:
            scores.update(zip(new, self.scorer.score(list(new.values())), strict=True))
        for key in keys:
            if scores[key].value is not None and self.keep:
                self._known[key] = scores[key]
                self._known.move_to_end(key)
        while len(self._known) > self.keep:
            self._known.popitem(last=False)
        return [scores[key] for key in keys]

    def fingerprint(self) -> str:
        return self.scorer.fingerprint()


@dataclass
class ScalarHead:
    """A sequence-classification model with one label, and its tokenizer.

    `context` is the longest sequence its positions allow, None where they have no end. Rows are
    padded on the right with `pad_id`, which is also where the model looks for the last token.
    Products of the trunk are made in `products` (None: as it is held), the score in fp32; with
    `recomputes`, layers are run again in the backward pass.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    context: int | None
    pad_id: int
    name: str
    batch_tokens: int = 16_384
    products: torch.dtype | None = None
    recomputes: bool = False

    @classmethod
    def load(
        cls,
        source: str,
        *,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = torch.float32,
        batch_tokens: int = 16_384,
        trust_remote_code: bool = False,
        fresh_head: bool = False,
        recomputes: bool = False,
    ) -> ScalarHead:
        """Load a directory or hub id, and check what scores rely on.

        With `fresh_head` a causal model will do: its trunk gets a head of random weights, to train.
        Then parameters are fp32 under a `dtype` of 16 bits; else its linear maps are held in that.

        Raises:
            ModelError: not there, no tokenizer, no trained head, two labels, or no pad token.
        """
        if source.count("/") != 1 and not Path(source).is_dir():
            raise ModelError(
                f"there is no reward model at '{source}'",
                wanted="a directory in Hugging Face layout, or a hub id such as owner/name",
                fix="train one: rekindle reward train --model ... --task ... --out ...",
            )
        options: dict[str, bool | str] = {"trust_remote_code": trust_remote_code}
        if revision is not None:
            options["revision"] = revision
        tokenizer = _load_tokenizer(source, options)
        named = str(dtype).removeprefix("torch.")
        model = _load_model(source, held_dtype(named), options, fresh_head=fresh_head)
        if not fresh_head:
            round_linear_maps(model.base_model, product_dtype(named))
        made = cls.of(
            model, tokenizer, name=source, device=torch.device(device), batch_tokens=batch_tokens
        )
        made.products, made.recomputes = product_dtype(named), recomputes
        return made

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        device: torch.device | None = None,
        batch_tokens: int = 16_384,
    ) -> ScalarHead:
        """Wrap a model and tokenizer that are already in memory.

        Raises:
            ModelError: two labels, no pad token, or token ids that the model lacks.
        """
        labels = int(model.config.num_labels)
        if labels != 1:
            raise ModelError(
                f"reward model '{name}' has {labels} labels",
                got=dict(model.config.id2label),
                wanted="one label (num_labels = 1), the score",
                why="rekindle cannot know which of them is the reward",
                fix="use a scalar-head reward model",
            )
        # The model finds the last token as the last that is not its own pad id.
        pad = model.config.pad_token_id
        pad = tokenizer.pad_token_id if pad is None else pad
        if pad is None:
            raise ModelError(
                f"reward model '{name}' has no pad token",
                wanted="pad_token_id in its config, or a pad_token of its tokenizer",
                why="in a batch the score would be read at padding",
                fix="set pad_token in its tokenizer_config.json to a token that never occurs",
            )
        check_vocabulary(tokenizer, model, f"reward model '{name}'")
        model.config.pad_token_id = pad
        plain = model.config.to_dict()
        context = plain.get("max_position_embeddings") or plain.get("n_positions")
        device = device or torch.device("cpu")
        model.to(device).eval()
        return cls(model, tokenizer, device, context, int(pad), name, batch_tokens)

    # --- text -> tokens

    def encode(self, problem: Problem, text: str) -> tuple[int, ...]:
        """Token ids of an answered problem, as the module's docstring says.

        Raises:
            DataError: the chat template refuses it.
        """
        tok = self.tokenizer
        if tok.chat_template is not None:
            turns = problem.messages or (("user", problem.prompt),)
            messages = [{"role": role, "content": content} for role, content in turns]
            messages.append({"role": "assistant", "content": text})
            template = ChatTemplate(tok, f"reward model '{self.name}'")
            return tuple(template.answered(messages, f"problem '{problem.id}'"))
        prompt = problem.prompt
        if problem.messages is not None:
            prompt = "\n".join(content for _, content in problem.messages)
        if tok.cls_token_id is not None:
            return tuple(tok(prompt, text)["input_ids"])
        begin = tok(prompt)["input_ids"]
        if begin and begin[-1] == tok.eos_token_id:
            begin = begin[:-1]  # some tokenizers close what they encode
        answer = tok(text, add_special_tokens=False)["input_ids"]
        end = [] if tok.eos_token_id is None else [tok.eos_token_id]
        return (*begin, *answer, *end)

    # --- tokens -> numbers: the forward pass of every reward model

    def logits(
        self, tokens_BS: Int[Tensor, "B S"], attend_BS: Bool[Tensor, "B S"]
    ) -> Float[Tensor, " B"]:
        """Scores of sequences padded on the right, with gradient."""
        tokens_BS = tokens_BS.masked_fill(~attend_BS, self.pad_id)
        with ExitStack() as settings:
            if self.products is not None:
                settings.enter_context(products_in(self.products, self.device))
                settings.enter_context(full_precision(self._head_maps()))
            if self.recomputes:
                settings.enter_context(recomputing(layers_of(self.model)))
            out = self.model(input_ids=tokens_BS, attention_mask=attend_BS.long())
        scores_B: Tensor = out.logits[:, 0]
        return scores_B

    def _head_maps(self) -> list[nn.Module]:
        trunk = {id(module) for module in self.model.base_model.modules()}
        linear = (m for m in self.model.modules() if isinstance(m, nn.Linear))
        return [module for module in linear if id(module) not in trunk]

    @torch.no_grad()
    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """Scores in batches of similar length; what does not fit or is not finite is missing."""
        rows = [self.encode(problem, text) for problem, text in answers]
        out = [Score.missing("not scored")] * len(rows)
        for batch in self._batches(rows, out):
            texts = [torch.tensor(rows[row]) for row in batch]
            tokens_BS = pad_sequence(texts, batch_first=True, padding_value=self.pad_id)
            lengths_B = torch.tensor([len(text) for text in texts])
            attend_BS = torch.arange(tokens_BS.shape[1]) < lengths_B[:, None]
            values = self.logits(tokens_BS.to(self.device), attend_BS.to(self.device))
            for row, value in zip(batch, values.double().tolist(), strict=True):
                unusable = Score.missing(f"the reward model says {value}")
                out[row] = Score(value) if math.isfinite(value) else unusable
        return out

    def _batches(self, rows: Sequence[Sequence[int]], out: list[Score]) -> list[list[int]]:
        """Rows that fit, by length; `out` gets the reason for those that do not."""
        batches: list[list[int]] = []
        for row in sorted(range(len(rows)), key=lambda i: (len(rows[i]), i)):
            length = len(rows[row])
            if length == 0:
                out[row] = Score.missing("no tokens")
            elif self.context is not None and length > self.context:
                out[row] = Score.missing(f"longer than the reward model's {self.context} tokens")
            elif batches and (len(batches[-1]) + 1) * length <= self.batch_tokens:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches

    def save(self, directory: Path) -> None:
        """Write model, config and tokenizer in Hugging Face layout, weights as safetensors."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def fingerprint(self) -> str:
        """Hash of the files it was loaded from, else of its name and commit."""
        directory = Path(self.name)
        digest = hashlib.sha256()
        if directory.is_dir():
            for path in sorted(directory.iterdir()):
                if path.suffix in (".safetensors", ".json") and path.stem != "eval":
                    digest.update(f"{path.name}:{sha256_file(path)};".encode())
        else:
            commit = self.model.config.to_dict().get("_commit_hash")
            digest.update(f"{self.name}@{commit}".encode())
        return digest.hexdigest()


def check_vocabulary(tokenizer: Any, model: Any, name: str) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for."""
    largest = max(tokenizer.get_vocab().values())
    rows = model.get_input_embeddings().weight.shape[0]
    if largest >= rows:
        raise ModelError(
            f"the tokenizer of {name} has ids that its model lacks",
            got=f"largest token id {largest}",
            wanted=f"below {rows}, the rows of the embedding",
            fix="use the tokenizer that belongs to the model, or resize its embeddings",
        )


def _load_tokenizer(source: str, options: dict[str, bool | str]) -> Any:
    if Path(source).is_dir():
        check_config(Path(source), trusted=bool(options["trust_remote_code"]))
    # Loaded here: transformers takes seconds to import.
    from transformers import AutoTokenizer

    with Reading(f"the tokenizer of reward model '{source}'", fix=SAVE_TOKENIZER):
        return AutoTokenizer.from_pretrained(source, **options)


def _load_model(
    source: str, dtype: torch.dtype, options: dict[str, bool | str], *, fresh_head: bool
) -> Any:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    if Path(source).is_dir():
        check_weights(Path(source))
    head = {"num_labels": 1} if fresh_head else {}
    fix = "use a sequence-classification model with safetensors weights"
    with Reading(f"the weights of reward model '{source}'", fix=fix):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            source, dtype=dtype, use_safetensors=True, output_loading_info=True, **head, **options
        )
    missing = sorted(report["missing_keys"])
    if missing and not (fresh_head and len(missing) <= 2):  # weight and bias
        raise ModelError(
            f"'{source}' has no trained reward head",
            got=f"no weights for {', '.join(missing[:3])}",
            wanted="a model saved as AutoModelForSequenceClassification",
            why="a head with random weights would score noise",
            fix="train one: rekindle reward train --model ... --task ... --out ...",
        )
    return model
