"""A diagnosis of a log in lines: the verdict first, then the next step, then the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis
    from rekindle.signals.run_diagnosis.log_finding import LogFinding

TITLES = {
    "too_hard": "Most groups have no right answer: they move nothing",
    "too_easy": "Most groups are all right: these prompts are learnt",
    "tied": "Most groups have one score: there is nothing to compare",
    "truncation": "Most wrong answers were cut by the token limit",
    "format_spread": "The spread of the reward is not about right and wrong",
    "blind_reward": "The reward model does not tell right from wrong within a group",
    "false_accepts": "The reward accepts wrong answers",
    "false_rejects": "The reward refuses right answers",
    "advantage_mismatch": "The advantages are not those of the stated estimator",
    "filtered": "Groups without signal are missing from this log",
    "repeated_rows": "The log holds batches twice",
    "evaluation_rows": "The log mixes answers of evaluations in",
}


def verdict(diagnosis: LogDiagnosis) -> str:
    """The first sentence."""
    if diagnosis.cause is None:
        return "No cause is borne out: the groups have something to compare, as far as they show."
    return f"{TITLES[diagnosis.cause.name]} ({diagnosis.cause.name}): {diagnosis.cause.says}."


def summary(diagnosis: LogDiagnosis) -> list[str]:
    """What the command prints."""
    log, taken = diagnosis.log, diagnosis.steps_seen
    of = "" if taken is None else f" of {taken}"
    version = "" if log.about.version is None else f", {log.about.version}"
    left_out = int(log.repeated_N.sum()), int(log.evaluation_N.sum())
    fits = [remedy for remedy in diagnosis.remedies if remedy.fits]
    lines = [
        f"{log.about.format} log{version}: {len(log)} rows, {len(diagnosis.table)} groups of "
        f"{diagnosis.table.usual_size} (by {log.grouped_by}), {diagnosis.steps_logged}{of} steps",
        f"left out: {left_out[0]} repeated rows, {left_out[1]} of evaluations",
        diagnosis.verdicts.sentence,
        "",
        verdict(diagnosis),
        f"next: {fits[0].method}: {fits[0].why}" if fits else "next: nothing that the log supports",
        "",
        *(f"also fits: {one.method}: {one.why}" for one in fits[1:]),
        *(f"does not fit: {one.method}: {one.why}" for one in diagnosis.remedies if not one.fits),
        "",
        *finding_lines(diagnosis),
    ]
    if diagnosis.credits:
        lines += ["", "what methods would have put on these rows:", *_credit_lines(diagnosis)]
    return [*lines, "", *(f"not told: {sentence}" for sentence in diagnosis.not_told)]


def finding_lines(diagnosis: LogDiagnosis) -> list[str]:
    """A line a finding."""
    wide = max((len(finding.name) for finding in diagnosis.findings), default=0)
    return [_line(finding, wide) for finding in diagnosis.findings]


def _line(finding: LogFinding, wide: int) -> str:
    interval = (
        "" if math.isnan(finding.ci_low) else f"[{finding.ci_low:.3g}, {finding.ci_high:.3g}]"
    )
    value = "undefined" if math.isnan(finding.value) else f"{finding.value:.3g}"
    return f"  {finding.name:<{wide}}  {value:>9} {interval:<18} n {finding.n:<6} {finding.says}"


def _credit_lines(diagnosis: LogDiagnosis) -> list[str]:
    return [
        f"  {credit.method:<12} a signal in {100 * credit.with_signal:.0f} % of "
        f"{credit.groups} groups"
        + (
            ""
            if math.isnan(credit.size)
            else f", in all-wrong ones {credit.size:.2g} times as large as in mixed ones"
        )
        + (
            ""
            if math.isnan(credit.top)
            else f"; a tenth of the rows holds {100 * credit.top:.0f} %"
        )
        for credit in diagnosis.credits
    ]
