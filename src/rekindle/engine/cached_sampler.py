"""Sampling completions: left-padded batches, a key-value cache, one prefill a problem.

A prompt is read once and its cache shared by the samples of its group. Rows that have finished are
dropped from the batch. Every draw has its own random number, by (seed, problem id, sample,
position): see `ops/draws.py`. Small Llama-like models decode through their twin in
`engine/small_decoder/decode.py`, all others through the transformers forward.

Axes: P prompts, B rows (samples of prompts), S prompt slots, T new tokens, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from rekindle.engine.cache_size import rows_at_once
from rekindle.engine.config import SampleConfig
from rekindle.engine.contrast import ContrastPolicy
from rekindle.engine.decoders import ContrastDecoder, Decoder, ModelDecoder
from rekindle.engine.linears import quick_linears
from rekindle.engine.policy import Policy
from rekindle.engine.progress import count_answers
from rekindle.engine.small_decoder.decode import CPU_ROWS, Memory, Twin
from rekindle.engine.small_decoder.fused import Weights, supports
from rekindle.errors import ConfigError, ModelError
from rekindle.ops.draws import SampledTokens, draw, greedy, stream_keys, uniforms
from rekindle.records import Finish, Problem, Rollout

_DROP_AT = 8  # finished rows are dropped when they are one in so many,
_DROP_LEAST = 4  # and so many: to drop a few costs more than to carry them
_NUMBERS_AHEAD = 64  # positions whose random numbers are made at once
_LOOK_EVERY = 8  # on a GPU, steps between looks at what has finished: a look waits for the device


class _Row(NamedTuple):
    """One completion of a batch."""

    problem: int
    sample: int


class StopStrings:
    """Finds the strings that end a completion, in decoded text: one may lie across tokens.

    `closes_V` marks the tokens with which one may become complete; the last may run past it.

    Raises:
        ConfigError: a stop string is empty, or is a special token, which text never contains.
    """

    def __init__(self, stop: Sequence[str], policy: Policy) -> None:
        for text in stop:
            if not text:
                raise ConfigError("sample.stop has an empty string", why="it would stop at once")
            if text in policy.tokenizer.all_special_tokens:
                raise ConfigError(
                    "sample.stop has a special token",
                    got=text,
                    wanted="plain text",
                    why="special tokens are left out of the decoded text, so it is never found",
                    fix=f"--set model.eos_token={text!r} ends completions with that token",
                )
        self.stop = tuple(stop)
        self._policy = policy
        rows = policy.model.get_input_embeddings().weight.shape[0]
        last = {text[-1] for text in stop}
        # a token decoded alone may lose its space: where one comes last, every token is suspect
        every = any(character.isspace() for character in last)
        suspects = last | {"\ufffd"}  # part of a character that only its neighbours complete
        self.closes_V = torch.tensor(
            [every or not suspects.isdisjoint(policy.decode([token])) for token in range(rows)]
        )

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether the text of these tokens contains a stop string."""
        text = self._policy.decode(tokens)
        return any(stop in text for stop in self.stop)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        starts = [text.find(stop) for stop in self.stop if stop in text]
        return text[: min(starts)] if starts else text


