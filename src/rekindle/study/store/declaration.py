"""What was declared before the first run, and whether it still is what is in force.

A verdict rests on the primary comparison and on the rule by which it is given: which difference
would matter, which interval, which budget. The manifest keeps the first of both. A study file may
name others later, when results have been seen: study.json then says so, and the comparison that was
declared is still made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rekindle.engine.rundir import flat
from rekindle.study.plan.study_file import Comparison, Study

UNKNOWN = "what was declared cannot be told, for study.yaml was edited by hand"


def primary_of(study: Study) -> dict[str, Any]:
    """What decides, with the study's baseline where the comparison names none."""
    primary = study.primary
    baseline = primary.baseline or study.baseline
    return {**primary.model_dump(mode="json"), "baseline": baseline}


def rule_of(study: Study) -> dict[str, Any]:
    """What a verdict rests on beside its comparison."""
    budget = study.budget.model_dump(mode="json")
    return {"meaningful": study.meaningful, "interval": study.interval, "budget": budget}


def declared_first(study: Study, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first declared comparison, where another one is in force; else None."""
    first: dict[str, Any] = manifest.get("primary") or primary_of(study)
    return None if first == primary_of(study) else first


def primary_told(study: Study, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The primary comparison as study.json holds it.

    One that was chosen later has `declared` False, after how many finished runs (`changed_after`),
    and the one that was declared (`first`). So has one whose rule was; what, is in `changed`.
    """
    told = study.primary.model_dump(mode="json")
    first, changed = declared_first(study, manifest), _rule_changes(study, manifest)
    if first is None and not changed:
        return told
    after = [note["finished_runs"] for note in manifest["changes"] if {"primary", "rule"} & {*note}]
    told |= {"declared": False, "changed_after": after[-1] if after else 0}
    told |= {"first": first} if first is not None else {}
    return {**told, "changed": changed} if changed else told


def beside_verdicts(primary: Mapping[str, Any]) -> str:
    """What every verdict's reader must know of a rule that was changed, `primary_told`; or ""."""
    if "changed" not in primary:
        return ""
    return f"the rule of verdicts was changed after {primary['changed_after']} finished runs"


def compared_pairs(study: Study, first: Mapping[str, Any] | None) -> list[Comparison]:
    """The study's pairs, and the one declared first where its arms are still there."""
    pairs = study.pairs()
    if first is None or not {first["arm"], first["baseline"]} <= study.arms.keys():
        return pairs
    pair = Comparison(arm=first["arm"], baseline=first["baseline"])
    return pairs if pair in pairs else [*pairs, pair]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """`key: was -> is` of each value that differs between two flat mappings."""
    lines = []
    for key in dict.fromkeys([*after, *before]):
        was = repr(before[key]) if key in before else "(absent)"
        is_ = repr(after[key]) if key in after else "(absent)"
        if was != is_:
            lines.append(f"{key}: {was} -> {is_}")
    return lines


def _rule_changes(study: Study, manifest: Mapping[str, Any]) -> list[str]:
    first = manifest.get("rule")
    if first is None:  # the first studies did not keep it: nothing was changed since
        return []
    return differences(flat(first), flat(rule_of(study))) if first else [UNKNOWN]
