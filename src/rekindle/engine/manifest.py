"""What made a run: code, packages, machine in general terms, command, seeds, hashes of inputs."""

import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "tokenizers", "numpy", "scipy")
STATE_FORMAT = 1  # raised when old checkpoints cannot be read any more


def make_manifest(
    *, command: str, seed: object, fingerprints: Mapping[str, str], processes: int
) -> dict[str, Any]:
    """The manifest of a new run; no host names, no user names, no environment variables."""
    return {
        "rekindle": importlib.metadata.version("rekindle"),
        "state_format": STATE_FORMAT,
        **_code(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processes": processes,
        "command": command or " ".join(sys.argv[:1]),
        "seed": seed,
        "fingerprints": dict(fingerprints),
        "started": now(),
        "sessions": [],
        "finished": None,
    }


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _code() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None, "diff_sha": None}
    commit = _git(root, "rev-parse", "HEAD")
    diff = _git(root, "diff", "HEAD")
    return {
        "commit": commit.strip() if commit else None,
        "dirty": None if diff is None else bool(diff),
        "diff_sha": hashlib.sha256(diff.encode()).hexdigest()[:16] if diff else None,
    }


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
