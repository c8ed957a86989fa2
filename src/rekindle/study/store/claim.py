"""Claiming a study directory: whether it is a study, who uses it, and what was changed since.

What was declared before the first run is hashed into the manifest. A study file may be changed
later (more seeds, another arm): the change is noted with what had been finished by then, and the
report shows it. A run that was made with other settings than it would have now is refused: its
numbers would stand under another recipe's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from rekindle.engine.manifest import STATE_FORMAT, make_manifest
from rekindle.engine.rundir import (
    LOCK,
    Mode,
    RunLock,
    check_mode,
    differences,
    flat,
    refuse_in_use,
    refuse_mode,
    taken,
)
from rekindle.errors import ConfigError, DataError, RunDirectoryError
from rekindle.files import write_atomic, write_json
from rekindle.study.plan.planning import preparations, short_names
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.schema import ManifestHead, StudyManifest
from rekindle.study.store.cost import read_cost
from rekindle.study.store.declaration import (
    finished_runs,
    note_changes,
    stored_manifest,
    stored_study,
    stored_tree,
)
from rekindle.study.store.layout import DECLARED, MANIFEST, SESSIONS, read_head
from rekindle.study.store.relocate import REMOVE_RUN, known_roots, move_unfinished, rebased
from rekindle.training.recipe import make_recipe
from rekindle.version import __version__

OWN = ("runs", "prepared", "models", "study.json", "report.html", SESSIONS, DECLARED, MANIFEST)


def claim_study(
    study: Study,
    out: Path,
    runs: Sequence[PlannedRun],
    *,
    mode: Mode,
    command: str,
    workers: int,
) -> RunLock:
    """Make `out` this process's study directory and return the lock that keeps it.

    A study whose directory has another name than before is continued (`relocate.py`).

    Raises:
        RunDirectoryError: it exists (new), is no study (resume, overwrite), is in use, cannot be
            written, or holds runs made with other settings (resume; they are listed).
        DataError: what the study or a run wrote is damaged, or another version's (resume).
    """
    check_mode(mode)
    with taken(out, mode, OWN, lambda: _refuse_mode(out, mode)) as lock:
        if _continues(study, out, runs, mode):
            _note_directory(study, out, runs)
            note_changes(study, out, runs)
        else:
            made_by = make_manifest(
                command=command,
                seed=list(study.seeds),
                fingerprints={"declared": study.declared_hash()},
                processes=workers,
            )
            declared = {
                "study": study.study,
                "places": [str(out)],
                "primary": study.declared_comparison(),
                "rule": study.rule(),
                "declaration": study.declaration(),
                "changes": [],
            }
            manifest = StudyManifest.model_validate({**made_by, **declared})
            write_json(out / MANIFEST, manifest.plain())
        text = yaml.safe_dump(study.declaration(), sort_keys=False, allow_unicode=True)
        write_atomic(out / DECLARED, text)
    return lock


def refuse_start(study: Study, out: Path, runs: Sequence[PlannedRun], *, mode: Mode) -> None:
    """Refuse what `claim_study` refuses, and write nothing: of a dry run."""
    _refuse_mode(out, mode)
    refuse_in_use(out / LOCK)
    _continues(study, out, runs, mode)


def _continues(study: Study, out: Path, runs: Sequence[PlannedRun], mode: Mode) -> bool:
    """Whether the study in `out` is continued (else: begun); refuses what forbids either."""
    if mode == "resume" and (out / DECLARED).exists():
        refuse_unlike(study, out, runs)
        read_cost(out)
        return True
    if mode != "overwrite":
        _refuse_undeclared(out)
    return False


def refuse_unlike(study: Study, out: Path, runs: Sequence[PlannedRun]) -> None:
    """Refuse a study directory whose runs are not those that are planned in it now.

    Raises:
        RunDirectoryError: it is another version's, runs were made with other settings (they are
            listed), or a base's runs would be looked for elsewhere.
        DataError: what the study or a run wrote is damaged.
    """
    _refuse_other_version(out)
    stored_manifest(out)  # its results need it, once everything has run
    _refuse_other_runs(out, runs)
    _refuse_renamed(out, study)


def _refuse_mode(out: Path, mode: Mode) -> None:
    check_mode(mode)
    refuse_mode(out, mode, lambda place: _is_ours(place, mode), kind="study")


def _is_ours(out: Path, mode: Mode) -> bool:
    try:
        return (out / MANIFEST).exists() and read_head(out).study is not None
    except DataError:
        if mode == "resume":  # the damage is reported
            raise
        return False


_THIS_VERSION = f"state format {STATE_FORMAT} (rekindle {__version__})"


def _version(head: ManifestHead) -> str:
    return f"rekindle {head.rekindle}, state format {head.state_format}"


def _refuse_other_version(out: Path) -> None:
    head = read_head(out)
    if head.state_format != STATE_FORMAT:
        raise RunDirectoryError(
            f"{out} was made with another version of rekindle",
            got=_version(head),
            wanted=_THIS_VERSION,
            why="its runs cannot be continued here, and runs of two versions are not compared",
            fix="resume it with the version that made it, or start again with --overwrite",
        )


def _resolved_now(tree: Mapping[str, object]) -> Mapping[str, object]:
    """A run's config with the keys that later versions added, at their defaults."""
    try:
        return make_recipe(tree).resolved()
    except ConfigError:  # a key that is gone: shown as a difference
        return tree


