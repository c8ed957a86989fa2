"""`run_study` as a script calls it: the same results as the command, and the script runs once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rekindle.errors import ConfigError
from rekindle.study.plan.planning import load_study
from rekindle.study.run.start import run_study

UNGUARDED = """
print("the script begins")
import yaml
from rekindle.study.run.start import run_study

with open("study.yaml") as file:
    tree = yaml.safe_load(file)
found = run_study(tree, "out", jobs=2, quiet=True, overrides=["seeds=[0]", "bases=[base-0]"])
print("finished:", {arm: block.finished for arm, block in found.arms.items()})
print("failed:", found.failed)
"""


def test_a_script_without_a_guard_runs_once_and_gets_the_results(file, tmp_path):
    """Workers are started by fork server or spawn; both would run an unguarded script again."""
    file()
    Path("script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the script begins", "finished: {'grpo': 1, 'sft': 1}", "failed: []",
    ]  # fmt: skip
    assert json.loads(Path("out/study.json").read_text())["seeds"] == [0]
    assert "bootstrapping" not in "".join(p.read_text() for p in Path("out").rglob("*.log"))


def test_a_mapping_is_read_as_the_file_is(file):
    study = file()
    tree = yaml.safe_load(Path("study.yaml").read_text())
    assert load_study(tree) == study
    assert load_study(tree, ["seeds=[3]"]).seeds == (3,)
    assert tree["seeds"] == [0, 1]
    with pytest.raises(ConfigError, match="Did you mean 'baseline'"):
        load_study({**tree, "basline": "grpo"})


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"executor": "slurm"}, "no executor 'slurm'"),
        ({"jobs": 0}, "--jobs is too small"),
        ({"mode": "resumed"}, "no mode 'resumed'"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(file, how, says):
    file()
    with pytest.raises(ConfigError, match=says):
        run_study("study.yaml", "out", **how)
    assert not Path("out").exists()
