"""What a run has in memory at its peak, by part.

The moments of a phase at which it may be largest are looked at: an update, the optimizer's step,
reading prompts, and the last token that is sampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rekindle.engine.batch import MicroBatch
from rekindle.engine.cache_size import MOST_ROWS, SHARE
from rekindle.engine.config import OptimConfig, SampleConfig
from rekindle.engine.decoders import ModelDecoder
from rekindle.engine.update import LossTerms, add_gradient, fresh_state, take_step
from rekindle.ops.draws import draw
from rekindle.ops.precision import product_dtype
from rekindle.training.dry_run.architecture import KEPT, Architecture, Size
from rekindle.training.dry_run.data import batch_of
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
        memory: bytes that are free there.
    """

    models: Models
    optim: OptimConfig
    sample: SampleConfig
    micro_tokens: int
    device: Literal["cpu", "cuda"]
    memory: int
    _known: dict[Hashable, Counter[str]] = field(default_factory=dict)  # what was traced before

    # --- moments

    def moments(self, phase: Phase, draws: Sequence[Draw]) -> list[Moment]:
        """The moments of a phase; `draws` are its own and those of its evaluations."""
        base, found = self._base(phase), list[Moment]()
        if phase.objective is not None:
            traced = self._counted_update(phase)
            own: Counter[str] = Counter({part: traced[part] for part in PARTS})
            trained: Counter[str] = Counter(
                {"gradients": phase.trained * self._size(phase).trained_bytes}
            )
            step = self._step(self.models.trained(phase))
            rest = phase.trained * step["activations"]
            found += [
                Moment(f"{phase.name}: update", base + trained + own),
                Moment(f"{phase.name}: optimizer", base + trained + Counter(activations=rest)),
            ]
        if draws:
            one = max(draws, key=lambda d: self.rows(d) * (d.prompt + d.answer))
            for name, parts in (
                ("prompts", self._prefill(one)),
                ("answers", self._decode(one, self.rows(one))),
            ):
                found.append(Moment(f"{phase.name}: {name}", base + parts))
        return found or [Moment(phase.name, base)]

    def _base(self, phase: Phase) -> Counter[str]:
        """What is in memory all through a phase, after its first step."""
        size, models = self._size(phase), self.models
        whole = models.policy.size
        frozen = size.total_bytes - size.trained_bytes
        is_cast = product_dtype(models.policy.settings.dtype) is not None
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

    def _size(self, phase: Phase) -> Size:
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
        rows, most = phase.rows, max(_ENOUGH, 2 * self.micro_tokens)
        half = len(rows) // 2
        units = (
            [(n, n + half) for n in range(half)]
            if phase.paired
            else [(n,) for n in range(len(rows))]
        )
        few, tokens = list[tuple[int, ...]](), 0
        for unit in units:
            tokens += sum(rows[n].prompt + rows[n].answer for n in unit)
            if few and tokens > most:
                break
            few.append(unit)
        width = len(few[0])
        batch = batch_of([rows[unit[side]] for side in range(width) for unit in few])
        together = [tuple(n + side * len(few) for side in range(width)) for n in range(len(few))]
        batch = batch.replace(units=together if phase.paired else None, packs=phase.packs)
        arrangement = self.models.trained(phase).arrangement
        return batch.split(self.micro_tokens, arrangement), len(few) / len(units)

    def _counted_update(self, phase: Phase) -> Counter[str]:
        micro = max(self._pieces(phase)[0], key=_inputs)
        model, objective = self.models.trained(phase), phase.objective
        assert objective is not None  # what is trained has a loss
        second = (self.models.weak or model) if phase.mixes else None

        def counted(layers: int) -> Counter[str]:
            with without_data():
                policy = model.policy(layers)
                other = None if second is None else second.policy(layers)
                with model.meter(*(p for p in (policy, other) if p is not None)) as meter:
                    loss = objective(policy, other)
                    marks: dict[str, int] = {}

                    def marked(micro: MicroBatch) -> LossTerms:
                        terms = loss(micro)
                        marks[_FORWARD] = meter.trace().flops
                        marks[KEPT] = meter.alive("activations")
                        return terms

                    trained = [p.model for p in (policy, other) if p is not None]
                    add_gradient(trained, marked, micro)
            trace = meter.trace()
            return Counter({**trace.parts, **marks, _BOTH: trace.flops})

        key = (phase.rows, phase.objective, phase.mixes, phase.packs, phase.on_weak)
        return self._once(key, model, counted)

    def _once(
        self, key: Hashable, model: Architecture, counted: Callable[[int], Counter[str]]
    ) -> Counter[str]:
        if key not in self._known:
            self._known[key] = model.at_full_depth(counted)
        return self._known[key]

    def _step(self, model: Architecture) -> Counter[str]:
        """Bytes of the moments, and what an optimizer's step takes beside them."""

        def counted(layers: int) -> Counter[str]:
            with without_data():
                policy = model.policy(layers)
                meter = model.meter(policy)
                state = fresh_state({"policy": policy.model}, self.optim)
                with meter:
                    take_step(state)
                    meter.reset()
                    take_step(state)
                slots = [slot for each in state.optimizer.state.values() for slot in each.values()]
                moments = sum(slot.nbytes for slot in slots if isinstance(slot, Tensor))
            return Counter(moments=moments, activations=max(meter.trace().peak - moments, 0))

        return self._once(("step", id(model)), model, counted)

    # --- answers

    def rows(self, one: Draw) -> int:
        """How many answers are decoded at once."""
        most = self.sample.batch_size
        if most == "auto":  # as `engine.cache_size` has it, once model and moments are there
            static = 4 * self.models.policy.size.trained_bytes + self.models.others
            row = self._decode(one, rows=1).total()
            free = max(self.memory - static, 0)
            return min(one.rows, MOST_ROWS, max(1, int(SHARE * free / row)))
        return min(one.rows, most)

    def _prefill(self, one: Draw) -> Counter[str]:
        rows = self.rows(one)
        problems = max(1, min(one.problems, rows // one.samples))
        tokens_PS = torch.ones(problems, one.prompt, dtype=torch.long)
        source_B = torch.arange(rows) % problems

        def counted(layers: int) -> Counter[str]:
            with without_data(), torch.no_grad():
                policy = self.models.policy.policy(layers)
                with self.models.policy.meter(policy) as meter:
                    decoder = ModelDecoder(policy)
                    decoder.begin(tokens_PS, tokens_PS > 0, source_B, room=one.answer)
            return Counter(meter.trace().parts)

        return self._once(("prompts", one[:4]), self.models.policy, counted)

    def _decode(self, one: Draw, rows: int) -> Counter[str]:
        """At the last token."""
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

        return self._once(("answers", one[:4], rows), self.models.policy, counted)


def _inputs(micro: MicroBatch) -> int:
    return micro.layout.tokens_RS.numel()
