"""A budget of tokens ends training, is counted through a resume, and carries the schedule along."""

import json

import pytest

import tiny
from rekindle.loops import world as world_module
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


@pytest.fixture
def tree(tmp_path):
    tiny.policy(dtype="float64").save(tmp_path / "base")
    rows = [{"prompt": f"{i}+{i % 3}=", "answer": str(i % 5)} for i in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "method": "grpo",
        "model": {"name": str(tmp_path / "base"), "dtype": "float64", "device": "cpu"},
        "task": {"name": "jsonl", "path": str(tmp_path / "data.jsonl")},
        "sample": {"max_new_tokens": 5},
        "optim": {"steps": 50, "problems": 4, "lr": 1e-3, "schedule": "linear"},
        "eval": {"problems": 4, "samples": 2},
        "checkpoint": {"every": 2},
        "grpo": {"group_size": 4},
    }


def rows_of(out):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_training_ends_with_the_step_that_spends_the_budget(tree, tmp_path):
    limit = 400
    train(make_recipe(tree, [f"optim.max_generated={limit}"]), tmp_path / "run", quiet=True)
    rows = rows_of(tmp_path / "run")
    spent = [row["tokens/generated"] for row in rows]
    assert sum(spent[:-1]) < limit <= sum(spent)
    assert len(rows) < 50
    assert (tmp_path / "run/final").is_dir()
    assert json.loads((tmp_path / "run/eval.json").read_text())["step"] == len(rows)
    shares = [sum(spent[:i]) / limit for i in range(len(spent))]
    for row, share in zip(rows, shares, strict=True):
        assert row["lr"] == pytest.approx(1e-3 * (1 - int(share * 50) / 50))


def test_a_resumed_run_has_spent_what_it_had(tree, tmp_path, monkeypatch):
    recipe = make_recipe(tree, ["optim.max_generated=400"])
    train(recipe, tmp_path / "straight", quiet=True)
    real, calls = world_module.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world_module, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", quiet=True)
    monkeypatch.setattr(world_module, "update", real)
    train(recipe, tmp_path / "broken", mode="resume", quiet=True)
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "straight")


def test_the_nearest_of_steps_and_budgets_ends_it(tree, tmp_path):
    sets = ["optim.steps=2", "optim.max_generated=100000", "optim.max_trained=100000"]
    train(make_recipe(tree, sets), tmp_path / "run", quiet=True)
    assert len(rows_of(tmp_path / "run")) == 2
