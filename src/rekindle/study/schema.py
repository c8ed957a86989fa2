"""The shapes of what a study writes. Imports nothing heavy, for the report reads them too."""

from __future__ import annotations

import hashlib
import json


def digest(declaration: object) -> str:
    """The hash by which a study file is known: SHA-256 of its JSON with sorted keys."""
    return hashlib.sha256(json.dumps(declaration, sort_keys=True).encode()).hexdigest()
