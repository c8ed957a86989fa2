"""Hashes that say which weights a run began with, and which model wrote a text."""

import hashlib
import json
from pathlib import Path

import torch

from rekindle import testbed
from rekindle.engine.policy import Policy
from rekindle.files import sha256_file


def source_fingerprint(policy: Policy) -> str:
    """Hash of where the weights came from: of local files, else of the hub commit."""
    directory = Path(testbed.located(policy.config.name))
    digest = hashlib.sha256()
    if directory.is_dir():
        for path in sorted(directory.iterdir()):
            if path.suffix in (".safetensors", ".json"):
                digest.update(f"{path.name}:{sha256_file(path)};".encode())
    else:
        commit = policy.model.config.to_dict().get("_commit_hash") or policy.config.revision
        digest.update(json.dumps([policy.config.name, commit]).encode())
    return digest.hexdigest()


def weights_fingerprint(policy: Policy) -> str:
    """Hash of weights that are already in memory."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
