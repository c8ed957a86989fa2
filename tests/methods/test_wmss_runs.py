"""WMSS from recipe to final model: its variants, its controls, and what it refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file

import tiny
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError, ModelError
from rekindle.loops import world as world_module
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


@pytest.fixture
def base(tmp_path):
    tiny.policy().save(tmp_path / "base")
    return tmp_path / "base"


def recipe(base, method="wmss", *, data=None, optim=None, **section):
    place = base.parent / "data.jsonl"
    rows = data or [
        {"id": f"p{i}", "prompt": f"{i}=", "answer": "1", "solution": str(10 + i)} for i in range(9)
    ]
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_recipe(
        {
            "method": method,
            "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(place)},
            "sample": {"max_new_tokens": 3},
            "optim": {"steps": 4, "problems": 3, "lr": 1e-2, **(optim or {})},
            "eval": {"problems": 2, "samples": 1},
            "checkpoint": {"every": 1},
            "wmss": section,
        }
    )


def weights(out):
    return load_file(out / "final" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(asked, out, **settings):
    train(asked, out, quiet=True, **settings)
    return weights(out)


def test_lam_1_is_sft_bit_for_bit_and_says_so(base, tmp_path):
    with pytest.warns(UserWarning, match="this is sft_restart"):
        one = run(recipe(base, lam=1.0, select="all"), tmp_path / "one")
    assert same(one, run(recipe(base, "sft_restart"), tmp_path / "sft"))


def test_lam_0_says_that_nothing_of_what_is_kept_is_trained(base, tmp_path):
    with pytest.warns(UserWarning, match="only the weak model is trained"):
        found = run(recipe(base, lam=0.0, select="all"), tmp_path / "zero")
    assert same(found, weights(tmp_path / "zero" / "stages" / "01-sft"))


def test_half_is_the_strong_model_half_way_through_phase_1(base, tmp_path):
    asked = recipe(base, weak="half", optim={"steps": 8, "schedule": "constant"})
    run(asked, tmp_path / "half")
    first = tmp_path / "half" / "stages" / "01-sft"
    kept = load_file(first / "half" / "model.safetensors")
    assert not same(kept, weights(first))
    shorter = recipe(base, "sft_restart", optim={"steps": 4, "schedule": "constant"})
    run(shorter, tmp_path / "short")
    assert same(kept, weights(tmp_path / "short" / "stages" / "01-sft"))


def test_another_checkpoint_can_be_the_weak_one(base, tmp_path):
    tiny.policy(seed=5).save(tmp_path / "other")
    near = run(recipe(base, weak=str(tmp_path / "other")), tmp_path / "a")
    assert not same(near, run(recipe(base), tmp_path / "b"))


def test_weak_and_strong_the_same_is_allowed_and_said(base, tmp_path):
    asked = recipe(base, optim={"lr": 1e-300})
    with pytest.warns(UserWarning, match="the same weights"):
        run(asked, tmp_path / "twins")


def test_a_weak_model_of_another_vocabulary_is_refused_before_anything_is_trained(base, tmp_path):
    config = tiny.llama_config(vocab_size=48)
    wider = Policy.of(
        tiny.model(config=config, dtype=torch.float64), tiny.tokenizer(), tiny.policy().config
    )
    wider.save(tmp_path / "wider")
    with pytest.raises(ModelError, match=r"another padded vocabulary(.|\n)*48 rows"):
        run(recipe(base, weak=str(tmp_path / "wider")), tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()


def test_cached_states_train_like_live_ones(base, tmp_path):
    live = run(recipe(base, "wmss_frozen"), tmp_path / "live")
    cached = run(recipe(base, "wmss_cached"), tmp_path / "cached")
    for name in live:
        torch.testing.assert_close(cached[name], live[name], atol=1e-10, rtol=0)
    assert (tmp_path / "cached" / "stages" / "03-mix1" / "weak_states" / "states.bin").exists()


def test_two_adapters_ship_one_model_of_the_bases_format(base, tmp_path):
    found = run(recipe(base, "wmss_lora", lora_rank=2), tmp_path / "run")
    start = load_file(base / "model.safetensors")
    assert found.keys() == start.keys()
    changed = {name for name in found if not torch.equal(found[name], start[name])}
    assert changed
    assert all("proj" in name for name in changed)  # head and embeddings are the base's
    stage = tmp_path / "run" / "stages" / "03-mix1" / "final"
    assert (stage / "adapter_model.safetensors").exists()
    assert not (stage / "model.safetensors").exists()


def test_iterations_take_the_models_before_as_pairs(base, tmp_path):
    run(recipe(base, iterations=2, optim={"steps": 6}), tmp_path / "run")
    stages = sorted(p.name for p in (tmp_path / "run" / "stages").iterdir())
    assert stages == ["01-sft", "02-curriculum1", "03-mix1", "04-curriculum2", "05-mix2"]


@pytest.mark.parametrize(
    ("method", "stop"), [("wmss_lora", 3), ("wmss_lora", 4), ("wmss_cached", 4), ("sft_neftune", 3)]
)
def test_resume_is_bit_exact(base, tmp_path, monkeypatch, method, stop):
    asked = recipe(base, method, **({"lora_rank": 2} if method == "wmss_lora" else {}))
    straight = run(asked, tmp_path / "straight")
    real, calls = world_module.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world_module, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "broken")
    monkeypatch.setattr(world_module, "update", real)
    assert same(straight, run(asked, tmp_path / "broken", mode="resume"))


def test_extrapolation_trains_as_sft_and_is_evaluated_as_itself(base, tmp_path):
    plain = run(recipe(base, "sft_restart"), tmp_path / "plain")
    asked = recipe(base, "sft_extrapolate", extrapolate=3.0)
    asked = make_recipe(
        {**asked.resolved(), "eval": {**asked.resolved()["eval"], "likelihood": True}}
    )
    assert same(plain, run(asked, tmp_path / "c"))
    result = json.loads((tmp_path / "c" / "eval.json").read_text())
    first = json.loads(
        (tmp_path / "c" / "stages" / "01-sft" / "eval.json").read_text()
    )  # without extrapolation
    assert result["metrics"]["nll"]["value"] != first["metrics"]["nll"]["value"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"freeze_weak": True, "partner": "none"}, "freeze_weak has no use"),
        ({"cache_weak": True}, "cache_weak needs freeze_weak"),
        ({"freeze_weak": True, "lora_rank": 2}, "not a variant of two adapters"),
        ({"lora_rank": 2, "weak": "half"}, "start from the base"),
        ({"lora_alpha": 2.0}, "lora_alpha without lora_rank"),
        ({"neftune_noise_alpha": 5.0}, "beside a mix"),
        ({"extrapolate": 0.5}, "beside a mix"),
        ({"partner": "uniform", "lam": 0.0}, "uniform partner"),
        ({"lam": 1.5}, "lam"),
    ],
)
def test_settings_that_nobody_can_mean_are_refused(base, settings, words):
    with pytest.raises(ConfigError, match=words):
        recipe(base, **settings)


def test_a_model_of_another_family_is_mixed_too(tmp_path):
    tiny.policy("gpt2").save(tmp_path / "base")
    assert run(recipe(tmp_path / "base"), tmp_path / "run")


def test_controls_that_mix_nothing_take_any_model(tmp_path):
    tiny.policy("gpt2").save(tmp_path / "base")
    assert run(recipe(tmp_path / "base", "sft_restart"), tmp_path / "run")


def test_data_without_solutions_are_refused(base, tmp_path):
    rows = [{"id": f"p{i}", "prompt": f"{i}=", "answer": "1"} for i in range(9)]
    with pytest.raises(DataError, match="no solution to learn from"):
        run(recipe(base, data=rows), tmp_path / "run")


def test_logits_that_are_not_finite_end_the_run(tmp_path):
    policy = tiny.policy()
    policy.model.lm_head.weight.data[5] = torch.inf
    policy.save(tmp_path / "base")
    with pytest.raises(ModelError, match="not finite"):
        run(recipe(tmp_path / "base"), tmp_path / "run")
