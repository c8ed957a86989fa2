"""How sure the policy is of its wrong answers, and how far trainer and sampler are apart.

    confidence/right, confidence/wrong    mean log-prob per token, nats
    confidence/wrong_above_50, _90        wrong answers whose tokens have 0.5 or 0.9 and more,
                                          exp of the mean log-prob per token
    confidence/auc_in_groups              P(a right answer of a group is surer than a wrong one)
    confidence/gap                        |trainer - sampler| per token, nats
    confidence/rounding                   prime-rl: by how much rounding may move an answer's sum

The log-probs are the trainer's, else the sampler's. The gap is the mean over tokens where the log
has one a token; of sums alone it is |difference of sums| over tokens, which is no greater.

Axes: N rows, K those that entered.
"""

from __future__ import annotations

import math

import numpy as np

from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.log_finding import (
    UNDEFINED,
    Estimate,
    Floats,
    LogFinding,
    mean,
)
from rekindle.signals.run_diagnosis.rewards import auc_in_groups
from rekindle.signals.run_diagnosis.within_groups import groups_of

HALF_UNIT = 5e-5  # prime-rl keeps four decimals of each token's log-prob
SURE = (0.5, 0.9)


def confidence_findings(log: RunLog, verdict_N: Floats) -> list[LogFinding]:
    """What log-probs tell, where the log has them.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan unknown.
    """
    logprob_N, whose = log.logprob_N, "the trainer's log-probs"
    if np.isnan(logprob_N[log.data_N]).all():
        logprob_N, whose = log.sampler_logprob_N, "the sampler's log-probs"
    with np.errstate(divide="ignore", invalid="ignore"):
        per_token_N = np.where(log.tokens_N > 0, logprob_N / log.tokens_N, np.nan)
    per_token_N = np.where(log.data_N, per_token_N, np.nan)
    if np.isnan(per_token_N).all():
        return [_unknown(log, logprob_N), *_gap(log)]
    if np.nanmax(per_token_N) > 1e-3:
        whose += " (some are above 0, which no log-prob is)"
    return [
        *_by_verdict(log, verdict_N, per_token_N, whose),
        *_calibration(log, verdict_N, per_token_N, whose),
        *_gap(log),
        *_rounding(log),
    ]


def _unknown(log: RunLog, logprob_N: Floats) -> LogFinding:
    what = "counts of tokens" if not np.isnan(logprob_N[log.data_N]).all() else "log-probs"
    says = f"the log has no {what}: how sure the policy is of wrong answers cannot be told"
    return LogFinding.of("confidence/wrong", UNDEFINED, says, "no row")


def _by_verdict(
    log: RunLog, verdict_N: Floats, per_token_N: Floats, whose: str
) -> list[LogFinding]:
    findings = []
    for name, value in (("right", 1.0), ("wrong", 0.0)):
        own_N = (verdict_N == value) & ~np.isnan(per_token_N)
        if not own_N.any():
            continue
        found = mean(per_token_N[own_N], log.prompt_N[own_N])
        says = (
            f"{name} answers have {found.value:.3f} nats per token "
            f"({math.exp(min(found.value, 0.0)):.2f} as a probability)"
        )
        rests_on = f"{int(own_N.sum())} {name} answers; {whose}"
        findings.append(LogFinding.of(f"confidence/{name}", found, says, rests_on))
    wrong_N = (verdict_N == 0) & ~np.isnan(per_token_N)
    for sure in SURE if wrong_N.any() else ():
        above_N = (per_token_N[wrong_N] >= math.log(sure)).astype(np.float64)
        found = mean(above_N, log.prompt_N[wrong_N], bounded=True)
        says = f"{found} of the wrong answers have {sure:g} and more per token"
        rests_on = f"{int(wrong_N.sum())} wrong answers; {whose}"
        name = f"confidence/wrong_above_{100 * sure:.0f}"
        findings.append(LogFinding.of(name, found, says, rests_on))
    return findings


def _calibration(
    log: RunLog, verdict_N: Floats, per_token_N: Floats, whose: str
) -> list[LogFinding]:
    groups = groups_of(log, per_token_N, verdict_N)
    found, pairs = auc_in_groups(groups, per_token_N[groups.row_K], verdict_N[groups.row_K])
    if not pairs:
        return []
    says = "within a group the policy is no surer of right answers than of wrong ones"
    if found.ci_low > 0.5:
        says = "within a group the policy is surer of right answers"
    elif found.ci_high < 0.5:
        says = "within a group the policy is surer of wrong answers"
    says += f": AUC {found.value:.2f} [{found.ci_low:.2f}, {found.ci_high:.2f}]"
    rests_on = f"{pairs} pairs of a right and a wrong answer; {whose}"
    null = "0.5: confidence does not know right from wrong"
    return [LogFinding.of("confidence/auc_in_groups", found, says, rests_on, null)]


def _gap(log: RunLog) -> list[LogFinding]:
    gap_N, how = log.gap_N, "mean over tokens"
    if np.isnan(gap_N[log.data_N]).all():
        with np.errstate(divide="ignore", invalid="ignore"):
            apart_N = np.abs(log.logprob_N - log.sampler_logprob_N) / log.tokens_N
        gap_N = np.where(log.tokens_N > 0, apart_N, np.nan)
        how = "difference of sums, the least that it can be"
    gap_N = np.where(log.data_N, gap_N, np.nan)
    known_N = ~np.isnan(gap_N)
    if not known_N.any():
        return []
    found = mean(gap_N[known_N], log.prompt_N[known_N])
    worst = float(np.quantile(gap_N[known_N], 0.99))
    says = (
        f"trainer and sampler are {found.value:.2g} nats per token apart, one answer in a hundred "
        f"{worst:.2g} and more"
    )
    rests_on = f"{int(known_N.sum())} rows; {how}"
    null = "0: both compute the same; arithmetic of other kernels and precisions moves it off 0"
    return [LogFinding.of("confidence/gap", found, says, rests_on, null)]


def _rounding(log: RunLog) -> list[LogFinding]:
    """By how much the sums of log-probs of four decimals may be off."""
    if not log.about.format.startswith("prime"):
        return []
    tokens = log.tokens_N[log.data_N & (log.tokens_N > 0)]
    usual, most = HALF_UNIT * float(tokens.mean()), HALF_UNIT * float(tokens.max())
    says = (
        f"each token's log-prob has four decimals on disk: the sum of an answer may be off by "
        f"{usual:.2g} nats, {most:.2g} for the longest, and confidence above 0.99995 is lost"
    )
    found = Estimate(usual, math.nan, math.nan, len(tokens))
    rests_on = f"{len(tokens)} rows; a bound, tokens x 5e-5, no estimate"
    return [LogFinding.of("confidence/rounding", found, says, rests_on)]
