"""What `rekindle diagnose` says of what it found, and the numbers that it writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rekindle.cli.diagnose_asked import Asked
from rekindle.files import write_json

if TYPE_CHECKING:
    from rekindle.signals.measure import Found


def tell(asked: Asked, task: str | None, found: Found, lines: Sequence[str]) -> None:
    """Print the table and what follows from it; write the numbers where that is asked for."""
    _print(found, lines)
    if asked.out is not None:
        _write_numbers(asked.out, asked, task, found, lines)


def _print(found: Found, lines: Sequence[str]) -> None:
    rows = [row for finding in found.findings for row in finding.rows]
    wide = max((len(row.name) for row in rows), default=0)
    for finding in found.findings:
        typer.echo(finding.signal)
        for row in finding.rows:
            interval = "" if math.isnan(row.ci_low) else f"[{row.ci_low:.4g}, {row.ci_high:.4g}]"
            value = f"{row.value:>9.4g}  {interval:<22}  n {row.n:<5}"
            typer.echo(f"  {row.name:<{wide}}  {value}  {row.words}")
    typer.echo("")
    for finding in found.findings:
        typer.echo(f"{finding.signal:<9}  {finding.state}: {finding.verdict}")
    for name, why in found.missing.items():
        typer.echo(f"{name:<9}  not measured: {why}")
    typer.echo("")
    for line in lines:
        typer.echo(line)


def _write_numbers(
    out: Path, asked: Asked, task: str | None, found: Found, lines: Sequence[str]
) -> None:
    by_name = {finding.signal: finding.as_dict() for finding in found.findings}
    result: dict[str, Any] = {"model": asked.model, "task": task, "weak": asked.weak}
    if "sft" in by_name:  # at the top, where this file had it before there were other signals
        result |= {key: by_name["sft"][key] for key in ("signal", "state", "verdict", "rows")}
    result |= {"signals": by_name, "not_measured": found.missing, "conclusion": list(lines)}
    write_json(out, result)
    typer.echo(f"written: {out}")
