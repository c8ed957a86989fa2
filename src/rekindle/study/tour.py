"""The tour: five small studies of one base and one seed each, run side by side.

    OUT/METHOD/    an ordinary study directory: `rekindle report` and `rekindle study` understand it

The studies are in `studies/tour/`. They share the workers, so that no core waits for a pair's end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from rekindle.engine.progress import say
from rekindle.engine.rundir import RunLock
from rekindle.errors import EXIT_RESUMABLE, ConfigError, did_you_mean
from rekindle.evals.compare import compare
from rekindle.files import read_json, remove_tree, write_json
from rekindle.methods.catalog import find_method, section_names
from rekindle.study.evidence import STUDIES
from rekindle.study.plan.study_file import Planned, Study, load_study, plan
from rekindle.study.run.jobs import Executor
from rekindle.study.run.runner import Work
from rekindle.study.store.claim import Mode, claim_study
from rekindle.study.store.cost import Ledger
from rekindle.study.store.layout import RESULTS, SESSIONS
from rekindle.training.recipe import Shared

# those that take longest first, so that no worker is left alone with one at the end
LONGEST_FIRST = ("wmss", "hero", "lens", "weak_to_strong", "temporal")
METHOD_ORDER = tuple(STUDIES)
ONE_SEED = "one seed decides nothing"


class Toured(NamedTuple):
    """A study of the tour, its runs, and its results."""

    name: str
    study: Study
    runs: list[Planned]
    found: dict[str, Any]


def load_tour(only: Sequence[str] = (), overrides: Sequence[str] = ()) -> dict[str, Study]:
    """The studies of the tour by method, `only` those named; overrides reach all runs.

    An override of a method's section reaches the runs of methods that have it.

    Raises:
        ConfigError: there is no such method in the tour, an override reaches no run, or a recipe
            cannot be meant.
    """
    for name in only:
        if name not in METHOD_ORDER:
            raise ConfigError(
                f"'{name}' is not part of the tour", fix=did_you_mean(name, METHOD_ORDER)
            )
    reached: set[str] = set()
    studies = {}
    for name in METHOD_ORDER:
        if only and name not in only:
            continue
        path = Path(str(files("rekindle") / "tour" / f"{name}.yaml"))
        sets = []
        for arm, tree in load_study(path).arms.items():
            for override in overrides:
                section = override.partition("=")[0].strip().partition(".")[0]
                if not _belongs_elsewhere(section, str(tree["method"])):
                    reached.add(override)
                    sets.append(f"arms.{arm}.{override}")
        studies[name] = load_study(path, sets)
    for override in overrides:
        if override not in reached:
            raise ConfigError(
                f"--set {override} reaches no run of the tour", fix="leave it out, or --only less"
            )
    return studies


def run_tour(
    studies: Mapping[str, Study],
    out: Path,
    *,
    executor: Executor,
    mode: Mode = "new",
    command: str = "",
    quiet: bool = False,
    since: float | None = None,
) -> list[Toured]:
    """Run what is not finished and return the results, in the order of `studies`.

    `since`: `time.monotonic()` when the command began; None: now. The cost is in OUT/sessions.json.

    Raises:
        RunDirectoryError: see `run_study`.
        SystemExit: with `errors.EXIT_RESUMABLE` after SIGTERM or SIGINT, everything saved.
    """
    runs = {name: plan(study, out / name) for name, study in studies.items()}
    order = [name for name in LONGEST_FIRST if name in runs]
    # A pair's longer run is its method's, the last: with the first ones begin.
    work = Work([run for name in order for run in reversed(runs[name])], [])
    with _claimed(studies, runs, out, mode=mode, command=command, workers=executor.slots):
        if mode == "overwrite":
            remove_tree(out / SESSIONS)
        work.look()
        ledger = Ledger(out, workers=executor.slots, since=since)
        asked = work.do(executor, ledger, quiet=quiet)
        found = {n: work.results(study, out / n, runs[n]) for n, study in studies.items()}
        ledger.write()
        for name, results in found.items():
            results["cost"] = None  # the tour's own is beside the studies
            write_json(out / name / RESULTS, results)
    if asked:
        say("stopped, everything is saved; go on with --resume")
        raise SystemExit(EXIT_RESUMABLE)
    return [Toured(name, study, runs[name], found[name]) for name, study in studies.items()]


def tour_row(toured: Toured) -> dict[str, Any]:
    """A pair in numbers: start, baseline and method on the same problems, and their cost."""
    first = toured.found["comparisons"][0]
    by_arm = {run.arm: run for run in toured.runs}
    row = {
        "name": toured.name,
        **{key: first[key] for key in ("method", "baseline", "metric", "split", "n_samples")
           if key in first},
        "n_problems": first["n_problems"],
        "base": toured.study.bases[0],
        "seed": toured.study.seeds[0],
        "failed": toured.found["failed"],
        "spent": {arm: block["spent"] for arm, block in toured.found["arms"].items()},
        "unequal": toured.found["budget"]["unequal"],
        **{key: first[key] for key in ("delta", "ci_low", "ci_high")},
        "verdict": ONE_SEED,
    }  # fmt: skip
    if first["delta"] is None:
        return {**row, "start": None, "before": None, "after": None, "training": None}
    start, end = ends(by_arm[first["baseline"]].out)
    gain = compare(start, end, metric=first["metric"])
    return {
        **row,
        "start": gain.before,
        "before": first["before"],
        "after": first["after"],
        "training": {"delta": gain.value, "ci_low": gain.ci_low, "ci_high": gain.ci_high},
    }


def ends(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and the last evaluation of a run."""
    paths = sorted((place / "eval").glob("step-*.json"))
    return read_json(paths[0]), read_json(paths[-1])


def _belongs_elsewhere(section: str, method: str) -> bool:
    """Whether a section is another method's."""
    others = section_names() - {find_method(method).section}
    return section in others and section not in Shared.model_fields


@contextmanager
def _claimed(
    studies: Mapping[str, Study],
    runs: Mapping[str, list[Planned]],
    out: Path,
    *,
    mode: Mode,
    command: str,
    workers: int,
) -> Iterator[None]:
    """All study directories are ours, or none."""
    locks: list[RunLock] = []
    try:
        for name, study in studies.items():
            lock = claim_study(
                study, out / name, runs[name], mode=mode, command=command, workers=workers
            )
            locks.append(lock)
        yield
    finally:
        for lock in locks:
            lock.release()
