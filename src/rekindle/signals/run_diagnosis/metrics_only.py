r"""What metrics without rollouts bound, and what to switch on.

Let every reward be 0 or 1, m their mean at a step and f the share of groups whose rewards are all
equal: f = w + r, all wrong and all right. A mixed group of G answers has a mean of 1/G to 1 - 1/G,
and r + (1 - f) (mean of the mixed) = m, so that

    r in [m - (1 - f)(1 - 1/G), m - (1 - f)/G]  and in [0, f],    w = f - r,

with 1/G taken for 0 where G is not known. Without f, a group with a right answer has at least one
in G: w >= 1 - G m, and w <= 1 - m. These are bounds on the groups that were logged, without error;
what is said of the run rests on their mean over steps and its interval (`series.block_mean`).

That rewards are 0 or 1 shows in their variance: it is m (1 - m) N / (N - 1) with one N, the
rewards of a batch, at all steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from rekindle.signals.findings import MOST
from rekindle.signals.logs.record import LogAbout
from rekindle.signals.run_diagnosis.cause import CUT, Cause
from rekindle.signals.run_diagnosis.log_finding import (
    LEVEL,
    Estimate,
    Floats,
    LogFinding,
    percent,
)
from rekindle.signals.run_diagnosis.series import Series, block_mean, change, find_series, together

POINTS = 0.05  # half of the interval that is wanted
WORST = 0.5  # a share whose interval is widest
MOST_GROUPS = 512  # a step
BOUND_NULL = "at most half of the groups are of this class: the lower bound's interval is not above"
_TRAINERS = (
    ("frac_reward_zero_std", "trl", "GRPOConfig(log_completions=True, logging_steps=1)"),
    ("critic/", "verl", "trainer.rollout_data_dir=DIR"),
    ("actor/", "verl", "trainer.rollout_data_dir=DIR"),
    ("agg/all/", "prime_rl", "nothing: it writes rollouts/ unless that is switched off"),
    ("batch/filtered_prompts", "open_instruct", "--save_traces --rollouts_save_path DIR"),
    ("val/solve_rate", "open_instruct", "--save_traces --rollouts_save_path DIR"),
)
_ANY = (
    "GRPOConfig(log_completions=True, logging_steps=1) in TRL, trainer.rollout_data_dir=DIR in "
    "verl, --save_traces --rollouts_save_path DIR in open-instruct; NeMo-RL and prime-rl write "
    "rollouts by default"
)

History = Sequence[Mapping[str, float]]


class Bounds(NamedTuple):
    """Of the shares of all-wrong and all-right groups at each step, [T] each."""

    wrong_low_T: Floats
    wrong_high_T: Floats
    right_low_T: Floats
    right_high_T: Floats


def bound_shares(mean_T: Floats, equal_T: Floats | None, size: int | None) -> Bounds:
    """What the mean of 0/1 rewards, and the share of groups of equal ones, leave possible.

    Args:
        mean_T: [T] mean reward of a step.
        equal_T: [T] share of groups without spread; None: not logged.
        size: G; None: not known.
    """
    least = 0.0 if size is None else 1 / size
    if equal_T is not None:
        mixed_T = 1 - equal_T
        right_low_T = np.clip(mean_T - mixed_T * (1 - least), 0, equal_T)
        right_high_T = np.clip(mean_T - mixed_T * least, 0, equal_T)
        return Bounds(equal_T - right_high_T, equal_T - right_low_T, right_low_T, right_high_T)
    none_T = np.zeros_like(mean_T)
    if size is None:
        return Bounds(none_T, 1 - mean_T, none_T, mean_T)
    wrong_low_T = np.clip(1 - size * mean_T, 0, 1)
    return Bounds(wrong_low_T, 1 - mean_T, np.clip(1 - size * (1 - mean_T), 0, 1), mean_T)


def batch_size(mean_T: Floats, std_T: Floats) -> float | None:
    """Rewards of a batch, by their variance, where all are 0 or 1; None: they are not.

    One N fits m (1 - m) N / (N - 1) to within 1 % at every step where rewards differ.
    """
    spread_T = (mean_T > 0) & (mean_T < 1) & (std_T > 0)
    if spread_T.sum() < 2 or (mean_T < 0).any() or (mean_T > 1).any():
        return None
    with np.errstate(over="ignore"):
        ratio_T = std_T[spread_T] ** 2 / (mean_T[spread_T] * (1 - mean_T[spread_T]))
    ratio = float(np.median(ratio_T))
    if not math.isfinite(ratio) or ratio < 1 - 1e-3:
        return None
    if np.abs(ratio_T / ratio - 1).max() > 0.01:
        return None
    return ratio / (ratio - 1) if ratio > 1 + 1e-4 else math.inf


def groups_a_step(equal_T: Floats) -> int | None:
    """The smallest number of groups of which every share is a whole part; None: none is."""
    if len(np.unique(equal_T)) < 3:
        return None
    for count in range(2, MOST_GROUPS + 1):
        if np.abs(equal_T * count - np.round(equal_T * count)).max() < 1e-4 * count:
            return count
    return None


def groups_needed(share: float) -> int:
    """Groups of different prompts for a 95 % interval of 5 points to either side."""
    z = float(special.ndtri(0.5 + LEVEL / 2))
    return math.ceil(z * z * share * (1 - share) / POINTS**2)


def metrics_findings(about: LogAbout) -> list[LogFinding]:
    """What the metrics of a run say of its groups, and how many steps would tell a share."""
    history = about.history
    reward, equal = find_series(history, "reward"), find_series(history, "zero_std")
    found = []
    if len(reward):
        text = "reward of the last third of the steps minus that of the first"
        moved = change(reward.value_T)
        found.append(LogFinding.of("metrics/reward/change", moved, text, _rests(reward)))
    counted = counted_findings(history)
    found += counted if len(counted) > 1 else counted + _bounds(history, about.group_size)
    found += [*_flat(history), *_removed(history), *_cut(history)]
    return [*found, _needed(equal)]


def counted_findings(history: History) -> list[LogFinding]:
    """Shares that the trainer counted itself, over all steps that it logged."""
    found = []
    equal = find_series(history, "zero_std")
    if len(equal):
        estimate = block_mean(equal.value_T, bounded=True)
        text = "groups whose rewards are all equal: all wrong, all right and tied look the same"
        found.append(LogFinding.of("metrics/no_spread", estimate, text, _rests(equal)))
    for kind in ("all_wrong", "all_right"):
        series = find_series(history, kind)
        if len(series):
            estimate = block_mean(series.value_T, bounded=True)
            words = kind.replace("_", " ")
            text = f"of the groups that were generated are {words}, as the trainer has it"
            name = f"metrics/{kind}"
            found.append(LogFinding.of(name, estimate, text, _rests(series), BOUND_NULL))
    return found


def metrics_cause(findings: Sequence[LogFinding]) -> Cause | None:
    """A cause that the bounds alone bear out; None: none."""
    by_name = {finding.name: finding for finding in findings}
    for name, kind in (("too_hard", "all_wrong"), ("too_easy", "all_right")):
        for key in (f"metrics/{kind}", f"metrics/{kind}/least"):
            found = by_name.get(key)
            if found is not None and found.ci_low > MOST:
                return Cause(name, f"{percent(found.value)} {found.says}", (key,))  # type: ignore[arg-type]
    cut, wrong = by_name.get("metrics/cut"), by_name.get("metrics/cut_of_wrong/least")
    if cut is not None and wrong is not None and cut.ci_low > CUT and wrong.ci_low > MOST:
        return Cause("truncation", f"{percent(wrong.value)} {wrong.says}", (wrong.name, cut.name))
    return None


def switch_on(about: LogAbout) -> str:
    """The setting that would write rollouts, in the trainer's own words."""
    names = {name.removeprefix("train/") for row in about.history for name in row}
    for start, _, setting in _TRAINERS:
        if any(name.startswith(start) for name in names):
            return setting
    return _ANY


