"""A difference over base models, seeds and problems: what "helps" means in a study.

d[b, s, p] is the difference on problem p between two arms trained from base b with seed s. Bases
are drawn from those that could have been pre-trained, seeds from those that could have been used,
problems from those that could have been asked. The same problems are asked of every run, so that
problems are crossed with runs, and seeds are nested in bases:

    d[b, s, p] = mean + B_b + S_bs + P_p + rest

The mean over all is compared with a t distribution. Its variance is the sum of what runs and what
problems contribute (Cameron, Gelbach, Miller 2011, two-way clusters):

    V = V_runs + V_problems - V_both

V_runs is the variance of base means over the number of bases, or of run means over the number of
runs when there is one base (the claim is then about that base). Degrees of freedom are those of the
part that dominates (Satterthwaite). With few bases the interval is wide, as it must be. Two of them
(or two runs of one) may be alike by luck, and Satterthwaite would take that for knowledge: there
each part has a t quantile of its own (Banerjee 1961), and the interval holds the truth in 95 % of
studies or more.

The hierarchical bootstrap draws the same three levels anew: bases, seeds within each, and problems,
the same ones for all runs. It knows no t distribution: with few bases it is too narrow
(docs/statistics.md has the coverage of both), so it is offered beside the other, not instead of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from rekindle.errors import ConfigError
from rekindle.evals.intervals import (
    FEW,
    LEVEL,
    RESAMPLES,
    SIGNS,
    Floats,
    Interval,
    cluster,
    few_differ,
    percentiles,
)
from rekindle.evals.passk import avg_at_k

Kind = Literal["crossed", "bootstrap"]
Nested = Mapping[str, Mapping[int, Floats]]  # base -> seed -> difference on each problem
Bounds = tuple[float, float]
_ACCURACY: Bounds = (-1.0, 1.0)  # differences of what lies between 0 and 1
_EXACT = 14  # signs of so many runs are all tried
_DRAWS = 5_000  # of the variances that a study would find


class Crossed(NamedTuple):
    """A mean difference, its interval, and what it rests on."""

    value: float
    ci_low: float
    ci_high: float
    p_value: float
    n_bases: int
    n_seeds: int
    n_problems: int


def crossed(
    differences: Nested,
    *,
    bounds: Bounds = _ACCURACY,
    kind: Kind = "crossed",
    seed: int = 0,
) -> Crossed:
    """The mean of paired differences over bases, seeds and problems, with its interval.

    Args:
        differences: the same problems everywhere; nan where a problem has no score.
        bounds: what a difference cannot pass; infinite for a metric without bounds.
        kind: the interval: two-way t, or the hierarchical bootstrap.
        seed: of the bootstrap's draws.

    Returns:
        With one run, the interval over problems alone: it says nothing of other trainings.
        `p_value` is `run_sign_flip_p`, or nan with one run. A run without any score stays out, and
        is not counted; without one that has, everything is nan.

    Raises:
        ValueError: the runs were asked different numbers of problems.
    """
    if len({len(d) for seeds in differences.values() for d in seeds.values()}) > 1:
        raise ValueError("the runs have different numbers of problems")
    known = {base: _scored(seeds) for base, seeds in differences.items()}
    known = {base: seeds for base, seeds in known.items() if seeds}
    if not known:
        return Crossed(math.nan, math.nan, math.nan, math.nan, 0, 0, 0)
    table_RP = np.stack([run for seeds in known.values() for run in seeds.values()])
    counts = (len(known), len({seed for seeds in known.values() for seed in seeds}))
    n_problems = int((~np.isnan(table_RP)).any(axis=0).sum())
    if len(table_RP) == 1:
        alone = cluster(table_RP[0], bounds=bounds)
        return Crossed(*alone[:3], math.nan, *counts, n_problems)
    means = {base: [_mean(run) for run in seeds.values()] for base, seeds in known.items()}
    if kind == "bootstrap":
        interval = _bootstrap(table_RP, means, seed)
    else:
        interval = two_way(table_RP, [float(np.mean(m)) for m in means.values()])
    blind = nearly_all_agree(table_RP, bounds)
    low = max(bounds[0], min(interval.ci_low, blind.ci_low))
    high = min(bounds[1], max(interval.ci_high, blind.ci_high))
    p_value = run_sign_flip_p([mean for values in means.values() for mean in values])
    return Crossed(interval.value, low, high, p_value, *counts, n_problems)


def run_sign_flip_p(means: Sequence[float]) -> float:
    """Two-sided p of a paired permutation test over runs: had the arms been the same, each run's
    difference could as well have had the other sign.

    Exact up to 14 runs, so that m runs can reach 2 / 2^m and no less; sampled with the +1 rule
    beyond. nan for fewer than two runs.
    """
    values = np.array([mean for mean in means if not math.isnan(mean)])
    if len(values) < 2:
        return math.nan
    observed = abs(values.sum()) - 1e-12
    if len(values) <= _EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=len(values))))
        return float(np.mean(np.abs(signs @ values) >= observed))
    signs = np.random.default_rng(0).choice((1.0, -1.0), size=(SIGNS, len(values)))
    return float((np.sum(np.abs(signs @ values) >= observed) + 1) / (SIGNS + 1))


def noise_of(metric: str, samples: int) -> float:
    """About what sampling adds to one run's difference on one problem; `noise_sd`.

    Of accuracies and `chain_prob`, which were measured; nothing is known of `nll` and `brier`.

    0.45 for one answer and for pass@k of as many as there are, less where answers are averaged or
    probabilities taken (docs/statistics.md).
    """
    if metric.startswith("chain_prob"):
        return 0.13
    averaged = metric.startswith(("pass@1@", "avg@")) or metric == "pass@1"
    return 0.45 / math.sqrt(max(1, samples)) if averaged else 0.45


class Spread(NamedTuple):
    """Standard deviations of a true difference of accuracies: by base, by seed, by problem.

    `SPREADS` are those of the committed studies (docs/statistics.md): arms that do nearly the same
    (HERO and its verifier), arms that train another way (WMSS and SFT), or on other data (the
    first stage of weak-to-strong and training on all weak answers).
    """

    base: float
    seed: float
    problem: float


SPREADS = (Spread(0.005, 0.005, 0.04), Spread(0.03, 0.025, 0.06), Spread(0.1, 0.03, 0.15))


def minimum_detectable(
    *,
    n_bases: int,
    n_seeds: int,
    n_problems: int,
    spread: Spread = SPREADS[1],
    noise_sd: float = 0.2,
    power: float = 0.8,
) -> float:
    """The smallest true difference that a study of this size finds with this probability.

    Args:
        spread: of the true differences.
        noise_sd: what one run's difference on one problem adds by sampling; `noise_of`.
        power: probability of an interval above 0.

    Returns:
        A difference of accuracies: 0.02 is two points. Infinite for one base and one seed: one pair
        of runs never gets a verdict, however large its difference. The variances that the interval
        rests on are drawn 5,000 times, always the same; the difference is the one whose interval
        is above 0 with this probability over them.

    Raises:
        ConfigError: no base, no seed or no problem; a power that is no probability.
    """
    _refuse_no_study(n_bases, n_seeds, n_problems, power)
    runs = n_bases * n_seeds
    if runs == 1:
        return math.inf
    alone = n_bases == 1  # the claim is then about that base
    of_bases = (0.0 if alone else spread.base**2 / n_bases) + spread.seed**2 / runs
    of_both = noise_sd**2 / (runs * n_problems)
    error = math.sqrt(of_bases + spread.problem**2 / n_problems + of_both)
    if error == 0:
        return 0.0
    rng, problems_df = np.random.default_rng(0), max(1, n_problems - 1)

    def drawn(variance: float, df: int) -> _Variance:
        return _Variance(variance * rng.chisquare(df, _DRAWS) / df, df)

    half_K = _half_width(
        drawn(of_bases + of_both, (runs if alone else n_bases) - 1),
        drawn(spread.problem**2 / n_problems + of_both, problems_df),
        _Variance(np.full(_DRAWS, of_both), (runs - 1) * problems_df),
    )
    top = float(half_K.max()) + 10 * error

    def missed(difference: float) -> float:
        return power - float(np.mean(special.ndtr((difference - half_K) / error)))

    return float(optimize.brentq(missed, -10 * error, top))


def _refuse_no_study(n_bases: int, n_seeds: int, n_problems: int, power: float) -> None:
    if min(n_bases, n_seeds, n_problems) < 1:
        raise ConfigError(
            "a study without base models, seeds or problems finds nothing",
            got=f"n_bases {n_bases}, n_seeds {n_seeds}, n_problems {n_problems}",
            wanted="at least 1 of each",
        )
    if not 0.05 <= power < 1:
        raise ConfigError(
            "a power is the probability of finding what is there",
            got=f"power {power}",
            wanted="0.05 or more, below 1",
        )


def two_way(table_RP: Floats, base_means: Sequence[float]) -> Interval:
    """The mean of base means, with the interval of the module's text; R runs, P problems."""
    value = float(np.mean(base_means))
    run_means = np.array([_mean(run) for run in table_RP])
    groups = np.array(base_means) if len(base_means) > 1 else run_means
    of_runs, runs_df = float(np.var(groups, ddof=1)) / len(groups), len(groups) - 1
    means_P = avg_at_k(table_RP.T)
    problem_means = means_P[~np.isnan(means_P)]
    n = len(problem_means)
    of_problems = float(np.var(problem_means, ddof=1)) / n if n > 1 else 0.0
    rest = table_RP - run_means[:, None] - means_P[None, :] + np.nanmean(table_RP)
    cells = int((~np.isnan(rest)).sum())
    freedom_of_rest = max(1, (len(table_RP) - 1) * (n - 1))
    of_both = float(np.nansum(rest**2)) / freedom_of_rest / max(1, cells)
    half = _half_width(
        _Variance(np.array([of_runs]), runs_df),
        _Variance(np.array([of_problems]), max(1, n - 1)),
        _Variance(np.array([of_both]), freedom_of_rest),
    )
    return Interval(value, value - float(half[0]), value + float(half[0]), n)


