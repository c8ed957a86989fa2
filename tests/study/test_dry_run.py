"""A dry run says what a study could find and what is left, and refuses what its start would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rekindle.cli.study import show
from rekindle.cli.study import study as study_command
from rekindle.engine.rundir import RunLock
from rekindle.errors import ConfigError, DataError, RunDirectoryError
from rekindle.study.analyse.archive_write import archive_study
from rekindle.study.plan.planning import plan
from rekindle.study.run.preflight import detectable
from rekindle.study.schema import StudyResults
from study.costless_runs import TREE, go, study_of

WHOSE = "(in the committed studies: arms that do nearly the same"


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def dry(out="out", **how):
    study_command(Path("study.yaml"), Path(out), **{"jobs": 1, "dry_run": True, **how})


def foreseen(metric="pass@1", problems=4, **changes):
    evaluated = {"samples": 1, "problems": problems, "likelihood": True}
    recipe = {**TREE["recipe"], "eval": evaluated}
    study = study_of(recipe=recipe, primary={"arm": "b", "metric": metric}, **changes)
    return detectable(study, plan(study, Path("out")))


@pytest.mark.parametrize("metric", ["nll", "brier"])
def test_what_the_committed_studies_do_not_tell_is_not_stated(metric):
    said = foreseen(metric)
    assert f"how far a difference in {metric} varies between base models is not known" in said
    assert "a look at the same arms on dev problems" in said
    assert "of 10 studies" not in said
    assert "never gets a verdict" in foreseen(metric, bases=["base-0"], seeds=[0])


def test_differences_that_cannot_be_are_told_in_words():
    many = foreseen("chain_prob", problems=150, seeds=list(range(8)))
    assert "would be found in 8 of 10 studies of this size, where it varies between" in many
    assert f"by 0.005, 0.03 or 0.1 {WHOSE}" in many
    none = foreseen(problems=1, bases=["base-0", "base-1"], seeds=[0])
    assert "with 3 problems no difference would be found in 8 of 10 studies" in none
    assert "not even the largest that there can be" in none
    some = foreseen(problems=150, bases=["base-0", "base-1"], seeds=[0])
    assert f"by 0.005 or 0.03, and none where it varies by 0.1 {WHOSE}" in some
    for said in (many, none, some):
        assert "none or" not in said
        assert "of none" not in said


def test_a_dry_run_says_what_is_left(capsys):
    study = study_of()
    dry()
    assert "finished: 0 of 12 runs; to run: 12 runs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        go(study, "out", stop_after=5)
    before = sorted(Path("out").rglob("*"))
    dry(resume=True)
    assert "finished: 5 of 12 runs; to run: 7 runs" in capsys.readouterr().err
    dry(overwrite=True)
    assert "to run: 12 runs; 5 existing runs would be removed" in capsys.readouterr().err
    assert sorted(Path("out").rglob("*")) == before
    go(study, "out", mode="resume")
    dry(resume=True)
    assert "finished: 12 of 12 runs; nothing is left to run" in capsys.readouterr().err
    study_of(prepare={"rm": ["reward", "train", "--out", "{dir}"]})
    dry("other")
    assert "to run: 12 runs and 3 preparations" in capsys.readouterr().err


def test_a_dry_run_is_refused_what_the_study_would_be():
    go(study_of(), "out")
    with pytest.raises(RunDirectoryError, match="out exists"):
        dry()
    with pytest.raises(RunDirectoryError, match=r"study\.yaml is a file"):
        dry("study.yaml")
    with pytest.raises(ConfigError, match="--jobs is too small"):
        dry("new", jobs=-1)
    study_of(recipe={**TREE["recipe"], "optim": {"steps": 1, "lr": 0.1}})
    with pytest.raises(RunDirectoryError, match="made with other settings"):
        dry(resume=True)
    study_of()
    Path("out/sessions.json").rename("aside")
    Path("out/sessions.json").write_text("[3]")
    with pytest.raises(DataError, match="sessions"):
        dry(resume=True)
    Path("aside").replace("out/sessions.json")
    Path("out/study.yaml").rename("aside")
    with pytest.raises(RunDirectoryError, match="is gone"):
        dry(resume=True)


def test_a_dry_run_sees_who_holds_the_directory_and_leaves_it():
    go(study_of(), "out")
    code = (
        "import sys\nfrom pathlib import Path\nfrom rekindle.engine.rundir import refuse_in_use\n"
        "refuse_in_use(Path('out/.lock'))"
    )
    lock = RunLock(Path("out/.lock"))
    held = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert held.returncode == 1
    assert f"process {os.getpid()}" in held.stderr
    lock.release()
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dry_run_looks_into_an_archive(capsys):
    with pytest.raises(SystemExit):
        go(study_of(seeds=[0, 1]), "out", stop_after=0)
    go(study_of(), "out", mode="resume")
    archive_study(Path("out"), Path("small"))
    study_of(seeds=[0, 1, 2])
    dry("new", archive=Path("small"))
    assert "finished: 12 of 18 runs; to run: 6 runs" in capsys.readouterr().err
    assert not Path("new").exists()
    with pytest.raises(RunDirectoryError, match="out exists"):
        dry("out", archive=Path("small"))
    with pytest.raises(ConfigError, match="exclude each other"):
        dry("new", archive=Path("small"), resume=True)


def test_what_was_spent_unequally_has_its_noun(capsys):
    found, _ = go(study_of(), "out")
    found["budget"] = {**found["budget"], "unit": "generated", "unequal": {"b": 1.54}}
    show(StudyResults.read(found))
    said = " ".join(capsys.readouterr().out.split())
    assert "b spent 1.54 times the generated tokens it should have" in said
