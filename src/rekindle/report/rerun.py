"""How to get a study's numbers again: what was declared, by which code, with which command."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rekindle.errors import DataError
from rekindle.files import read_json
from rekindle.report.formatting import listed, plural
from rekindle.report.load import RunData
from rekindle.report.reading import read_model
from rekindle.report.run_files import Manifest
from rekindle.report.study_tables import StudyText, declared_table, runs_table
from rekindle.report.tables import Table, environment
from rekindle.study.schema import StudyResults
from rekindle.study.store.layout import MANIFEST, SESSIONS

_ALONE = ("--resume", "--overwrite")  # of `rekindle study`: what a first run of it does not have
_WITH_VALUE = ("--from", "--out")


@dataclass(frozen=True)
class Rerun:
    """How to get these numbers again."""

    command: str
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
    """How to get the numbers of a study again.

    Args:
        directory, results, declared, runs: the study's directory and what was read of it.
        notes: of the page; what cannot be read is added.
        packed: the reader has an archive, which no run can be begun from alone.
    """
    missing = "where it was run is unknown"
    manifest = read_model(directory / MANIFEST, Manifest, notes, missing=missing) or Manifest()
    command, file = _again(results)
    checkout = [f"git checkout {results.commit}"] if results.commit else []
    seeds = ", ".join(map(str, results.seeds))
    return Rerun(
        command=results.command,
        again="\n".join([*checkout, command]),
        alone={
            arm: f"rekindle train {directory.name}/{these[0].path.relative_to(directory)}/"
            f"config.yaml --out runs/{arm}-again"
            for arm, these in runs.items()
            if these and not packed
        },
        notes=[note for note in (_file_note(file), _code_note(results, manifest, runs)) if note],
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


def _file_note(file: str) -> str:
    if not file:
        return ""
    return f"If {file} is not there, save the study file below under that name."


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
