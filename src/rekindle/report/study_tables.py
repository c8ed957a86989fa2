"""Tables of a study's page: what comparisons rest on, what arms cost, what was declared; and how to
get its numbers again: by which code, with which command."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from rekindle.errors import DataError
from rekindle.files import read_json
from rekindle.report.formatting import UNDEFINED, count, duration, level_title, listed, plural
from rekindle.report.load import RunData
from rekindle.report.reading import read_model
from rekindle.report.run_files import Manifest
from rekindle.report.study_sentences import smallest_that_matters
from rekindle.report.tables import Table, environment
from rekindle.study.schema import (
    ArmResult,
    ComparisonResult,
    GapResult,
    PrimaryResult,
    RunResult,
    StudyResults,
    digest,
)
from rekindle.study.store.layout import DECLARED, MANIFEST, SESSIONS

_ALONE = ("--resume", "--overwrite")  # of `rekindle study`: what a first run of it does not have
_WITH_VALUE = ("--from", "--out")
_COSTS = ("generated", "trained", "updates", "seconds")


@dataclass(frozen=True)
class StudyText:
    """study.yaml of a study directory; "" where it is not there.

    `fits`: its hash is `last`, the one that was noted last.
    """

    text: str
    fits: bool
    last: str


def read_study_text(directory: Path, results: StudyResults) -> StudyText:
    """study.yaml, and whether it still is what the hash says."""
    path = directory / DECLARED
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    hashes = [results.declared, *(change.declared for change in results.changes if change.declared)]
    try:
        known = digest(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError, ValueError):
        known = ""
    return StudyText(text=text, fits=known == hashes[-1], last=hashes[-1])


def comparison_table(results: StudyResults) -> Table:
    """What each comparison rests on, and its p-values."""
    rows = [
        (
            f"{row.method} against {row.baseline}",
            _measured(row),
            _declared(results.primary, row),
            f"{row.n_bases} × {row.n_seeds}",
            str(row.n_pairs),
            str(row.missing_pairs or ""),
            _p(row.p_value),
            _p(row.p_holm),
            listed(row.unequal_budget),
        )
        for row in results.comparisons
    ]
    head = (
        "comparison", "metric", "declared", "bases × seeds", "pairs", "missing", "p", "p (Holm)",
        "unequal budget",
    )  # fmt: skip
    title = (
        "What each comparison rests on. p comes from flipping the signs of runs, so it holds for "
        "these base models and problems only; verdicts rest on the intervals"
    )
    return Table(title, head, rows, numeric=(3, 4, 5, 6, 7))


def _measured(row: ComparisonResult | GapResult) -> str:
    return row.metric + (f", level {row.level}" if row.level is not None else "")


def _declared(primary: PrimaryResult, row: ComparisonResult) -> str:
    first = primary.first
    if row.primary:
        return when_declared(primary)
    if first is None or (row.method, row.baseline) != (first.arm, first.baseline):
        return ""
    return "at first" if (row.metric, row.level) == (first.metric, first.level) else ""


def when_declared(primary: PrimaryResult) -> str:
    """When the comparison that decides was declared, for a table."""
    return "yes" if primary.declared else f"changed after {primary.changed_after} runs"


def gap_tables(results: StudyResults) -> list[Table]:
    """The performance gap recovered, where the study names the two ends of the gap."""
    rows = [
        (
            row.method,
            _measured(row),
            UNDEFINED if row.pgr is None else f"{row.pgr:.2f}",
            "none"
            if row.ci_low is None or row.ci_high is None
            else f"{row.ci_low:.2f} to {row.ci_high:.2f}",
            str(row.n_pairs),
            row.why,
        )
        for row in results.pgr or []
    ]
    head = ("arm", "metric", "PGR", "95 % interval", "runs", "note")
    title = "Performance gap recovered: 0 is the weak model, 1 the ceiling"
    return [Table(title, head, rows, numeric=(2, 3, 4))] if rows else []


def budget_table(results: StudyResults) -> Table:
    """What a run of each arm cost on average, and the least and most among its runs."""
    in_rounds = any(arm.rounds for arm in results.arms.values())
    rows = [
        (
            name,
            f"{arm.finished} of {arm.planned}",
            *(_cost(arm, cost) for cost in _COSTS),
            *(_last_round(arm) if in_rounds else ()),
        )
        for name, arm in results.arms.items()
    ]
    limit, unit = results.budget.at_most, results.budget.unit
    unequal = "not equal for all arms" if results.budget.unequal else "equal for all arms"
    budget = f"{unit}, at most {count(limit)} a run" if limit else f"{unit}, {unequal}"
    head = [
        "arm", "finished", "tokens generated", "tokens trained on", "updates",
        "time, without evaluation", *(("DPO runs", "updates that were kept") if in_rounds else ()),
    ]  # fmt: skip
    title = f"Cost, mean of a run (least to most; budget: {budget})"
    return Table(title, head, rows, numeric=tuple(range(1, len(head))))


def declared_table(results: StudyResults, declared: StudyText) -> Table:
    """What was fixed before the first run, by which hash, and what was changed since."""
    primary = results.primary
    against = next((c.baseline for c in results.comparisons if c.primary), primary.baseline or "?")
    limit = f", at most {count(results.budget.at_most)} a run" if results.budget.at_most else ""
    rows = [
        ("primary metric", f"{primary.metric} on {level_title(primary.level)}"),
        ("primary comparison", f"{primary.arm} against {against}"),
        ("smallest difference that would matter", smallest_that_matters(results)),
        (
            "budget, not held equal" if results.budget.unequal else "held equal",
            f"{results.budget.unit}{limit}",
        ),
        ("base models", listed(results.bases)),
        ("seeds", ", ".join(map(str, results.seeds))),
        ("hash of the study file before the first run (SHA-256)", results.declared),
    ]
    for change in results.changes:
        after = plural(change.finished_runs, "finished run")
        after += f", {change.left_out} of them left out" if change.left_out else ""
        rows.append((f"changed on {change.when}, after {after}", "; ".join(change.changes)))
        rows.append(("hash since then", change.declared or "not recorded"))
    fits = "yes" if declared.fits else "no: it is another file"
    rows.append(("study.yaml still has that hash", fits if declared.text else "it is not there"))
    return Table("Declared", ("what", "value"), rows)


def runs_table(results: StudyResults, runs: Mapping[str, Sequence[RunData]]) -> Table:
    """Every finished run: what it cost, where it is, which code made it."""
    loaded = {run.name: run for these in runs.values() for run in these}
    rows = []
    for arm, result in results.arms.items():
        for row in result.runs:
            run = loaded.get(run_name(arm, row))
            code = "the directory is gone" if run is None else run.manifest.code
            shown = [count(value) for value in (row.generated, row.trained, row.updates)]
            rows.append((arm, row.base, str(row.seed), *shown, duration(row.seconds), code))
    head = ("arm", "base", "seed", "generated", "trained on", "updates", "time", "code")
    return Table("Every finished run", head, rows, numeric=(2, 3, 4, 5, 6))


def run_name(arm: str, run: RunResult) -> str:
    """What a run of a study is called on its page."""
    return f"{arm}, {run.base}, seed {run.seed}"


def _cost(arm: ArmResult, name: str) -> str:
    shown = duration if name == "seconds" else count
    mean = dict(arm.spent)[name]
    each = [dict(run)[name] for run in arm.runs]
    if mean is None or not each or min(each) == max(each):
        return shown(mean)
    return f"{shown(mean)} ({shown(min(each))} to {shown(max(each))})"


def _last_round(arm: ArmResult) -> tuple[str, str]:
    last = arm.rounds[-1] if arm.rounds else {}
    cells = (last.get(name) for name in ("spent/dpo_runs", "spent/updates"))
    dpo, kept = ("" if value is None else count(value) for value in cells)
    return dpo, kept


def _p(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


# --- to run it again


@dataclass(frozen=True)
class Rerun:
    """How to get these numbers again."""

    again: str
    alone: Mapping[str, str]  # arm -> the command of one of its runs
    notes: Sequence[str]
    declared: Table
    study_text: str
    environment: Table
    runs: Table


def rerun_of(
    directory: Path,
    results: StudyResults,
    declared: StudyText,
    runs: Mapping[str, Sequence[RunData]],
    notes: list[str],
    *,
    packed: bool,
) -> Rerun:
    """How to get the numbers of a study again; `notes` of the page: what cannot be read is added.

    `packed`: the reader has an archive, which no run can be begun from alone.
    """
    missing = "where it was run is unknown"
    manifest = read_model(directory / MANIFEST, Manifest, notes, missing=missing) or Manifest()
    command, file = _again(results)
    file_note = f"If {file} is not there, save the study file below under that name."
    checkout = [f"git checkout {results.commit}"] if results.commit else []
    seeds = ", ".join(map(str, results.seeds))
    return Rerun(
        again="\n".join([*checkout, command]),
        alone={
            arm: f"rekindle train {directory.name}/{these[0].path.relative_to(directory)}/"
            f"config.yaml --out runs/{arm}-again"
            for arm, these in runs.items()
            if these and not packed
        },
        notes=[n for n in (file and file_note, _code_note(results, manifest, runs)) if n],
        declared=declared_table(results, declared),
        study_text=declared.text,
        environment=environment("study", _whole(directory, results, manifest, runs), seed=seeds),
        runs=runs_table(results, runs),
    )


def _again(results: StudyResults) -> tuple[str, str]:
    """The command that made a study with another --out, and the study file that it names."""
    try:
        tokens = shlex.split(results.command)
    except ValueError:
        tokens = []
    if tokens[:2] != ["rekindle", "study"]:  # a tour, or Python
        tokens = ["rekindle", "study", "study.yaml"]
    kept, out = list[str](), f"runs/{results.study}"
    rest = iter(tokens)
    for token in rest:
        name, _, value = token.partition("=")
        if name in _WITH_VALUE:
            value = value or next(rest, "")
            out = value if name == "--out" and value else out
        elif token not in _ALONE:
            kept.append(token)
    file = next((token for token in kept[2:] if token.endswith((".yaml", ".yml"))), "")
    return shlex.join([*kept, "--out", f"{out.rstrip('/')}-again"]), file


def _code_note(
    results: StudyResults, manifest: Manifest, runs: Mapping[str, Sequence[RunData]]
) -> str:
    versions = Counter(run.manifest.code for these in runs.values() for run in these)
    sentences = []
    if len(versions) > 1:
        each = [f"{plural(n, 'run')} by {version}" for version, n in versions.most_common()]
        sentences.append(f"The runs were not all made by the same code: {listed(each)}.")
    if results.dirty:
        sentences.append(
            "The code had changes that were not committed, so this commit alone may not give the "
            "same numbers."
        )
    elif not results.commit:
        sentences.append(f"No commit was recorded; it was rekindle {manifest.code}.")
    return " ".join(sentences)


def _whole(
    directory: Path,
    results: StudyResults,
    manifest: Manifest,
    runs: Mapping[str, Sequence[RunData]],
) -> Manifest:
    """A study's manifest with when it ended, which is noted by its runs, and its sessions."""
    last = max((run.manifest.finished for these in runs.values() for run in these), default="")
    left = f"no: {plural(results.unfinished, 'run')} left"
    try:
        sessions = read_json(directory / SESSIONS) if (directory / SESSIONS).is_file() else None
    except DataError:
        sessions = None
    count = len(sessions) if isinstance(sessions, list) else None
    finished = left if results.unfinished else last
    return manifest.model_copy(update={"finished": finished, "sessions": count})
