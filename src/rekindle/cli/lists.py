"""`rekindle tasks` and `rekindle methods`: what there is, by name."""

from __future__ import annotations

import typer

from rekindle.methods.catalog import METHODS
from rekindle.tasks import KNOWN


def tasks() -> None:
    """List the tasks."""
    for name, text in KNOWN.items():
        typer.echo(f"{name:<12} {text}")


def methods() -> None:
    """List the methods, the recipe section that configures each, and what it does."""
    for method in METHODS.values():
        typer.echo(f"{method.name:<20} section {method.section + ':':<15} {method.sentence}")
