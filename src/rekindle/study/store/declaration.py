"""What was declared before the first run, what was changed since, and what is in force.

The manifest keeps the hash of the study file before the first run and of every change, the whole of
the file in force, and the first declared comparison and rule: which difference would matter, which
interval, which budget. A study file may name others later, when results have been seen: study.json
then says so, and the comparison that was declared is still made. OUT/study.yaml is the file in
force for readers. Anyone can edit it: where its hash is none of those that were noted, that is a
change too, made by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from rekindle.engine.manifest import now
from rekindle.engine.rundir import differences, flat
from rekindle.errors import ConfigError
from rekindle.files import write_json
from rekindle.study.plan.study_file import Comparison, PlannedRun, Study
from rekindle.study.schema import (
    Change,
    DeclaredComparison,
    PrimaryResult,
    Rule,
    StudyManifest,
    digest,
)
from rekindle.study.store.layout import (
    DECLARED,
    MANIFEST,
    RESTORE,
    damaged,
    is_finished,
    read_stored,
)
from rekindle.training.recipe import checked

UNKNOWN_RULE = "the declared rule is not known, because study.yaml was edited by hand"
BY_HAND = f"the {DECLARED} in the study's directory was edited by hand"
UNKNOWN_CHANGES = "its other differences from what was declared are not known"


class _InForce(NamedTuple):
    """The study file that was in force; `by_hand`: OUT/study.yaml holds another one; `known`: the
    one in force is known all the same."""

    tree: Mapping[str, object]
    study: Study
    by_hand: bool
    known: bool


def note_changes(study: Study, out: Path, runs: Sequence[PlannedRun]) -> None:
    """Add to the manifest what `study` changes, with how many runs are finished by now.

    DataError where the manifest or study.yaml is damaged, or another version's.
    """
    manifest, finished = stored_manifest(out), finished_runs(out)
    before = _in_force(out, manifest)
    lines = differences(flat(before.tree), flat(study.declaration()))
    if before.by_hand:
        lines = [BY_HAND, *lines, *([] if before.known else [UNKNOWN_CHANGES])]
    if not lines:
        return
    # The first studies kept neither; a file that was edited by hand does not say what it was.
    if manifest.primary is None:
        manifest = manifest.with_(primary=before.study.declared_comparison())
    if manifest.rule is None:
        manifest = manifest.with_(rule=before.study.rule() if before.known else Rule())
    note = Change(
        when=now(), finished_runs=len(finished), declared=study.declared_hash(), changes=lines
    )
    left_out = sum(place not in {run.out for run in runs} for place in finished)
    if left_out:
        note = note.with_(left_out=left_out)
    primary, rule = study.declared_comparison(), study.rule()
    if primary != before.study.declared_comparison() or not before.known:
        note = note.with_(primary=primary)
    if rule != before.study.rule() or not before.known:
        note = note.with_(rule=rule)
    if not list(out.glob("runs/*/*/*")):  # no result can have been seen
        manifest = manifest.with_(primary=primary, rule=rule)
    changes = [*manifest.changes, note]
    write_json(
        out / MANIFEST, manifest.with_(declaration=study.declaration(), changes=changes).plain()
    )


def finished_runs(out: Path) -> list[Path]:
    """All finished runs that are there, also those that are no longer planned."""
    return [p.parent for p in sorted(out.glob(f"runs/*/*/*/{MANIFEST}")) if is_finished(p.parent)]


def _in_force(out: Path, manifest: StudyManifest) -> _InForce:
    tree, study = stored_study(out)
    hashes = [manifest.fingerprints.declared, *(note.declared for note in manifest.changes)]
    kept = manifest.declaration
    # The first notes had no hash. A session that was killed between its two writes left a file that
    # was in force before.
    by_hand = "" not in hashes and digest(tree) not in hashes
    if kept is not None and digest(kept) == hashes[-1]:
        return _InForce(kept, _parse_study(kept, out / MANIFEST), by_hand, known=True)
    return _InForce(tree, study, by_hand, known=not by_hand)


def first_declared(study: Study, manifest: StudyManifest) -> DeclaredComparison | None:
    """The comparison that was declared first, where another one is in force; else None."""
    now_declared = study.declared_comparison()
    first = manifest.primary or now_declared
    return None if first == now_declared else first


def primary_result(study: Study, manifest: StudyManifest) -> PrimaryResult:
    """The comparison in force, with what was changed of it and of its rule since the first run."""
    primary = PrimaryResult(**study.primary.model_dump())
    first, changed = first_declared(study, manifest), _rule_changes(study, manifest)
    if first is None and not changed:
        return primary
    after = [
        note.finished_runs
        for note in manifest.changes
        if {"primary", "rule"} & note.model_fields_set
    ]
    primary = primary.with_(declared=False, changed_after=after[-1] if after else 0)
    if first is not None:
        primary = primary.with_(first=first)
    return primary.with_(changed=changed) if changed else primary


def rule_caution(primary: PrimaryResult) -> str:
    """What stands beside every verdict where the rule was changed after runs; else ""."""
    if not primary.changed:
        return ""
    return f"the rule of verdicts was changed after {primary.changed_after} finished runs"


def compared_pairs(study: Study, first: DeclaredComparison | None) -> list[Comparison]:
    """The study's pairs, and the one declared first where its arms are still there."""
    pairs = study.pairs()
    if first is None or first.baseline is None or not {first.arm, first.baseline} <= {*study.arms}:
        return pairs
    pair = Comparison(arm=first.arm, baseline=first.baseline)
    return pairs if pair in pairs else [*pairs, pair]


def _rule_changes(study: Study, manifest: StudyManifest) -> list[str]:
    if manifest.rule is None:  # the first studies did not keep it, and their rules never changed
        return []
    first = manifest.rule.plain()
    return differences(flat(first), flat(study.rule().plain())) if first else [UNKNOWN_RULE]


def stored_manifest(out: Path) -> StudyManifest:
    """The manifest of a study; DataError where it is missing, broken or without one of its keys."""
    return read_stored(
        out / MANIFEST,
        StudyManifest,
        wanted="the manifest of a study: 'fingerprints' with the hash of what was declared, "
        "'changes' with 'finished_runs' each, and what made it",
    )


def stored_tree(path: Path, *, fix: str = RESTORE) -> Mapping[str, object]:
    """The mapping in a YAML file that a study or a run wrote; DataError where it has none."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damaged(path, str(error), "YAML", fix) from error
    if not isinstance(tree, dict):
        raise damaged(path, "nothing" if tree is None else tree, "keys and values", fix)
    return tree


def stored_study(out: Path) -> tuple[Mapping[str, object], Study]:
    """What was declared last in a study directory, as it stands there and checked."""
    tree = stored_tree(out / DECLARED)
    return tree, _parse_study(tree, out / DECLARED)


def _parse_study(tree: Mapping[str, object], path: Path) -> Study:
    """The study in `path`; DataError where this version does not know its keys or values."""
    try:
        return checked(Study, tree, "")
    except ConfigError as error:
        got = error.what if error.got is None else f"{error.what}: {error.got}"
        raise damaged(path, got, "the study file as this version writes it") from error
