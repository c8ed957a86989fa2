"""`rekindle study`: run a study file and print what it found."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from rekindle.errors import ConfigError, RunDirectoryError, TrainingError, did_you_mean
from rekindle.study.run.jobs import Executor
from rekindle.study.run.local import LocalPool, warm_up

if TYPE_CHECKING:
    from rekindle.study.plan.study_file import Planned, Study
    from rekindle.study.store.claim import Mode

EXECUTORS = ("local", "ray")


def run_study_command(
    path: Path,
    out: Path,
    *,
    mode: Mode,
    archive: Path | None,
    jobs: int | None,
    executor: str,
    dry_run: bool,
    overrides: Sequence[str],
    command: str,
    quiet: bool,
) -> None:
    """Load, say what will be run, run it, print the verdicts."""
    since = time.monotonic()
    if executor not in EXECUTORS:
        raise ConfigError(
            f"there is no executor '{executor}'",
            wanted=" or ".join(EXECUTORS),
            fix=did_you_mean(executor, EXECUTORS),
        )
    _refuse_no_job(jobs)
    if executor == "local" and not dry_run:
        warm_up()
    from rekindle.study.plan.study_file import load_study, plan
    from rekindle.study.run.preflight import check_present
    from rekindle.study.run.runner import run_study

    study = load_study(path, overrides)
    runs = plan(study, out)
    if mode == "resume" and not out.exists():
        typer.echo(f"{out} is not there: a new study begins", err=True)
    if archive is None:  # it brings finished runs, which need nothing
        check_present(study, runs)
    if not quiet or dry_run:
        _announce(study, out, runs)
    if dry_run:
        _only_look(study, out, runs, archive=archive, mode=mode)
        return
    pool = _executor(executor, jobs)
    if archive is not None:
        mode = _begun_elsewhere(study, archive, out, mode)
        check_present(study, runs)
    found = run_study(
        study,
        out,
        executor=pool,
        mode=mode,
        command=command,
        quiet=quiet,
        since=since,
    )
    show(found)
    typer.echo(f"results: {out / 'study.json'}")
    _refuse_failures(found)


def _only_look(
    study: Study, out: Path, runs: Sequence[Planned], *, archive: Path | None, mode: Mode
) -> None:
    """Refuse what the study would be refused at its start, say what would run; write nothing."""
    from rekindle.study.run.dry_run import left_to_run
    from rekindle.study.store.claim import refuse_start

    if archive is None:
        refuse_start(study, out, runs, mode=mode)
        typer.echo(left_to_run(study, out, runs, mode=mode), err=True)
        return
    from rekindle.study.plan.study_file import plan
    from rekindle.study.run.preflight import check_present
    from rekindle.study.store.archive_read import opened, refuse_other, refuse_taken

    _refuse_both(mode)
    refuse_other(archive)
    refuse_taken(out)
    with opened(archive) as place:
        _refuse_strange(study, place, archive)
        there = plan(study, place)
        check_present(study, there)
        typer.echo(left_to_run(study, place, there, mode="resume"), err=True)


def _begun_elsewhere(study: Study, archive: Path, out: Path, mode: Mode) -> Mode:
    _refuse_both(mode)
    from rekindle.study.store.archive_read import take_up

    take_up(archive, out, check=lambda place: _refuse_strange(study, place, archive))
    return "resume"


def _refuse_both(mode: Mode) -> None:
    if mode != "new":
        raise ConfigError(
            f"--from and --{mode} exclude each other",
            why="--from begins a new directory with the runs of another study",
            fix="--from once, --resume from then on",
        )


def _refuse_strange(study: Study, place: Path, archive: Path) -> None:
    """Refuse what an archive holds where it is not this study's."""
    from rekindle.study.plan.study_file import plan
    from rekindle.study.store.claim import refuse_renamed, refuse_unlike
    from rekindle.study.store.layout import is_finished

    runs = plan(study, place)
    refuse_unlike(place, runs)
    refuse_renamed(place, study)
    if not any(is_finished(run.out) for run in runs):
        raise RunDirectoryError(
            f"{archive} holds no run of this study",
            wanted=f"finished runs such as {runs[0].out.relative_to(place)}",
            why="it is another study's archive: its runs would be taken up for nothing",
            fix="check --from and the study file",
        )


def _refuse_no_job(jobs: int | None) -> None:
    if jobs is not None and jobs < 1:
        raise ConfigError("--jobs is too small", got=jobs, wanted="at least 1")


def _executor(name: str, jobs: int | None) -> Executor:
    if name == "ray":
        from rekindle.study.run.on_ray import RayPool

        return RayPool(jobs)
    import torch

    cards = tuple(range(torch.cuda.device_count()))
    cores = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count()
    return LocalPool(jobs or len(cards) or cores or 1, cards=cards)


