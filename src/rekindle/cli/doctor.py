"""`rekindle doctor`: what this installation is, or whether runs are whole."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Annotated

import typer

from rekindle.errors import EXIT_USER_ERROR
from rekindle.outputs import kind_of

_CORE = ("torch", "transformers", "accelerate", "safetensors", "numpy", "scipy", "pydantic")
_NONE = "not installed"
_EXTRAS = {
    "gym": "reasoning-gym",
    "hub": "datasets",
    "math": "math-verify",
    "ray": "ray",
    "oracle": "trl",
    "trackers": "tensorboard",
    "trackers (wandb)": "wandb",
    "trackers (trackio)": "trackio",
}


def doctor(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run or study directories, to be verified by hash.", metavar="DIR"),
    ] = None,
) -> None:
    """Print what this installation is; or verify runs by hash, and say what is not whole."""
    if runs:
        verify(runs)
        return
    import torch

    from rekindle.engine.manifest import version_of
    from rekindle.rewards.code import find_sandbox

    typer.echo(f"rekindle      {version_of('rekindle') or _NONE}")
    typer.echo(
        f"python        {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    for name in _CORE:
        typer.echo(f"{name:<13} {version_of(name) or _NONE}")
    for extra, package in _EXTRAS.items():
        typer.echo(f"[{extra}] {package}: {version_of(package) or _NONE}")
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    typer.echo(
        f"devices       cpu{', mps' if torch.backends.mps.is_available() else ''}"
        f"{', ' + ', '.join(cuda) if cuda else '; no CUDA device'}"
    )
    typer.echo(f"cores         {os.cpu_count()}, torch threads {torch.get_num_threads()}")
    sandbox = find_sandbox()
    typer.echo(f"sandbox       {sandbox.name if sandbox else 'none: verifier code is refused'}")
    free = shutil.disk_usage(".").free
    typer.echo(f"disk          {free / 2**30:.1f} GiB free here")


def verify(directories: list[Path]) -> None:
    """Print each part of some runs, or of the runs of studies, and whether it is whole.

    Raises:
        RunDirectoryError: a directory is no run and no study.
        SystemExit: with `errors.EXIT_USER_ERROR` where a part is missing or was changed.
    """
    from rekindle.engine.integrity import Part, verify_run
    from rekindle.study.run.runner import swapped

    broken = 0
    for directory in directories:
        is_study = kind_of(directory) == "a study directory"
        for run in _runs_of(directory) if is_study else [directory]:
            other = swapped(run) if run.is_relative_to(directory / "runs") else None
            parts = [*verify_run(run), *([Part("manifest.json", other)] if other else [])]
            for name, fault in parts:
                broken += bool(fault)
                word = "unknown" if fault is None else "BROKEN" if fault else "whole"
                typer.echo(f"{word:<8} {run / name}{f': {fault}' if fault else ''}")
    typer.echo(f"not as the run wrote them: {broken}" if broken else "nothing is broken")
    if broken:
        raise SystemExit(EXIT_USER_ERROR)


def _runs_of(study: Path) -> list[Path]:
    """The runs of a study, and those that were made for it."""
    patterns = ("runs/*/*/*", "prepared/*/*", "models/*")
    found = [path for pattern in patterns for path in study.glob(f"{pattern}/manifest.json")]
    return sorted(path.parent for path in found)
