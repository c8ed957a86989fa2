"""`rekindle doctor`: what this installation is, for a bug report or a first look."""

from __future__ import annotations

import os
import platform
import shutil

import typer

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


def doctor() -> None:
    """Print versions, devices, threads and optional parts of this installation."""
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
