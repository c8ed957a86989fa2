"""What a run has in memory at its peak, by part.

The moments of a phase at which it may be largest are looked at: an update, the optimizer's step,
reading prompts, and the last token that is sampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rekindle.engine.batch import MicroBatch
from rekindle.engine.config import OptimConfig, SampleConfig
from rekindle.engine.decoders import ModelDecoder
from rekindle.engine.update import fresh_state
from rekindle.ops.draws import draw
from rekindle.ops.weights import weighted_sum
from rekindle.training.dry_run.architecture import KEPT, Architecture
from rekindle.training.dry_run.data import Row, batch_of
from rekindle.training.dry_run.plans import Draw, Phase
from rekindle.training.dry_run.tracing import without_data

MemoryPart = Literal[
    "process",
    "weights",
    "masters",
    "gradients",
    "moments",
    "activations",
    "logits",
    "cache",
    "reference",
    "other_models",
]
PARTS: tuple[MemoryPart, ...] = MemoryPart.__args__  # type: ignore[attr-defined]
PROCESS = {"cpu": 420_000_000, "cuda": 500_000_000}  # imports of torch and transformers; a context
_ENOUGH = 200_000  # tokens from which an update's rows are looked at in part
_FORWARD, _BOTH = "forward", "both"  # floating point operations


class Moment(NamedTuple):
    """A moment of a run, and what is in memory then, in bytes."""

    name: str
    parts: Counter[str]

    @property
    def bytes(self) -> int:
        """All parts."""
        return self.parts.total()


class UpdateCost(NamedTuple):
    """Of all micro-batches of a step: inputs with their padding, and floating point operations."""

    tokens: int
    forward: int
    both: int


@dataclass(frozen=True)
class Models:
    """The models of a run.

    Attributes:
        policy: what is trained.
        weak: another one that is mixed in, or labels; None where it is the policy's own base.
        others: bytes of whole models beside: a reward model.
    """

    policy: Architecture
    weak: Architecture | None
    others: int

    def trained(self, phase: Phase) -> Architecture:
        """The model of the phase's updates."""
        return self.weak if phase.on_weak and self.weak is not None else self.policy


