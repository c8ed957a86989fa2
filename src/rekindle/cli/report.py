"""`rekindle report` and `rekindle export`: runs as a page, a study as files to commit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Build one self-contained page about one or more runs."""
    from rekindle.report.page import build_report

    typer.echo(f"report: {build_report(runs, out).resolve()}")


def export(
    study: Annotated[Path, typer.Argument(help="A study directory.")],
    out: Annotated[Path, typer.Option(help="Where the small files go.")],
) -> None:
    """Export a study as small files: its results, their data and its page; no weights."""
    from rekindle.report.page import build_report
    from rekindle.study.analyse.archive_write import archive_study

    archive_study(study, out)
    build_report([out], out / "report.html")
    for path in sorted(out.iterdir()):
        typer.echo(f"{path.stat().st_size / 1024:8.0f} KiB  {path}")