class _Variance(NamedTuple):
    """A part of the variance of the mean, of one study or of many, and its degrees of freedom."""

    variance: Floats
    df: int


def _half_width(runs: _Variance, problems: _Variance, both: _Variance) -> Floats:
    """Half of the interval's width, of each study."""

    def quantile(freedom: Floats | int) -> Floats:
        value: Floats = np.asarray(stats.t.ppf(0.5 + LEVEL / 2, freedom))
        return value

    of_runs, of_problems, of_both = runs.variance, problems.variance, both.variance
    # Runs that differ on every problem and not in their means leave nothing but what both share.
    least = quantile(both.df) ** 2 * of_both
    if runs.df == 1:
        runs_t, problems_t = quantile(1) ** 2, quantile(problems.df) ** 2
        first = runs_t * of_runs + problems_t * np.maximum(of_problems - of_both, 0.0)
        second = runs_t * np.maximum(of_runs - of_both, 0.0) + problems_t * of_problems
        return np.sqrt(np.maximum(np.maximum(first, second), least))
    # Sampling noise is in both parts; it is taken out once, but never below the larger part.
    total = np.maximum(of_runs + of_problems - of_both, np.maximum(of_runs, of_problems))
    spent = of_runs**2 / runs.df + of_problems**2 / problems.df
    freedom = np.maximum(1.0, total**2 / np.where(total > 0, spent, 1.0))
    return np.sqrt(np.where(total > 0, quantile(freedom) ** 2 * total, least))


