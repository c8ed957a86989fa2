"""How to get a study's numbers again: what was declared, by which code, with which command."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rekindle.errors import DataError
from rekindle.files import read_json
from rekindle.report.load import RunData
from rekindle.report.reading import read_object
from rekindle.report.study_file import Declared, StudyFile
from rekindle.report.study_tables import declared_table, runs_table
from rekindle.report.tables import Table, code_version, environment
from rekindle.report.words import listed, plural
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
    place: Path,
    found: StudyFile,
    declared: Declared,
    runs: Mapping[str, Sequence[RunData]],
    notes: list[str],
    *,
    packed: bool,
) -> Rerun:
    """How to get the numbers of a study again.

    Args:
        place, found, declared, runs: the study's directory and what was read of it.
        notes: of the page; what cannot be read is added.
        packed: the reader has an archive, which no run can be begun from alone.
    """
    manifest = read_object(place / MANIFEST, notes, "where it was run is unknown")
    command, file = _again(found)
    checkout = [f"git checkout {found.commit}"] if found.commit else []
    seeds = ", ".join(map(str, found.seeds))
    return Rerun(
        command=found.command,
        again="\n".join([*checkout, command]),
        alone={
            arm: f"rekindle train {_shown(place, these[0].path)}/config.yaml --out runs/{arm}-again"
            for arm, these in runs.items()
            if these and not packed
        },
        notes=[note for note in (_file_note(file), _code_note(found, manifest, runs)) if note],
        declared=declared_table(found, declared),
        study_text=declared.text,
        environment=environment("study", _whole(place, found, manifest, runs), seed=seeds),
        runs=runs_table(found, runs),
    )


def _again(found: StudyFile) -> tuple[str, str]:
    """The command that made a study with another --out, and the study file that it names."""
    try:
        words = shlex.split(found.command)
    except ValueError:
        words = []
    if words[:2] != ["rekindle", "study"]:  # a tour, or Python
        words = ["rekindle", "study", "study.yaml"]
    kept, out = list[str](), f"runs/{found.study}"
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name in _WITH_VALUE:
            value = value or next(rest, "")
            out = value if name == "--out" and value else out
        elif word not in _ALONE:
            kept.append(word)
    file = next((word for word in kept[2:] if word.endswith((".yaml", ".yml"))), "")
    return shlex.join([*kept, "--out", f"{out.rstrip('/')}-again"]), file


def _file_note(file: str) -> str:
    if not file:
        return ""
    return f"Where {file} is not there: it is the study file below, saved under that name."


def _code_note(
    found: StudyFile, manifest: Mapping[str, Any], runs: Mapping[str, Sequence[RunData]]
) -> str:
    made = Counter(code_version(run.manifest) for these in runs.values() for run in these)
    told = []
    if len(made) > 1:
        each = [f"{plural(n, 'run')} by {version}" for version, n in made.most_common()]
        told.append(f"The runs were not all made by the same code: {listed(each)}.")
    if found.dirty:
        told.append(
            "The code had changes that were not committed, so that this commit alone may not give "
            "the same numbers."
        )
    elif not found.commit:
        told.append(f"No commit was recorded; it was rekindle {code_version(manifest)}.")
    return " ".join(told)


def _whole(
    place: Path,
    found: StudyFile,
    manifest: Mapping[str, Any],
    runs: Mapping[str, Sequence[RunData]],
) -> dict[str, Any]:
    """A study's manifest with when it ended, which is noted by its runs, and its sessions."""
    ends = [run.manifest.get("finished") for these in runs.values() for run in these]
    last = max((end for end in ends if isinstance(end, str)), default=None)
    left = f"no: {plural(found.unfinished, 'run')} left"
    try:
        sessions = read_json(place / SESSIONS) if (place / SESSIONS).is_file() else None
    except DataError:
        sessions = None
    finished = left if found.unfinished else last
    return {**manifest, "finished": finished, "sessions": sessions}


def _shown(place: Path, path: Path) -> str:
    """A run's directory, from the study's own on."""
    return f"{place.name}/{path.relative_to(place)}"
