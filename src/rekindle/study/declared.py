"""The comparison that was declared before the first run, and whether it still is the one in force.

The manifest keeps the first one. A study file may name another later, when results have been seen:
study.json then says so, and the first one is still compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rekindle.study.design import Comparison, Study


def primary_of(study: Study) -> dict[str, Any]:
    """What decides, with the study's baseline where the comparison names none."""
    primary = study.primary
    baseline = primary.baseline or study.baseline
    return {**primary.model_dump(mode="json"), "baseline": baseline}


def declared_first(study: Study, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first declared comparison, where another one is in force; else None."""
    first: dict[str, Any] = manifest.get("primary") or primary_of(study)
    return None if first == primary_of(study) else first


def primary_told(study: Study, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The primary comparison as study.json holds it.

    One that was chosen later has `declared` False, after how many finished runs (`changed_after`),
    and the one that was declared (`first`).
    """
    told = study.primary.model_dump(mode="json")
    first = declared_first(study, manifest)
    if first is None:
        return told
    after = [note["finished_runs"] for note in manifest["changes"] if "primary" in note]
    return {**told, "declared": False, "changed_after": after[-1] if after else 0, "first": first}


def compared_pairs(study: Study, first: Mapping[str, Any] | None) -> list[Comparison]:
    """The study's pairs, and the one declared first where its arms are still there."""
    pairs = study.pairs()
    if first is None or not {first["arm"], first["baseline"]} <= study.arms.keys():
        return pairs
    pair = Comparison(arm=first["arm"], baseline=first["baseline"])
    return pairs if pair in pairs else [*pairs, pair]
