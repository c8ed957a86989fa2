"""Every method, end to end on SmolLM2: it trains, shows what it does, and `final/` is a model."""

import gc
import json
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from _real_cases import CASES, NEEDS_REWARD, REWARDS, Shows, recipe_of, write_recipe
from _real_checks import look_at, look_at_reward
from rekindle.loops import world
from rekindle.training.train import train

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:weak and strong are the same weights:UserWarning"),
]


@pytest.fixture
def run(tmp_path):
    """A run directory; weights of 0.5 GB are not left behind."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    gc.collect()


@pytest.mark.parametrize("name", list(CASES))
def test_a_method_runs_end_to_end(name, run, inputs, smollm, rekindle, request):
    case = CASES[name]
    if name in NEEDS_REWARD:
        request.getfixturevalue("reward")
    recipe = run.with_name(f"{name}.yaml")
    write_recipe(recipe, case, inputs)
    code, _, err = rekindle("train", recipe, "--out", run, "--quiet")
    assert code == 0, err
    assert look_at(run, case, smollm).faults(case) == []
    code, _, err = rekindle("report", run)
    assert code == 0, err
    assert (run / "report.html").stat().st_size > 10_000


def test_a_reward_model_of_verdicts(reward, smollm):
    assert look_at_reward(reward, smollm).faults() == []


def test_a_reward_model_of_pairs(run, inputs, smollm, rekindle):
    code, _, err = rekindle(*REWARDS["reward+pairs"](inputs, run), "--quiet")
    assert code == 0, err
    assert look_at_reward(run, smollm).faults() == []


def rows_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def weights_of(run):
    parts = [load_file(path) for path in sorted((run / "final").glob("*.safetensors"))]
    return {name: tensor for part in parts for name, tensor in part.items()}


@pytest.mark.parametrize("name", ["grpo", "dpo+lora"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(name, run, inputs, monkeypatch):
    """Stopped in its second update, with a checkpoint after the first."""
    tree, broken = recipe_of(CASES[name], inputs), run / "broken"
    train(tree, run / "whole", quiet=True)
    tree["checkpoint"] = {"every": 1}
    real, calls = world.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(tree, broken, quiet=True)
    monkeypatch.setattr(world, "update", real)
    train(tree, broken, mode="resume", quiet=True)
    assert rows_of(broken) == rows_of(run / "whole")
    wanted, found = weights_of(run / "whole"), weights_of(broken)
    assert wanted.keys() == found.keys()
    assert all(wanted[name].equal(found[name]) for name in wanted)


def test_checks_tell_a_model_that_is_as_it_was(run, inputs, smollm):
    """A rate too small to move a weight, and a metric that the run has not."""
    tree = recipe_of(CASES["sft"], inputs)
    tree["optim"] = {**tree["optim"], "steps": 1, "lr": 1e-30}
    train(tree, run, quiet=True)
    case = replace(CASES["sft"], shows=(Shows("penalty/mean", 0, 1),))
    said = look_at(run, case, smollm).faults(case)
    assert said == ["penalty/mean is nan, not 0 to 1", "0% of the weight tensors changed"]
