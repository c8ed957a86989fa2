"""`rekindle report` and `rekindle export`: runs as a page, a study as files to commit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rekindle.cli.options import Overwrite
from rekindle.outputs import PAGE, REPORT_MARK, OutputFile


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The HTML file; default: report.html in the run, or here for several."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Build one self-contained page about one or more runs."""
    if out is None:
        out = runs[0] / PAGE if len(runs) == 1 else Path(PAGE)
    from rekindle.report.page import build_report

    typer.echo(f"report: {build_report(runs, out, overwrite=overwrite).resolve()}")


def export(
    study: Annotated[Path, typer.Argument(help="A study directory.")],
    out: Annotated[Path, typer.Option(help="Where the small files go.")],
    overwrite: Annotated[
        bool, typer.Option(help="Replace an exported study, also another one.")
    ] = False,
) -> None:
    """Export a study as small files: its results, their data and its page; no weights."""
    from rekindle.report.page import build_report
    from rekindle.study.analyse.archive_write import archive_study

    OutputFile(out / PAGE, mark=REPORT_MARK, overwrite=overwrite).check()
    archive_study(study, out, overwrite=overwrite)
    build_report([out], out / PAGE, overwrite=overwrite)
    for path in sorted(out.iterdir()):
        typer.echo(f"{path.stat().st_size / 1024:8.0f} KiB  {path}")
