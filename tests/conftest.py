"""Fixtures that every test may use: a generator, tiny models on disk, a small study, a browser.

What imports the package is imported within: the shape checks are installed after this file is read.
"""

import json
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
import yaml

from chromium import Browser, find_chromium


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """The directory of `tiny.policy()`, fp64; nobody writes into it."""
    import tiny

    directory = tmp_path_factory.mktemp("models") / "base"
    tiny.policy().save(directory)
    return directory


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes study.yaml of a small study in a directory of the test's own, and loads it."""
    import tiny
    from rekindle.study.plan.study_file import load_study
    from study.inline_runs import RECIPE

    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        tiny.policy(dtype="float64", seed=seed).save(tmp_path / f"base-{seed}")
    rows = [
        {"prompt": f"{i}+{i % 3}=", "answer": str(i % 5), "solution": str(i % 5)} for i in range(60)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(**changes):
        tree = {
            "study": "toy",
            "bases": ["base-0", "base-1"],
            "seeds": [0, 1],
            "recipe": RECIPE,
            "arms": {
                "grpo": {"method": "grpo", "grpo": {"group_size": 4}},
                "sft": {"method": "sft"},
            },
            "baseline": "grpo",
            "primary": {"arm": "sft", "metric": "pass@2"},
            "secondary": ["pass@1"],
            **changes,
        }
        Path("study.yaml").write_text(yaml.safe_dump(tree))
        return load_study("study.yaml")

    return write


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """It drives pages; without one on the machine such tests are skipped."""
    if find_chromium() is None:
        pytest.skip("no Chromium or Chrome on this machine")
    try:
        opened = Browser(find_chromium(), tmp_path_factory.mktemp("profile"))
    except (RuntimeError, TimeoutError, BrokenPipeError) as error:
        pytest.skip(f"{find_chromium()} does not start here: {error}")
    yield opened
    opened.close()
