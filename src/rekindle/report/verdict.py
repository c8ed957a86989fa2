"""What can be claimed: the change of each recipe on the same problems, with its interval.

Runs that repeat one recipe (other seed, other base of the same kind) are one arm and are judged
together; every other run is an arm of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rekindle.errors import DataError, RekindleError
from rekindle.evals.compare import compare_many
from rekindle.evals.reading import Eval, read_eval
from rekindle.report.formatting import (
    change_text,
    grouped,
    level_title,
    listed,
    percent,
    plural,
    points,
)
from rekindle.report.load import RunData
from rekindle.report.reading import number
from rekindle.report.run_files import Evaluation, Metric, levels_of

_REPEAT_SUFFIX = re.compile(r"[-_](s|seed)\d+(?=(/final)?/?$)")
_NOT_THE_RECIPE = ("seed", "device", "log", "checkpoint")
HEADLINE = "pass@1"
PASS_AT = re.compile(r"pass@([0-9]{1,9})")


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but seed and base."""

    label: str
    runs: Sequence[RunData]


@dataclass(frozen=True)
class VerdictRow:
    """One claim: a metric before and after on the same problems, and the paired change.

    `change` is None when nothing can be compared; `reason` then says why. `main` marks the row that
    the summary speaks of. With several runs, `before` and `after` hold the mean, least and most.
    """

    subject: str
    where: str
    metric: str
    split: str
    before: Metric | None = None
    after: Metric | None = None
    change: Metric | None = None
    n_problems: int = 0
    n_samples: int = 0
    n_runs: int = 1
    reason: str = ""
    main: bool = False
    word: str = ""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `cannot tell`, or `not compared`; `word` where a study gave one."""
        if self.word:
            return self.word
        change = self.change
        if change is None or change.value is None:
            return "not compared"
        if change.low is None or change.high is None:
            return "cannot tell"
        return "better" if change.low > 0 else "worse" if change.high < 0 else "cannot tell"

    @property
    def change_text(self) -> str:
        """`+12.4 [+9.1, +15.8]`, in percentage points (`nll`: in nats)."""
        value, low, high, _ = self.change or Metric(None, None, None, None)
        return change_text(self.metric, value, low, high)


def arms_of(runs: Sequence[RunData]) -> list[Arm]:
    """Runs by recipe, in the order given, under names that differ."""
    by_recipe = grouped(runs, _recipe_key)
    labels = [
        f"{first.method} on {first.task}" if others else first.name
        for first, *others in by_recipe.values()
    ]
    return [
        Arm(
            label=label if labels.count(label) == 1 else listed([run.name for run in members]),
            runs=members,
        )
        for label, members in zip(labels, by_recipe.values(), strict=True)
    ]


def verdict_rows(arms: Sequence[Arm]) -> list[VerdictRow]:
    """The claims of each arm: the main one, the same at the largest k, then the other levels.

    Training that sharpens raises pass@1 and lowers pass@k, so the largest k is always claimed too,
    and named in the summary when it got worse.
    """
    rows: list[VerdictRow] = []
    for arm in arms:
        main = _main_level(arm)
        rows.append(_row(arm.label, arm.runs, main, main=True))
        largest = _largest_k([e for run in arm.runs for e in run.evaluations], main)
        if largest:
            broad = _row(arm.label, arm.runs, main, metric=largest)
            rows.append(replace(broad, main=broad.verdict == "worse"))
        rows += [_row(arm.label, arm.runs, level) for level in _levels(arm) if level != main]
    return rows


def single_rows(arms: Sequence[Arm]) -> list[VerdictRow]:
    """The main claim of each run on its own, for arms of several runs."""
    return [
        _row(run.name, [run], _main_level(arm), main=True)
        for arm in arms
        if len(arm.runs) > 1
        for run in arm.runs
    ]


def sentence(row: VerdictRow) -> str:
    """A claim in words."""
    if row.change is None or row.before is None or row.after is None:
        return f"{row.subject}: not compared, {row.reason}."
    subject = row.subject if row.n_runs == 1 else f"{row.subject} (mean of {row.n_runs} runs)"
    low, high = row.change.low, row.change.high
    interval = (
        "no interval"
        if low is None or high is None
        else f"95 % interval {points(low)} to {points(high)}"
    )
    return (
        f"{subject}: {row.metric} on {row.where} went from {percent(row.before.value)} to "
        f"{percent(row.after.value)}, a change of {points(row.change.value)} points ({interval}, "
        f"paired over {row.n_problems:,} {row.split} problems with "
        f"{plural(row.n_samples, 'sample')} each): {row.verdict}."
    )


def seed_caution(arms: Sequence[Arm]) -> str:
    """How far the number of trainings lets a claim reach."""
    alone = [arm for arm in arms if len(arm.runs) == 1]
    if len(alone) == len(arms):
        return (
            "Each recipe was trained once. The intervals cover the choice of problems and the "
            "draws of samples, but not how far two trainings differ, so one seed decides nothing "
            "about a method. Train several seeds before you claim more than “this model changed”."
        )
    most = max(len(arm.runs) for arm in arms)
    text = (
        f"Changes are means over up to {most} trainings of a recipe. So few trainings say little "
        "about their spread. Look at the runs one by one, below the table."
    )
    return text + (" Where a recipe was trained once, one seed decides nothing." if alone else "")


def _row(
    subject: str,
    runs: Sequence[RunData],
    level: str | None,
    *,
    metric: str | None = None,
    main: bool = False,
) -> VerdictRow:
    both = [(run.before, run.after) for run in runs]
    pairs = [(before, after) for before, after in both if before is not None and after is not None]
    shown = pairs[0][1] if pairs else next((e for run in runs for e in run.evaluations), None)
    row = VerdictRow(
        subject=subject,
        where=level_title(level),
        metric=metric or HEADLINE,
        split=shown.split if shown else "",
        n_problems=shown.problems_at(level) if shown else 0,
        n_samples=shown.n_samples if shown else 0,
        n_runs=len(runs),
        main=main,
    )
    if len(pairs) < len(runs):
        return replace(row, reason=_why_no_pair(runs))
    names = _shared_metrics([e for pair in pairs for e in pair], level)
    metric = metric or (HEADLINE if HEADLINE in names else next(iter(names), None))
    if metric is None:
        return replace(row, reason="the two evaluations have no metric in common here")
    try:
        outcomes = [(_outcomes(b, metric), _outcomes(a, metric)) for b, a in pairs]
        change = compare_many(outcomes, metric=metric, level=level)
    except RekindleError as error:
        return replace(row, reason=error.what)
    return replace(
        row,
        metric=metric,
        before=_over_runs([before for before, _ in pairs], level, metric),
        after=_over_runs([after for _, after in pairs], level, metric),
        change=Metric(
            number(change.value), number(change.ci_low), number(change.ci_high), change.n_problems
        ),
        n_problems=change.n_problems,
    )


def _outcomes(evaluation: Evaluation, metric: str) -> Eval:
    """What a paired comparison needs of a file: its problems, and the outcome of each."""
    incomplete = DataError(f"{evaluation.path.name} has no whole table of outcomes")
    try:
        result = read_eval(evaluation.path)
    except DataError as error:
        raise incomplete from error
    if metric.startswith("maj@") and result.get("majority") is None:
        raise incomplete
    return result


def _over_runs(evaluations: Sequence[Evaluation], level: str | None, metric: str) -> Metric:
    """A single run's own estimate; of several runs the mean, with the least and the most."""
    cells = [evaluation.at(level)[metric] for evaluation in evaluations]
    if len(cells) == 1:
        return cells[0]
    values = [cell.value for cell in cells if cell.value is not None]
    return Metric(sum(values) / len(values), min(values), max(values), cells[0].n)