# --- parts


def _rests(*series: Series) -> str:
    return f"{' and '.join(one.name for one in series)}, {len(series[0])} logged steps"


def _bounds(history: History, size: int | None) -> list[LogFinding]:
    """Bounds of the shares, where every reward is 0 or 1."""
    reward, spread = find_series(history, "reward"), find_series(history, "reward_std")
    equal = find_series(history, "zero_std")
    if not len(reward) or not len(equal):
        return []
    mean_T, equal_T = together(reward, equal)
    if not len(mean_T):
        return []
    parts = {name for row in history for name in row if name.startswith("rewards/")}
    several = len({name.split("/")[1] for name in parts}) > 1
    values = together(reward, spread) if len(spread) else None
    if several or values is None or batch_size(*values) is None:
        why = "several rewards are summed" if several else "rewards are not all 0 or 1"
        text = f"{why}: the metrics bound no share of all-wrong or all-right groups"
        nothing = Estimate(math.nan, math.nan, math.nan, len(mean_T))
        return [LogFinding.of("metrics/bounds", nothing, text, _rests(reward, equal))]
    bounds = bound_shares(mean_T, equal_T, size)
    rests = _rests(reward, equal)
    return [
        finding
        for kind, low_T, high_T in (
            ("all_wrong", bounds.wrong_low_T, bounds.wrong_high_T),
            ("all_right", bounds.right_low_T, bounds.right_high_T),
        )
        for finding in _two(kind, low_T, high_T, rests)
    ]


