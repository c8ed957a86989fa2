"""Causes in the optimizer, told apart from lost signal: rate, gradient, clipping, entropy.

None of them is a test but the fall of the entropy: a rate of 0 is a fact, and its share of the
steps is said. What a gradient of 0 means depends on the groups: where no group has spread the loss
has no gradient, which is lost signal; where groups have spread, the optimizer or the loss is at
fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rekindle.signals.run_diagnosis.log_finding import Estimate, Floats, LogFinding, percent
from rekindle.signals.run_diagnosis.series import Series, block_mean, change, find_series, together

GONE = 0.01  # of the highest rate
FALLEN = 0.1  # of the entropy that it had
CLIP = 1.0  # max_grad_norm of TRL, verl and NeMo-RL where nothing else is set
ENTROPY_NULL = (
    "the entropy has no trend and its steps hang together over less than a block: the interval of "
    f"its change has 0 in it; collapse is said below {FALLEN:g} of the first third's mean"
)

History = Sequence[Mapping[str, float]]


def optimizer_findings(history: History) -> list[LogFinding]:
    """What the metrics say of the optimizer; nothing where they were not logged."""
    found = []
    rate = find_series(history, "rate").finite()
    if len(rate):
        found.append(_rate(rate))
    norm = find_series(history, "grad_norm")
    if len(norm):
        found += _gradient(norm, find_series(history, "zero_std"))
    entropy = find_series(history, "entropy")
    if len(entropy) and (one := _entropy(entropy)) is not None:
        found.append(one)
    clipped = find_series(history, "clipped")
    if len(clipped):
        text = "share of tokens (TRL, verl) whose ratio is clipped: they give no gradient"
        estimate = block_mean(clipped.value_T)
        found.append(LogFinding.of("optimizer/clipped", estimate, text, _rests(clipped)))
    return found


def _rests(series: Series) -> str:
    return f"{series.name}, {len(series)} logged steps"


def _share(flag_T: np.ndarray) -> Estimate:
    """A share of the logged steps: all of them were counted, so that it has no interval."""
    return Estimate(float(flag_T.mean()), math.nan, math.nan, len(flag_T))


def _rate(rate: Series) -> LogFinding:
    highest = float(rate.value_T.max())
    gone_T = ~(rate.value_T > GONE * highest)
    if highest <= 0:
        text = "the learning rate is 0 at every logged step: nothing can be learnt"
    elif not gone_T.any():
        text = f"the learning rate stays above {percent(GONE)} of its highest, {highest:.3g}"
    else:
        since = rate.step_T[~gone_T].max()
        text = (
            f"steps with a learning rate below {percent(GONE)} of its highest, {highest:.3g}; the "
            f"last step above it is {since:.0f} of {rate.step_T.max():.0f}"
        )
    return LogFinding.of("optimizer/rate_gone", _share(gone_T), text, _rests(rate))


def _gradient(norm: Series, zero: Series) -> list[LogFinding]:
    value_T = norm.value_T
    bad_T = ~np.isfinite(value_T)
    text = "steps whose gradient is not finite" if bad_T.any() else "every gradient is finite"
    found = [LogFinding.of("optimizer/not_finite", _share(bad_T), text, _rests(norm))]
    above_T = value_T > CLIP
    text = (
        f"steps with a gradient norm above {CLIP:g}, the default max_grad_norm: where that is set "
        "the step's size no longer depends on the gradient's"
    )
    found.append(LogFinding.of("optimizer/norm_clipped", _share(above_T), text, _rests(norm)))
    still_T = value_T == 0
    if not still_T.any():
        return found
    text = "steps with a gradient of 0"
    found.append(LogFinding.of("optimizer/no_gradient", _share(still_T), text, _rests(norm)))
    if len(zero):
        norm_T, zero_T = together(norm, zero)
        if len(norm_T):
            found.append(_blame(norm_T, zero_T))
    return found


def _blame(norm_T: Floats, zero_T: Floats) -> LogFinding:
    """Gradients of 0 at steps at which groups have spread."""
    flag_T = (norm_T == 0) & (zero_T < 1)
    without = int(((norm_T == 0) & (zero_T == 1)).sum())
    text = (
        f"steps with a gradient of 0 though groups have spread: the loss or the optimizer is at "
        f"fault; at {without} more no group has any, which is lost signal"
    )
    rests = f"{len(norm_T)} steps with both"
    return LogFinding.of("optimizer/no_gradient_with_signal", _share(flag_T), text, rests)


def _entropy(entropy: Series) -> LogFinding | None:
    value_T = entropy.value_T[np.isfinite(entropy.value_T)]
    moved = change(value_T)
    third = len(value_T) // 3
    if not third:
        return None
    first, last = float(value_T[:third].mean()), float(value_T[-third:].mean())
    collapsed = moved.ci_high < 0 and last < FALLEN * first
    text = (
        f"entropy of the last third of the steps minus that of the first: {first:.3g} to {last:.3g}"
    )
    if collapsed:
        text += "; it has collapsed: answers to a prompt grow alike, and groups lose their spread"
    return LogFinding.of("optimizer/entropy", moved, text, _rests(entropy), ENTROPY_NULL)
