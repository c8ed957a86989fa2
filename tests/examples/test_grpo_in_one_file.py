"""The example is short, needs torch and transformers alone, and takes the library's own step."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from rekindle.engine.batch import count, pack
from rekindle.engine.device import Group
from rekindle.engine.update import fresh_state, update
from rekindle.loops.group_step import objective
from rekindle.methods.grpo import PRESETS, credit
from rekindle.ops.groups import ScoredRows
from rekindle.training.recipe import make_recipe

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "grpo_in_one_file.py"
GROUP = 4


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("grpo_in_one_file", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(gen):
    """Two problems with prompts of other lengths, four answers of other lengths to each."""
    prompts = [(1, *range(4, 4 + 2 + p)) for p in range(2) for _ in range(GROUP)]
    lengths = torch.randint(1, 7, (2 * GROUP,), generator=gen).tolist()
    completions = [(*torch.randint(4, 30, (n - 1,), generator=gen).tolist(), 2) for n in lengths]
    return prompts, completions


def test_it_is_short_and_needs_torch_and_transformers_alone():
    text = FILE.read_text()
    assert len(text.splitlines()) <= 150
    roots = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
    assert roots - set(sys.stdlib_module_names) == {"torch", "transformers"}


def test_a_step_is_the_librarys(example, gen):
    """fp64 on both sides: what is left is the order of sums."""
    prompts, completions = answers(gen)
    reward_N = torch.tensor([1.0, 0, 0, 1, 0, 0, 1, 0], dtype=torch.float64)
    blank_N = torch.full((8,), torch.nan, dtype=torch.float64)
    config = PRESETS["grpo"].model_copy(update={"group_size": GROUP})
    rows = ScoredRows([i // GROUP for i in range(8)], reward_N, blank_N, blank_N, blank_N)
    advantage_B = credit(rows, config).advantage_N
    own_B = example.advantages(reward_N.view(2, GROUP)).flatten()
    torch.testing.assert_close(own_B, advantage_B, rtol=1e-12, atol=1e-12)

    policy, other = tiny.policy(), tiny.policy()
    start = {name: value.clone() for name, value in policy.model.state_dict().items()}
    optim = make_recipe({"method": "grpo"}).shared.optim
    state = fresh_state({"policy": policy.model}, optim)
    batch = pack(
        prompts,
        completions,
        reduction=config.reduction,
        total=count(completions),
        advantage_B=advantage_B,
    )
    metrics = update(
        state,
        batch.split(10_000),
        objective(policy, config, temperature=1.0),
        clip=optim.clip,
        group=Group(),
        device=policy.device,
    )
    optimizer = torch.optim.AdamW(
        other.model.parameters(), lr=example.LR, betas=example.BETAS, weight_decay=0.0
    )
    pairs = [(list(p), list(c)) for p, c in zip(prompts, completions, strict=True)]
    # the example raises logits to fp32, as one does for bf16 models
    loss, norm = example.step(other.model, optimizer, pairs, own_B, pad=0)
    assert loss == pytest.approx(metrics["loss"], abs=1e-6)
    assert norm == pytest.approx(metrics["grad_norm"], rel=1e-5)
    moved = 0.0
    for name, value in policy.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], value, rtol=0, atol=1e-6)
        moved = max(moved, float((value - start[name]).abs().max()))
    assert moved > 1e-4  # a step of 5e-4: the tolerance would see a missing one


def test_tied_groups_get_exactly_nothing(example):
    """Nine tenths have no exact mean: unguarded, what rounding leaves is divided by 1e-6."""
    reward_PG = torch.tensor([[0.9] * 7, [1.0] * 7, [0.0] * 7])
    assert torch.equal(example.advantages(reward_PG), torch.zeros(3, 7))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7*5=35;35+1=36", 1.0),
        ("7*5=35;35+2=37", 0.0),  # a number that is not there
        ("7*5=36", 0.0),  # untrue
        ("7*5=35", 0.0),  # one number is left over
        ("36", 0.0),
        ("", 0.0),
    ],
)
def test_its_reward_replays_each_step(example, text, score):
    assert example.reward("1,5,7>36:", text) == score


def test_it_runs(tmp_path):
    from rekindle import testbed

    command = [sys.executable, str(FILE), "--model", testbed.located("testbed/countdown-s0")]
    done = subprocess.run(
        [*command, "--steps", "2"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("step 1: right 0.")
    assert second.startswith("step 2: right 0.")
