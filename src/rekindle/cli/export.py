"""`rekindle export`: a study as small files that can be committed beside a claim."""

from __future__ import annotations

from pathlib import Path

import typer

from rekindle.report.page import build_report
from rekindle.study.analyse.archive_write import archive_study


def run_export(place: Path, out: Path) -> None:
    """Write the archive and its page, and say how large they are."""
    archive_study(place, out)
    build_report([out], out / "report.html")
    for path in sorted(out.iterdir()):
        typer.echo(f"{path.stat().st_size / 1024:8.0f} KiB  {path}")