def _first_of(lines: Sequence[str]) -> str:
    more = f"\n    and {len(lines) - 5} more" if len(lines) > 5 else ""
    return "\n    ".join(lines[:5]) + more


def _refuse_other_runs(out: Path, runs: Sequence[PlannedRun]) -> None:
    """Refuse runs that another version made, or that were made with other settings."""
    begun = [(run, read_head(run.out)) for run in runs if (run.out / "config.yaml").exists()]
    lines = [
        f"{run.out.relative_to(out)}: {_version(head)}"
        for run, head in begun
        if head.state_format != STATE_FORMAT
    ]
    if lines:
        raise RunDirectoryError(
            "runs of the study were made with another version of rekindle:\n    "
            + _first_of(lines),
            wanted=_THIS_VERSION,
            why="they cannot be continued here, and their numbers could mean something else",
            fix="resume with the version that made them, or remove the directories of these runs: "
            "--resume makes only them again",
        )
    changed, versions, roots = [], set[str | None](), known_roots(out)
    for run, head in begun:
        before = flat(_resolved_now(stored_tree(run.out / "config.yaml", fix=REMOVE_RUN)))
        after = flat(run.recipe.resolved())
        lines = differences(rebased(before, roots), rebased(after, roots))
        if lines:
            changed.append(f"{run.out.relative_to(out)}: " + "; ".join(lines[:3]))
            versions.add(head.rekindle)
    if changed:
        other = sorted(str(version) for version in versions - {__version__})
        raise RunDirectoryError(
            "the study file was changed: these runs were made with other settings:\n    "
            + _first_of(changed),
            got=f"runs of rekindle {', '.join(other)}; this is {__version__}" if other else None,
            why="runs of one arm would have different settings, and could not be compared",
            fix="restore the study file, give another --out, or start again with --overwrite "
            "(removing the runs listed makes only them again)",
        )


def _note_directory(study: Study, out: Path, runs: Sequence[PlannedRun]) -> None:
    """Keep each name that the directory is called by, and continue unfinished runs under this."""
    manifest = stored_manifest(out)
    if str(out) in manifest.places:
        return
    # Noted first: a kill in between leaves configs with both names, and both are known.
    write_json(out / MANIFEST, manifest.with_(places=[*manifest.places, str(out)]).plain())
    prepared = [item.out for item in preparations(study, out)]
    move_unfinished(out, [run.out for run in runs] + prepared, known_roots(out))


def _refuse_renamed(out: Path, study: Study) -> None:
    """Refuse bases that would make finished runs of another base look as if they were not there."""
    before = short_names(stored_study(out)[1].bases)
    names = short_names(study.bases)
    for base, was in before.items():
        lost = [place for place in finished_runs(out) if place.parent.name == was]
        if lost and names.get(base, was) != was:
            raise RunDirectoryError(
                f"base model '{base}' would have another directory",
                got=f"'{names[base]}', and {len(lost)} finished runs are in '{was}'",
                why="a base's directory is named by the last parts of its path, as many as tell it "
                "from the others; now that is more parts, and finished runs would be left out",
                fix="give the new base by a path that ends otherwise (e.g. a link), or start a "
                "new study with another --out",
            )


def _refuse_undeclared(out: Path) -> None:
    begun = len(list(out.glob(f"runs/*/*/*/{MANIFEST}")))
    if begun:
        raise RunDirectoryError(
            f"{out / DECLARED} is gone",
            got=f"{begun} runs without the study file that was declared before them",
            why="a claim that is declared now would look as if it was declared before the runs",
            fix=f"restore {DECLARED}, or start again with --overwrite or another --out",
        )