class CachedSampler:
    """The sampler of the library.

    Up to `config.batch_size` rows are decoded at a time ("auto": see `rows_at_once`), problems with
    prompts of similar length together. `sampled_logprobs` are log softmax(logits / temperature),
    before `top_p`; greedy (temperature 0) takes them at temperature 1. A stop string is cut from
    the text and stays in the tokens. A completion ends where the context does, with finish
    "length".

    Ids that the model has rows for and the tokenizer does not know are never drawn. Log-probs are
    over all rows of the head nevertheless, as those of training are: the two stay comparable.

    Args:
        policy: its weights are read anew at each call, so that nothing is copied.
        twin: False goes through the transformers forward even where the twin could serve.
    """

    def __init__(self, policy: Policy, *, twin: bool = True) -> None:
        self._policy = policy
        self._twin = twin
        self._memory, self._weak_memory = Memory(), Memory()
        self._stops: StopStrings | None = None

    def sync(self, policy: Policy) -> None:
        """Sample from this policy from now on; its weights are in this process already."""
        if policy is not self._policy:
            self._policy, self._stops = policy, None

    def sample(
        self, problems: Sequence[Problem], *, samples: int, config: SampleConfig, seed: int
    ) -> list[Rollout]:
        """`samples` rollouts of each problem, problem by problem.

        The same seed and problem give the same draws, whatever else is in the list. (Up to the
        rounding of logits, which may depend on the batch: it decides a draw about once in 10^6.)
        A problem that is in the list twice gets the same answers twice.

        Raises:
            DataError: a prompt is empty or fills the context; the problem is named.
            ConfigError: a stop string that cannot be found.
            ModelError: the model's logits are not finite.
        """
        if samples < 1:
            raise ConfigError("too few samples", got=samples, wanted="at least 1 a problem")
        prompts = [self._policy.encode_prompt(problem) for problem in problems]
        if config.stop and (self._stops is None or self._stops.stop != config.stop):
            self._stops = StopStrings(config.stop, self._policy)
        stops = self._stops if config.stop else None
        rollouts: dict[_Row, Rollout] = {}
        lengths = [len(prompt) for prompt in prompts]
        at_most = rows_at_once(self._policy, config, longest=max(lengths, default=0))
        with (
            torch.inference_mode(),
            self._policy.computing(),
            self._decoder(at_most) as (decoder, at_once),
        ):
            for rows in _plan(lengths, samples, at_once):
                batch = _Batch(self._policy, problems, prompts, rows, config, seed, stops)
                rollouts.update(zip(rows, batch.generate(decoder), strict=True))
                count_answers(len(rows))
        return [rollouts[_Row(p, s)] for p in range(len(problems)) for s in range(samples)]

    @contextmanager
    def _decoder(self, batch_size: int) -> Iterator[tuple[Decoder, int]]:
        """The decoder for the weights as they are now, and how many rows to give it at once."""
        policy = self._policy
        if not isinstance(policy, ContrastPolicy):
            with self._decoder_of(policy, self._memory, batch_size) as decoder:
                yield decoder
            return
        with (
            self._decoder_of(policy, self._memory, batch_size) as (strong, rows),
            self._decoder_of(policy.weak, self._weak_memory, batch_size) as (weak, others),
        ):
            yield ContrastDecoder(strong, weak, policy.strength), min(rows, others)

    @contextmanager
    def _decoder_of(
        self, policy: Policy, memory: Memory, batch_size: int
    ) -> Iterator[tuple[Decoder, int]]:
        model = policy.model
        if self._twin and policy.products is None and supports(model):
            rows = min(batch_size, CPU_ROWS) if policy.device.type == "cpu" else batch_size
            yield Twin(Weights.read(model), memory), rows
            memory.trim()
            return
        training = model.training
        model.eval()  # no dropout
        try:
            with quick_linears(model):
                yield ModelDecoder(policy), batch_size
        finally:
            model.train(training)


