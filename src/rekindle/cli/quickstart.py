"""`rekindle quickstart`: the tour of five methods, each beside its baseline, and one page about it.

Each run is a process of one thread, two at a time. The runs are ordinary ones of ordinary studies
(`studies/tour/`), which the page shows.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli.options import Mode, Quiet, Set, command_line, difference_text, mode_of
from rekindle.errors import RunDirectoryError, TrainingError
from rekindle.outputs import PAGE, TOUR_MARK, OutputFile, kind_of

if TYPE_CHECKING:
    from rekindle.study.evidence import EvidenceRow
    from rekindle.study.tour import TourPair

AT_ONCE = 2
_MADE_BY = "rekindle quickstart"
# The first summaries began with the command that made them.
_SUMMARY_MARK = re.compile(
    rb'^\{\s*(?:"made_by": "rekindle quickstart"|"command": "rekindle quickstart)'
)


def quickstart(
    out: Annotated[Path, typer.Option(help="Where runs and report go.")] = Path("runs/quickstart"),
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier quickstart.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue one that was stopped.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="One method's pair; repeatable.")] = None,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Take a tour: five methods, each beside its baseline on the testbed, and a page about it."""
    since, mode, command = time.monotonic(), mode_of(resume, overwrite), command_line()
    summary_file = OutputFile(out / "summary.json", mark=_SUMMARY_MARK)
    _refuse_out(out, mode, summary_file)
    from rekindle.study.run.executors import LocalPool, warm_up

    warm_up()
    from rekindle.report.formatting import plural
    from rekindle.report.tour import build_tour
    from rekindle.study.evidence import shipped
    from rekindle.study.store.cost import cost_line, read_cost
    from rekindle.study.tour import load_tour, run_tour, tour_pair

    studies = load_tour(only or [], sets or [])
    if not quiet:
        typer.echo(
            f"{plural(len(studies), 'method')}, each beside its baseline: {2 * len(studies)} runs "
            "of one base model and one seed",
            err=True,
        )
    toured = run_tour(
        studies,
        out,
        executor=LocalPool(max(1, min(AT_ONCE, os.cpu_count() or 1))),
        mode=mode,
        command=command,
        quiet=quiet,
        since=since,
    )
    rows = [tour_pair(one) for one in toured]
    evidence = {name: shipped()[name] for name in studies}
    cost = read_cost(out)
    assert cost is not None
    summary = {
        "made_by": _MADE_BY,
        "command": command,
        "commit": toured[0].results.commit,
        "dirty": toured[0].results.dirty,
        "pairs": [row.plain() for row in rows],
        "evidence": {name: row.plain() for name, row in evidence.items()},
        "cost": cost.plain(),
    }
    summary_file.write_json(summary)
    page = build_tour(toured, rows, evidence, out / PAGE, command=command, cost=cost_line(cost))
    _show(rows, evidence)
    typer.echo(f"{cost_line(cost)}\nreport: {page.resolve()}")
    _refuse_failures(rows)


def _refuse_out(out: Path, mode: Mode, summary: OutputFile) -> None:
    """Refuse a directory that is filled (new), or that no quickstart has made."""
    if out.exists() and not out.is_dir():
        raise RunDirectoryError(f"{out} is a file", wanted="a directory", fix="check --out")
    if out.exists() and any(out.iterdir()):
        if mode == "new":
            raise RunDirectoryError(
                f"{out} exists", fix="--resume continues it, --overwrite replaces it"
            )
        from rekindle.study.tour import METHOD_ORDER

        # Killed at once, it left directories of methods with nothing in them.
        if not {place.name for place in out.iterdir()} <= {*METHOD_ORDER} and all(
            kind_of(place) != "a study directory" for place in out.iterdir()
        ):
            raise RunDirectoryError(
                f"{out} is not a quickstart's directory",
                wanted="a directory with the study of a method in it",
                why="rekindle resumes and deletes only its own directories",
                fix="check --out",
            )
    summary.check()
    OutputFile(out / PAGE, mark=TOUR_MARK).check()


def _show(rows: Sequence[TourPair], evidence: dict[str, EvidenceRow]) -> None:
    from rich.console import Console
    from rich.table import Table

    from rekindle.report.tour import (
        ELSEWHERE,
        TEXTS,
        evidence_line,
        metric_note,
        training_sentence,
    )
    from rekindle.study.tour import ONE_SEED

    console = Console(width=None if Console().is_terminal else 150)
    grid = Table(
        "method", "baseline", "the signal its paper is about", "start", "baseline", "method",
        "difference, 95 %", "verdict", title="This tour: test problems, one base model, one seed",
    )  # fmt: skip
    for row in rows:
        grid.add_row(
            row.method,
            row.baseline,
            TEXTS[row.name].missing,
            *("" if x is None else f"{x:.3f}" for x in (row.start, row.before, row.after)),
            difference_text(row.delta, row.ci_low, row.ci_high),
            row.verdict if row.delta is not None else "not finished",
        )
    console.print(grid)
    console.print(
        f"{metric_note(rows)} The intervals are over problems alone: another seed could end "
        f"elsewhere, so {ONE_SEED}.",
        style="dim",
    )
    studies = Table(
        "method", "what was compared", "difference, 95 %", "rests on", "verdict",
        title="What the committed studies say",
    )  # fmt: skip
    for name, study in evidence.items():
        studies.add_row(name, *evidence_line(study))
    console.print(studies)
    console.print(f"{ELSEWHERE} in docs/evidence.md.", style="dim")
    for row in rows:
        if row.baseline == "grpo" and row.training is not None:
            console.print(training_sentence(row))


def _refuse_failures(rows: Sequence[TourPair]) -> None:
    failed = [f"{failure.arm}: {failure.why}" for row in rows for failure in row.failed]
    if failed:
        raise TrainingError(
            f"{len(failed)} of the runs failed",
            got="\n    ".join(failed),
            fix="mend the cause, then `rekindle quickstart --resume`",
        )
