"""Hashes that say which weights a run began with, and which model wrote a text."""

import hashlib
import json
from pathlib import Path

from rekindle import testbed
from rekindle.engine.policy import Policy
from rekindle.engine.tensor_hash import hash_tensors
from rekindle.files import sha256_file


def source_fingerprint(policy: Policy) -> str:
    """Hash of where the weights came from: of local files, else of the hub commit; of a policy with
    an adapter, of the base's and of the adapter's files."""
    config, adapter = policy.config, policy.adapter
    if adapter is None:
        return _of_source(policy, config.name)
    places = [adapter.base.name, *(p for p in (config.name, config.adapter) if p is not None)]
    marks = [_of_source(policy, place) for place in dict.fromkeys(places)]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def _of_source(policy: Policy, name: str) -> str:
    directory = Path(testbed.located(name))
    digest = hashlib.sha256()
    if directory.is_dir():
        for path in sorted(directory.iterdir()):
            if path.suffix in (".safetensors", ".json"):
                digest.update(f"{path.name}:{sha256_file(path)};".encode())
    else:
        commit = policy.model.config.to_dict().get("_commit_hash") or policy.config.revision
        digest.update(json.dumps([name, commit]).encode())
    return digest.hexdigest()


def weights_fingerprint(policy: Policy) -> str:
    """Hash of weights that are already in memory."""
    if policy.adapter is not None:
        return policy.adapter.fingerprint(policy.model)
    return hash_tensors(policy.model.state_dict())
