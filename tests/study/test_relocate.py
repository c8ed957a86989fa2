"""A study continues under another name of its directory: spelled otherwise, moved, or archived."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from rekindle.errors import RunDirectoryError
from rekindle.files import write_json
from rekindle.study.analyse.archive_write import archive_study
from rekindle.study.plan.planning import load_study, plan
from rekindle.study.run.start import begin_from
from rekindle.study.store.archive_read import unpack_into
from rekindle.study.store.claim import refuse_unlike
from rekindle.study.store.relocate import rebased
from study.costless_runs import go, study_of, write_run

COMMITTED = Path(__file__).parents[2] / "results" / "studies" / "weak_to_strong_confirm"
BUILT = {"run": ["testbed", "build", "chain-s7", "--out", "{dir}"], "model": "{dir}/final"}
KINDS = {
    "models": {"bases": ["m0", "m1"], "models": {"m0": BUILT, "m1": BUILT}},
    "prepare": {
        "prepare": {"rm": ["reward", "train", "--model", "{model}", "--out", "{dir}"]},
        "arms": {"a": {"method": "sft"}, "b": {"method": "sft", "reward": {"model": "{rm}"}}},
    },
    "run of an arm": {
        "arms": {"a": {"method": "sft"}, "b": {"method": "sft", "reward": {"model": "{run:a}"}}}
    },
}


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_goes_on_by_another_name(kind):
    study = study_of(**KINDS[kind])
    first, _ = go(study, "out")
    for place in (Path("out").resolve(), Path("moved")):
        if place == Path("moved"):
            shutil.move("out", "moved")
        found, asked = go(study, place, mode="resume")
        assert not asked
        assert found["comparisons"] == first["comparisons"]
        assert found["changes"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_goes_on_from_an_archive_in_another_place(kind):
    study = study_of(**KINDS[kind])
    first, _ = go(study, "out")
    begin_from(study, archive_study(Path("out"), Path("small")), Path("there/moved"), mode="new")
    found, asked = go(study, "there/moved", mode="resume")
    assert found["comparisons"] == first["comparisons"]
    assert not asked  # nothing that is left needs a model or preparation
    more = study_of(**KINDS[kind], seeds=[0, 1, 2])
    _, asked = go(more, "there/moved", mode="resume")
    assert {place.name for place in asked if "runs" in place.parts} == {"seed-2"}
    made = {"models": {"models"}, "prepare": {"prepared"}, "run of an arm": set()}[kind]
    assert {place.parts[2] for place in asked} == {"runs", *made}


def test_the_committed_archive_can_be_gone_on_with():
    study = load_study(COMMITTED / "study.yaml")
    begin_from(study, COMMITTED, Path("runs/again"), mode="new")
    refuse_unlike(study, Path("runs/again"), plan(study, Path("runs/again")))
    assert all(run.out.exists() for run in plan(study, Path("runs/again")))


def test_runs_that_were_asked_something_else_leave_nothing_behind():
    go(study_of(), "out")
    archive = archive_study(Path("out"), Path("small"))
    other = study_of(arms={"a": {"method": "sft"}, "b": {"method": "sft", "optim": {"lr": 0.5}}})
    with pytest.raises(RunDirectoryError, match=r"optim\.lr") as error:
        begin_from(other, archive, Path("moved"), mode="new")
    assert "runs/b/base-0/seed-0: " in str(error.value)
    assert {path.name for path in Path().iterdir()} == {"out", "small", "study.yaml"}
    begin_from(study_of(), archive, Path("moved"), mode="new")


def test_another_arms_run_is_another_setting_wherever_it_is():
    arms = {name: {"method": "sft"} for name in "abc"}
    go(study_of(arms={**arms, "b": {"method": "sft", "reward": {"model": "{run:a}"}}}), "out")
    other = study_of(arms={**arms, "b": {"method": "sft", "reward": {"model": "{run:c}"}}})
    with pytest.raises(RunDirectoryError) as error:
        go(other, Path("out").resolve(), mode="resume")
    assert "{study}/runs/a/base-0/seed-0' -> '{study}/runs/c/base-0/seed-0" in str(error.value)


def test_begun_runs_go_on_with_a_config_of_the_new_name():
    study = study_of(**KINDS["models"])
    with pytest.raises(SystemExit):
        go(study, "out", stop_after=3)
    (begun,) = (
        run for run in plan(study, Path("out")) if run.out.parts[2:] == ("b", "m1", "seed-1")
    )
    begun.out.mkdir(parents=True)
    write_run(begun.out, begun.recipe.resolved(), finished=None)
    write_run(begun.out / "stages/a/b/c", begun.recipe.resolved(), finished=None)
    shutil.move(begun.out / "stages/a/b/c", begun.out / "stages/01-x")
    finished = Path("out/runs/a/m0/seed-0/config.yaml").read_text()
    shutil.move("out", "moved")
    with pytest.raises(SystemExit):
        go(study, "moved", mode="resume", stop_after=0)
    for path in ("config.yaml", "stages/01-x/config.yaml"):
        config = yaml.safe_load(Path("moved/runs/b/m1/seed-1", path).read_text())
        assert config["model"]["name"] == "moved/models/m1/final"
    assert Path("moved/runs/a/m0/seed-0/config.yaml").read_text() == finished
    assert json.loads(Path("moved/manifest.json").read_text())["places"] == ["out", "moved"]


def test_an_older_study_says_where_it_was_by_its_results():
    study = study_of(**KINDS["models"])
    go(study, "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    del manifest["places"]
    write_json("out/manifest.json", manifest)
    unpack_into(archive_study(Path("out"), Path("small")), Path("moved"))
    assert go(study, "moved", mode="resume")[1] == []


def test_only_whole_paths_below_the_study_are_its_own():
    said = [
        "o/runs/a",
        "set=o/models/m",
        "/o/runs/a",
        "o/runs-2",
        "x-o/runs/a",
        "o/data",
        "../o/runs",
    ]
    assert rebased(said, ["o"]) == ["{study}/runs/a", "set={study}/models/m", *said[2:]]
    assert rebased({"x": ["o/o2/models/m"]}, ["o", "o/o2"]) == {"x": ["{study}/models/m"]}
    assert rebased(["runs/a", 3, None], ["."], "out") == ["out/runs/a", 3, None]
