"""`rekindle tasks` and `rekindle methods`: what there is, by name."""

from __future__ import annotations

import typer


def tasks() -> None:
    """List the tasks."""
    from rekindle.tasks import KNOWN

    for name, text in KNOWN.items():
        typer.echo(f"{name:<12} {text}")


def methods() -> None:
    """List the methods, and the recipe section that configures each."""
    from rekindle.methods import METHODS, section_name

    for name in METHODS:
        typer.echo(f"{name:<12} section {section_name(name)}:")
