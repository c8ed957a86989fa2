"""The shipped models: their files, their tokenizer, their sizes, and what they can do."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from rekindle import testbed
from rekindle.engine.config import ModelConfig, SampleConfig
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import CachedSampler
from rekindle.errors import ModelError
from rekindle.evals.evaluate import evaluate
from rekindle.methods.recipe import make_recipe
from rekindle.tasks import load_task
from rekindle.testbed.build import fresh_model, make_tokenizer


@pytest.mark.parametrize("name", testbed.names())
def test_shipped_models_load_by_plain_transformers_and_are_small(name):
    place = testbed.resolve(name)
    assert (place / "model.safetensors").stat().st_size < 2_000_000
    assert not list(place.glob("*.bin"))
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place)
    assert len(tokenizer) == model.config.vocab_size
    assert 0.1e6 < sum(p.numel() for p in model.parameters()) < 0.3e6


def test_models_differ_between_pretraining_seeds():
    weights = {
        (testbed.resolve(name) / "model.safetensors").read_bytes() for name in testbed.names()
    }
    assert len(weights) == len(testbed.names())


@pytest.mark.parametrize("name", testbed.names())
def test_shipped_models_reach_what_they_must(name):
    """On fewer problems than a build is checked on, with room for that noise."""
    task_name, _ = testbed.split_name(name)
    task, policy = load_task(name=task_name), Policy.load(ModelConfig(name=name, device="cpu"))
    floors = testbed.must_reach(name)
    result = evaluate(
        task.problems("dev", count=60, seed=0, levels=list(floors)),
        sampler=CachedSampler(policy),
        task=task,
        sample_config=SampleConfig(max_new_tokens=task.max_new_tokens),
        samples=8,
        seed=0,
        greedy=False,
    )
    for level, floor in floors.items():
        assert result["levels"][level]["metrics"]["pass@1"]["value"] >= floor - 0.08


def test_the_tokenizer_gives_every_ascii_text_back():
    tokenizer = make_tokenizer()
    text = "".join(chr(code) for code in range(32, 127)) + "\nabc 123 10+5=15;  two  spaces"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids
    assert tokenizer("36")["input_ids"] == [tokenizer.bos_token_id, tokenizer.vocab["36"]]
    assert tokenizer("é", add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id]
    ids = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
    assert len(ids) == 3


def test_fresh_models_are_seeded():
    one, same, other = (fresh_model(s).state_dict() for s in (1, 1, 2))
    assert all((one[n] == same[n]).all() for n in one)
    assert any((one[n] != other[n]).any() for n in one)


def test_pretraining_recipes_are_valid_and_unknown_names_are_listed():
    for name in testbed.names():
        assert make_recipe(testbed.pretraining(name)).shared.method == "sft"
        assert name in testbed.describe(name)
    with pytest.raises(ModelError, match="Did you mean 'testbed/chain-s0'"):
        testbed.resolve("testbed/chian-s0")
