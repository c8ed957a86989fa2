"""What every method owes: a page, a recipe, a round trip, a step, split invariance, resume."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rekindle.loops import world
from rekindle.methods.catalog import METHODS, find_method, method_module
from rekindle.training.recipe import load_recipe, make_recipe
from rekindle.training.train import train

ROOT = Path(__file__).parents[1]
# Presets of one file share its code: one of each, and those that take another way through it.
FIRST = {METHODS[name].module: name for name in reversed(METHODS)}
FIRST[METHODS["weak_to_strong"].module] = "w2s_full_weak"  # random models agree on no answer
TRAINED = [*FIRST.values(), "dapo", "lens_shuffled", "gated", "wmss_frozen"]
# sections whose methods rank or judge answers: random scores do for that here
SCORED = {m.section for m in METHODS.values() if {"reward model", "judge"} & set(m.needs)}


def tree_of(method, base, data, **optim):
    row = find_method(method)
    return {
        "method": method,
        "seed": 3,
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        # its first version takes a digit of an untrained model for an answer: some are right
        "task": {"name": "jsonl", "path": str(data), "verifier_version": 1},
        "sample": {"max_new_tokens": 5},
        "optim": {"steps": 4, "problems": 5, "lr": 1e-2, **optim},
        "eval": {"problems": 4, "samples": 2},
        "checkpoint": {"every": 2},
        **({"reward": {"source": "random"}} if row.section in SCORED else {}),
        row.section: own(row, data),
    }


def own(row, data):
    if row.kind == "pairs":
        path = data.with_name("pairs.jsonl")
        rows = [
            {"id": f"p{i}", "prompt": f"{i}=", "chosen": str(i), "rejected": "0+0"}
            for i in range(1, 20)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"pairs": str(path)}
    if "judge" in row.needs:
        judge = {"source": "reward"}
        return {"iterations": 2, "prompts": 6, "candidates": 3, "choose_cut": True, "judge": judge}
    if row.kind == "stages":
        return {"half1": 8, "half2": 12, "weak_sft": {"steps": 4, "lr": 1e-2, "batch": 5}}
    return {"group_size": 24} if row.kind == "group" else {}


def weights(out):
    return load_file(Path(out) / "final" / "model.safetensors")


def rows_of(out):
    rows = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


@pytest.mark.parametrize("method", list(METHODS))
def test_has_a_page_presets_and_a_config_that_round_trips(method, base, data):
    module = method_module(method)
    assert (ROOT / "docs" / "methods" / f"{find_method(method).section}.md").exists()
    assert method in module.PRESETS
    recipe = make_recipe(tree_of(method, base, data))
    assert make_recipe(recipe.resolved()).resolved() == recipe.resolved()


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_recipes_are_valid(path):
    load_recipe(path)


@pytest.fixture(scope="module")
def straight(base, data, tmp_path_factory):
    """The run of a method, each step in one piece, from its start to its end, made once."""
    place = tmp_path_factory.mktemp("straight")

    def of(method):
        if not (place / method).exists():
            recipe = make_recipe(tree_of(method, base, data, micro_tokens=10_000))
            train(recipe, place / method, quiet=True)
        return place / method

    return of


@pytest.mark.parametrize("method", TRAINED)
def test_steps_are_taken_and_do_not_depend_on_the_split(method, base, data, tmp_path, straight):
    recipe = make_recipe(tree_of(method, base, data, micro_tokens=30))
    train(recipe, tmp_path / "split", quiet=True)
    whole, split = weights(straight(method)), weights(tmp_path / "split")
    start = load_file(base / "model.safetensors")
    for name in whole:
        # norms are fp32 inside, and a prompt is shared by other answers where pieces are smaller
        torch.testing.assert_close(split[name], whole[name], atol=1e-8, rtol=1e-9)
    assert any(not torch.equal(whole[name], start[name]) for name in whole)
    # with those of the future models, and of the weak model
    steps = 8 if find_method(method).section in ("temporal", "weak_to_strong") else 4
    assert [row["step"] for row in rows_of(straight(method))] == list(range(1, steps + 1))


@pytest.mark.parametrize("method", TRAINED)
def test_resume_is_bit_exact(method, base, data, tmp_path, monkeypatch, straight):
    """Stopped in the middle of step 4, after the checkpoint of step 2."""
    recipe = make_recipe(tree_of(method, base, data, micro_tokens=10_000))
    whole = straight(method)
    real, calls = world.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", quiet=True)
    monkeypatch.setattr(world, "update", real)
    train(recipe, tmp_path / "broken", mode="resume", quiet=True)
    unbroken, broken = weights(whole), weights(tmp_path / "broken")
    assert all(torch.equal(unbroken[name], broken[name]) for name in unbroken)
    assert rows_of(tmp_path / "broken") == rows_of(whole)
    if (whole / "samples.jsonl").exists():
        told = (tmp_path / "broken" / "samples.jsonl").read_bytes()
        assert told == (whole / "samples.jsonl").read_bytes()


@pytest.mark.parametrize("method", ["sft", "grpo", "dpo", "wmss", "hero", "temporal"])
def test_bfloat16_resumes_to_the_bit_and_moves_weights_as_float32_does(
    method, base, data, tmp_path, monkeypatch
):
    """The setting of the recipes for real models; final/ holds what was trained, unrounded."""
    trees = {}
    for dtype in ("float32", "bfloat16"):
        tree = tree_of(method, base, data, micro_tokens=10_000)
        trees[dtype] = {**tree, "model": {**tree["model"], "dtype": dtype}}
        train(make_recipe(trees[dtype]), tmp_path / dtype, quiet=True)
    real, calls = world.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(make_recipe(trees["bfloat16"]), tmp_path / "broken", quiet=True)
    monkeypatch.setattr(world, "update", real)
    train(make_recipe(trees["bfloat16"]), tmp_path / "broken", mode="resume", quiet=True)
    full, half, broken = (weights(tmp_path / name) for name in ("float32", "bfloat16", "broken"))
    assert all(torch.equal(half[name], broken[name]) for name in half)
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "bfloat16")
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    start = load_file(base / "model.safetensors")
    moved = {
        name: torch.cat([(made[key] - start[key]).flatten().double() for key in start])
        for name, made in (("full", full), ("half", half))
    }
    assert moved["half"].norm() == pytest.approx(float(moved["full"].norm()), rel=0.25)


RL_ROWS = (
    "reward/mean",
    "groups/all_wrong",
    "groups/tied",
    "groups/mixed",
    "groups/all_right",
    "groups/missing",
    "groups/no_signal",
    "entropy",
    "kl",
    "grad_norm",
    "tokens/generated",
    "tokens/trained",
    "time/sample",
    "time/score",
    "time/update",
    "loss",
    "lr",
)


def test_metrics_rows_carry_what_is_promised(straight):
    run = straight("grpo")
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert set(RL_ROWS) <= set(row)
        scored = [row[f"groups/{name}"] for name in ("all_wrong", "tied", "mixed", "all_right")]
        assert sum(scored) + row["groups/missing"] == pytest.approx(1)
        silent = row["groups/no_signal"] + row["groups/mixed"] + row["groups/missing"]
        assert silent == pytest.approx(1)  # of GRPO, whose reward is the verdict
    samples = [json.loads(x) for x in (run / "samples.jsonl").read_text().splitlines()]
    assert {row["step"] for row in samples} == {1, 2, 3, 4}
    assert {"prompt", "text", "score", "reward", "advantage", "group_class"} <= set(samples[0])


def test_seeds_give_different_runs_and_the_same_seed_the_same(base, data, tmp_path, straight):
    outs = [weights(straight("grpo"))]
    for name, seed in [("b", 3), ("c", 4)]:
        tree = {**tree_of("grpo", base, data, micro_tokens=10_000), "seed": seed}
        train(make_recipe(tree), tmp_path / name, quiet=True)
        outs.append(weights(tmp_path / name))
    assert all(torch.equal(outs[0][n], outs[1][n]) for n in outs[0])
    assert any(not torch.equal(outs[0][n], outs[2][n]) for n in outs[0])