def _announce(study: Study, out: Path, runs: Sequence[Planned]) -> None:
    from rekindle.study.plan.study_file import preparations
    from rekindle.study.run.dry_run import detectable, short_of_budget

    before = preparations(study, out)
    primary, first = study.primary, study.pairs()[0]
    level = f" at level {primary.level}" if primary.level is not None else ""
    typer.echo(
        f"{study.study}: {len(study.arms)} arms x {len(study.seeds)} seeds x "
        f"{len(study.bases)} base models = {len(runs)} runs"
        + (f", after {len(before)} preparations" if before else ""),
        err=True,
    )
    typer.echo(
        f"declared: {primary.metric}{level} of {first.arm} against {first.baseline}; "
        f"hash {study.declared()[:12]}",
        err=True,
    )
    for line in [detectable(study, runs), *short_of_budget(study, runs)]:
        typer.echo(line, err=True)


def show(found: dict[str, Any]) -> None:
    """The verdicts, what the arms cost, and what is missing."""
    from rekindle.report.formatting import plural
    from rekindle.study.store.cost import told
    from rekindle.study.store.layout import counted

    console = Console(width=None if Console().is_terminal else 160)
    grid = Table("method", "baseline", "metric", "difference", "p (Holm)", "n", "verdict")
    for row in found["comparisons"]:
        level = f" L{row['level']}" if row["level"] is not None else ""
        grid.add_row(
            row["method"],
            row["baseline"],
            f"{row['metric']}{level}" + (" *" if row["primary"] else ""),
            _interval(row),
            "" if row["p_holm"] is None else f"{row['p_holm']:.3f}",
            ", ".join(plural(row[f"n_{thing}s"], thing) for thing in ("base", "pair", "problem")),
            row["verdict"] + (f" ({row['why']})" if row["why"] else ""),
        )
    console.print(grid)
    console.print(f"* {_when_declared(found['primary'])}", style="dim")
    console.print("p: for these base models and problems; verdicts rest on intervals", style="dim")
    if found["pgr"]:
        console.print(_gap_table(found["pgr"]))
    costs = Table("arm", "finished", "tokens generated", "tokens trained", "updates", "seconds")
    for arm, row in found["arms"].items():
        spent = row["spent"]
        cells = ["" if spent[k] is None else f"{spent[k]:,.0f}" for k in spent]
        costs.add_row(arm, f"{row['finished']}/{row['planned']}", *cells)
    console.print(costs)
    for arm, ratio in found["budget"]["unequal"].items():
        unit = counted(found["budget"]["unit"])
        console.print(f"unequal budget: {arm} spent {ratio:.2f} times the {unit} it should have")
    for change in found["changes"]:
        console.print(
            f"the study file was changed on {change['when']}, after {change['finished_runs']} "
            f"finished runs{_left_out(change)}: {'; '.join(change['changes'][:5])}"
        )
    for failure in found["failed"]:
        console.print(f"failed: {_failed(failure)}: {failure['why']}", markup=False)
    if found["cost"] is not None:
        console.print(f"took {told(found['cost'])}")


def _when_declared(primary: dict[str, Any]) -> str:
    if primary.get("declared", True):
        return "declared before the first run"
    told = [f"changed after {primary['changed_after']} finished runs"]
    if "first" in primary:
        first = primary["first"]
        level = f" L{first['level']}" if first["level"] is not None else ""
        pair = f"{first['arm']} against {first['baseline']}"
        told.append(f"declared was {first['metric']}{level} of {pair}")
    return "; ".join([*told, *primary.get("changed", [])])


def _left_out(change: dict[str, Any]) -> str:
    return f" (of which {change['left_out']} are left out)" if "left_out" in change else ""


def _failed(failure: dict[str, Any]) -> str:
    if "preparation" in failure:
        return f"{failure['preparation']} for {failure['base']}"
    return f"{failure['arm']} {failure['base']} seed {failure['seed']}"


def _refuse_failures(found: dict[str, Any]) -> None:
    if not found["failed"]:
        return
    from rekindle.study.analyse.results import UNREAD

    unread = [failure["why"].startswith(UNREAD) for failure in found["failed"]]
    mend = ["mend the cause (see the .log beside each)"] if not all(unread) else []
    mend += ["remove the run directories that are named above"] if any(unread) else []
    raise TrainingError(
        f"{len(found['failed'])} of the study's runs and preparations failed",
        got="; ".join(_failed(failure) for failure in found["failed"]),
        why="the results above are without them",
        fix=f"{', '.join(mend)}, then the same with --resume",
    )


def _gap_table(rows: list[dict[str, Any]]) -> Table:
    grid = Table("arm", "metric", "gap recovered (PGR)", "n", "")
    for row in rows:
        level = f" L{row['level']}" if row["level"] is not None else ""
        n = f"{row['n_pairs']} runs, {row['n_problems']} problems"
        metric = f"{row['metric']}{level}"
        grid.add_row(row["method"], metric, _interval(row, "pgr"), n, row["why"])
    return grid


def _interval(row: dict[str, Any], key: str = "delta") -> str:
    value, low, high = (row[name] for name in (key, "ci_low", "ci_high"))
    if value is None or math.isnan(value):
        return "undefined"
    if low is None or math.isnan(low):
        return f"{value:+.3f} (no interval)"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