def _why_no_pair(runs: Sequence[RunData]) -> str:
    without = [run for run in runs if run.before is None or run.after is None]
    who = "" if len(runs) == 1 else f"{listed([run.name for run in without])} "
    if all(not run.evaluations for run in without):
        return f"{who}not evaluated yet"
    if all(run.before is None for run in without):
        return f"{who}not evaluated before the first step"
    if all(run.after is None for run in without):
        return f"{who}not evaluated after the first step yet"
    return f"{who}not evaluated both before and after"


def _shared_metrics(evaluations: Sequence[Evaluation], level: str | None) -> list[str]:
    """What every evaluation has a value of."""
    cells = [each.at(level) for each in evaluations]
    return [
        name
        for name in (cells[0] if cells else ())
        if all(name in these and these[name].value is not None for these in cells)
    ]


def _largest_k(evaluations: Sequence[Evaluation], level: str | None) -> str | None:
    """pass@k at the largest k > 1 that every evaluation has."""
    matches = map(PASS_AT.fullmatch, _shared_metrics(evaluations, level))
    largest = max((int(match[1]) for match in matches if match), default=1)
    return f"pass@{largest}" if largest > 1 else None


def _main_level(arm: Arm) -> str | None:
    """The level that was trained on when it is one and was evaluated, else all problems."""
    trained = arm.runs[0].settings.levels
    return trained[0] if len(trained) == 1 and trained[0] in _levels(arm) else None


def _levels(arm: Arm) -> list[str | None]:
    """Levels with their own row; a single level is the same as all problems."""
    return levels_of(e for run in arm.runs for e in run.evaluations)


def _recipe_key(run: RunData) -> str:
    """The settings without what only repeats the run; a run without settings repeats nothing.

    Runs that were evaluated after different steps are not repeats: an unfinished one would be
    averaged with finished ones.
    """
    flat = run.settings.flat
    if not flat:
        return f"path {run.path}"
    kept = {k: v for k, v in flat.items() if k.partition(".")[0] not in _NOT_THE_RECIPE}
    if "model.name" in kept:
        kept["model.name"] = _REPEAT_SUFFIX.sub("", kept["model.name"])
    return json.dumps([kept, run.after.step if run.after else None], sort_keys=True)
