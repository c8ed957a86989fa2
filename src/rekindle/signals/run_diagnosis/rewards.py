"""Several rewards: which one carries the signal, whether two agree, what a reward model knows.

    rewards/share/NAME            its share of the total's variance within groups; they sum to 1
    rewards/agreement/A~B         rows on which two rewards of two values say the same
    rewards/auc/NAME              P(a right answer scores higher than a wrong one), all rows
    rewards/auc_in_groups/NAME    the same over pairs of one group: what group methods use
    rewards/auc_in_right/NAME/B   among the answers that the verdict accepts, against another
    rewards/auc_in_wrong/NAME/B   verdict B; among those that it rejects

A tie counts one half. Each is of a reward with more than two values, and of the total where it is
not the verdict. A reward that is a function of length or of a format mark is no reward model.

A model is blind where the whole interval within groups is below 0.6, over five prompts at least, as
`rekindle diagnose` has it for models. One of AUC 0.6 is called so by chance in 2.5 % of logs
(simulated: 1.7 to 3 % of 2,000 logs, at 5 to 150 prompts), a better one in fewer, and one that
knows nothing is found out once there are enough pairs.

Axes: N rows, K those that entered, P groups, U prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.log_finding import (
    UNDEFINED,
    Estimate,
    Floats,
    Ints,
    LogFinding,
    mean,
    percent,
    rare,
    ratio,
)
from rekindle.signals.run_diagnosis.spread import Nature, carried, natures_of, pays_for_form
from rekindle.signals.run_diagnosis.within_groups import (
    Groups,
    binary,
    groups_of,
    ranks,
    t_quantile,
)

CHANCE, USEFUL, FEW = 0.5, 0.6, 5
LEVELS = 5  # values that a reward model or a judge has at least
TOTAL = "total"
IN_GROUPS = "rewards/auc_in_groups/"
_NULL = "0.5: a reward that does not know right from wrong"
_NULL_IN_GROUPS = (
    "0.5 for a model that knows nothing; of a model of 0.6 the whole interval is below 0.6 in at "
    "most 2.5 % of logs"
)


def rewards_findings(log: RunLog, verdict_N: Floats) -> list[LogFinding]:
    """What each reward of a log is worth.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan unknown; a partial score is neither.
    """
    findings = _shares(log) + _agreements(log)
    natures = natures_of(log, verdict_N)
    verdict_N = np.where(np.isin(verdict_N, (0, 1)), verdict_N, np.nan)  # partial ones say neither
    others = [name for name, nature in natures.items() if not pays_for_form(name, nature)]
    for name, score_N in reward_models(log, natures).items():
        findings += _aucs(log, verdict_N, name, score_N)
        findings += _aucs_by_another(log, verdict_N, name, score_N, others)
    return findings


def blind_models(findings: Sequence[LogFinding]) -> list[LogFinding]:
    """The findings of reward models that do not tell right from wrong within groups."""
    return [
        one
        for one in findings
        if one.name.startswith(IN_GROUPS) and one.n >= FEW and one.ci_high < USEFUL
    ]


def reward_models(log: RunLog, natures: Mapping[str, Nature]) -> dict[str, Floats]:
    """The rewards of at least five values that do not pay for form.

    A reward that the user named `rm` is always one. Where there is none, the total is looked at if
    the parts do not explain it.

    Args:
        natures: what each reward but the verdict follows.
    """
    found = dict[str, Floats]()
    for name, nature in natures.items():
        if name == "rm" or (_has_levels(log, log.parts[name]) and not pays_for_form(name, nature)):
            found[name] = log.parts[name]
    if not found and _has_levels(log, log.score_N) and _has_rest(log):
        found[TOTAL] = log.score_N
    return found


def _has_levels(log: RunLog, part_N: Floats) -> bool:
    known = part_N[log.data_N & ~np.isnan(part_N)]
    return len(np.unique(known)) >= LEVELS


def _has_rest(log: RunLog) -> bool:
    """Whether the total holds something that no part of it explains."""
    shares = carried(groups_of(log, log.score_N), log.score_N, log.parts)
    return not shares or ("rest" in shares and shares["rest"].value > 0.01)


# --- which carries the signal


def _shares(log: RunLog) -> list[LogFinding]:
    if len(log.parts) < 2:
        return []
    groups = groups_of(log, log.score_N)
    return [
        LogFinding.of(
            f"rewards/share/{name}",
            share,
            f"{name} carries {percent(share.value)} of the spread within groups"
            if name != "rest"
            else f"{percent(share.value)} of the spread within groups is of no reward in the log",
            f"{len(groups)} groups; the reward taken for a weighted sum of its parts",
        )
        for name, share in carried(groups, log.score_N, log.parts).items()
    ]


def _agreements(log: RunLog) -> list[LogFinding]:
    verdicts = {
        name: values for name, part_N in log.parts.items() if (values := binary(part_N)) is not None
    }
    findings = []
    for one, other in combinations(verdicts, 2):
        a_N, b_N = verdicts[one][log.data_N], verdicts[other][log.data_N]
        known_N = ~(np.isnan(a_N) | np.isnan(b_N))
        if not known_N.any():
            continue
        a, b, prompt = a_N[known_N], b_N[known_N], log.prompt_N[log.data_N][known_N]
        same = mean((a == b).astype(np.float64), prompt, bounded=True)
        expected = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
        says = (
            f"{one} and {other} agree on {same}; {one} alone is high on "
            f"{percent(float(((a == 1) & (b == 0)).mean()))}, {other} alone on "
            f"{percent(float(((a == 0) & (b == 1)).mean()))}"
        )
        null = f"{percent(expected)}: two rewards as often high as these, that share nothing"
        name = f"rewards/agreement/{one}~{other}"
        findings.append(LogFinding.of(name, same, says, f"{len(a)} rows with both", null))
    return findings


# --- what a reward model knows


def _aucs(log: RunLog, verdict_N: Floats, name: str, score_N: Floats) -> list[LogFinding]:
    kept_N = log.data_N & ~np.isnan(score_N) & ~np.isnan(verdict_N)
    overall = auc(score_N[kept_N], verdict_N[kept_N], log.prompt_N[kept_N])
    groups = groups_of(log, score_N, verdict_N)
    inside, pairs = auc_in_groups(groups, score_N[groups.row_K], verdict_N[groups.row_K])
    if math.isnan(inside.value):
        says = f"no group has right and wrong answers that {name} has scored"
    elif inside.n < FEW:
        says = f"too few prompts to say what {name} knows within groups: {_text(inside)}"
    elif inside.ci_high < CHANCE:
        says = f"{name} puts wrong answers of a group above right ones: {_text(inside)}"
    elif inside.ci_low > CHANCE:
        says = f"{name} puts right answers of a group above wrong ones: {_text(inside)}"
    elif inside.ci_high < USEFUL:
        says = f"{name} does not tell right from wrong within groups: {_text(inside)}"
    else:
        says = f"too few pairs to say what {name} knows within groups: {_text(inside)}"
    return [
        LogFinding.of(
            f"rewards/auc/{name}",
            overall,
            f"{name} over all answers: {_text(overall)}",
            f"{int(kept_N.sum())} rows with {name} and a verdict",
            _NULL,
        ),
        LogFinding.of(
            f"{IN_GROUPS}{name}",
            inside,
            says,
            f"{pairs} pairs of a right and a wrong answer of one group",
            _NULL_IN_GROUPS,
        ),
    ]


def _aucs_by_another(
    log: RunLog, verdict_N: Floats, name: str, score_N: Floats, others: Sequence[str]
) -> list[LogFinding]:
    """Within right and within wrong answers, where another reward tells them apart."""
    findings = []
    for other in others:
        other_N = binary(log.parts[other])
        if other == name or other_N is None:
            continue
        for side, value in (("right", 1.0), ("wrong", 0.0)):
            kept_N = log.data_N & (verdict_N == value) & ~np.isnan(score_N) & ~np.isnan(other_N)
            found = auc(score_N[kept_N], other_N[kept_N], log.prompt_N[kept_N])
            if math.isnan(found.value):
                continue
            findings.append(
                LogFinding.of(
                    f"rewards/auc_in_{side}/{name}/{other}",
                    found,
                    f"among answers that the verdict calls {side}, {name} puts those that {other} "
                    f"accepts above the rest: {_text(found)}",
                    f"{int(kept_N.sum())} rows",
                    f"0.5: a reward that does not know what {other} knows",
                )
            )
    return findings


def auc(score_K: Floats, right_K: Floats, prompt_K: Ints) -> Estimate:
    """P(right above wrong) over all pairs, with an interval over prompts.

    Each row's placement is the share of the other kind that it beats (DeLong 1988); what a prompt
    adds to the AUC is the sum of its rows' (Obuchowski 1997).
    """
    right = right_K == 1
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return UNDEFINED
    everyone = np.zeros(len(score_K), dtype=np.int64)
    rank_K = ranks(score_K, everyone)
    own_K = np.empty(len(score_K))
    own_K[right] = ranks(score_K[right], everyone[:good])
    own_K[~right] = ranks(score_K[~right], everyone[:bad])
    below_K = rank_K - own_K  # of the other kind, a tie one half
    value = float(below_K[right].sum() / (good * bad))
    pull_K = np.where(right, (below_K / bad - value) / good, (1 - below_K / good - value) / bad)
    units, unit_K = np.unique(prompt_K, return_inverse=True)
    m = len(units)
    if m < 2:
        return Estimate(value, math.nan, math.nan, m)
    error = math.sqrt(float((np.bincount(unit_K, weights=pull_K) ** 2).sum()) * m / (m - 1))
    half = t_quantile(m - 1) * error or rare(m)  # all of one kind above all of the other
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), m)


def auc_in_groups(groups: Groups, score_K: Floats, right_K: Floats) -> tuple[Estimate, int]:
    """P(right above wrong) over pairs of one group, each pair once; and how many pairs."""
    rank_K = ranks(score_K, groups.group_K)
    good_P = groups.sum(right_K)
    pairs_P = good_P * (groups.size_P - good_P)
    wins_P = groups.sum(rank_K * right_K) - good_P * (good_P + 1) / 2
    mixed_P = pairs_P > 0
    found = ratio(wins_P[mixed_P], pairs_P[mixed_P], groups.prompt_P[mixed_P])
    return found, int(pairs_P.sum())


def _text(found: Estimate) -> str:
    if math.isnan(found.value):
        return "undefined"
    if math.isnan(found.ci_low):
        return f"AUC {found.value:.2f}"
    return f"AUC {found.value:.2f} [{found.ci_low:.2f}, {found.ci_high:.2f}]"
