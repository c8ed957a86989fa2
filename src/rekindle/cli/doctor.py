"""`rekindle doctor`: what this installation is, for a bug report or a first look."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil

import typer

_CORE = ("torch", "transformers", "accelerate", "safetensors", "numpy", "scipy", "pydantic")
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

    from rekindle.rewards.code import find_sandbox

    typer.echo(f"rekindle      {_version('rekindle')}")
    typer.echo(
        f"python        {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    for name in _CORE:
        typer.echo(f"{name:<13} {_version(name)}")
    for extra, package in _EXTRAS.items():
        typer.echo(f"[{extra}] {package}: {_version(package)}")
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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
