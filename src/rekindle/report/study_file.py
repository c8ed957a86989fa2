"""study.json as the page reads it: checked as a whole, so that no number is shown without its kin.

Fields that later versions added have defaults; everything else must be there and of its kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rekindle.errors import DataError
from rekindle.report.samples import number
from rekindle.study.schema import StudyCost, digest
from rekindle.study.store.layout import read_results

Verdict = Literal["helps", "does not", "cannot tell yet"]


def _finite(value: object) -> object:
    """nan and infinity, which other writers than ours leave, are undefined."""
    return number(value) if isinstance(value, float) else value


Number = Annotated[float | None, BeforeValidator(_finite)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Claim(_Part):
    """One comparison: a metric on a level, the method against its baseline."""

    method: str
    baseline: str
    metric: str
    level: str | None
    lower_is_better: bool = False
    primary: bool
    n_seeds: int
    n_bases: int
    n_pairs: int
    missing_pairs: int
    n_problems: int
    n_samples: int
    split: str = ""
    before: Number
    after: Number
    delta: Number
    ci_low: Number
    ci_high: Number
    p_value: Number
    p_holm: Number
    verdict: Verdict
    why: str
    unequal_budget: list[str]


class Gap(_Part):
    """The performance gap recovered by an arm."""

    method: str
    metric: str
    level: str | None
    n_pairs: int
    pgr: Number
    ci_low: Number
    ci_high: Number
    why: str


class Spent(_Part):
    """What a run, or a run of an arm on average, cost."""

    generated: Number
    trained: Number
    updates: Number
    seconds: Number


class RunOf(Spent):
    """A finished run of an arm."""

    base: str
    seed: int
    out: str


class ArmOf(_Part):
    """An arm: its settings, its runs, what they cost."""

    settings: dict[str, Any]
    planned: int
    finished: int
    spent: Spent
    rounds: list[dict[str, Any]] = Field(default_factory=list)
    runs: list[RunOf]


class Budget(_Part):
    """What was held equal, and which arms were not."""

    unit: Literal["updates", "generated", "trained"]
    at_most: int | None
    unequal: dict[str, float]


class Deciding(_Part):
    """A comparison, a metric and a level."""

    arm: str
    baseline: str | None = None
    metric: str
    level: str | None


class Primary(Deciding):
    """What decides; `first` is what was declared to, where that was changed after runs, and
    `changed` what else its verdict rests on."""

    declared: bool = True
    changed_after: int = 0
    changed: list[str] = Field(default_factory=list)
    first: Deciding | None = None

    @property
    def when(self) -> str:
        """When it was declared, for a table."""
        return "yes" if self.declared else f"changed after {self.changed_after} runs"


class Failed(_Part):
    """A run that did not finish, or a preparation."""

    arm: str = ""
    base: str
    seed: int | None = None
    why: str
    preparation: str = ""

    @property
    def name(self) -> str:
        """Which."""
        if self.preparation:
            return f"{self.preparation} for {self.base}"
        return f"{self.arm}, {self.base}, seed {self.seed}"


class Change(_Part):
    """A change of the study file after the first run."""

    when: str
    finished_runs: int
    left_out: int = 0
    declared: str = ""
    changes: list[str]


class StudyFile(_Part):
    """The whole of study.json."""

    study: str
    claim: str
    declared: str
    changes: list[Change]
    commit: str | None
    dirty: bool | None
    command: str
    bases: list[str]
    seeds: list[int]
    primary: Primary
    meaningful: float
    budget: Budget
    comparisons: list[Claim]
    pgr: list[Gap] | None = None
    cost: StudyCost | None = None
    arms: dict[str, ArmOf]
    failed: list[Failed]
    unfinished: int


class Declared(BaseModel):
    """What the study directory says of the file that was declared."""

    text: str  # study.yaml
    fits: bool  # its hash is the one that was noted last
    last: str  # that hash


def read_study(place: Path) -> StudyFile:
    """study.json of a study directory.

    Raises:
        DataError: it is missing, is no JSON, or was written by a version that had other fields; the
            fields are named.
    """
    path = place / "study.json"
    if not path.exists():
        raise DataError(
            f"{place} has no study.json",
            why="no run of it has been finished and summed up yet",
            fix=f"rekindle study STUDY.yaml --out {place} --resume",
        )
    tree = read_results(place).plain()
    try:
        return StudyFile.model_validate(tree)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
            for fault in error.errors()
        ]
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise DataError(
            f"{path} cannot be shown: it is not as this version writes it",
            got="; ".join(faults[:5]) + more,
            why="a page with half of the fields would tell another story",
            fix=f"rekindle study STUDY.yaml --out {place} --resume writes it anew, with the "
            "version of rekindle that made the runs or a later one",
        ) from error


def read_declared(place: Path, found: StudyFile) -> Declared:
    """study.yaml, and whether it still is what the hash says."""
    path = place / "study.yaml"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    last = next((c.declared for c in reversed(found.changes) if c.declared), found.declared)
    try:
        known = digest(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError, ValueError):
        known = ""
    return Declared(text=text, fits=known == last, last=last)
