"""The tour: five small studies of one base and one seed each, run side by side; or, on a pretrained
model, one.

    OUT/METHOD/    an ordinary study directory: `rekindle report` and `rekindle study` understand it

The studies are in `studies/tour/`. They share the workers, so that no core waits for a pair's end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, Unpack

from rekindle.engine.progress import say
from rekindle.errors import ConfigError, did_you_mean
from rekindle.evals.compare import compare
from rekindle.evals.reading import Eval, read_eval
from rekindle.methods.catalog import find_method, section_names
from rekindle.study.evidence import STUDIES
from rekindle.study.plan.planning import load_study, plan
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.run.runner import Part, SessionOptions, Work, execute_parts
from rekindle.study.schema import Failure, MeanSpent, Number, Stored, StudyResults
from rekindle.training.recipe import Shared

# those that take longest first, so that no worker is left alone with one at the end
LONGEST_FIRST = ("wmss", "hero", "lens", "weak_to_strong", "temporal")
METHOD_ORDER = tuple(STUDIES)
REAL_ORDER = ("lens",)  # of the tour on a pretrained model
REAL_MODEL = "smollm2-135m"  # of `testbed.pretrained.MODELS`
ONE_SEED = "one seed decides nothing"


class Toured(NamedTuple):
    """A study of the tour, its runs, and its results."""

    name: str
    study: Study
    runs: list[PlannedRun]
    results: StudyResults


class Gain(Stored):
    """A difference with its interval."""

    delta: Number
    ci_low: Number
    ci_high: Number


class TourPair(Stored):
    """A pair of the tour: start, baseline and method on the same problems, and what they cost.

    `training`: what the baseline's own training did, from its first evaluation to its last."""

    name: str
    method: str
    baseline: str
    metric: str
    split: str = "test"
    n_samples: int
    n_problems: int
    base: str
    seed: int
    failed: list[Failure]
    spent: dict[str, MeanSpent]
    unequal: dict[str, float]
    delta: Number
    ci_low: Number
    ci_high: Number
    verdict: str
    start: Number
    before: Number
    after: Number
    training: Gain | None


def load_tour(
    only: Sequence[str] = (), overrides: Sequence[str] = (), *, real: str | None = None
) -> dict[str, Study]:
    """The studies of the tour by method, `only` those named; overrides reach all runs.

    An override of a method's section reaches the runs of methods that have it. `real`: the
    pretrained model that the tour is on, instead of the testbed's; it has fewer pairs.

    Raises:
        ConfigError: there is no such method in the tour, an override reaches no run, or a recipe
            cannot be meant.
    """
    order = METHOD_ORDER if real is None else REAL_ORDER
    for name in only:
        _refuse_method(name, order)
    bases = [] if real is None else [f"bases={json.dumps([real])}"]
    reached: set[str] = set()
    studies = {}
    for name in order:
        if only and name not in only:
            continue
        file = f"{name}.yaml" if real is None else f"real_{name}.yaml"
        path = Path(str(files("rekindle") / "tour" / file))
        sets = list(bases)
        for arm, tree in load_study(path).arms.items():
            own = {find_method(str(tree["method"])).section, *Shared.model_fields}
            for override in overrides:
                section = override.partition("=")[0].strip().partition(".")[0]
                if section not in section_names() - own:
                    reached.add(override)
                    sets.append(f"arms.{arm}.{override}")
        studies[name] = load_study(path, sets)
    for override in overrides:
        if override not in reached:
            raise ConfigError(
                f"--set {override} reaches no run of the tour", fix="leave it out, or --only less"
            )
    return studies


def _refuse_method(name: str, order: Sequence[str]) -> None:
    if name in order:
        return
    if name in METHOD_ORDER:
        raise ConfigError(
            f"the tour on a pretrained model has no pair of '{name}'",
            wanted=f"--only {' or '.join(order)}",
            why=f"{name}'s pair begins with models of the testbed",
            fix="leave out --only, or --real",
        )
    raise ConfigError(f"'{name}' is not part of the tour", fix=did_you_mean(name, order))


def run_tour(
    studies: Mapping[str, Study], out: Path, **options: Unpack[SessionOptions]
) -> list[Toured]:
    """Run what is not finished; the pairs with their results, in the order of `studies`.

    The cost is in OUT/sessions.json. Raises: see `run_study`.
    """
    parts = {name: Part(one, out / name, plan(one, out / name)) for name, one in studies.items()}
    order = [name for name in LONGEST_FIRST if name in parts]
    # A pair's longer run is its method's, the last: with the first ones begin.
    work = Work([run for name in order for run in reversed(parts[name].runs)], [])
    try:
        results = execute_parts([*parts.values()], work, out, **options)
    except SystemExit:
        say("stopped, everything is saved; continue with --resume")
        raise
    return [
        Toured(name, part.study, part.runs, one)
        for (name, part), one in zip(parts.items(), results, strict=True)
    ]


def tour_pair(toured: Toured) -> TourPair:
    """A pair in numbers."""
    results, first = toured.results, toured.results.comparisons[0]
    start = training = None
    if first.delta is not None:
        baseline = next(run for run in toured.runs if run.arm == first.baseline)
        gain = compare(*ends(baseline.out), metric=first.metric)
        start = gain.before
        training = Gain(delta=gain.value, ci_low=gain.ci_low, ci_high=gain.ci_high)
    row = {
        **{key: value for key, value in first.plain().items() if key in TourPair.model_fields},
        "name": toured.name,
        "base": toured.study.bases[0],
        "seed": toured.study.seeds[0],
        "failed": results.failed,
        "spent": {arm: block.spent for arm, block in results.arms.items()},
        "unequal": results.budget.unequal,
        "verdict": ONE_SEED,
        "start": start,
        "training": training,
    }
    return TourPair.model_validate(row)


def ends(place: Path) -> tuple[Eval, Eval]:
    """The first and the last evaluation of a run."""
    paths = sorted((place / "eval").glob("step-*.json"))
    return read_eval(paths[0]), read_eval(paths[-1])