def _two(kind: str, low_T: Floats, high_T: Floats, rests: str) -> list[LogFinding]:
    words = kind.replace("_", " ")
    return [
        LogFinding.of(
            f"metrics/{kind}/{name}",
            block_mean(value_T, bounded=True),
            f"of the groups, at {name}, are {words}: a bound from mean reward and groups of equal "
            "rewards",
            rests,
            BOUND_NULL if name == "least" else None,
        )
        for name, value_T in (("least", low_T), ("most", high_T))
    ]


def _flat(history: History) -> list[LogFinding]:
    """Steps at which all rewards were the same (verl logs the highest and the lowest)."""
    highest, lowest = find_series(history, "reward_max"), find_series(history, "reward_min")
    if not len(highest) or not len(lowest):
        return []
    high_T, low_T = together(highest, lowest)
    if not len(high_T):
        return []
    estimate = Estimate(float((high_T == low_T).mean()), math.nan, math.nan, len(high_T))
    text = "steps at which every answer had one and the same reward: no group had a signal"
    return [LogFinding.of("metrics/flat_steps", estimate, text, _rests(highest, lowest))]


def _removed(history: History) -> list[LogFinding]:
    """Groups that dynamic sampling removed: g batches were needed, g - 1 were not enough."""
    batches = find_series(history, "gen_batches")
    if not len(batches):
        return []
    count_T = np.maximum(batches.value_T, 1)
    low_T = np.where(count_T > 1, 1 - 1 / np.maximum(count_T - 1, 1), 0.0)
    estimate = block_mean(low_T, bounded=True)
    text = (
        f"of the groups, at least, had no spread and were removed (mean of {count_T.mean():.2g} "
        "batches a step; gen_batch_size = train_batch_size is taken)"
    )
    return [LogFinding.of("metrics/removed/least", estimate, text, _rests(batches))]


def _cut(history: History) -> list[LogFinding]:
    """Answers at the token limit: all right ones may be among them, and the rest are wrong."""
    cut, reward = find_series(history, "cut"), find_series(history, "reward")
    if not len(cut):
        return []
    text = "of the answers were cut by the token limit"
    estimate = block_mean(cut.value_T, bounded=True)
    found = [LogFinding.of("metrics/cut", estimate, text, _rests(cut))]
    if len(reward) and _within_one(history):
        cut_T, mean_T = together(cut, reward)
        least_T = np.clip((cut_T - mean_T) / np.where(mean_T < 1, 1 - mean_T, 1), 0, 1)
        text = "of the wrong answers, at least, were cut: were all right ones cut too"
        one = block_mean(least_T, bounded=True)
        name = "metrics/cut_of_wrong/least"
        found.append(LogFinding.of(name, one, text, _rests(cut, reward), BOUND_NULL))
    return found


def _within_one(history: History) -> bool:
    """Whether every reward is of 0 to 1: the share of right answers is at most their mean."""
    highest, lowest = find_series(history, "reward_max"), find_series(history, "reward_min")
    if len(highest) and len(lowest):
        return bool((highest.value_T <= 1).all() and (lowest.value_T >= 0).all())
    spread = find_series(history, "reward_std")
    return (
        bool(len(spread))
        and batch_size(*together(find_series(history, "reward"), spread)) is not None
    )


def _needed(equal: Series) -> LogFinding:
    """Steps with rollouts that give a share to 5 points."""
    share = float(np.nanmean(equal.value_T)) if len(equal) else WORST
    groups = groups_needed(share if 0 < share < 1 else WORST)
    count = groups_a_step(equal.value_T) if len(equal) else None
    formula = (
        f"{groups} groups of different prompts give a share to 5 points (1.96^2 p(1 - p) / 0.05^2"
    )
    rests = f"p = {share:.2f}" + (f", {count} groups a step" if count else "")
    steps = math.nan if count is None else float(math.ceil(groups / count))
    per = "divided by the groups of a step" if count is None else f"at {count} groups a step"
    text = f"{formula}), {per}, of steps whose rollouts are logged"
    return LogFinding.of(
        "metrics/steps_needed", Estimate(steps, math.nan, math.nan, groups), text, rests
    )
