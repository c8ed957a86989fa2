"""Thread settings that must be made before torch is imported; imports nothing heavy."""

from __future__ import annotations

import os


def calm_threads() -> None:
    """Let waiting OpenMP threads sleep instead of spin.

    On a shared machine two spinning threads were measured ten times slower than one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
