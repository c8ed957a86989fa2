"""The shipped models: their files, their tokenizer, their sizes, and what they can do."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from rekindle import testbed
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import ModelConfig, SampleConfig
from rekindle.engine.policy import Policy
from rekindle.errors import ModelError
from rekindle.evals.evaluate import evaluate
from rekindle.tasks import load_task
from rekindle.testbed.build import fresh_model, make_tokenizer
from rekindle.training.recipe import make_recipe


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
def test_shipped_models_reach_what_they_must_and_leave_room(name):
    """On fewer problems than a build is checked on: a fifth is left for that noise."""
    task_name, _ = testbed.split_name(name)
    task, policy = load_task(name=task_name), Policy.load(ModelConfig(name=name, device="cpu"))
    result = evaluate(
        task.problems("dev", count=80, seed=0),
        sampler=CachedSampler(policy),
        task=task,
        sample_config=SampleConfig(max_new_tokens=task.max_new_tokens),
        samples=8,
        seed=0,
    )
    reached = {k: block["metrics"]["pass@1"]["value"] for k, block in result["levels"].items()}
    floors = testbed.must_reach(name)
    assert floors
    for level, floor in floors.items():
        assert reached[level] >= 0.8 * floor, reached
    assert reached[task.levels[-1]] < 0.7, "the hardest level must leave something to learn"
    assert reached["5" if task_name == "addition" else task.levels[-1]] < reached[task.levels[0]]


@pytest.mark.parametrize("task_name", ["countdown", "chain", "addition"])
def test_tokens_do_not_cross_from_prompt_to_solution_and_all_fits(task_name):
    """What is learned (prompt and solution as separate tokens) is what a joined text would be."""
    task, tokenizer = load_task(name=task_name), make_tokenizer()
    for problem in task.draw(step=0, count=400, seed=0):
        prompt = tokenizer(problem.prompt)["input_ids"]
        solution = tokenizer(problem.solution, add_special_tokens=False)["input_ids"]
        assert tokenizer(problem.prompt + problem.solution)["input_ids"] == prompt + solution
        assert len(solution) + 1 <= task.max_new_tokens
        assert len(prompt) + task.max_new_tokens <= testbed.LLAMA["max_position_embeddings"]
        assert tokenizer.unk_token_id not in prompt + solution
        if task_name == "addition":  # a digit a token, or carries could not be learned
            assert all(len(tokenizer.decode(token)) == 1 for token in prompt[1:])


def test_plain_transformers_generate_solves_problems():
    """The shipped directory is all that another library needs."""
    place = testbed.resolve("testbed/chain-s0")
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place)
    task = load_task(name="chain")
    problems = task.problems("test", count=16, seed=0, levels=["2"])
    inputs = tokenizer([p.prompt for p in problems], return_tensors="pt", padding=True)
    out = model.generate(**inputs, do_sample=False, max_new_tokens=task.max_new_tokens)
    texts = tokenizer.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    graded = [task.grade(p, text).value for p, text in zip(problems, texts, strict=True)]
    assert sum(graded) >= 14, texts


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
    assert tokenizer.chat_template is None


def test_a_saved_tokenizer_is_the_same_tokenizer(tmp_path):
    made = make_tokenizer()
    made.save_pretrained(tmp_path)
    for tokenizer in (
        AutoTokenizer.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(testbed.resolve("testbed/countdown-s0")),
    ):
        assert tokenizer.get_vocab() == made.get_vocab()
        for text in ("1,5,7>36:", "100 1 0 0 137", "a\nb  c", "7*5=35;35+1=36"):
            assert tokenizer(text)["input_ids"] == made(text)["input_ids"]
            assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


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