def _plan(lengths: Sequence[int], samples: int, batch_size: int) -> list[list[_Row]]:
    """Rows of each batch: whole groups where they fit, similar prompt lengths together."""
    order = sorted(range(len(lengths)), key=lambda problem: lengths[problem])
    groups = max(1, batch_size // samples)
    batches = []
    for first in range(0, len(order), groups):
        together = order[first : first + groups]
        rows = [_Row(problem, sample) for problem in together for sample in range(samples)]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    return batches


class _Batch:
    """The rows that are decoded together, from their prompts to their answers."""

    def __init__(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        prompts: Sequence[tuple[int, ...]],
        rows: Sequence[_Row],
        config: SampleConfig,
        seed: int,
        stops: StopStrings | None,
    ) -> None:
        self.policy, self.config, self.stops = policy, config, stops
        self.rows, self.problems = rows, problems
        self.prompts = {row.problem: prompts[row.problem] for row in rows}
        place = {number: index for index, number in enumerate(self.prompts)}
        # fp64, which draws need, is not to be had on Apple's GPUs: there, logits come to the CPU
        device = torch.device("cpu") if policy.device.type == "mps" else policy.device
        self.device = device
        self.source_B = torch.tensor([place[row.problem] for row in rows], device=device)
        limits = [
            min(config.max_new_tokens, policy.context - len(prompts[row.problem])) for row in rows
        ]
        self.limit_B = torch.tensor(limits, device=device)
        self.room, self.same_limit = max(limits), min(limits) == max(limits)
        longest = max(map(len, self.prompts.values()))
        self.spare = policy.context - longest  # steps until a row is full
        self.keys_B2 = stream_keys(seed, [(problems[row.problem].id, row.sample) for row in rows])
        vocabulary = policy.model.get_input_embeddings().weight.shape[0]
        self.ends_V = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self.ends_V.index_fill_(0, torch.tensor(policy.eos_ids, device=device).long(), True)
        self.record = _Record(len(rows), self.room, device)
        self.stopped: dict[int, int] = {}  # row -> length, for those that a stop string ended

    def generate(self, decoder: Decoder) -> list[Rollout]:
        """Draw until every row has finished; rollouts in the order of the rows."""
        prompts = list(self.prompts.values())
        tokens_PS, attend_PS = _pad_left(prompts, self.policy.pad_id, self.device)
        logits_BV = decoder.begin(tokens_PS, attend_PS, self.source_B, room=self.room)
        limit_B, finished_B = self.limit_B, torch.zeros_like(self.limit_B, dtype=torch.bool)
        look_every = 1 if self.device.type == "cpu" or self.stops else _LOOK_EVERY
        for step in range(self.room):
            if step % _NUMBERS_AHEAD == 0:
                uniform_TB = self._numbers(step)
            count_answers(0, token=step + 1)
            drawn = self._draw(logits_BV, uniform_TB[step % _NUMBERS_AHEAD])
            self.record.add(drawn)
            finished_B |= self.ends_V[drawn.tokens_B]
            if not self.same_limit:
                finished_B |= limit_B <= step + 1
            if self.stops is not None:
                self._find_stops(self.stops, drawn.tokens_B, finished_B)
            if step + 1 == self.room:
                break
            tokens_B = drawn.tokens_B
            full = step + 1 >= self.spare  # a finished row might outgrow the context: drop it
            if full or (step + 1) % look_every == 0:
                finished, rows = int(finished_B.sum()), finished_B.numel()
                if finished == rows:
                    break
                if finished >= (1 if full else max(rows / _DROP_AT, _DROP_LEAST)):
                    order = _close_ranks(finished_B)
                    decoder.keep(order)
                    self.record.keep(order)
                    uniform_TB, tokens_B = uniform_TB[:, order], tokens_B[order]
                    limit_B, finished_B = limit_B[order], finished_B[order]
            logits_BV = decoder.extend(tokens_B)
        return self._rollouts()

    def _numbers(self, start: int) -> Tensor:
        keys_B2 = self.keys_B2[self.record.rows_B.cpu().numpy()]
        count = min(_NUMBERS_AHEAD, self.room - start)
        return torch.from_numpy(uniforms(keys_B2, start=start, count=count)).to(self.device)

    def _draw(self, logits_BV: Tensor, uniform_B: Tensor) -> SampledTokens:
        config, drawable = self.config, self.policy.drawable
        if config.temperature == 0.0:
            return greedy(logits_BV, drawable=drawable)
        return draw(
            logits_BV,
            uniform_B,
            temperature=config.temperature,
            top_p=config.top_p,
            drawable=drawable,
        )

    def _find_stops(self, stops: StopStrings, tokens_B: Tensor, finished_B: Tensor) -> None:
        suspect_B = stops.closes_V.to(self.device)[tokens_B] & ~finished_B
        for place in suspect_B.nonzero().squeeze(-1).tolist():
            row, tokens = self.record.so_far(place)
            if stops.ends(tokens):
                finished_B[place] = True
                self.stopped[row] = len(tokens)

    def _rollouts(self) -> list[Rollout]:
        self.record.flush()
        tokens_BT, logprobs_BT = self.record.tokens_BT.cpu(), self.record.logprobs_BT.cpu()
        # rows go on for a while after their end: cut at the first end token, limit or stop
        ends_BT = self.ends_V.cpu()[tokens_BT.clamp(min=0)] & (tokens_BT >= 0)
        ended_B, first_B = ends_BT.any(dim=1), ends_BT.int().argmax(dim=1)
        length_B = torch.where(ended_B, first_B + 1, self.limit_B.cpu()).minimum(self.limit_B.cpu())
        ended, lengths = (ended_B & (first_B < length_B)).tolist(), length_B.tolist()
        rollouts = []
        for b, (number, sample) in enumerate(self.rows):
            finish: Finish = "eos" if ended[b] else "length"
            length = lengths[b]
            if b in self.stopped:
                finish, length = "stop", self.stopped[b]
            tokens, logprobs = tokens_BT[b, :length].tolist(), logprobs_BT[b, :length].tolist()
            if not math.isfinite(sum(logprobs)):
                raise _not_finite(self.problems[number].id)
            text = self.policy.decode(tokens)
            rollout = Rollout(
                problem=self.problems[number],
                sample=sample,
                prompt_tokens=self.prompts[number],
                tokens=tuple(tokens),
                sampled_logprobs=tuple(logprobs),
                text=self.stops.cut(text) if self.stops and finish == "stop" else text,
                finish=finish,
            )
            rollouts.append(rollout)
        return rollouts


class _Record:
    """What was drawn, by the row's place at the start; written in blocks of steps."""

    def __init__(self, rows: int, room: int, device: torch.device) -> None:
        self.rows_B = torch.arange(rows, device=device)  # of the rows that are still decoded
        self.tokens_BT = torch.full((rows, room), -1, device=device)
        self.logprobs_BT = torch.zeros(rows, room, dtype=torch.float64, device=device)
        self._written = 0
        self._pending: list[SampledTokens] = []

    def add(self, drawn: SampledTokens) -> None:
        self._pending.append(drawn)

    def flush(self) -> None:
        if not self._pending:
            return
        tokens, logprobs = zip(*self._pending, strict=True)
        steps = slice(self._written, self._written + len(self._pending))
        self.tokens_BT[self.rows_B, steps] = torch.stack(tokens, dim=1)
        self.logprobs_BT[self.rows_B, steps] = torch.stack(logprobs, dim=1)
        self._written = steps.stop
        self._pending = []

    def keep(self, order_B: Tensor) -> None:
        self.flush()
        self.rows_B = self.rows_B[order_B]

    def so_far(self, place: int) -> tuple[int, list[int]]:
        """The row that stands in a place of the batch now, and its tokens."""
        self.flush()
        row = int(self.rows_B[place])
        return row, self.tokens_BT[row, : self._written].tolist()


def _pad_left(
    prompts: Sequence[tuple[int, ...]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """tokens_PS and attend_PS of left-padded prompts."""
    width = max(map(len, prompts))
    tokens = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    first_P1 = torch.tensor([[width - len(prompt)] for prompt in prompts])
    attend_PS = torch.arange(width) >= first_P1
    return torch.tensor(tokens, device=device), attend_PS.to(device)


def _close_ranks(finished_B: Tensor) -> Tensor:
    """Places of the rows to keep: those that may stay do, the last ones fill the gaps."""
    kept = (~finished_B).nonzero().squeeze(-1)
    rows = kept.numel()
    order_B = torch.arange(rows, device=kept.device)
    order_B[finished_B[:rows]] = kept[kept >= rows]
    return order_B


def _not_finite(problem: str) -> ModelError:
    return ModelError(
        f"the model's logits for problem '{problem}' are not finite",
        why="nothing can be drawn from them; the weights have diverged or the dtype overflows",
        fix="go back to an earlier checkpoint with a lower optim.lr, or use model.dtype=float32",
    )
