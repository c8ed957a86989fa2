"""Runs that were changed behind the back of rekindle, as a user meets them."""

import json
import shutil
from pathlib import Path

import pytest

import rekindle.engine.integrity as integrity
from rekindle.engine.integrity import located
from rekindle.errors import ModelError, RunDirectoryError
from study.costless_runs import results_of
from study.inline_runs import Inline

RECIPE = Path(__file__).parents[2] / "recipes" / "grpo_countdown_testbed.yaml"
HERO = RECIPE.with_name("hero_countdown_testbed.yaml")
SMALL = ("optim.steps=1", "optim.problems=2", "eval.problems=2", "eval.samples=2")
TASK = ("--task", "countdown", "--levels", "3", "--problems", 2)


def words(out, *more):
    return ("train", RECIPE, "--out", out, "--quiet", *sets(*SMALL, "task.levels=['3']"), *more)


def sets(*overrides):
    return [word for override in overrides for word in ("--set", override)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run."""
    from rekindle import train

    place = tmp_path_factory.mktemp("trained") / "run"
    train(RECIPE, place, overrides=[*SMALL, "task.levels=['3']"], quiet=True)
    return place


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    return Path("run")


@pytest.mark.parametrize(
    "other",
    [
        (),
        ("optim.lr=0.5",),
        ("seed=7",),
        ("model.name=testbed/countdown-s1",),
        ("task.levels=['4']",),
    ],
)
def test_a_run_without_its_config_is_not_resumed(rekindle, run, other):
    (run / "config.yaml").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*.json*")}
    code, _, err = rekindle(*words(run, "--resume", *sets(*other)))
    assert (code, "config.yaml is missing" in err) == (2, True), err
    assert {path: path.read_bytes() for path in run.rglob("*.json*")} == before


def test_a_changed_model_is_noticed_by_all_that_load_it(rekindle, run):
    path = run / "final" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": "0"}))
    Path("link").symlink_to("run/final")
    for name in ("run/final", "link"):
        model = ("--model", name)
        for command in (
            ("eval", *model, *TASK, "--out", "e.json"),
            ("eval", "--model", "testbed/countdown-s0", "--weak", name, *TASK, "--out", "e.json"),
            ("diagnose", *model, *TASK, "--signals", "sft"),
            ("inspect-data", *model, "--task", "countdown"),
            ("reward", "train", *model, "--task", "countdown", "--out", "rm"),
            ("reward", "eval", "--reward", name, "--task", "countdown"),
            words("second", *sets(f"model.name={name}")),
            ("train", HERO, "--out", "third", *sets(f"reward.model={name}")),
            words("run", "--resume"),
        ):
            code, _, err = rekindle(*command)
            assert code == 2
            assert "was changed since its run ended" in err, command
            assert "tokenizer_config.json has" in err
    shutil.copytree("run/final", "mine")
    assert located("mine") == "mine"  # a model of the user's own


def test_an_old_run_is_used_and_said_once(run, capsys):
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["final"]
    path.write_text(json.dumps(manifest))
    integrity._tell_unknown.cache_clear()
    for _ in range(3):
        located("run/final")
    assert capsys.readouterr().err.count("kept no hashes") == 1
    manifest["rekindle"] = manifest["fingerprints"] = None
    path.write_text("{}")  # a directory of that name, beside a manifest of others
    located("run/final")
    path.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        located("run/final")


def test_doctor_says_what_is_whole_and_what_is_not(rekindle, run):
    code, said, _ = rekindle("doctor", run)
    assert (code, "BROKEN" in said) == (0, False)
    for name in ("config.yaml", "metrics.jsonl", "samples.jsonl", "final"):
        assert f"whole    run/{name}\n" in said
    (run / "final" / "config.json").unlink()
    (run / "config.yaml").unlink()
    code, said, _ = rekindle("doctor", run)
    assert code == 2
    assert "BROKEN   run/final: config.json is missing" in said
    assert "BROKEN   run/config.yaml: is missing" in said
    assert "whole    run/metrics.jsonl" in said
    (run / "manifest.json").write_text("{")
    assert "BROKEN   run/manifest.json: is damaged" in rekindle("doctor", run)[1]
    code, _, err = rekindle("doctor", "nowhere")
    assert (code, "is no run directory" in err) == (2, True)


def test_a_run_of_a_study_that_was_swapped_is_named(rekindle, file, finished):
    assert rekindle("doctor", finished)[0] == 0
    place = finished / "runs/sft/base-0/seed-0"
    path = place / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "id": "another"}))
    with pytest.raises(RunDirectoryError, match="seed-0 is run another, and the study made run"):
        results_of(file(), "out", executor=Inline(), mode="resume")
    code, said, _ = rekindle("doctor", finished)
    assert (code, f"BROKEN   {path}: is run another" in said) == (2, True)
    shutil.rmtree(place)
    again = Inline()
    results_of(file(), "out", executor=again, mode="resume")
    assert again.asked == [place]
    assert rekindle("doctor", finished)[0] == 0


def test_a_study_notices_a_model_of_its_own_that_was_changed(rekindle, file, finished):
    path = finished / "runs/sft/base-0/seed-0/final/config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(ModelError, match="was changed"):
        located(str(path.parent))
    assert rekindle("doctor", finished)[0] == 2
