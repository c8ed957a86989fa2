"""What the answers of a log look like: cut at the limit, caught in a loop, the same ones again.

    texts/cut               answers that the token limit ended
    texts/cut_of_wrong      of the wrong answers, those that were cut
    texts/right_of_cut      of the cut answers, those that are right all the same
    texts/right_of_whole    of the others
    texts/loops             answers whose end repeats itself
    texts/loops_of_cut      of those that were cut
    texts/duplicates        answers that the group has already, word for word
    texts/one_answer        groups in which all answers are the same text

Where the log does not say which answers were cut, the limit is the largest length if more answers
than chance allows have exactly that: lengths that no limit ends thin out, so that of the answers
in the last tenth of the range one in as many as there are lengths would have the largest.

An end repeats itself where its last 2,000 bytes (400 at least) compress to less than a tenth by
zlib. Of 2,273 passages of licences and of documents and 3,240 of Python's own source none does
(least: 0.14, 0.24 and 0.11); a phrase of up to 300 letters that comes again and again does.

Axes: N rows of the log.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from scipy import special

from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.log_finding import (
    UNDEFINED,
    Estimate,
    Floats,
    LogFinding,
    mean,
    ratio,
)
from rekindle.signals.run_diagnosis.within_groups import Bools, groups_of

SAMPLE = 2_000  # answers that are compressed
END, SHORT, LOOP = 2_000, 400, 0.1  # bytes, bytes, share that is left
SURE = 1e-6  # chance of so many answers of the largest length without a limit
METRIC = "completions/clipped_ratio"  # TRL's own count
_LOOP_NULL = "below 0.1 %: of 5,513 passages of prose and of program text none repeats itself so"


class Cut(NamedTuple):
    """Which answers the limit ended, [N] 0, 1 or nan, and how that is known; `known` if at all."""

    cut_N: Floats
    known: bool
    rests_on: str


def texts_findings(log: RunLog, verdict_N: Floats) -> list[LogFinding]:
    """What the answers look like.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan unknown.
    """
    cut = find_cut(log)
    return [*_cuts(log, verdict_N, cut), *_loops(log, cut), *_duplicates(log)]


# --- truncation


def find_cut(log: RunLog) -> Cut:
    """Which answers the token limit ended: as the log says, else by the largest length."""
    if not np.isnan(log.cut_N[log.data_N]).all():
        return Cut(log.cut_N, True, "what the log says of each answer")
    unknown = np.full(len(log), np.nan)
    tokens = log.tokens_N[log.data_N & ~np.isnan(log.tokens_N)]
    if not len(tokens):
        return Cut(unknown, False, "the log has neither a count of tokens nor what ended an answer")
    limit = token_limit(tokens)
    if limit is None:
        why = f"the largest length, {tokens.max():.0f} tokens, is no limit that answers pile up at"
        return Cut(np.where(np.isnan(log.tokens_N), np.nan, 0.0), True, why)
    cut_N = np.where(np.isnan(log.tokens_N), np.nan, (log.tokens_N >= limit).astype(np.float64))
    return Cut(cut_N, True, f"answers with the largest length, {limit} tokens, taken for cut")


def token_limit(tokens: Floats) -> int | None:
    """The limit that ended answers, by their lengths; None where no length stands out."""
    most = int(tokens.max())
    below = most - max(1, most // 10)
    at = int((tokens == most).sum())
    near = int(((tokens >= below) & (tokens < most)).sum())
    # One answer has the largest length by its definition.
    chance = special.bdtrc(at - 2, at + near - 1, 1 / (most - below + 1)) if at > 1 else 1.0
    return most if chance < SURE else None


def _cuts(log: RunLog, verdict_N: Floats, cut: Cut) -> list[LogFinding]:
    if not cut.known:
        return [_cut_by_metric(log, cut)]
    prompt_N, data_N = log.prompt_N, log.data_N
    cut_N = np.where(data_N, cut.cut_N, np.nan)
    wrong_N = verdict_N == 0

    def share(value_N: Floats, where_N: Bools) -> Estimate:
        kept_N = where_N & ~np.isnan(cut_N)
        return mean(value_N[kept_N], prompt_N[kept_N], bounded=True)

    everywhere = share(cut_N, data_N)
    rows = f"{int((~np.isnan(cut_N)).sum())} rows; {cut.rests_on}"
    findings = [
        LogFinding.of("texts/cut", everywhere, f"{everywhere} of the answers were cut", rows)
    ]
    if np.isnan(verdict_N[data_N]).all():
        return findings
    of_wrong = share(cut_N, wrong_N)
    right_cut, right_whole = share(verdict_N, cut_N == 1), share(verdict_N, cut_N == 0)
    says = f"{of_wrong} of the wrong answers were cut before they could end"
    findings.append(LogFinding.of("texts/cut_of_wrong", of_wrong, says, rows))
    for name, found, which in (
        ("texts/right_of_cut", right_cut, "cut answers"),
        ("texts/right_of_whole", right_whole, "answers that ended by themselves"),
    ):
        if found.n:
            findings.append(LogFinding.of(name, found, f"{found} of the {which} are right", rows))
    return findings


def _cut_by_metric(log: RunLog, cut: Cut) -> LogFinding:
    """The trainer's own count where its rows do not tell, with an interval over logged steps."""
    counted = np.array([entry[METRIC] for entry in log.about.history if METRIC in entry])
    if not len(counted):
        says = f"which answers were cut cannot be told: {cut.rests_on}"
        return LogFinding.of("texts/cut", UNDEFINED, says, "no row")
    found = mean(counted, np.arange(len(counted)), bounded=True)
    says = f"{found} of the answers were cut, by the trainer's count; which ones cannot be told"
    return LogFinding.of("texts/cut", found, says, f"{METRIC} of {len(counted)} logged steps")


