"""The answers of a log graded again by our verifiers: what the verdict that was used let through.

    check/recall             of the answers that our check accepts, those that the verdict accepts
    check/accepts_of_wrong   of those that it rejects, those that the verdict accepts
    check/false_accepts      of those that the verdict accepts, those that our check rejects
    check/false_rejects      of those that the verdict rejects, those that our check accepts
    check/unread             rows that our check could not grade

Our check errs too. Of the battery's wrong answers (`results/verifiers.json`) it accepts none of 243
(exact), 534 (numeric) and 545 (math); an answer in a form that it does not know is one it rejects,
so look at the rows that are named before the verdict is blamed. A cut answer is read as cut.

Axes: N rows, K those that were graded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from rekindle.errors import ConfigError
from rekindle.signals.logs.run_log import Ints, RunLog
from rekindle.signals.run_diagnosis.log_finding import (
    UNDEFINED,
    Estimate,
    Floats,
    LogFinding,
    mean,
)
from rekindle.signals.run_diagnosis.within_groups import Bools

Check = Literal["exact", "numeric", "math"]
CHECKS: tuple[Check, ...] = ("exact", "numeric", "math")
MOST = 4_000  # rows that are graded, evenly spread over a larger log
NAMED = 5  # examples in a sentence
TIMEOUT = 5.0  # seconds for an answer
BATCH = 500  # texts that a pool of verifiers is handed at once
_AGREES = "0 %: a verdict that agrees with our check"
_NULL = {"recall": "100 %: a verdict that agrees with our check"}


class Regraded(NamedTuple):
    """What grading again gave.

    Attributes:
        findings: shares with intervals over prompts.
        row_K: rows that were graded.
        ours_K: our score, nan where it could not be given.
        false_accepts, false_rejects: rows where the two differ, in order.
    """

    findings: list[LogFinding]
    row_K: Ints
    ours_K: Floats
    false_accepts: list[int]
    false_rejects: list[int]

    @property
    def named_rows(self) -> dict[str, list[int]]:
        """The rows where the two differ, by the finding that they are behind."""
        return {
            "check/false_accepts": self.false_accepts,
            "check/false_rejects": self.false_rejects,
        }


def regrade_findings(
    log: RunLog, verdict_N: Floats, *, check: str, most: int = MOST
) -> list[LogFinding]:
    """The findings of `regrade`."""
    return regrade(log, verdict_N, check=check, most=most).findings


def regrade(log: RunLog, verdict_N: Floats, *, check: str, most: int = MOST) -> Regraded:
    """Grade rows of training again, at most `most` of them, evenly spread.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan unknown.
        check: `exact`, `numeric` or `math`; `math` runs in processes that can be killed.

    Raises:
        ConfigError: the check is unknown.
        MissingExtraError: `math` without math-verify.
    """
    if check not in CHECKS:
        raise ConfigError(f"--check {check} is unknown", wanted=", ".join(CHECKS))
    gradable_N = log.data_N & ~np.isnan(verdict_N)
    has_gold = np.array([gold is not None for gold in log.golds])
    if len(has_gold):
        gradable_N = gradable_N & has_gold[log.prompt_N]
    if not gradable_N.any() or not log.chars_N[gradable_N].any():
        return _nothing(log, verdict_N)
    scores = dict(_graded(log, gradable_N, check, most))
    row_K = np.array(list(scores), dtype=np.int64)
    ours_K = np.array(list(scores.values()))
    return _compared(log, verdict_N, row_K, ours_K, check, int(gradable_N.sum()))


def _nothing(log: RunLog, verdict_N: Floats) -> Regraded:
    what = "reference answers (--map gold=COLUMN)"
    if np.isnan(verdict_N[log.data_N]).all():
        what = "verdicts"
    elif not log.chars_N.any():
        what = "texts"
    says = f"the log has no {what}: nothing can be graded again"
    finding = LogFinding.of("check/recall", UNDEFINED, says, "no row")
    return Regraded([finding], np.zeros(0, dtype=np.int64), np.zeros(0), [], [])


def _graded(log: RunLog, gradable_N: Bools, check: str, most: int) -> Iterator[tuple[int, float]]:
    """Each row and our score; texts are handed on and dropped."""
    from rekindle.rewards.verifiers.verify import Settings, judge_answer
    from rekindle.rewards.workers import POOLED, check_pooled, shared_pool

    check_pooled(check)
    for batch in _batches(log, gradable_N, most):
        asked = [
            (log.golds[log.prompt_N[row]] or "", text, Settings(cut=bool(log.cut_N[row] == 1)))
            for row, text in batch.items()
        ]
        if check in POOLED:
            pool = shared_pool(check, TIMEOUT, None)
            scores = pool.grade([one[:2] for one in asked], [one[2] for one in asked])
        else:
            scores = [judge_answer(check, *one).score for one in asked]
        for row, score in zip(batch, scores, strict=True):
            yield row, math.nan if score.value is None else float(score.value)


def _batches(log: RunLog, gradable_N: Bools, most: int) -> Iterator[Mapping[int, str]]:
    """Rows by their texts: from memory, or where it has too few of them from disk, in one pass."""
    rows = np.flatnonzero(gradable_N)
    rows = rows[:: -(-len(rows) // most)]
    kept = log.sample if log.texts is None else dict(enumerate(log.texts))
    if log.texts is None:
        sampled = [row for row in kept if gradable_N[row]]
        if len(sampled) >= min(most, len(rows)) / 2:
            rows = np.array(sampled[:: -(-len(sampled) // most)])
    if all(row in kept for row in rows.tolist()):
        for start in range(0, len(rows), BATCH):
            yield {row: kept[row] for row in rows[start : start + BATCH].tolist()}
        return
    wanted, batch = set(rows.tolist()), dict[int, str]()
    for row, logged in enumerate(log.reader.rows()):
        if row in wanted:
            batch[row] = logged.text
        if len(batch) == BATCH:
            yield batch
            batch = {}
    yield batch


def _compared(
    log: RunLog, verdict_N: Floats, row_K: Ints, ours_K: Floats, check: str, of: int
) -> Regraded:
    logged_K, prompt_K = verdict_N[row_K], log.prompt_N[row_K]
    right_K, wrong_K = ours_K > 0.5, ours_K <= 0.5  # nan is neither
    accepts = row_K[wrong_K & (logged_K == 1)].tolist()
    rejects = row_K[right_K & (logged_K == 0)].tolist()
    whole = f"all {of} rows" if len(row_K) == of else f"{len(row_K)} of {of} rows, evenly spread"
    rests_on = f"{whole} with a verdict, a text and a reference; check {check}"

    def share(value_K: Floats, where_K: Bools) -> Estimate:
        return mean(value_K[where_K], prompt_K[where_K], bounded=True)

    known_K = ~np.isnan(ours_K)
    error_K = np.where(known_K, (right_K != (logged_K == 1)).astype(np.float64), np.nan)
    unread = share((~known_K).astype(np.float64), np.ones(len(row_K), dtype=np.bool_))
    recall, let_in = share(logged_K, right_K), share(logged_K, wrong_K)
    false, lost = share(error_K, logged_K == 1), share(error_K, logged_K == 0)
    says = {
        "recall": (recall, f"the verdict accepts {recall} of the answers that {check} accepts"),
        "accepts_of_wrong": (
            let_in,
            f"the verdict accepts {let_in} of the answers that {check} rejects",
        ),
        "false_accepts": (
            false,
            f"of the answers that the verdict accepts {check} rejects {false}"
            + _places(log, accepts),
        ),
        "false_rejects": (
            lost,
            f"of the answers that the verdict rejects {check} accepts {lost}"
            + _places(log, rejects),
        ),
    }
    findings = [
        LogFinding.of(f"check/{name}", found, sentence, rests_on, _NULL.get(name, _AGREES))
        for name, (found, sentence) in says.items()
    ]
    if unread.value > 0:
        why = f"{check} cannot grade {unread} of the rows: a reference it cannot read, or a timeout"
        findings.append(LogFinding.of("check/unread", unread, why, rests_on))
    return Regraded(findings, row_K, ours_K, accepts, rejects)


def _places(log: RunLog, rows: list[int]) -> str:
    """Where examples stand: file and row."""
    if not rows:
        return ""
    files = log.about.files
    places = [f"{files[log.file_N[row]].name}:{log.row_N[row]}" for row in rows[:NAMED]]
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f" ({', '.join(places)}{more})"
