"""Two logs side by side, prompt by prompt: of what both asked, how the answers differ.

A prompt counts once, however often it was asked: what is compared is its mean verdict and the share
of its groups of each class, over the whole of each log. Prompts are the same where every character
is (`RunLog.prompt_keys`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rekindle.evals.intervals import few_differ
from rekindle.signals.logs.run_log import Floats, Ints
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis
from rekindle.signals.run_diagnosis.log_finding import Estimate, mean
from rekindle.signals.run_diagnosis.shares import SHOWN, class_code

MEASURES = ("accuracy", *SHOWN)


class SharedPrompt(NamedTuple):
    """A prompt that both logs asked: its mean verdict in each, and by what that was asked."""

    prompt: str
    first: float
    second: float


class LogPair(NamedTuple):
    """The second log against the first.

    Attributes:
        first, second: places of the logs among those that were given.
        shared: prompts that both asked, with a verdict in each.
        only_first, only_second: prompts of one log alone.
        differences: second minus first of each of `MEASURES`, over the shared prompts.
        prompts: the shared ones, those that differ most first.
    """

    first: int
    second: int
    shared: int
    only_first: int
    only_second: int
    differences: Mapping[str, Estimate]
    prompts: Sequence[SharedPrompt]

    def as_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        sizes = {"shared": self.shared, "only_first": self.only_first}
        plain = {
            name: {key: _number(value) for key, value in estimate._asdict().items()}
            for name, estimate in self.differences.items()
        }
        return {"prompts": {**sizes, "only_second": self.only_second}, **plain}


def pair_logs(diagnoses: Sequence[LogDiagnosis]) -> list[LogPair]:
    """Each further log against the first."""
    means = [_by_prompt(diagnosis) for diagnosis in diagnoses]
    return [_pair(diagnoses, means, second) for second in range(1, len(diagnoses))]


def _pair(
    diagnoses: Sequence[LogDiagnosis], means: Sequence[dict[str, Floats]], second: int
) -> LogPair:
    """Second minus first."""
    one, other = (_asked(diagnoses[place], means[place]) for place in (0, second))
    keys = [key for key in one if key in other]
    mine = np.array([one[key] for key in keys], dtype=np.int64)
    theirs = np.array([other[key] for key in keys], dtype=np.int64)
    values = {name: (means[0][name][mine], means[second][name][theirs]) for name in MEASURES}
    before, after = values["accuracy"]
    order = np.argsort(-np.abs(after - before), kind="stable")
    prompts = diagnoses[0].log.prompts
    return LogPair(
        first=0,
        second=second,
        shared=len(keys),
        only_first=len(one) - len(keys),
        only_second=len(other) - len(keys),
        differences={name: _difference(*pair) for name, pair in values.items()},
        prompts=[
            SharedPrompt(prompts[mine[place]], float(before[place]), float(after[place]))
            for place in order.tolist()
        ],
    )


def _difference(before: Floats, after: Floats) -> Estimate:
    """A t-interval over prompts; where hardly any differ, one that allows for those not seen."""
    change = after - before
    change = change[~np.isnan(change)]
    found = mean(change, np.arange(len(change)))
    if found.n < 2:
        return found
    few = few_differ(change, bounds=(-1.0, 1.0))
    if few is not None:
        return Estimate(*few)
    return found._replace(ci_low=max(-1.0, found.ci_low), ci_high=min(1.0, found.ci_high))


def _asked(diagnosis: LogDiagnosis, means: Mapping[str, Floats]) -> dict[str, int]:
    """The number of each prompt that has a verdict, by its key."""
    known = ~np.isnan(means["accuracy"])
    return {key: i for i, key in enumerate(diagnosis.log.prompt_keys) if key and known[i]}


def _by_prompt(diagnosis: LogDiagnosis) -> dict[str, Floats]:
    """Each of `MEASURES` as a mean over what was asked of a prompt, nan where it is undefined."""
    log, table = diagnosis.log, diagnosis.table
    count = len(log.prompts)
    verdict = diagnosis.verdicts.value_N[log.data_N]
    found = {"accuracy": _means(verdict, log.prompt_N[log.data_N], count)}
    for name in SHOWN:
        found[name] = _means(table.share(class_code(name)), table.prompt_P, count)
    return found


def _means(value: Floats, prompt: Ints, count: int) -> Floats:
    known = ~np.isnan(value)
    total = np.bincount(prompt[known], weights=value[known], minlength=count)
    each = np.bincount(prompt[known], minlength=count)
    return np.where(each > 0, total / np.maximum(each, 1), np.nan)


def _number(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- in words


def pair_lines(pair: LogPair, names: Sequence[str]) -> list[str]:
    """What the command prints of two logs."""
    one, other = names[pair.first], names[pair.second]
    lines = [
        f"{other} against {one}: {pair.shared} prompts in both, {pair.only_first} in {one} alone, "
        f"{pair.only_second} in {other} alone"
    ]
    if not pair.shared:
        return [*lines, "  no prompt is in both, character by character: nothing can be paired"]
    lines += [
        f"  {name.replace('_', ' '):<9}  {points(difference)}"
        for name, difference in pair.differences.items()
    ]
    return lines


def points(difference: Estimate) -> str:
    """`+12.0 points [+3.1, +20.9], n 40`, or that it is undefined."""
    if math.isnan(difference.value):
        return "undefined"
    ends = f" [{100 * difference.ci_low:+.1f}, {100 * difference.ci_high:+.1f}]"
    interval = "" if math.isnan(difference.ci_low) else ends
    return f"{100 * difference.value:+.1f} points{interval}, n {difference.n}"
