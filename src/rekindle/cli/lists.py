"""`rekindle tasks` and `rekindle methods`: what there is, by name."""

from __future__ import annotations

import typer


def tasks() -> None:
    """List the tasks."""
    from rekindle.tasks import KNOWN

    for name, text in KNOWN.items():
        typer.echo(f"{name:<12} {text}")


def methods() -> None:
    """List the methods, the recipe section that configures each, and what it does."""
    from rekindle.methods.catalog import METHODS

    for method in METHODS.values():
        typer.echo(f"{method.name:<20} section {method.section + ':':<15} {method.sentence}")
