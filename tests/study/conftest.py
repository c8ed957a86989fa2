"""A study whose runs are written by hand.

Imports of the package stand within: shape checks are installed after this file is read.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from study.evaluations import BASES

LOG = '{"step": 1}\n'


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A study whose runs are written by hand: (arm, base, seed) -> its evaluation, None: no run."""
    from rekindle.engine.manifest import make_manifest
    from rekindle.files import write_json
    from rekindle.study.analyse.results import study_results
    from rekindle.study.plan.planning import load_study, plan
    from study.costless_runs import told_apart

    monkeypatch.chdir(tmp_path)
    tree = {
        "study": "toy",
        "bases": list(BASES),
        "seeds": [0, 1],
        "recipe": {"task": {"name": "chain"}, "optim": {"steps": 1}, "eval": {"samples": 1}},
        "arms": {"a": {"method": "sft"}, "b": {"method": "sft"}},
        "baseline": "a",
        "primary": {"arm": "b"},
    }

    def make(evaluated, data=lambda key: "same", log=lambda arm: LOG, whole=False, **changes):
        Path("study.yaml").write_text(yaml.safe_dump(told_apart({**tree, **changes})))
        study = load_study("study.yaml")
        runs = plan(study, Path("out"))
        marks = {"seed": [0, 1], "fingerprints": {"declared": "x"}, "processes": 1}
        manifest = {**make_manifest(command="x", **marks), "study": "toy", "changes": []}
        write_json(make_dir(Path("out")) / "manifest.json", manifest)
        for run in runs:
            key = (run.arm, run.base, run.seed)
            found = evaluated(*key)
            if found is not None:
                prints = {"fingerprints": {"data": data(key)}, "finished": "now"}
                write_json(make_dir(run.out) / "manifest.json", prints)
                write_json(run.out / "eval.json", found)
                (run.out / "metrics.jsonl").write_text(log(run.arm))
        found = study_results(study, Path("out"), runs).plain()
        return found if whole else found["comparisons"][0]

    return make


def make_dir(place):
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture
def commands_here(monkeypatch):
    """`rekindle ...` of jobs runs in this process, without a start of its own; what was run."""
    from rekindle.cli.main import main
    from rekindle.study.run import jobs

    ran = []

    def run(words, check):
        assert words[:3] == [sys.executable, "-m", "rekindle"]
        ran.append(words[3:])
        monkeypatch.setattr(sys, "argv", ["rekindle", *words[3:]])
        try:
            main()
        except SystemExit as stop:
            return SimpleNamespace(returncode=int(stop.code or 0))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(jobs, "subprocess", SimpleNamespace(run=run))
    return ran
