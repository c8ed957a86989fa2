"""Shares of all-wrong, tied, mixed and all-right groups: overall, over steps, by prompt, in tokens.

Beside each share stands what the mean accuracy p and the group's size G imply if every prompt were
as hard as the mean: (1 - p)^G all wrong, p^G all right. What is observed above that says that
prompts differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rekindle.signals.logs.run_log import Floats, Ints, RunLog
from rekindle.signals.run_diagnosis.groups import (
    ALL_RIGHT,
    ALL_WRONG,
    CLASSES,
    MISSING,
    MIXED,
    TIED,
    GroupTable,
)
from rekindle.signals.run_diagnosis.log_finding import (
    Estimate,
    LogFinding,
    difference,
    mean,
    ratio,
)

BINS = 20  # of steps, where a log has more of them
SHOWN = ("all_wrong", "mixed", "all_right", "tied")
_CODE = {"all_wrong": ALL_WRONG, "mixed": MIXED, "all_right": ALL_RIGHT, "tied": TIED}


class StepShares(NamedTuple):
    """Shares of the groups of some steps that follow each other."""

    first: int
    last: int
    groups: int
    share: dict[str, Estimate]
    accuracy: Estimate


def shares(table: GroupTable, kept_P: np.ndarray | None = None) -> dict[str, Estimate]:
    """The share of each class among groups with a verdict, with intervals over prompts."""
    kept = slice(None) if kept_P is None else kept_P
    return {
        name: mean(table.share(_CODE[name])[kept], table.prompt_P[kept], bounded=True)
        for name in SHOWN
    }


def late(table: GroupTable) -> np.ndarray:
    """The groups of the last third of steps, by count of groups; all where there are no steps."""
    if not len(table) or (table.step_P < 0).any():
        return np.ones(len(table), dtype=np.bool_)
    edge = np.sort(table.step_P)[int(len(table) * 2 / 3)]
    return np.asarray(table.step_P >= edge)


def by_step(log: RunLog, table: GroupTable, verdict_N: Floats) -> list[StepShares]:
    """Shares over steps, at most `BINS` rows of as many steps each."""
    steps = np.unique(table.step_P)
    if not len(steps) or steps[0] < 0:
        return []
    rows = []
    for chunk in np.array_split(steps, min(BINS, len(steps))):
        kept_P = (table.step_P >= chunk[0]) & (table.step_P <= chunk[-1])
        kept_N = log.data_N & (log.step_N >= chunk[0]) & (log.step_N <= chunk[-1])
        accuracy = mean(verdict_N[kept_N], log.prompt_N[kept_N])
        counts = int(kept_P.sum())
        rows.append(
            StepShares(int(chunk[0]), int(chunk[-1]), counts, shares(table, kept_P), accuracy)
        )
    return rows


def share_findings(log: RunLog, table: GroupTable, verdict_N: Floats) -> list[LogFinding]:
    """The shares, what accuracy implies, and where they went."""
    all_shares = shares(table)
    data = log.data_N
    accuracy = mean(verdict_N[data], log.prompt_N[data])
    says = {
        "all_wrong": "groups without a right answer: the advantage is 0, or not about the answer",
        "mixed": "groups with right and wrong answers: where the signal is",
        "all_right": "groups of right answers alone: learnt, nothing to compare",
        "tied": "groups of one partial score",
    }
    rests = f"{len(table)} groups of {table.usual_size}, over prompts"
    found = [LogFinding.of(f"share/{name}", all_shares[name], says[name], rests) for name in SHOWN]
    found.append(LogFinding.of("accuracy", accuracy, "mean verdict", f"{int(data.sum())} answers"))
    size, p = table.usual_size, accuracy.value
    if size and 0 <= p <= 1:
        for name, share in (("all_wrong", (1 - p) ** size), ("all_right", p**size)):
            one = Estimate(share, np.nan, np.nan, accuracy.n)
            text = f"{name} groups of {size} if every prompt were as hard as the mean"
            found.append(LogFinding.of(f"share/{name}/expected", one, text, "accuracy and size"))
    last = late(table)
    if 0 < last.sum() < len(table):
        for name in ("all_wrong", "mixed", "all_right"):
            moved = difference(table.share(_CODE[name]), last, table.prompt_P)
            text = f"{name} groups, last third of the steps minus the rest"
            found.append(LogFinding.of(f"share/{name}/change", moved, text, rests))
    return found


# --- by prompt


class PromptRow(NamedTuple):
    """What became of one prompt."""

    prompt: int
    groups: int
    answers: int
    right: int
    kind: str  # never, always, came, went, mixed, once


def prompt_rows(table: GroupTable) -> list[PromptRow]:
    """Every prompt with a verdict: never solved, always solved, or solved in part.

    `came` and `went` are prompts of at least two groups whose first was all wrong and whose last
    was not, and the other way round.
    """
    order = np.lexsort((np.arange(len(table)), table.prompt_P))
    order = order[table.class_P[order] != MISSING]
    prompts, first = np.unique(table.prompt_P[order], return_index=True)
    rows = []
    for prompt, start, end in zip(prompts, first, [*first[1:], len(order)], strict=True):
        mine: Ints = order[start:end]
        answers, right = int(table.known_P[mine].sum()), int(table.right_P[mine].sum())
        kind = "mixed"
        if right == 0 and (table.class_P[mine] == ALL_WRONG).all():
            kind = "never"
        elif right == answers:
            kind = "always"
        elif len(mine) > 1 and table.class_P[mine[0]] == ALL_WRONG:
            kind = "came" if table.class_P[mine[-1]] != ALL_WRONG else "mixed"
        elif len(mine) > 1 and table.class_P[mine[-1]] == ALL_WRONG:
            kind = "went"
        rows.append(PromptRow(int(prompt), len(mine), answers, right, kind))
    return rows


def prompt_findings(rows: list[PromptRow], table: GroupTable) -> list[LogFinding]:
    """Which share of the prompts never moves, is always solved, came and went."""
    says = {
        "never": "prompts of which no answer was ever right",
        "always": "prompts of which every answer was right",
        "came": "prompts whose first group was all wrong and whose last was not",
        "went": "prompts whose last group was all wrong and whose first was not",
    }
    kinds = np.array([row.kind for row in rows])
    number = np.arange(len(rows))
    several = np.array([row.groups > 1 for row in rows], dtype=np.bool_)
    found = []
    for kind, text in says.items():
        share = (kinds == kind).astype(np.float64)
        kept = several if kind in ("came", "went") else np.ones(len(rows), dtype=np.bool_)
        if kept.any():
            estimate = mean(share[kept], number[kept], bounded=True)
            asked = "asked more than once" if kind in ("came", "went") else "with a verdict"
            rests = f"{int(kept.sum())} prompts {asked}"
            found.append(LogFinding.of(f"prompts/{kind}", estimate, text, rests))
    return found


# --- compute


def compute_findings(table: GroupTable) -> list[LogFinding]:
    """What was spent on groups without signal: of tokens, else of characters."""
    known = ~np.isnan(table.tokens_P).all() if len(table) else False
    spent = table.tokens_P if known else table.chars_P
    dead = np.where(table.spread_P, 0.0, spent)
    estimate = ratio(dead, spent, table.prompt_P)
    unit = "tokens" if known else "characters, the log has no token counts"
    return [
        LogFinding.of(
            "compute/dead",
            estimate,
            f"share of the {unit.split(',')[0]} that went into groups whose scores are all equal",
            f"{unit}, over prompts",
        )
    ]


def class_name(code: int) -> str:
    """The name of a class."""
    return CLASSES[code]


def class_code(name: str) -> int:
    """The place in `CLASSES` of a class that is shown."""
    return _CODE[name]
