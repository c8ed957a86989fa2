"""What made a run: code, packages, machine in general terms, command, seeds, hashes of inputs."""

import hashlib
import importlib.metadata
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict

from rekindle.version import __version__

PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "tokenizers", "numpy", "scipy")
STATE_FORMAT = 2  # raised when old checkpoints cannot be read any more


class Checkout(TypedDict):
    """The checkout that the package runs from; null where there is none."""

    commit: str | None
    dirty: bool | None  # files differ from the commit
    diff_sha: str | None


class Session(TypedDict):
    """One process that worked on a run."""

    started: str
    from_step: int


class FileRecord(TypedDict):
    """A file as it was written; time in nanoseconds."""

    size: int
    mtime_ns: int
    sha256: str


class Manifest(Checkout):
    """The content of manifest.json, the keys in any order; times are UTC, `%Y-%m-%dT%H:%M:%SZ`.

    The first runs have none of the keys that need not be there, which say what the run wrote.
    """

    rekindle: str
    id: str
    state_format: int
    python: str
    packages: dict[str, str | None]
    platform: str
    processes: int
    command: str
    seed: int | list[int] | None
    fingerprints: dict[str, str]
    started: str
    sessions: list[Session]
    finished: str | None
    config: NotRequired[list[str]]  # hash of config.yaml; several where its study was moved
    checkpoints: NotRequired[dict[str, str]]  # name -> hash of its marker
    stages: NotRequired[dict[str, str]]  # name -> hash of stage.json, or id of its run
    final: NotRequired[dict[str, FileRecord]]  # path below final/ -> file
    data: NotRequired[list[str]]  # how the rows of data were read, and what was not
    remarks: NotRequired[list[str]]  # what is odd about the run, and what to do
    logs: NotRequired[dict[str, tuple[int, str]]]  # of a finished run: bytes and hash of each


def make_manifest(
    *, command: str, seed: int | list[int] | None, fingerprints: Mapping[str, str], processes: int
) -> Manifest:
    """The manifest of a new run; no host names, no user names, no environment variables."""
    code = checkout()
    return {
        "rekindle": __version__,
        "id": secrets.token_hex(4),
        "state_format": STATE_FORMAT,
        "commit": code["commit"],
        "dirty": code["dirty"],
        "diff_sha": code["diff_sha"],
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
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


@cache
def version_of(package: str) -> str | None:
    """Of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def checkout() -> Checkout:
    """Of this process, as it was when it was first asked for."""
    root = Path(__file__).resolve().parents[3]
    commit = diff = changes = None
    if (root / ".git").exists() and (root / "src" / "rekindle").is_dir():
        commit = _git(root, "rev-parse", "HEAD")
        diff = _git(root, "diff", "HEAD")
        changes = _git(root, "status", "--porcelain")  # new files too
    return {
        "commit": commit.decode().strip() if commit else None,
        "dirty": None if changes is None else bool(changes),
        "diff_sha": hashlib.sha256(diff).hexdigest()[:16] if diff else None,
    }


def _git(root: Path, *arguments: str) -> bytes | None:
    # Inside a hook, GIT_DIR and the like name another repository.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            env=clean,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, or one that does not answer
        return None
    return done.stdout if done.returncode == 0 else None
