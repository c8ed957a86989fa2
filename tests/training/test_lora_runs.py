"""Every method with a LoRA adapter: it trains, resumes to the bit, and keeps the adapter alone."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tiny
from rekindle.engine.config import ModelConfig
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError
from rekindle.loops import world
from rekindle.methods.catalog import METHODS
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train
from test_contract import FIRST, rows_of, tree_of, weights

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
LORA = {"rank": 2, "dropout": 0.1}
OWN = {"grpo": {"beta": 0.1}, "lens": {"kl": 0.1}}  # with a reference
TOKENS = torch.tensor([[1, 4, 5, 9, 8], [1, 6, 7, 7, 2]])


def recipe(method, base, data, *, lora=LORA, **model):
    tree = tree_of(method, base, data, steps=2)
    own = METHODS[method].section
    tree[own] = {**tree[own], **OWN.get(method, {})}
    tree["checkpoint"] = {"every": 1, "keep_finished": True}
    return make_recipe({**tree, "model": {**tree["model"], "lora": lora, **model}})


@pytest.fixture(scope="module")
def straight(base, data, tmp_path_factory):
    """The run of a method with an adapter, made once."""
    place = tmp_path_factory.mktemp("straight")

    def of(method):
        if not (place / method).exists():
            train(recipe(method, base, data), place / method, quiet=True)
        return place / method

    return of


def names_in(path):
    with safe_open(path, "pt") as saved:
        return list(saved.keys())


@pytest.mark.parametrize("method", [*FIRST.values(), "wmss_frozen"])
def test_only_the_adapter_is_trained_kept_and_shipped_beside_the_merged_model(
    method, base, data, straight
):
    out = straight(method)
    kept = list(out.rglob("checkpoints/*/policy.safetensors"))
    kept += out.rglob("checkpoints/*/weak.safetensors")
    kept += out.glob("stages/*/final/*.safetensors")
    assert kept
    assert all("lora_" in name for path in kept for name in names_in(path))
    start, final = load_file(base / "model.safetensors"), weights(out)
    changed = {name for name in start if not torch.equal(start[name], final[name])}
    assert changed
    assert all("proj" in name for name in changed)
    plain = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(out / "final")(TOKENS).logits
        peft = PeftModel.from_pretrained(
            plain, out / "final" / "adapter", autocast_adapter_dtype=False
        )
        torch.testing.assert_close(peft(TOKENS).logits, merged, atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", [*FIRST.values(), "wmss_frozen"])
def test_resume_is_bit_exact_with_dropout(method, base, data, tmp_path, monkeypatch, straight):
    """Stopped in the middle of step 2, after the checkpoint of step 1."""
    real, calls = world.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(method, base, data), tmp_path / "broken", quiet=True)
    monkeypatch.setattr(world, "update", real)
    train(recipe(method, base, data), tmp_path / "broken", mode="resume", quiet=True)
    whole, broken = weights(straight(method)), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert rows_of(tmp_path / "broken") == rows_of(straight(method))


def test_training_goes_on_with_an_adapter_and_an_evaluation_reads_it(
    base, data, tmp_path, straight, rekindle
):
    adapter = straight("sft") / "final" / "adapter"
    train(recipe("sft", adapter, data, lora=None), tmp_path / "more", quiet=True)
    config = {"dtype": "float64", "device": "cpu"}
    loaded = Policy.load(ModelConfig(name=str(tmp_path / "more" / "final" / "adapter"), **config))
    assert loaded.adapter.lora.rank == LORA["rank"]
    assert loaded.adapter.base.name == str(base)
    before, after = load_file(adapter / "adapter_model.safetensors"), loaded.model.state_dict()
    name = (
        next(iter(before)).removeprefix("base_model.model.").replace(".weight", ".default.weight")
    )
    assert not torch.equal(after[name], next(iter(before.values())))
    told = []
    for i, model in enumerate((adapter, straight("sft") / "final")):
        words = ("eval", "--model", model, "--task", data, "--out", tmp_path / f"{i}.json")
        counts = ("--problems", "3", "--samples", "1", "--set", "model.dtype=float64")
        code, _, err = rekindle(*words, *counts)
        assert code == 0, err
        told.append(json.loads((tmp_path / f"{i}.json").read_text())["metrics"])
    assert told[0] == told[1]


def test_a_stage_of_a_run_is_a_model_by_its_directory(straight):
    stage = sorted((straight("wmss") / "stages").glob("*mix1"))[0] / "final"
    loaded = Policy.load(ModelConfig(name=str(stage), dtype="float64", device="cpu"))
    final = AutoModelForCausalLM.from_pretrained(straight("wmss") / "final")
    with torch.no_grad():
        ours, theirs = loaded.model(TOKENS).logits, final(TOKENS).logits
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_two_full_models_and_two_kinds_of_lora_are_refused(base, data, tmp_path):
    tiny.policy(seed=5).save(tmp_path / "other")
    for own, words in (
        ({"weak": str(tmp_path / "other")}, "wmss.weak is another model"),
        ({"lora_rank": 2}, "model.lora has no effect on a model that has an adapter"),
    ):
        tree = recipe("wmss", base, data).resolved()
        tree["wmss"] = {**tree["wmss"], **own}
        with pytest.raises(ConfigError, match=words):
            train(make_recipe(tree), tmp_path / words[:4], quiet=True)
    tree["wmss"] |= {"weak": str(tmp_path / "other"), "freeze_weak": True, "lora_rank": None}
    train(make_recipe(tree), tmp_path / "frozen", quiet=True)


def test_the_model_of_a_caller_gets_an_adapter_and_keeps_its_weights(base, data, tmp_path):
    policy = tiny.policy()
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    train(recipe("sft", base, data), tmp_path / "run", policy=policy, quiet=True)
    after = policy.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_adapter_that_would_be_made_for_an_evaluation_is_refused(base, data, tmp_path, rekindle):
    words = ("eval", "--model", base, "--task", data, "--out", tmp_path / "eval.json")
    code, _, err = rekindle(*words, "--set", "model.lora.rank=4")
    assert code == 2
    assert "model.lora has no effect here" in err


def test_quantised_weights_without_an_adapter_are_not_trained(base, data, tmp_path):
    policy = tiny.policy()
    held = replace(policy, config=policy.config.model_copy(update={"quantize": "nf4"}))
    with pytest.raises(ConfigError, match="quantised weights are not trained"):
        train(recipe("sft", base, data, lora=None), tmp_path / "run", policy=held, quiet=True)
    assert not (tmp_path / "run").exists()
