"""What moved during a run: its first third of logged steps against its last.

    drift/length, drift/right, drift/reward, drift/surprise    late minus early
    drift/NAME/same_prompts     the same over prompts that both thirds have, each against itself
    drift/NAME/slope            change in 100 steps, by a straight line through all of them
    drift/entropy               late minus early of the entropy that the trainer logged

Length is in tokens, else characters; surprise is -log p of an answer over its tokens, in nats: on
policy its mean is the entropy per token. A later third asks other prompts, which may be harder: the
same prompts tell. Differences and slopes have intervals over prompts. Logged steps hang together,
and the entropy's interval allows for it: simulated with a trend and a correlation r of neighbours,
it covers 96 % (r = 0), 93 % (0.5), 91 % (0.7) and 88 % (0.9) at 30 steps, 94 to 95 % at 300.

Axes: N rows.
"""

from __future__ import annotations

import math

import numpy as np

from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.log_finding import (
    UNDEFINED,
    Estimate,
    Floats,
    Ints,
    LogFinding,
    difference,
    mean,
)
from rekindle.signals.run_diagnosis.spread import lengths
from rekindle.signals.run_diagnosis.within_groups import Bools, t_quantile, usable

FEW_STEPS = 3
LONGEST = 500  # steps of a series; of longer ones neighbours are averaged
NEAREST = 0.98  # correlation of neighbours
_NULL = "0: nothing moved"


def drift_findings(log: RunLog, verdict_N: Floats) -> list[LogFinding]:
    """What moved between the first and the last third of the steps on disk.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan unknown.
    """
    findings = _entropy(log)
    thirds = _thirds(log)
    if thirds is None:
        return findings
    length_N, unit = lengths(log)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise_N = np.where(log.tokens_N > 0, -log.logprob_N / log.tokens_N, np.nan)
    columns = {
        "length": (length_N, f"answers ({unit})"),
        "right": (verdict_N, "the share of right answers"),
        "reward": (log.score_N, "the reward"),
        "surprise": (surprise_N, "surprise (nats per token)"),
    }
    if np.array_equal(verdict_N, log.score_N, equal_nan=True):
        del columns["reward"]
    for name, (column_N, what) in columns.items():
        value_N = usable(column_N)
        if not np.isnan(value_N[log.data_N]).all():
            findings += _moved(log, name, value_N, what, *thirds)
    return findings


def _thirds(log: RunLog) -> tuple[Bools, Bools] | None:
    """[N] rows of the early and of the late third; None: fewer than three steps."""
    steps = np.unique(log.step_N[log.data_N & (log.step_N >= 0)])
    if len(steps) < FEW_STEPS:
        return None
    third = len(steps) // 3
    early_N = log.data_N & (log.step_N >= 0) & (log.step_N <= steps[third - 1])
    return early_N, log.data_N & (log.step_N >= steps[-third])


def _moved(
    log: RunLog, name: str, value_N: Floats, what: str, early_N: Bools, late_N: Bools
) -> list[LogFinding]:
    both_N = early_N | late_N
    moved = difference(value_N[both_N], late_N[both_N], log.prompt_N[both_N])
    if math.isnan(moved.value):
        return []
    early = float(np.nanmean(value_N[early_N]))
    says = f"{what}: {early:.3g} early, {early + moved.value:.3g} late: {_sure(moved)}"
    rests_on = (
        f"steps {log.step_N[early_N].min()} to {log.step_N[early_N].max()} against "
        f"{log.step_N[late_N].min()} to {log.step_N[late_N].max()}"
    )
    findings = [LogFinding.of(f"drift/{name}", moved, says, rests_on, _NULL)]
    own = _same_prompts(value_N, log.prompt_N, early_N, late_N)
    if own.n > 1:
        says = f"{what}, of prompts that both thirds have: {_sure(own)}"
        rests_on = f"{own.n} prompts in both thirds"
        findings.append(LogFinding.of(f"drift/{name}/same_prompts", own, says, rests_on, _NULL))
    known_N = log.data_N & (log.step_N >= 0) & ~np.isnan(value_N)
    line = slope(value_N[known_N], log.step_N[known_N], log.prompt_N[known_N])
    says = f"{what}, in 100 steps: {_sure(line)}"
    rests_on = f"a straight line through {len(np.unique(log.step_N[known_N]))} steps"
    return [*findings, LogFinding.of(f"drift/{name}/slope", line, says, rests_on, _NULL)]


