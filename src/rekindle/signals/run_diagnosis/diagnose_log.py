"""From a log to its diagnosis: rows read, findings, the cause, and what would help.

diagnosis = diagnose_log("runs/grpo")
diagnosis.cause, diagnosis.findings, diagnosis.frame()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from rekindle.errors import DataError
from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.logs.record import LogAbout
from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.cause import Cause, find_cause
from rekindle.signals.run_diagnosis.confidence import confidence_findings
from rekindle.signals.run_diagnosis.coverage import coverage_findings
from rekindle.signals.run_diagnosis.credit import MethodCredit, method_credits
from rekindle.signals.run_diagnosis.drift import drift_findings
from rekindle.signals.run_diagnosis.estimators import estimators_findings, found_weights
from rekindle.signals.run_diagnosis.groups import GroupTable, Verdicts, find_verdicts, group_table
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis
from rekindle.signals.run_diagnosis.log_finding import LogFinding
from rekindle.signals.run_diagnosis.metrics_only import (
    counted_findings,
    metrics_cause,
    metrics_findings,
    switch_on,
)
from rekindle.signals.run_diagnosis.optimizer import optimizer_findings
from rekindle.signals.run_diagnosis.regrade import regrade
from rekindle.signals.run_diagnosis.remedies import Remedy, find_remedies
from rekindle.signals.run_diagnosis.rewards import IN_GROUPS, TOTAL, rewards_findings
from rekindle.signals.run_diagnosis.shares import (
    by_step,
    compute_findings,
    late,
    prompt_findings,
    prompt_rows,
    share_findings,
    shares,
)
from rekindle.signals.run_diagnosis.spread import spread_findings
from rekindle.signals.run_diagnosis.texts import texts_findings


def diagnose_log(
    path: str | Path,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    verifier_column: str | None = None,
    check: str | None = None,
    estimator: str | None = None,
    tell: Callable[[LogAbout], None] | None = None,
) -> LogDiagnosis:
    """Say where the learning signal of a run went, from the log that its trainer left.

    Args:
        path: the run's directory, or a file of rollouts.
        format: of `rekindle.signals.logs.formats`; None: found by its files.
        columns: which column holds what, for any table of rollouts (`--map`).
        verifier_column: the reward that says right or wrong; None: the one of two values.
        check: grade the texts again: exact, numeric or math.
        estimator: of the advantages; None: the trainer's own default.
        tell: is called with what the log is, before its rows are read.

    Raises:
        ConfigError: an option names what is not there.
        DataError: there is no log that can be read.
    """
    reader = open_log(Path(path), format=format, columns=columns)
    if tell is not None:
        tell(reader.about)
    log = collect(reader)
    if not len(log) and log.about.history:
        return diagnose_metrics(log)
    return diagnose_rows(
        log,
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
    _refuse_empty(log)
    if (weights := found_weights(log)) is not None:
        log = replace(
            log,
            score_N=np.sum([weight * log.parts[name] for name, weight in weights.items()], axis=0),
        )
    verdicts = find_verdicts(log, verifier_column)
    table = group_table(log, verdicts.value_N)
    prompts = prompt_rows(table)
    share, last = shares(table), shares(table, late(table))
    again = None if check is None else regrade(log, verdicts.value_N, check=check)
    findings = [
        *coverage_findings(log, table),
        *share_findings(log, table, verdicts.value_N),
        *prompt_findings(prompts, table),
        *compute_findings(table),
        *rewards_findings(log, verdicts.value_N),
        *spread_findings(log, verdicts.value_N),
        *texts_findings(log, verdicts.value_N),
        *estimators_findings(log, verdicts.value_N, estimator=estimator),
        *confidence_findings(log, verdicts.value_N),
        *drift_findings(log, verdicts.value_N),
        *counted_findings(log.about.history),
        *optimizer_findings(log.about.history),
        *([] if again is None else again.findings),
    ]
    cause = find_cause(findings, share, last)
    rm = _reward_model(findings)
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
        not_told=_not_told(log, table, check),
        named_rows={} if again is None else again.named_rows,
    )


def diagnose_metrics(log: RunLog) -> LogDiagnosis:
    """The diagnosis of a log without rows, by the metrics that it has."""
    verdicts = find_verdicts(log)
    table = group_table(log, verdicts.value_N)
    findings = [*metrics_findings(log.about), *optimizer_findings(log.about.history)]
    by_name = {finding.name: finding for finding in findings}
    return LogDiagnosis(
        log=log,
        table=table,
        verdicts=verdicts,
        share=shares(table),
        steps=[],
        prompts=[],
        findings=findings,
        cause=metrics_cause(findings),
        remedies=[
            Remedy(
                "log_rollouts",
                True,
                f"{switch_on(log.about)}: {by_name['metrics/steps_needed'].says}",
            )
        ],
        credits=[],
        not_told=[*log.about.notes, *log.damage],
    )


def _refuse_empty(log: RunLog) -> None:
    if not log.data_N.any():
        raise DataError(
            f"{log.about.files[0] if log.about.files else 'the log'} has no rollout of training",
            got=f"{len(log)} rows, {int(log.repeated_N.sum())} repeated, "
            f"{int(log.evaluation_N.sum())} of evaluations",
            wanted="rows of training",
        )


def _reward_model(findings: list[LogFinding]) -> str | None:
    """The first reward that may be a reward model's."""
    names = [one.name.removeprefix(IN_GROUPS) for one in findings if IN_GROUPS in one.name]
    return next((name for name in names if name != TOTAL), None)


_SHOWN = ("grpo", "lens", "hero", "naive_blend", "nsr", "ngrpo")


def _credits(
    log: RunLog, table: GroupTable, verdicts: Verdicts, cause: Cause | None, rm: str | None
) -> tuple[list[MethodCredit], dict[str, str]]:
    """What methods would have put on the rows, where the groups' own signal is out: it takes torch,
    which a log that is well is read without."""
    if cause is None or cause.name not in ("too_hard", "too_easy", "tied", "format_spread"):
        return [], {}
    return method_credits(log, table, verdicts.value_N, rm=rm, methods=_SHOWN)


def _not_told(log: RunLog, table: GroupTable, check: str | None) -> list[str]:
    """What a log without these columns cannot tell."""
    sentences = [*log.about.notes, *log.damage]
    if check is None and any(gold is not None for gold in log.golds):
        sentences.append(
            "whether the verdicts are right: the log has reference answers, --check numeric or "
            "math grades the texts again"
        )
    if np.isnan(log.score_N[log.data_N]).all():
        sentences.append("no row has a score that is a number: nothing can be said of groups")
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
