"""What the committed studies say of each method, shipped with the package as one small table.

    python -m rekindle.study.evidence results/studies     # writes evidence.json beside this file

The table holds each study's declared comparison, as its study.json has it; `oracle` where the
method's reward model was the control that leaks the truth and may not be taken for a trained one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rekindle.errors import DataError
from rekindle.files import read_json, write_json

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
_KEPT = (
    "method", "baseline", "metric", "level", "split", "before", "after", "delta", "ci_low",
    "ci_high", "p_value", "n_bases", "n_seeds", "n_pairs", "n_problems", "verdict",
    "why",
)  # fmt: skip


def gather(results: Path) -> dict[str, dict[str, Any]]:
    """Method -> the declared comparison of its study below `results`.

    Raises:
        DataError: a method has no study there.
    """
    found = {}
    for method, names in STUDIES.items():
        name = next((name for name in names if (results / name / "study.json").exists()), None)
        if name is None:
            raise DataError(
                f"there is no study of {method} in {results}",
                wanted=" or ".join(f"{name}/study.json" for name in names),
            )
        content = read_json(results / name / "study.json")
        declared = next(row for row in content["comparisons"] if row["primary"])
        found[method] = {"study": name, **{key: declared[key] for key in _KEPT}}
        if has_oracle(content["arms"][declared["method"]]["settings"]):
            found[method]["oracle"] = True
    return found


def shipped() -> dict[str, dict[str, Any]]:
    """The table that came with the package."""
    found: dict[str, dict[str, Any]] = read_json(TABLE)
    return found


def is_a_look(row: Mapping[str, Any]) -> bool:
    """Whether a study has too few bases or seeds to be evidence, whatever its interval."""
    return too_few(row["n_bases"], row["n_seeds"])


def too_few(bases: int, seeds: int) -> bool:
    """Whether so many base models and seeds are a look at arms, not evidence for a method."""
    return bases < FEWEST_BASES or seeds < FEWEST_SEEDS


def has_oracle(settings: Mapping[str, Any]) -> bool:
    """Whether an arm's reward model is the control that knows the truth."""
    reward = settings.get("reward")
    return isinstance(reward, Mapping) and reward.get("source") == "oracle"


if __name__ == "__main__":
    write_json(TABLE, gather(Path(sys.argv[1])))
