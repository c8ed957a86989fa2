"""What the committed studies say of each method, shipped with the package as one small table.

    PYTHONPATH=docs python -m sitegen.evidence results/studies     # writes evidence.json

The table holds each study's declared comparison, as its study.json has it; `oracle` where the
method's reward model was the control that leaks the truth and may not be taken for a trained one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from rekindle.files import read_json
from rekindle.study.schema import Number, Stored, Verdict

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
