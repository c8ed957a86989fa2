"""`rekindle study`: run a study file and print its verdicts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli.options import Quiet, Set, command_line, difference_text, mode_of
from rekindle.errors import TrainingError

if TYPE_CHECKING:
    from rich.table import Table

    from rekindle.study.schema import GapResult, PrimaryResult, StudyResults


def study(
    file: Annotated[Path, typer.Argument(help="A YAML file, see studies/.")],
    out: Annotated[Path, typer.Option(help="The study directory.")],
    resume: Annotated[bool, typer.Option(help="Continue with unfinished runs.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing study.")] = False,
    archive: Annotated[
        Path | None,
        typer.Option("--from", help="Start from the finished runs of an exported study."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at once; default: one per core or card.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray (extra [ray]).")] = "local",
    dry_run: Annotated[bool, typer.Option(help="Check the file, say what would run.")] = False,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Run a study: arms x seeds x base models at an equal budget, and its verdicts."""
    since, mode = time.monotonic(), mode_of(resume, overwrite)
    from rekindle.study.run.executors import check_executor, warm_up

    check_executor(executor, jobs)
    if executor == "local" and not dry_run:
        warm_up()  # while this process loads what follows
    from rekindle.study.run.start import preview_study, run_study

    if dry_run:
        preview_study(file, out, mode=mode, archive=archive, overrides=sets or [])
        return
    results = run_study(
        file,
        out,
        mode=mode,
        archive=archive,
        jobs=jobs,
        executor=executor,
        overrides=sets or [],
        quiet=quiet,
        command=command_line(),
        since=since,
    )
    show(results)
    typer.echo(f"results: {out / 'study.json'}")
    refuse_failures(results)


def show(results: StudyResults) -> None:
    """Print the verdicts, what the arms cost, and what is missing."""
    from rich.console import Console
    from rich.table import Table

    from rekindle.report.formatting import plural
    from rekindle.study.store.cost import cost_line
    from rekindle.study.store.layout import counted

    console = Console(width=None if Console().is_terminal else 160)
    grid = Table("method", "baseline", "metric", "difference", "p (Holm)", "n", "verdict")
    for row in results.comparisons:
        counts = {"base": row.n_bases, "pair": row.n_pairs, "problem": row.n_problems}
        grid.add_row(
            row.method,
            row.baseline,
            _metric(row.metric, row.level) + (" *" if row.primary else ""),
            difference_text(row.delta, row.ci_low, row.ci_high),
            "" if row.p_holm is None else f"{row.p_holm:.3f}",
            ", ".join(plural(count, thing) for thing, count in counts.items()),
            row.verdict + (f" ({row.why})" if row.why else ""),
        )
    console.print(grid)
    console.print(f"* {_when_declared(results.primary)}", style="dim")
    console.print("p: for these base models and problems; verdicts rest on intervals", style="dim")
    if results.pgr:
        console.print(_gap_table(results.pgr))
    costs = Table("arm", "finished", "tokens generated", "tokens trained", "updates", "seconds")
    for arm, block in results.arms.items():
        cells = ["" if value is None else f"{value:,.0f}" for _, value in block.spent]
        costs.add_row(arm, f"{block.finished}/{block.planned}", *cells)
    console.print(costs)
    for arm, ratio in results.budget.unequal.items():
        unit = counted(results.budget.unit)
        console.print(f"unequal budget: {arm} spent {ratio:.2f} times the {unit} it should have")
    for change in results.changes:
        left_out = f" (of which {change.left_out} are left out)" if change.left_out else ""
        console.print(
            f"the study file was changed on {change.when}, after {change.finished_runs} "
            f"finished runs{left_out}: {'; '.join(change.changes[:5])}"
        )
    for failure in results.failed:
        console.print(f"failed: {failure.name}: {failure.why}", markup=False)
    if results.cost is not None:
        console.print(f"took {cost_line(results.cost)}")


def _when_declared(primary: PrimaryResult) -> str:
    if primary.declared:
        return "declared before the first run"
    parts = [f"changed after {primary.changed_after} finished runs"]
    if primary.first is not None:
        first = primary.first
        metric = _metric(first.metric, first.level)
        parts.append(f"declared was {metric} of {first.arm} against {first.baseline}")
    return "; ".join([*parts, *primary.changed])


def _metric(name: str, level: str | None) -> str:
    return name if level is None else f"{name} L{level}"


def refuse_failures(results: StudyResults) -> None:
    """Raises TrainingError where a run or preparation failed; which, and what to do."""
    if not results.failed:
        return
    from rekindle.study.analyse.results import UNREAD

    unread = [failure.why.startswith(UNREAD) for failure in results.failed]
    steps = ["fix the cause (see the .log beside each)"] if not all(unread) else []
    steps += ["remove the run directories that are named above"] if any(unread) else []
    raise TrainingError(
        f"{len(results.failed)} of the study's runs and preparations failed",
        got="; ".join(failure.name for failure in results.failed),
        why="the results above are without them",
        fix=f"{', '.join(steps)}, then run the same command with --resume",
    )


def _gap_table(rows: Sequence[GapResult]) -> Table:
    from rich.table import Table

    grid = Table("arm", "metric", "gap recovered (PGR)", "n", "")
    for row in rows:
        n = f"{row.n_pairs} runs, {row.n_problems} problems"
        gap = difference_text(row.pgr, row.ci_low, row.ci_high)
        grid.add_row(row.method, _metric(row.metric, row.level), gap, n, row.why)
    return grid
