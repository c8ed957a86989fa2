"""What "0.43, 95 % [0.40, 0.46]" means.

    wilson          a proportion from independent 0/1 outcomes (one answer a problem)
    cluster         the mean of per-problem values: bootstrap over problems, studentised resamples
                    (bootstrap-t), which keeps its coverage at 50 problems
    paired          the mean difference of two values per problem: the same over differences
    hierarchical    several pairs that were asked different problems: resample pairs, then problems
                    within; pairs that were asked the same ones: `crossed`

Values of nan stay out. Everything is seeded. With fewer than two values there is no interval: nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 2000
SIGNS = 20_000  # drawn for a permutation test where not all can be tried
FEW = 6  # problems that differ from the rest; below, a bootstrap is blind


class Interval(NamedTuple):
    """An estimate with its 95 % interval; nan where it is undefined."""

    value: float
    ci_low: float
    ci_high: float
    n: int  # problems that entered

    def __float__(self) -> float:
        return self.value


def wilson(successes: float, n: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927)."""
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    z = float(special.ndtri(0.5 + level / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n one bound is the share itself; rounding must not push it past.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, n)


def cluster(
    values: Floats, *, seed: int = 0, level: float = LEVEL, bounds: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """Mean over problems with a bootstrap-t interval; `bounds` cut what cannot be."""
    kept = values[~np.isnan(values)]
    n = len(kept)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(kept.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    spread = float(kept.std(ddof=1))
    blind = few_differ(kept, level=level, bounds=bounds)
    if blind is not None:
        return blind
    rng = np.random.default_rng(seed)
    drawn = kept[rng.integers(n, size=(RESAMPLES, n), dtype=np.int32)]
    means = drawn.mean(axis=1)
    variances = drawn.var(axis=1, ddof=1)
    usable = variances > 1e-12 * spread**2
    ratios = (means[usable] - mean) / np.sqrt(variances[usable] / n)
    t_low, t_high = percentiles(ratios, level=level)
    error = spread / np.sqrt(n)
    low, high = mean - t_high * error, mean - t_low * error
    return Interval(mean, float(max(low, bounds[0])), float(min(high, bounds[1])), n)


def paired(
    after: Floats, before: Floats, *, seed: int = 0, bounds: tuple[float, float] = (-1.0, 1.0)
) -> Interval:
    """Mean of `after - before` over problems that have both.

    The same array twice is a run paired with itself: 0, without a doubt. Two runs that agree
    everywhere could have differed on other problems, and get the interval that says so.
    """
    known = int((~np.isnan(before)).sum())
    if after is before and known > 1:
        return Interval(0.0, 0.0, 0.0, known)
    return cluster(after - before, seed=seed, bounds=bounds)


def hierarchical(
    differences: Sequence[Floats], *, seed: int = 0, bounds: tuple[float, float] = (-1.0, 1.0)
) -> Interval:
    """Mean over pairs of the mean difference over problems: pairs are drawn, then problems within.

    One pair is the paired interval. With few pairs the percentile bounds are widened by
    sqrt(m / (m - 1)), which undoes the bootstrap's small-sample bias in the variance between pairs.
    Where nearly all problems agree, the bounds are no narrower than `few_differ` has them.
    """
    kept = [d[~np.isnan(d)] for d in differences]
    kept = [d for d in kept if len(d)]
    if not kept:
        return Interval(np.nan, np.nan, np.nan, 0)
    if len(kept) == 1:
        return cluster(kept[0], seed=seed, bounds=bounds)
    rng = np.random.default_rng(seed)
    inner = np.stack([resampled_means(d, rng) for d in kept])  # pairs x resamples
    pairs = len(kept)
    picked = rng.integers(pairs, size=(RESAMPLES, pairs))
    fresh = rng.integers(RESAMPLES, size=(RESAMPLES, pairs))
    means = inner[picked, fresh].mean(axis=1)
    value = float(np.mean([d.mean() for d in kept]))
    low, high = percentiles(means)
    wider = float(np.sqrt(pairs / (pairs - 1)))
    low, high = value - (value - low) * wider, value + (high - value) * wider
    together = np.concatenate(kept)
    blind = few_differ(together, bounds=bounds)
    if blind is not None:
        low, high = min(low, blind.ci_low), max(high, blind.ci_high)
    return Interval(value, max(bounds[0], low), min(bounds[1], high), len(together))


def sign_flip_p(differences: Floats) -> float:
    """Two-sided p of a paired permutation test: the sign of each problem's difference is a coin.

    Exact over all sign patterns up to 14 nonzero differences, else sampled with the +1 rule.
    """
    kept = differences[~np.isnan(differences)]
    if len(kept) == 0:
        return float("nan")
    moved = kept[kept != 0]
    if len(moved) == 0:
        return 1.0
    observed = abs(moved.sum())
    if len(moved) <= 14:
        bits = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        sums = np.abs((2 * bits - 1) @ moved)
        return float(np.mean(sums >= observed - 1e-12))
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 2, size=(SIGNS, len(moved)), dtype=np.int8) * 2.0 - 1
    hits = int(np.sum(np.abs(signs @ moved) >= observed - 1e-12))
    return (hits + 1) / (SIGNS + 1)


def resampled_means(values: Floats, rng: np.random.Generator) -> Floats:
    """`RESAMPLES` means of as many values, drawn with replacement."""
    n = len(values)
    drawn = values[rng.integers(n, size=(RESAMPLES, n), dtype=np.int32)]
    return np.asarray(drawn.mean(axis=1), dtype=np.float64)


def percentiles(draws: Floats, *, level: float = LEVEL) -> tuple[float, float]:
    """The bounds between which the middle `level` of the draws lies."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def few_differ(
    kept: Floats, *, bounds: tuple[float, float], level: float = LEVEL
) -> Interval | None:
    """The interval where almost all problems agree; None where enough of them differ.

    Resampling the few that differ says nothing of those not yet seen. Each bound assumes that the
    share of problems that differ is as large as Wilson allows, and that they differ as far as they
    can: infinitely far, where there is no bound.
    """
    values, counts = np.unique(kept, return_counts=True)
    n, usual = len(kept), float(values[counts.argmax()])
    if np.sum(kept != usual) >= FEW:
        return None
    above = wilson(float(np.sum(kept > usual)), n, level=level).ci_high
    below = wilson(float(np.sum(kept < usual)), n, level=level).ci_high
    low = usual - (usual - bounds[0]) * below
    high = usual + (bounds[1] - usual) * above
    return Interval(float(kept.mean()), low, high, n)
