"""SFT and GRPO beat their start on the testbed, by the paired interval, on dev problems."""

import json

import pytest

from rekindle.evals.compare import compare
from rekindle.training.recipe import load_recipe
from rekindle.training.train import train

pytestmark = pytest.mark.learns


@pytest.mark.parametrize(
    ("recipe", "level", "sets"),
    [
        ("recipes/grpo_countdown_testbed.yaml", "4", ["optim.steps=60"]),
        ("recipes/sft_addition_testbed.yaml", "5", ["optim.steps=120", "optim.problems=48"]),
    ],
)
def test_the_reference_recipes_learn(recipe, level, sets, tmp_path):
    """Shortened; the same direction on the same problems as the whole run."""
    few = ["eval.every=0", "eval.problems=120", f"eval.levels=[{level}]"]
    train(load_recipe(recipe, [*sets, *few]), tmp_path / "run", quiet=True)
    evals = sorted((tmp_path / "run" / "eval").glob("step-*.json"))
    before, after = (json.loads(path.read_text()) for path in (evals[0], evals[-1]))
    assert compare(before, after, level=level).ci_low > 0
