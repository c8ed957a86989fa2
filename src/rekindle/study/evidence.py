"""What the committed studies say of each method, shipped with the package as one small table.

    python -m rekindle.study.evidence results/studies     # writes evidence.json beside this file

The table holds each study's declared comparison, as its study.json has it; `oracle` where the
method's reward model was the control that leaks the truth and may not be taken for a trained one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from rekindle.errors import DataError
from rekindle.files import read_json, write_json
from rekindle.study.schema import Number, Stored, Verdict
from rekindle.study.store.layout import RESULTS, read_results

# method -> names of its studies; the first that is there counts
STUDIES = {
    "wmss": ("wmss_confirm", "wmss"),
    "weak_to_strong": ("weak_to_strong_confirm", "weak_to_strong"),
    "temporal": ("temporal_confirm", "temporal"),
    "hero": ("hero_confirm", "hero"),
    "lens": ("lens_confirm", "lens"),
}
FEWEST_BASES, FEWEST_SEEDS = 3, 8  # of a study that is more than a look at its arms
TABLE = Path(__file__).with_name("evidence.json")


class EvidenceRow(Stored):
    """The declared comparison of a committed study; `oracle`: its reward model is the control that
    knows the truth."""

    study: str
    method: str
    baseline: str
    metric: str
    level: str | None
    split: str | None
    before: Number
    after: Number
    delta: Number
    ci_low: Number
    ci_high: Number
    p_value: Number
    n_bases: int
    n_seeds: int
    n_pairs: int
    n_problems: int
    verdict: Verdict
    why: str
    oracle: bool = False

    @property
    def is_a_look(self) -> bool:
        """Whether the study has too few bases or seeds to be evidence, whatever its interval."""
        return too_few(self.n_bases, self.n_seeds)


def gather(results: Path) -> dict[str, EvidenceRow]:
    """Method -> the declared comparison of its study below `results`.

    Raises:
        DataError: a method has no study there.
    """
    rows = {}
    for method, names in STUDIES.items():
        name = next((name for name in names if (results / name / RESULTS).exists()), None)
        if name is None:
            raise DataError(
                f"there is no study of {method} in {results}",
                wanted=" or ".join(f"{name}/{RESULTS}" for name in names),
            )
        study = read_results(results / name)
        declared = next(row for row in study.comparisons if row.primary)
        kept = {
            key: value for key, value in declared.plain().items() if key in EvidenceRow.model_fields
        }
        oracle = {"oracle": True} if has_oracle(study.arms[declared.method].settings) else {}
        rows[method] = EvidenceRow.model_validate({"study": name, **kept, **oracle})
    return rows


def shipped() -> dict[str, EvidenceRow]:
    """The table that came with the package."""
    return {name: EvidenceRow.read(row) for name, row in read_json(TABLE).items()}


def too_few(bases: int, seeds: int) -> bool:
    """Whether so many base models and seeds are a look at arms, not evidence for a method."""
    return bases < FEWEST_BASES or seeds < FEWEST_SEEDS


def has_oracle(settings: Mapping[str, JsonValue]) -> bool:
    """Whether an arm's reward model is the control that knows the truth."""
    reward = settings.get("reward")
    return isinstance(reward, Mapping) and reward.get("source") == "oracle"


if __name__ == "__main__":
    table = gather(Path(sys.argv[1]))
    write_json(TABLE, {name: row.plain() for name, row in table.items()})