def _same_prompts(value_N: Floats, prompt_N: Ints, early_N: Bools, late_N: Bools) -> Estimate:
    """The mean over prompts of late minus early."""
    count = int(prompt_N.max()) + 1
    means = []
    for side_N in (early_N, late_N):
        kept_N = side_N & ~np.isnan(value_N)
        rows = np.bincount(prompt_N[kept_N], minlength=count)
        summed = np.bincount(prompt_N[kept_N], weights=value_N[kept_N], minlength=count)
        means.append(np.where(rows > 0, summed / np.maximum(rows, 1), np.nan))
    return mean(means[1] - means[0], np.arange(count))


def slope(value_N: Floats, step_N: Ints, unit_N: Ints) -> Estimate:
    """The change in 100 steps of the least-squares line, with an interval over units."""
    units, number_N = np.unique(unit_N, return_inverse=True)
    m = len(units)
    at_N = (step_N - step_N.mean()) / 100
    total = float(at_N @ at_N)
    if m < 2 or total == 0:
        return UNDEFINED
    value = float(at_N @ value_N) / total
    left_N = value_N - value_N.mean() - value * at_N
    pull_U = np.bincount(number_N, weights=at_N * left_N) / total
    half = t_quantile(m - 1) * math.sqrt(float((pull_U**2).sum()) * m / (m - 1))
    return Estimate(value, value - half, value + half, m)


# --- what the trainer logged


def _entropy(log: RunLog) -> list[LogFinding]:
    names = {name for entry in log.about.history for name in entry}
    name = next((n for n in sorted(names) if n.split("/")[-1] == "entropy"), None)
    if name is None:
        return []
    logged = np.array([entry[name] for entry in log.about.history if name in entry])
    third = len(logged) // 3
    if third < 2:
        return []
    moved = late_minus_early(logged)
    early = float(logged[:third].mean())
    says = f"entropy: {early:.3g} early, {early + moved.value:.3g} late: {_sure(moved)}"
    rests_on = f"{name} of {len(logged)} logged steps"
    return [LogFinding.of("drift/entropy", moved, says, rests_on, _NULL)]


def late_minus_early(value_T: Floats) -> Estimate:
    """The last third of a series minus its first, where neighbours depend on each other.

    What a straight line leaves is taken for an AR(1) process: its correlation is estimated with
    Kendall's correction, and the variance of the difference follows from it exactly.
    """
    while len(value_T) > LONGEST:
        value_T = value_T[: len(value_T) // 2 * 2].reshape(-1, 2).mean(axis=1)
    count = len(value_T)
    third = count // 3
    value = float(value_T[-third:].mean() - value_T[:third].mean())
    line_T2 = np.stack([np.ones(count), np.arange(count) - (count - 1) / 2], axis=1)
    line_T2 /= np.sqrt((line_T2**2).sum(axis=0))
    left_T = value_T - line_T2 @ (line_T2.T @ value_T)
    spread = float(left_T @ left_T)
    if spread <= 1e-20 * max(1.0, float(value_T @ value_T)) or count < 2 * FEW_STEPS:
        return Estimate(value, math.nan, math.nan, count)
    near = float(left_T[1:] @ left_T[:-1]) / spread
    near = min(max(near + (2 + 4 * near) / count, 0.0), NEAREST)
    away_TT = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    alike_TT = near**away_TT
    variance = spread / (count - float(np.trace(line_T2.T @ alike_TT @ line_T2)))
    weight_T = np.zeros(count)
    weight_T[:third], weight_T[-third:] = -1 / third, 1 / third
    error = math.sqrt(variance * float(weight_T @ alike_TT @ weight_T))
    freedom = max(2.0, count * (1 - near) / (1 + near) - 2)
    half = t_quantile(freedom) * error
    return Estimate(value, value - half, value + half, count)


def _sure(found: Estimate) -> str:
    """A difference with its interval, and what that leaves open."""
    if math.isnan(found.ci_low):
        return f"{found.value:+.3g}"
    open_end = ", which may be chance" if found.ci_low <= 0 <= found.ci_high else ""
    return f"{found.value:+.3g} [{found.ci_low:+.3g}, {found.ci_high:+.3g}]{open_end}"
