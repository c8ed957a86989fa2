"""What failed is told, by study.json, by the page and by the exit code, until it is mended."""

import json
from pathlib import Path

import pytest

from rekindle.cli import study as command
from rekindle.errors import ConfigError, TrainingError
from rekindle.report.study import load_study_page
from rekindle.study.plan.planning import plan
from rekindle.study.run import executors, start
from study.costless_runs import Cheap, go, study_of

PREPARE = {"rm": ["reward", "train", "--out", "{dir}"]}
ONE = {"seeds": [0], "bases": ["base-0"]}


def arm(system=None):
    return {"method": "sft", **({"reward": {"model": system}} if system else {})}


def whys(found):
    return {failure.get("arm", failure.get("preparation")): failure["why"] for failure in found}


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_arms_that_wait_for_each_other_are_refused_by_name():
    study = study_of(arms={"a": arm("{run:c}"), "b": arm("{run:a}"), "c": arm("{run:b}")})
    with pytest.raises(ConfigError, match="wait for each other") as error:
        plan(study, Path("out"))
    said = str(error.value)
    assert any(way in said for way in ("a needs c needs b needs a", "b needs a needs c needs b",
                                       "c needs b needs a needs c"))  # fmt: skip
    assert plan(study_of(arms={"a": arm(), "b": arm("{run:a}"), "c": arm("{run:b}")}), Path("o"))


def test_whatever_rests_on_a_failure_is_told_in_whatever_order_it_is_listed():
    arms = {"c": arm("{run:b}"), "b": arm("{run:a}"), "a": arm("{rm}")}
    found, asked = go(study_of(**ONE, arms=arms, prepare=PREPARE), "out", fail=["prepared"])
    assert [place.parts[1] for place in asked] == ["prepared"]
    told = whys(found["failed"])
    assert told.keys() == {"a", "b", "c", "rm"}
    assert told["c"] == (
        "needs out/runs/b/base-0/seed-0, which failed: needs out/runs/a/base-0/seed-0, which "
        "failed: needs out/prepared/rm/base-0, which failed: boom"
    )


def test_a_preparation_that_failed_is_listed_though_no_arm_uses_it():
    found, asked = go(study_of(**ONE, prepare=PREPARE), "out", fail=["prepared"])
    assert found["failed"] == [{"preparation": "rm", "base": "base-0", "why": "boom"}]
    assert (found["unfinished"], len(asked)) == (0, 3)
    (note,) = (note for note in load_study_page(Path("out")).notes if "ailed" in note)
    assert note == "Failed: rm for base-0: boom"


def test_a_failure_stays_until_its_run_is_finished():
    study = study_of()
    first, _ = go(study, "out", fail=["b/base-2/seed-1"])
    assert whys(first["failed"]) == {"b": "boom"}
    with pytest.raises(SystemExit):
        go(study, "out", mode="resume", stop_after=0)
    told = json.loads(Path("out/study.json").read_text())
    assert whys(told["failed"]) == {"b": "boom (in an earlier session)"}
    assert told["unfinished"] == 1
    with pytest.raises(SystemExit):
        go(study, "out", mode="resume", stop_after=0)
    assert go(study, "out", mode="resume")[0]["failed"] == []
    assert not list(Path("out").rglob("*.failed.json"))


def test_a_failure_ends_the_command_with_an_error_after_its_results(monkeypatch, capsys):
    study_of()
    for module in (executors, start):
        monkeypatch.setattr(module, "warm_up", lambda: None)
    fail = ["b/base-2/seed-1"]
    monkeypatch.setattr(start, "make_executor", lambda name, jobs: Cheap(fail=fail))
    with pytest.raises(TrainingError, match="1 of the study's runs") as error:
        command.study(Path("study.yaml"), Path("out"), jobs=1, quiet=True)
    assert "got:    b base-2 seed 1" in str(error.value)
    assert "results: out/study.json" in capsys.readouterr().out
    fail.clear()
    command.study(Path("study.yaml"), Path("out"), resume=True, jobs=1, quiet=True)
