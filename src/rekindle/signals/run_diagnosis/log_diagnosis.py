"""The diagnosis of a log: what was found, as numbers, as rows and in words, the verdict first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.cause import Cause
from rekindle.signals.run_diagnosis.credit import MethodCredit
from rekindle.signals.run_diagnosis.groups import GroupTable, Verdicts
from rekindle.signals.run_diagnosis.log_finding import Estimate, LogFinding
from rekindle.signals.run_diagnosis.remedies import Remedy
from rekindle.signals.run_diagnosis.shares import PromptRow, StepShares

if TYPE_CHECKING:
    import pyarrow

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


@dataclass(frozen=True, repr=False, eq=False)
class LogDiagnosis:
    """What the log of a run tells.

    Attributes:
        log: its rows, by column.
        table: its groups.
        verdicts: right or wrong, and which column says so.
        share: of each class of groups, with its interval.
        steps: the shares over steps.
        prompts: what became of each prompt.
        findings: everything that was measured.
        cause: what is wrong; None: nothing that the log bears out.
        remedies: what would help, those that fit first, and what would not.
        credits: what methods would have put on these rows.
        not_told: what the log cannot tell, in sentences.
        named_rows: rows that a finding names, by the finding.
    """

    log: RunLog
    table: GroupTable
    verdicts: Verdicts
    share: Mapping[str, Estimate]
    steps: Sequence[StepShares]
    prompts: Sequence[PromptRow]
    findings: Sequence[LogFinding]
    cause: Cause | None
    remedies: Sequence[Remedy]
    credits: Sequence[MethodCredit]
    not_told: Sequence[str]
    named_rows: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def steps_logged(self) -> int:
        """Steps with a row on disk."""
        return len(np.unique(self.log.step_N[self.log.step_N >= 0]))

    @property
    def steps_seen(self) -> int | None:
        """Steps that the trainer took: by its state, else the highest number; None: no number."""
        if self.log.about.steps_taken is not None:
            return self.log.about.steps_taken
        highest = int(self.log.step_N.max(initial=-1))
        return None if highest < 0 else highest

    def frame(self) -> pyarrow.Table:
        """The rows as a table (`.to_pandas()`): with texts where these were kept."""
        import pyarrow

        log = self.log
        columns = {
            "step": log.step_N,
            "group": log.group_N,
            "prompt": [log.prompts[i] for i in log.prompt_N.tolist()],
            "score": log.score_N,
            "verdict": self.verdicts.value_N,
            **{f"reward/{name}": values for name, values in log.parts.items()},
            "advantage": log.advantage_N,
            "tokens": log.tokens_N,
            "cut": log.cut_N,
            "logprob": log.logprob_N,
            "sampler_logprob": log.sampler_logprob_N,
            "repeated": log.repeated_N,
            "evaluation": log.evaluation_N,
            "file": [str(log.about.files[i]) for i in log.file_N.tolist()],
            "row": log.row_N,
        }
        if log.texts is not None:
            columns["text"] = list(log.texts)
        return pyarrow.table(columns)

    def as_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        log = self.log
        return {
            "format": log.about.format,
            "version": log.about.version,
            "rows": len(log),
            "rows_repeated": int(log.repeated_N.sum()),
            "rows_evaluation": int(log.evaluation_N.sum()),
            "groups": len(self.table),
            "group_size": self.table.usual_size,
            "steps_seen": self.steps_seen,
            "steps_logged": self.steps_logged,
            "verifier": self.verdicts.column,
            "share": {name: _plain(estimate) for name, estimate in self.share.items()},
            "findings": [_finding(finding) for finding in self.findings],
            "cause": None if self.cause is None else self.cause.name,
            "cause_says": None if self.cause is None else self.cause.says,
            "remedies": [remedy._asdict() for remedy in self.remedies],
            "credits": [
                {key: _number(value) for key, value in credit._asdict().items()}
                for credit in self.credits
            ],
            "not_told": list(self.not_told),
        }

    def __repr__(self) -> str:
        """The verdict, the shares and the next step, as `rekindle diagnose --log` prints them."""
        return "\n".join(_summary(self))


def _finding(finding: LogFinding) -> dict[str, object]:
    return {key: _number(value) for key, value in finding._asdict().items()}


def _plain(estimate: Estimate) -> dict[str, object]:
    return {key: _number(value) for key, value in estimate._asdict().items()}


def _number(value: object) -> object:
    """nan is null in JSON."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- in words


def verdict(diagnosis: LogDiagnosis) -> str:
    """The first sentence."""
    if diagnosis.cause is None:
        return "No cause is borne out: the groups have something to compare, as far as they show."
    return f"{TITLES[diagnosis.cause.name]} ({diagnosis.cause.name}): {diagnosis.cause.says}."


def _summary(diagnosis: LogDiagnosis) -> list[str]:
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
        *_finding_lines(diagnosis),
    ]
    if diagnosis.credits:
        lines += ["", "what methods would have put on these rows:", *_credit_lines(diagnosis)]
    return [*lines, "", *(f"not told: {sentence}" for sentence in diagnosis.not_told)]


def _finding_lines(diagnosis: LogDiagnosis) -> list[str]:
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