@dataclass(frozen=True)
class Gauge:
    """Measures phases on tensors without data.

    Attributes:
        models: of the run.
        optim: its optimizer.
        sample: how it draws.
        micro_tokens: of a forward pass.
        device: cpu or cuda, where it will run.
    """

    models: Models
    optim: OptimConfig
    sample: SampleConfig
    micro_tokens: int
    device: Literal["cpu", "cuda"]

    # --- moments

    def moments(self, phase: Phase, draws: Sequence[Draw]) -> list[Moment]:
        """The moments of a phase; `draws` are its own and those of its evaluations."""
        base, found = self._base(phase), list[Moment]()
        if phase.objective is not None:
            traced = self._counted_update(phase)
            parts = {part: traced[part] for part in PARTS}
            trained = Counter({"gradients": phase.trained * self._size(phase).trained_bytes})
            step = self._step(self.models.trained(phase))
            rest = phase.trained * step["activations"]
            found += [
                Moment(f"{phase.name}: update", base + trained + Counter(parts)),
                Moment(f"{phase.name}: optimizer", base + trained + Counter(activations=rest)),
            ]
        for one in {(d.problems, d.samples, d.prompt, d.answer): d for d in draws}.values():
            for name, parts in (("prompts", self._prefill(one)), ("answers", self._decode(one))):
                found.append(Moment(f"{phase.name}: {name}", base + parts))
        return found or [Moment(phase.name, base)]

    def _base(self, phase: Phase) -> Counter[str]:
        """What is in memory all through a phase, after its first step."""
        size, models = self._size(phase), self.models
        whole = models.policy.size
        frozen = size.total_bytes - size.trained_bytes
        is_cast = models.policy.settings.dtype != "float32"
        trained = max(phase.trained, 1) * size.trained_bytes
        parts: Counter[str] = Counter(process=PROCESS[self.device])
        parts["masters" if is_cast else "weights"] += trained
        parts["weights"] += frozen
        if phase.objective is not None:
            parts["moments"] = phase.trained * self._step(models.trained(phase))["moments"]
        parts["reference"] = phase.reference * size.reference_bytes
        copies = whole.total_bytes if whole.trained == whole.total else whole.trained_bytes
        parts["other_models"] = phase.held * copies + models.others
        if models.weak is not None and not phase.on_weak:
            parts["other_models"] += models.weak.size.total_bytes
        return parts

    def _size(self, phase: Phase):
        return self.models.trained(phase).size

    # --- an update

    def cost(self, phase: Phase) -> UpdateCost:
        """Of a step's updates, one pass over its rows."""
        counted = self._counted_update(phase)
        pieces, share = self._pieces(phase)
        tokens = round(sum(_inputs(piece) for piece in pieces) / share)
        largest = max(map(_inputs, pieces))
        return UpdateCost(
            tokens,
            round(counted[_FORWARD] * tokens / largest),
            round(counted[_BOTH] * tokens / largest),
        )

    def _pieces(self, phase: Phase) -> tuple[list[MicroBatch], float]:
        """The micro-batches of a step, or of a part of its rows, and which share they are."""
        rows, most = list(phase.rows), max(_ENOUGH, 2 * self.micro_tokens)
        few = list[Row]()
        for row in rows:
            if few and sum(r.prompt + r.answer for r in few) > most:
                break
            few.append(row)
        arrangement = self.models.trained(phase).arrangement
        return batch_of(few).split(self.micro_tokens, arrangement), len(few) / len(rows)

    def _counted_update(self, phase: Phase) -> Counter[str]:
        micro = max(self._pieces(phase)[0], key=_inputs)
        model, objective = self.models.trained(phase), phase.objective
        second = (self.models.weak or model) if phase.mixes else None

        def counted(layers: int) -> Counter[str]:
            with without_data():
                policy = model.policy(layers)
                other = None if second is None else second.policy(layers)
                with model.meter(*(p for p in (policy, other) if p is not None)) as meter:
                    terms = objective(policy, other)(micro)
                    forward, kept = meter.trace().flops, meter.alive("activations")
                    weighted_sum(terms.loss_BT, micro.weight_BT.to(terms.loss_BT)).backward()
            trace = meter.trace()
            return Counter({**trace.parts, _FORWARD: forward, _BOTH: trace.flops, KEPT: kept})

        return model.at_full_depth(counted)

    def _step(self, model: Architecture) -> Counter[str]:
        """Bytes of the moments, and what an optimizer's step takes beside them."""

        def counted(layers: int) -> Counter[str]:
            with without_data():
                policy = model.policy(layers)
                meter = model.meter(policy)
                state = fresh_state({"policy": policy.model}, self.optim)
                with meter:
                    state.optimizer.step()
                    meter.reset()
                    state.optimizer.step()
                slots = [slot for each in state.optimizer.state.values() for slot in each.values()]
                moments = sum(slot.nbytes for slot in slots if isinstance(slot, Tensor))
            return Counter(moments=moments, activations=max(meter.trace().peak - moments, 0))

        return model.at_full_depth(counted)

    # --- answers

    def _prefill(self, one: Draw) -> Counter[str]:
        rows, problems = self._rows(one)
        tokens_PS = torch.ones(problems, one.prompt, dtype=torch.long)
        source_B = torch.arange(rows) % problems

        def counted(layers: int) -> Counter[str]:
            with without_data(), torch.no_grad():
                policy = self.models.policy.policy(layers)
                with self.models.policy.meter(policy) as meter:
                    decoder = ModelDecoder(policy)
                    decoder.begin(tokens_PS, tokens_PS > 0, source_B, room=one.answer)
            return Counter(meter.trace().parts)

        return self.models.policy.at_full_depth(counted)

    def _decode(self, one: Draw) -> Counter[str]:
        rows, _ = self._rows(one)
        tokens_BS = torch.ones(rows, one.prompt + max(one.answer - 2, 0), dtype=torch.long)
        uniform_B = torch.zeros(rows, dtype=torch.float64)

        def counted(layers: int) -> Counter[str]:
            with without_data(), torch.no_grad():
                policy = self.models.policy.policy(layers)
                with self.models.policy.meter(policy) as meter:
                    decoder = ModelDecoder(policy)
                    decoder.begin(tokens_BS, tokens_BS > 0, torch.arange(rows), room=2)
                    meter.reset()
                    logits_BV = decoder.extend(tokens_BS[:, 0])
                    draw(logits_BV, uniform_B, temperature=1.0, top_p=self.sample.top_p)
            return Counter(meter.trace().parts)

        return self.models.policy.at_full_depth(counted)

    def _rows(self, one: Draw) -> tuple[int, int]:
        """How many answers are decoded at once, and to how many prompts."""
        problems = max(1, min(one.problems, self.sample.batch_size // one.samples))
        return min(problems * one.samples, self.sample.batch_size), problems


def _inputs(micro: MicroBatch) -> int:
    return micro.layout.tokens_RS.numel()
