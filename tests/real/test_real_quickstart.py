"""`rekindle quickstart --real` as a newcomer runs it, with half of its steps and problems."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rekindle.files import write_json
from rekindle.study.tour import REAL_MODEL
from rekindle.testbed.pretrained import RECORD

pytestmark = pytest.mark.real


@pytest.fixture
def place(tmp_path):
    """`--cache` where REKINDLE_REAL_MODELS has the model; else it is the cache of the user."""
    given = os.environ.get("REKINDLE_REAL_MODELS")
    if given is None:
        return []
    link = tmp_path / "cache" / REAL_MODEL
    link.mkdir(parents=True)
    for file in (Path(given) / REAL_MODEL).iterdir():
        if file.name != RECORD:
            (link / file.name).symlink_to(file.resolve())
    write_json(link / RECORD, {"sha256": {}})
    return ["--cache", str(link.parent)]


def test_the_quickstart_trains_both_sides_and_writes_the_page(tmp_path, place):
    words = ["--set", "optim.steps=12", "--set", "eval.problems=60", *place]
    done = subprocess.run(
        [sys.executable, "-m", "rekindle", "quickstart", "--real", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "quickstart-real"
    summary = json.loads((out / "summary.json").read_text())
    [pair] = summary["pairs"]
    assert (pair["failed"], pair["unequal"]) == ([], {})
    assert pair["verdict"] == "one seed decides nothing"
    assert pair["training"]["ci_low"] > 0.1  # 0.06 became 0.5 in 12 steps
    assert pair["after"] > pair["start"] + 0.1
    html = (out / "report.html").read_text()
    assert "SmolLM2-135M-Instruct" in html
    assert "Apache-2.0" in html
