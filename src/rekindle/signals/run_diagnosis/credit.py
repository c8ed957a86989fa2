"""What each group method would have put on the rows of a log: the training step's own functions.

Axes: N rows, P groups.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rekindle.errors import DataError
from rekindle.methods.catalog import METHODS
from rekindle.signals.logs.run_log import Floats, RunLog
from rekindle.signals.run_diagnosis.groups import ALL_WRONG, MISSING, MIXED, GroupTable

MOST_GROUPS = 2_000  # that are looked at, evenly spread over the log
TOP = 0.1  # of the rows with an advantage


class MethodCredit(NamedTuple):
    """How a method's advantages lie on a log's groups.

    Attributes:
        method: by its name in `rekindle methods`.
        groups: that entered, whole ones with a score in each row.
        with_signal: share of the groups with an advantage that is not 0.
        dead_with_signal: share of the all-wrong ones.
        size: mean |A| in all-wrong groups over that in mixed ones; nan without either.
        top: share of the sum of |A| that its largest tenth of the rows holds.
    """

    method: str
    groups: int
    with_signal: float
    dead_with_signal: float
    size: float
    top: float


def method_credits(
    log: RunLog, table: GroupTable, verdict_N: Floats, *, rm: str | None, methods: tuple[str, ...]
) -> tuple[list[MethodCredit], dict[str, str]]:
    """The credit of each method, and why the others have none.

    Args:
        verdict_N: [N] right or wrong, 0 to 1.
        rm: the reward of `log.parts` that is a reward model's.
    """
    rows = _spread_rows(log, table, verdict_N)
    credits, why = list[MethodCredit](), dict[str, str]()
    for name in methods:
        lacks = _lacks(name, log, rows, verdict_N, rm)
        if lacks is not None:
            why[name] = lacks
            continue
        try:
            advantage = _advantages(name, log, rows, verdict_N, rm)
        except DataError as error:
            why[name] = error.what
            continue
        credits.append(_credit(name, table, log, rows, advantage))
    return credits, why


def _lacks(
    name: str, log: RunLog, rows: np.ndarray, verdict_N: Floats, rm: str | None
) -> str | None:
    """What of a method's needs the log does not have."""
    needs = METHODS[name].needs
    if not len(rows):
        return "the log has no whole group with verdicts of 0 to 1"
    if "reward model" in needs and rm is None:
        return "the log has no reward model's scores (--map rm=COLUMN names them)"
    if METHODS[name].section == "lens" and np.isnan(log.logprob_N[rows]).any():
        return "the log has no log-probs of the answers"
    return None


def _spread_rows(log: RunLog, table: GroupTable, verdict_N: Floats) -> np.ndarray:
    """The rows of whole groups with verdicts of 0 to 1, at most `MOST_GROUPS` of them."""
    whole_P = (table.class_P != MISSING) & (table.known_P == table.size_P) & (table.size_P > 1)
    places = np.flatnonzero(whole_P)
    if len(places) > MOST_GROUPS:
        places = places[np.linspace(0, len(places) - 1, MOST_GROUPS).astype(np.int64)]
    chosen_P = np.zeros(len(table) + 1, dtype=np.bool_)
    chosen_P[places] = True
    rows = np.flatnonzero(chosen_P[table.row_N] & (table.row_N >= 0))
    inside = (verdict_N[rows] >= 0) & (verdict_N[rows] <= 1)
    return rows if inside.all() else rows[:0]


def _advantages(
    name: str, log: RunLog, rows: np.ndarray, verdict_N: Floats, rm: str | None
) -> Floats:
    from rekindle.training.advantages import group_advantages

    is_blend = "reward model" in METHODS[name].needs and rm is not None
    logprobs = log.logprob_N[rows]
    tokens = np.where(np.isnan(log.tokens_N[rows]), log.chars_N[rows], log.tokens_N[rows])
    return np.array(
        group_advantages(
            name,
            verdict_N[rows].tolist(),
            log.group_N[rows].tolist(),
            rm_scores=log.parts[rm][rows].tolist() if is_blend and rm is not None else None,
            logprobs=None if np.isnan(logprobs).any() else logprobs.tolist(),
            lengths=tokens.tolist(),
        )
    )


def _credit(
    name: str, table: GroupTable, log: RunLog, rows: np.ndarray, advantage: Floats
) -> MethodCredit:
    size = np.abs(advantage)
    places, number = np.unique(table.row_N[rows], return_inverse=True)
    largest = np.zeros(len(places))
    np.maximum.at(largest, number, size)
    kind = table.class_P[places]
    dead, mixed = kind[number] == ALL_WRONG, kind[number] == MIXED
    total = size.sum()
    top = np.sort(size)[::-1][: max(1, math.ceil(TOP * len(size)))].sum()
    return MethodCredit(
        name,
        len(places),
        float((largest > 0).mean()),
        float((largest[kind == ALL_WRONG] > 0).mean()) if (kind == ALL_WRONG).any() else math.nan,
        float(size[dead].mean() / size[mixed].mean())
        if dead.any() and mixed.any() and size[mixed].any()
        else math.nan,
        float(top / total) if total else math.nan,
    )
