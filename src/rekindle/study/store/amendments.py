"""What was changed in a study file since it was declared, noted in the study's manifest.

The manifest keeps the hash of the file before the first run and of every change, and the whole of
what is in force. OUT/study.yaml is the same for readers, and anyone can edit it: where its hash is
none of those, that is a change too, made by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rekindle.engine.manifest import now
from rekindle.engine.rundir import flat
from rekindle.files import write_json
from rekindle.study.plan.study_file import Planned, Study
from rekindle.study.schema import digest
from rekindle.study.store.declaration import differences, primary_of, rule_of
from rekindle.study.store.layout import DECLARED, MANIFEST, is_finished
from rekindle.study.store.read import known_study, stored_manifest, stored_study

BY_HAND = f"the {DECLARED} in the study's directory was edited by hand"
UNTOLD = "what else in it differs from what was declared cannot be told"


class _Before(NamedTuple):
    """What was in force; `by_hand`: OUT/study.yaml holds something else than the manifest says;
    `known`: what was in force is known all the same."""

    tree: dict[str, Any]
    study: Study
    by_hand: bool
    known: bool


def as_begun(study: Study) -> dict[str, Any]:
    """What the manifest of a new study keeps of its declaration, beside the hash."""
    return {"primary": primary_of(study), "rule": rule_of(study), **_in_force(study), "changes": []}


def note_changes(study: Study, out: Path, runs: Sequence[Planned]) -> None:
    """Add to the manifest what `study` changes, with what had been finished by now.

    Raises:
        DataError: the manifest or study.yaml is damaged, or another version's.
    """
    manifest, finished = stored_manifest(out), finished_runs(out)
    before = _before(out, manifest)
    lines = differences(flat(before.tree), flat(study.declaration()))
    if before.by_hand:
        lines = [BY_HAND, *lines, *([] if before.known else [UNTOLD])]
    if not lines:
        return
    # The first studies kept neither; a file that was edited by hand does not tell it.
    manifest.setdefault("primary", primary_of(before.study))
    manifest.setdefault("rule", rule_of(before.study) if before.known else {})
    note = {
        "when": now(),
        "finished_runs": len(finished),
        "declared": study.declared(),
        "changes": lines,
    }
    left_out = sum(place not in {run.out for run in runs} for place in finished)
    if left_out:
        note["left_out"] = left_out
    for name, part_of in (("primary", primary_of), ("rule", rule_of)):
        if part_of(study) != part_of(before.study) or not before.known:
            note[name] = part_of(study)
        if not list(out.glob("runs/*/*/*")):  # nothing can have been seen
            manifest[name] = part_of(study)
    changes = [*manifest["changes"], note]
    write_json(out / MANIFEST, {**manifest, **_in_force(study), "changes": changes})


def finished_runs(out: Path) -> list[Path]:
    """All finished runs that are there, also those that are no longer planned."""
    return [p.parent for p in sorted(out.glob(f"runs/*/*/*/{MANIFEST}")) if is_finished(p.parent)]


def _in_force(study: Study) -> dict[str, Any]:
    return {"declaration": study.declaration()}


def _before(out: Path, manifest: dict[str, Any]) -> _Before:
    tree, declared = stored_study(out)
    hashes = [manifest["fingerprints"]["declared"]]
    hashes += [note.get("declared") for note in manifest["changes"]]  # the first had none
    kept = manifest.get("declaration")
    # A session that was killed between its two writes left a file that was in force before.
    by_hand = None not in hashes and digest(tree) not in hashes
    if kept is not None and digest(kept) == hashes[-1]:
        return _Before(kept, known_study(kept, out / MANIFEST), by_hand, known=True)
    return _Before(tree, declared, by_hand, known=not by_hand)
