"""Tokens and seconds of a whole run, by what is done."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rekindle.training.dry_run.memory import Gauge
from rekindle.training.dry_run.plans import Draw, Phase
from rekindle.training.dry_run.rates import Rates

_STEP_BYTES = 44  # an AdamW step and a clipping read and write so many a trained parameter
_FORWARD_SHARE = 1 / 3  # of an update's operations


def tokens_of(phase: Phase, evaluated: Sequence[Draw], answer: int | None) -> Counter[str]:
    """Tokens of a phase; answers are as long as allowed where `answer` (their mean) is None."""
    answers = sum(row.answer for row in phase.rows) if phase.objective is not None else 0
    return Counter(
        trained=phase.steps * phase.epochs * answers,
        sampled=sum(d.rows * d.times * _length(d, answer) for d in phase.draws),
        scored=phase.steps * phase.scored * answers + phase.scored_tokens,
        evaluated=sum(d.rows * d.times * _length(d, answer) for d in evaluated),
    )


def seconds_of(
    gauge: Gauge, phase: Phase, evaluated: Sequence[Draw], rates: Rates, answer: int | None
) -> dict[str, float]:
    """Seconds of a phase: of updates, scoring, sampling and evaluation."""
    update = score = 0.0
    size = gauge.models.trained(phase).size
    if phase.objective is not None:
        cost = gauge.cost(phase)
        step = phase.updates * phase.trained * size.trained * _STEP_BYTES / rates.bytes
        update = phase.steps * (phase.epochs * cost.both / rates.flops + step)
        score = phase.steps * phase.scored * cost.both * _FORWARD_SHARE / rates.flops
    score += 2 * size.total * phase.scored_tokens / rates.flops
    return {
        "update": update,
        "score": score,
        "sample": math.fsum(_sampling(gauge, one, rates, answer) for one in phase.draws),
        "evaluate": math.fsum(_sampling(gauge, one, rates, answer) for one in evaluated),
    }


def _sampling(gauge: Gauge, one: Draw, rates: Rates, answer: int | None) -> float:
    rows = gauge.rows(one)
    batches = math.ceil(one.rows / max(rows, 1))
    size = gauge.models.policy.size
    prompts = 2 * size.total * one.problems * one.prompt / rates.flops
    if rates.decode is not None:
        step = rates.decode(rows)
    else:
        step = max(size.total_bytes / rates.bytes, 2 * size.total * rows / rates.flops)
    return one.times * (prompts + batches * _length(one, answer) * step)


def _length(one: Draw, answer: int | None) -> int:
    return one.answer if answer is None else min(answer, one.answer)
