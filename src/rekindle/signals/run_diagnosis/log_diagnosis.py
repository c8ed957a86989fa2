"""From a log to its diagnosis: rows read, findings, the cause, and what would help.

diagnosis = diagnose_log("runs/grpo")
diagnosis.cause, diagnosis.findings, diagnosis.frame()
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rekindle.errors import DataError
from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.cause import Cause, find_cause
from rekindle.signals.run_diagnosis.coverage import coverage_findings
from rekindle.signals.run_diagnosis.credit import MethodCredit, method_credits
from rekindle.signals.run_diagnosis.groups import GroupTable, Verdicts, find_verdicts, group_table
from rekindle.signals.run_diagnosis.log_finding import Estimate, LogFinding
from rekindle.signals.run_diagnosis.remedies import Remedy, find_remedies
from rekindle.signals.run_diagnosis.shares import (
    PromptRow,
    StepShares,
    by_step,
    compute_findings,
    late,
    prompt_findings,
    prompt_rows,
    share_findings,
    shares,
)

if TYPE_CHECKING:
    import pyarrow


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
        from rekindle.signals.run_diagnosis.sentences import summary

        return "\n".join(summary(self))


def diagnose_log(
    path: str | Path,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    verifier_column: str | None = None,
    check: str | None = None,
    estimator: str | None = None,
) -> LogDiagnosis:
    """Say where the learning signal of a run went, from the log that its trainer left.

    Args:
        path: the run's directory, or a file of rollouts.
        format: of `rekindle.signals.logs.formats`; None: found by its files.
        columns: which column holds what, for any table of rollouts (`--map`).
        verifier_column: the reward that says right or wrong; None: the one of two values.
        check: grade the texts again: exact, numeric or math.
        estimator: of the advantages; None: the trainer's own default.

    Raises:
        ConfigError: an option names what is not there.
        DataError: there is no log that can be read.
    """
    return diagnose_rows(
        collect(open_log(Path(path), format=format, columns=columns)),
        verifier_column=verifier_column,
        check=check,
        estimator=estimator,
    )


def diagnose_rows(
    log: RunLog,
    *,
    verifier_column: str | None = None,
    check: str | None = None,
    estimator: str | None = None,
) -> LogDiagnosis:
    """The diagnosis of a log that is read; see `diagnose_log`.

    Raises:
        DataError: no row of it is data.
    """
    if not log.data_N.any():
        raise DataError(
            f"{log.about.files[0] if log.about.files else 'the log'} has no rollout of training",
            got=f"{len(log)} rows, {int(log.repeated_N.sum())} repeated, "
            f"{int(log.evaluation_N.sum())} of evaluations",
            wanted="rows of training",
        )
    verdicts = find_verdicts(log, verifier_column)
    table = group_table(log, verdicts.value_N)
    prompts = prompt_rows(table)
    share, last = shares(table), shares(table, late(table))
    findings = [
        *coverage_findings(log, table),
        *share_findings(log, table, verdicts.value_N),
        *prompt_findings(prompts, table),
        *compute_findings(table),
    ]
    cause = find_cause(findings, share, last)
    rm = None
    remedies = find_remedies(
        findings, share, table, cause, rm=rm, has_logprobs=not np.isnan(log.logprob_N).all()
    )
    credits, _ = _credits(log, table, verdicts, cause, rm)
    return LogDiagnosis(
        log=log,
        table=table,
        verdicts=verdicts,
        share=share,
        steps=by_step(log, table, verdicts.value_N),
        prompts=prompts,
        findings=findings,
        cause=cause,
        remedies=remedies,
        credits=credits,
        not_told=_not_told(log, table, verdicts),
    )


_SHOWN = ("grpo", "lens", "hero", "naive_blend", "nsr", "ngrpo")


def _credits(
    log: RunLog, table: GroupTable, verdicts: Verdicts, cause: Cause | None, rm: str | None
) -> tuple[list[MethodCredit], dict[str, str]]:
    """What methods would have put on the rows, where the groups' own signal is out: it takes torch,
    which a log that is well is read without."""
    if cause is None or cause.name not in ("too_hard", "too_easy", "tied", "format_spread"):
        return [], {}
    return method_credits(log, table, verdicts.value_N, rm=rm, methods=_SHOWN)


def _not_told(log: RunLog, table: GroupTable, verdicts: Verdicts) -> list[str]:
    """What a log without these columns cannot tell."""
    sentences = [*log.about.notes, *log.damage]
    if np.isnan(log.logprob_N).all():
        sentences.append("no log-probs: the confidence of wrong answers is not known")
    if np.isnan(log.advantage_N).all():
        sentences.append("no advantages: whether they are the estimator's own is not known")
    if (log.step_N < 0).all():
        sentences.append("no steps: what changed over the run is not known")
    if table.usual_size < 2:
        sentences.append("no groups of two or more answers: nothing can be said of groups")
    sentences.append(
        "what SFT would still learn, and whether chosen and rejected are alike, needs the model: "
        "rekindle diagnose --model"
    )
    return sentences


def _finding(finding: LogFinding) -> dict[str, object]:
    return {key: _number(value) for key, value in finding._asdict().items()}


def _plain(estimate: Estimate) -> dict[str, object]:
    return {key: _number(value) for key, value in estimate._asdict().items()}


def _number(value: object) -> object:
    """nan is null in JSON."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
