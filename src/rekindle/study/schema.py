"""The shapes of what a study writes: study.json, its manifest, its sessions, its archive.

Every one of these files is written from a model of this file and read back into it. A key that is
not there stays away when the model is written again (`plain`), and keys keep the order that they
had in the file, so that a file of an earlier version comes out byte for byte as it was. Imports
nothing heavy, for the report reads the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    ValidationInfo,
    model_validator,
)

from rekindle.files import finite

Verdict = Literal["helps", "does not", "cannot tell yet"]
Unit = Literal["updates", "generated", "trained"]
RESULTS_FORMAT = 1  # of study.json; raised when what its numbers mean changes
FROM_FILE = "keep the order of keys"  # context of a validation


def digest(declaration: object) -> str:
    """The hash by which a study file is known: SHA-256 of its JSON with sorted keys."""
    return hashlib.sha256(json.dumps(declaration, sort_keys=True).encode()).hexdigest()


Number = Annotated[float | None, BeforeValidator(finite)]  # None: undefined
Count = Annotated[int | float | None, BeforeValidator(finite)]  # of a round: whole or not


class Stored(BaseModel):
    """A frozen part of a file, closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, tree: object) -> Self:
        """The model of what a file holds.

        Raises:
            pydantic.ValidationError: a key is missing, unknown or of another kind.
        """
        return cls.model_validate(tree, context=FROM_FILE)

    def plain(self) -> dict[str, JsonValue]:
        """As the file holds it: only keys that were read or given."""
        return self.model_dump(exclude_unset=True)

    def with_(self, **changes: object) -> Self:
        """The same with other values of some fields, which are not checked."""
        return self.model_copy(update=changes)

    @model_validator(mode="wrap")
    @classmethod
    def _in_order(
        cls, tree: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        part = handler(tree)
        if info.context == FROM_FILE and isinstance(tree, Mapping):
            values = part.__dict__  # pydantic writes fields in this order
            ordered = {key: values[key] for key in tree if key in values} | values
            values.clear()
            values.update(ordered)
        return part


# --- what a study compares


class DeclaredComparison(Stored):
    """A comparison, a metric and a level that decide, or once were declared to."""

    arm: str
    baseline: str | None  # None: the study's
    metric: str
    level: str | None  # None: all levels together


class PrimaryResult(DeclaredComparison):
    """The comparison in force. Where it or its rule was changed after runs had finished:
    `declared` is False, `first` is what was declared before the first run, and `changed` says what
    else the verdict rests on."""

    declared: bool = True
    changed_after: int = 0  # finished runs
    first: DeclaredComparison | None = None
    changed: list[str] = Field(default_factory=list)


class RuleBudget(Stored):
    """What every arm may spend."""

    unit: Unit
    at_most: int | None
    tolerance: float


class BudgetResult(RuleBudget):
    """The budget, and the arms that spent another amount than they should: arm -> ratio."""

    unequal: dict[str, float]


class Rule(Stored):
    """What a verdict rests on beside its comparison. Empty: it is not known."""

    meaningful: float = 0.0
    interval: str = "crossed"
    budget: RuleBudget | None = None


class Change(Stored):
    """A change of the study file after the first run. `primary`, `rule`: where they changed."""

    when: str
    finished_runs: int
    declared: str = ""  # hash of the new file; the first studies noted none
    changes: list[str] = Field(default_factory=list)
    left_out: int = 0  # finished runs that the new file no longer plans
    primary: DeclaredComparison | None = None
    rule: Rule | None = None


class ComparisonResult(Stored):
    """One comparison: a metric on a level, the method against its baseline."""

    method: str
    baseline: str
    metric: str
    lower_is_better: bool = False
    level: str | None
    n_seeds: int
    n_pairs: int
    n_bases: int
    missing_pairs: int
    before: Number
    after: Number
    delta: Number
    ci_low: Number
    ci_high: Number
    p_value: Number
    n_problems: int
    n_samples: int
    split: str = ""
    verdict: Verdict
    intervals: dict[str, list[Number]] | None = None  # kind -> low, high; where both are shown
    why: str
    unequal_budget: list[str]
    primary: bool
    p_holm: Number


class GapResult(Stored):
    """The performance gap that an arm recovers, between the weak arm (0) and the ceiling (1)."""

    method: str
    metric: str
    level: str | None
    n_pairs: int
    n_bases: int = 0
    missing_pairs: int = 0
    pgr: Number
    ci_low: Number
    ci_high: Number
    n_problems: int
    why: str


# --- what runs cost


class Spent(Stored):
    """What a run cost: tokens sampled and tokens in the loss, optimizer updates, seconds.

    Also the content of a run's spent.json in an archive."""

    generated: float
    trained: float
    updates: float
    seconds: float


class MeanSpent(Stored):
    """What a run of an arm cost on average; None where none is finished."""

    generated: Number
    trained: Number
    updates: Number
    seconds: Number

    def of(self, unit: Unit) -> float | None:
        """The amount that a budget in `unit` counts."""
        return {"generated": self.generated, "trained": self.trained, "updates": self.updates}[unit]

    @property
    def idle(self) -> bool:
        """Whether nothing was spent that a budget counts: an evaluation of the start."""
        return not (self.generated or self.trained or self.updates)


class RunResult(Stored):
    """A finished run of an arm, and what it cost."""

    base: str
    seed: int
    out: str
    generated: float
    trained: float
    updates: float
    seconds: float


class ArmResult(Stored):
    """An arm: its settings, what its runs cost, and its rounds where its method has some."""

    settings: dict[str, JsonValue]  # a tree of a recipe
    planned: int
    finished: int
    spent: MeanSpent
    rounds: list[dict[str, Count]] = Field(default_factory=list)
    runs: list[RunResult]


class Failure(Stored):
    """A run that did not finish (`arm`, `seed`), or a `preparation`, and why."""

    preparation: str = ""
    arm: str = ""
    base: str
    seed: int | None = None
    why: str

    @property
    def name(self) -> str:
        """Which."""
        if self.preparation:
            return f"{self.preparation} for {self.base}"
        return f"{self.arm} {self.base} seed {self.seed}"


class Session(Stored):
    """One call of `rekindle study`: its workers, and what they did."""

    started: str = ""
    workers: int
    rekindle: str = ""
    commit: str | None = None
    dirty: bool | None = None
    wall_seconds: float
    busy_seconds: float  # in which a worker had a job, over all workers
    first_job_seconds: Number = None  # from the start to the first job
    jobs: int = 0


class StudyCost(Stored):
    """What a study itself cost, over its sessions; `overhead`: the share of workers' time without
    a job, None before any time passed."""

    wall_seconds: float
    busy_seconds: float
    overhead: float | None
    sessions: list[Session]


# --- the files


class StudyResults(Stored):
    """study.json."""

    format: int = RESULTS_FORMAT  # the first ones had none
    study: str
    claim: str
    declared: str  # hash of the study file before the first run
    changes: list[Change]
    commit: str | None
    dirty: bool | None
    command: str
    bases: list[str]
    seeds: list[int]
    primary: PrimaryResult
    meaningful: float
    interval: Literal["crossed", "bootstrap"] = "crossed"
    budget: BudgetResult
    comparisons: list[ComparisonResult]
    pgr: list[GapResult] | None = None
    arms: dict[str, ArmResult]
    failed: list[Failure]
    unfinished: int
    cost: StudyCost | None = None


class Fingerprints(Stored):
    """Hashes of what a study began with."""

    declared: str  # see `digest`


class StudyManifest(Stored):
    """manifest.json of a study."""

    rekindle: str
    id: str
    state_format: int
    commit: str | None
    dirty: bool | None
    diff_sha: str | None
    python: str
    packages: dict[str, str | None]
    platform: str
    processes: int
    command: str
    seed: list[int]
    fingerprints: Fingerprints
    started: str
    sessions: list[JsonValue]  # of runs; a study's are in sessions.json
    finished: str | None
    study: str
    places: list[str] = Field(default_factory=list)  # names that its directory has had
    primary: DeclaredComparison | None = None  # declared before the first run
    rule: Rule | None = None  # declared before the first run
    declaration: dict[str, JsonValue] | None = None  # the study file in force
    changes: list[Change]


class Excerpt(Stored):
    """The keys that are read of a file that has others, of whatever version."""

    model_config = ConfigDict(extra="ignore")


class ManifestHead(Excerpt):
    """What a study reads of any manifest: which version made it, its id, whether the run is
    finished, the hash of its data, and the name of the study where it is one's."""

    rekindle: str | None = None
    id: str | None = None
    state_format: int | None = None
    finished: str | None = None
    study: str | None = None
    places: list[str] = Field(default_factory=list)
    fingerprints: dict[str, str] | None = None


class ArchivedRun(Stored):
    """A line of runs.jsonl.xz: a finished run as the text of its small files."""

    place: str  # ARM/BASE/seed-N
    arm: str = ""
    files: dict[str, str]


class FailureNote(Stored):
    """RUN.failed.json: why a run or preparation failed, until it is finished."""

    why: str


class FinishedNote(Stored):
    """RUN.json: the id of the run that the study finished there."""

    id: str


class PreparedNote(Stored):
    """PREPARATION.json: the command that made what is there."""

    command: list[str]
