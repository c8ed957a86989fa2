"""Testbed models that are made from a base: shipped, documented, made again, and able."""

import itertools
import json
import subprocess
from pathlib import Path

import pytest

from rekindle import testbed
from rekindle.cli.testbed import build_models
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import ModelConfig, SampleConfig
from rekindle.engine.policy import Policy
from rekindle.evals.evaluate import evaluate
from rekindle.tasks import load_task
from rekindle.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]


def test_derived_models_ship_are_listed_and_are_not_their_bases():
    bases = {(testbed.resolve(n) / "model.safetensors").read_bytes() for n in testbed.names()}
    for name in testbed.DERIVED:
        place = Path(testbed.located(name))
        assert (place / "model.safetensors").stat().st_size < 2_000_000
        assert (place / "model.safetensors").read_bytes() not in bases
        assert testbed.describe(name).startswith(name)
        assert name.removeprefix("testbed/") in (ROOT / "docs" / "testbed.md").read_text()


def accuracy(name, task_name, level):
    task, policy = load_task(name=task_name), Policy.load(ModelConfig(name=name, device="cpu"))
    result = evaluate(
        task.problems("dev", count=80, seed=0, levels=[level]),
        sampler=CachedSampler(policy),
        task=task,
        sample_config=SampleConfig(max_new_tokens=task.max_new_tokens),
        samples=8,
        seed=0,
    )
    return {key: block["value"] for key, block in result["metrics"].items()}


def test_the_early_base_is_caught_while_it_learns_to_add():
    """Sampled accuracy far below its greedy one, and both below what the whole training reaches."""
    early = accuracy("testbed/addition-s0-early", "addition", "4")
    whole = accuracy("testbed/addition-s0", "addition", "4")
    assert 0.05 < early["pass@1"] < 0.25 < early["greedy"]
    assert whole["pass@1"] > early["pass@1"] + 0.2


def test_the_reward_model_tells_right_from_wrong(rekindle, tmp_path):
    words = ["--model", "testbed/countdown-s0", "--task", "countdown", "--levels", "4"]
    words += ["--set", "data.held_out=60", "--out", tmp_path / "auc.json"]
    code, _, err = rekindle("reward", "eval", "--reward", "testbed/countdown-s0-reward", *words)
    assert code == 0, err
    assert json.loads((tmp_path / "auc.json").read_text())["metrics"]["auc"]["value"] > 0.75


def test_steps_of_a_derived_model_are_refused(rekindle):
    code, _, err = rekindle("testbed", "build", "countdown-s0-reward", "--steps", "3")
    assert (code, "--steps has no effect" in err) == (2, True)


@pytest.mark.parametrize("name", testbed.DERIVED)
def test_derived_models_are_made_by_the_command_that_is_documented(name, monkeypatch, tmp_path):
    """The command runs, with what it would train left out, and leaves the model where it says."""
    asked = []
    monkeypatch.setattr(
        "rekindle.cli.testbed.subprocess.run",
        lambda words, check: asked.append(words) or subprocess.CompletedProcess(words, 0),
    )
    build_models([name], tmp_path, quiet=True)
    words = asked[0][3:]
    for option in [w for w in words if w.startswith("--")]:
        assert option in {"--steps", "--out", "--set", "--model", "--task", "--levels", "--quiet"}
    assert str(tmp_path / name.removeprefix("testbed/")) in " ".join(words)
    if words[0] == "train":
        sets = [b for a, b in itertools.pairwise(words) if a == "--set"]
        recipe = load_recipe(words[1], sets)
        assert recipe.shared.seed == 1000
        assert recipe.method.seed.steps == 2500
