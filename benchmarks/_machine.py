"""What a figure was measured on: processor and versions, no names of hosts or people."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


def describe() -> dict[str, object]:
    """Processor, cores, versions, commit, and whether files differ from it."""
    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    packages = ("rekindle", "torch", "transformers", "trl", "numpy")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    commit, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit or None,
        "dirty": bool(changes) if commit else None,  # files differ from the commit
        "load_average_1m": round(os.getloadavg()[0], 2),
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()