def nearly_all_agree(table_RP: Floats, bounds: Bounds) -> Interval:
    """Where all runs agree on nearly all problems, the variance of the few others says nothing: the
    bounds that are known all the same. Elsewhere an empty interval."""
    usual = float(stats.mode(table_RP, axis=None, nan_policy="omit").mode)
    moved_RP = (table_RP != usual) & ~np.isnan(table_RP)
    alike = None
    if int(moved_RP.any(axis=0).sum()) < FEW:
        means_P = avg_at_k(table_RP.T)
        alike = few_differ(means_P[~np.isnan(means_P)], bounds=bounds)
    return alike or Interval(math.nan, math.inf, -math.inf, 0)


def _bootstrap(table_RP: Floats, means: Mapping[str, Sequence[float]], seed: int) -> Interval:
    """Percentiles over `RESAMPLES` draws of bases, seeds within them, and problems."""
    rng = np.random.default_rng(seed)
    sizes = [len(values) for values in means.values()]
    firsts = np.cumsum([0, *sizes[:-1]])
    weight_KR = np.zeros((RESAMPLES, len(table_RP)))
    for _ in sizes:
        base_K = rng.integers(len(sizes), size=RESAMPLES)
        for base, (first, size) in enumerate(zip(firsts, sizes, strict=True)):
            rows = np.flatnonzero(base_K == base)
            drawn = rng.multinomial(size, np.full(size, 1 / size), size=len(rows))
            weight_KR[rows, first : first + size] += drawn / (size * len(sizes))
    known_RP = ~np.isnan(table_RP)
    problems = table_RP.shape[1]
    count_KP = rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES)
    asked_KR = count_KP @ known_RP.T.astype(np.float64)
    mean_KR = count_KP @ np.nan_to_num(table_RP).T / np.maximum(asked_KR, 1)
    weight_KR = weight_KR * (asked_KR > 0)
    values_K = (weight_KR * mean_KR).sum(axis=1) / weight_KR.sum(axis=1)
    value = float(np.mean([np.mean(values) for values in means.values()]))
    return Interval(value, *percentiles(values_K), int(known_RP.any(axis=0).sum()))


def _scored(seeds: Mapping[int, Floats]) -> dict[int, Floats]:
    runs = {seed: np.asarray(values, dtype=np.float64) for seed, values in seeds.items()}
    return {seed: run for seed, run in runs.items() if (~np.isnan(run)).any()}


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else math.nan