# --- repetition


def _loops(log: RunLog, cut: Cut) -> list[LogFinding]:
    sample = log.spread_sample(SAMPLE)
    if not any(sample.values()):
        return []
    rows = np.array(list(sample))
    loop_K = np.array([float(is_loop(text)) for text in sample.values()])
    prompt_K = log.prompt_N[rows]
    found = mean(loop_K, prompt_K, bounded=True)
    says = f"the end of {found} of the answers repeats itself"
    rests_on = f"{len(rows)} answers, evenly spread over {int(log.data_N.sum())}"
    findings = [LogFinding.of("texts/loops", found, says, rests_on, _LOOP_NULL)]
    cut_K = cut.cut_N[rows] == 1
    if cut_K.any():
        found = mean(loop_K[cut_K], prompt_K[cut_K], bounded=True)
        says = f"of the cut answers the end of {found} repeats itself: no longer limit would help"
        if found.value == 0:
            says = "no cut answer repeats itself at its end: they were still at work"
        rests_on = f"{int(cut_K.sum())} cut answers of the {len(rows)}"
        findings.append(LogFinding.of("texts/loops_of_cut", found, says, rests_on, _LOOP_NULL))
    return findings


def is_loop(text: str) -> bool:
    """Whether the end of a text repeats itself; a text of less than 400 bytes is never taken so."""
    end = text[-END:].encode(errors="replace")[-END:]
    return len(end) >= SHORT and len(zlib.compress(end, 1)) < LOOP * len(end)


# --- duplicates


def _duplicates(log: RunLog) -> list[LogFinding]:
    groups = groups_of(log)
    if not len(groups) or not log.chars_N[groups.row_K].any():
        return []
    text_K = log.text_N[groups.row_K]
    order = np.lexsort((text_K, groups.group_K))
    group, text = groups.group_K[order], text_K[order]
    again = (group[1:] == group[:-1]) & (text[1:] == text[:-1])
    again_P = np.bincount(group[1:][again], minlength=len(groups)).astype(np.float64)
    size_P = groups.size_P.astype(np.float64)
    share = ratio(again_P, size_P, groups.prompt_P)
    one_P = (again_P == size_P - 1).astype(np.float64)
    same = mean(one_P, groups.prompt_P, bounded=True)
    rests_on = f"{len(groups)} groups of two answers and more, compared as they are written"
    return [
        LogFinding.of(
            "texts/duplicates",
            share,
            f"{share} of the answers stand in their group twice",
            rests_on,
        ),
        LogFinding.of(
            "texts/one_answer",
            same,
            f"{same} of the groups have one answer, written again and "
            "again: sampling makes no difference there",
            rests_on,
        ),
    ]
