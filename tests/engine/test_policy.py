"""The policy: padding is invisible, chunked scoring is a twin, tokenizer traps are refused."""

import pytest
import torch
from transformers import LlamaForCausalLM

import tiny
from rekindle.engine import policy as policy_module
from rekindle.engine import progress
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import ModelConfig, SampleConfig
from rekindle.engine.layout import lay_out
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError, ModelError
from rekindle.records import Problem


def sequence(gen, length):
    return torch.randint(4, len(tiny.VOCABULARY), (length,), generator=gen)


def laid(*rows, start):
    """Rows of tokens that are scored from column `start` on."""
    rows = [tuple(row.tolist()) for row in rows]
    return lay_out([row[:start] for row in rows], [row[start:] for row in rows])


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_padding_is_invisible(kind, gen):
    policy = tiny.policy(kind)
    tokens, longer = sequence(gen, 9), sequence(gen, 14)
    alone = policy.logprobs(laid(tokens, start=4))
    for other in [longer, longer[:10]]:
        scores = policy.logprobs(laid(tokens, other, start=4))
        for got, want in zip(scores, alone, strict=True):
            torch.testing.assert_close(got[:1, :5], want, atol=1e-12, rtol=1e-12)
            assert (got[0, 5:] == 0).all()


def test_rows_of_a_batch_do_not_see_each_other(gen):
    policy = tiny.policy()
    tokens = torch.stack([sequence(gen, 8) for _ in range(3)])
    together = policy.logprobs(laid(*tokens, start=3)).logprobs_BT
    for order in [[2, 0, 1], [1], [0, 2]]:
        got = policy.logprobs(laid(*tokens[order], start=3)).logprobs_BT
        torch.testing.assert_close(got, together[order], atol=1e-12, rtol=1e-12)


def test_scores_are_the_models_own_log_softmax(gen):
    policy = tiny.policy()
    tokens = sequence(gen, 7)[None]
    scores = policy.logprobs(laid(*tokens, start=1), temperature=0.5)
    logits = policy.model(tokens).logits[:, :-1] / 0.5
    want = torch.log_softmax(logits, -1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(scores.logprobs_BT, want)


def test_scoring_in_chunks_changes_neither_values_nor_gradients(gen, monkeypatch):
    tokens = torch.stack([sequence(gen, 8) for _ in range(2)])
    results = []
    for above in (10**9, 1):
        monkeypatch.setattr(policy_module, "LARGE_VOCABULARY", above)
        policy = tiny.policy()
        scores = policy.logprobs(laid(*tokens, start=2))
        scores.logprobs_BT.sum().backward()
        grads = [p.grad for p in policy.model.parameters()]
        results.append([*scores, *grads])
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, plain, atol=1e-10, rtol=1e-10)


def test_a_prompt_then_a_token_equal_one_forward(gen):
    policy = tiny.policy()
    tokens = sequence(gen, 6)
    ones = torch.ones(1, 6, dtype=torch.bool)
    past = policy.fresh_cache()
    logits = policy.extend(past, tokens[None, :5], ones[:, :5])
    torch.testing.assert_close(logits, policy.model(tokens[None, :5]).logits[:, -1])
    after = policy.extend(past, tokens[None, 5:], ones)
    torch.testing.assert_close(after, policy.model(tokens[None]).logits[:, -1])


def test_save_and_load_give_the_same_model_and_tokenizer(tmp_path, gen):
    policy = tiny.policy(dtype="float32")
    policy.save(tmp_path)
    again = Policy.load(ModelConfig(name=str(tmp_path), device="cpu"))
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)
    problem = Problem(id="p", prompt="1+2=")
    assert again.encode_prompt(problem) == policy.encode_prompt(problem)


def test_a_frozen_copy_stays_when_the_policy_moves():
    policy = tiny.policy()
    frozen = policy.frozen_copy()
    before = {n: t.clone() for n, t in frozen.model.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(frozen.model.state_dict()[n], t) for n, t in before.items())
    assert not any(p.requires_grad for p in frozen.model.parameters())


def test_prompt_and_completion_tokens_are_what_they_should_be():
    policy = tiny.policy()
    problem = Problem(id="p", prompt="1+2=")
    prompt, completion = policy.encode_prompt(problem), policy.encode_completion(problem, "3")
    assert prompt == (1, *(tiny.VOCABULARY[c] for c in "1+2="))
    assert completion == (tiny.VOCABULARY["3"], 2)
    assert policy.decode(completion) == "3"


def test_a_chat_template_is_used_and_splits_prompt_from_answer():
    tok = tiny.tokenizer()
    tok.chat_template = tiny.CHAT_TEMPLATE
    policy = tiny.policy(tok=tok)
    problem = Problem(id="p", prompt="1+2", messages=(("user", "1+2"),))
    assert policy.tokenizer.decode(policy.encode_prompt(problem)) == "u:1+2;a:"
    assert policy.encode_completion(problem, "3")[-1] == policy.eos_id
    assert policy.decode(policy.encode_completion(problem, "3")) == "3;"


def test_messages_without_a_template_are_refused():
    problem = Problem(id="p7", prompt="1+2", messages=(("user", "1+2"),))
    with pytest.raises(ConfigError, match=r"p7.*chat template"):
        tiny.policy().encode_prompt(problem)


def test_two_bos_tokens_are_refused():
    with pytest.raises(DataError, match="two BOS"):
        tiny.policy().encode_prompt(Problem(id="p", prompt="<bos>1+2"))


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(DataError, match="without tokens"):
        tiny.policy(tok=tiny.tokenizer(bos=False)).encode_prompt(Problem(id="p", prompt=""))


def test_a_prompt_longer_than_the_context_is_refused_with_both_lengths():
    with pytest.raises(DataError, match=r"(?s)'long'.*81 prompt tokens.*context 64"):
        tiny.policy().encode_prompt(Problem(id="long", prompt="1" * 80))


@pytest.mark.parametrize("name", ["/no/such/model", "runs/early/chain-s1/final", "./model"])
def test_a_directory_that_is_not_there_is_said_to_be_missing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no model at"):
        Policy.load(ModelConfig(name=name, device="cpu"))


def test_a_tokenizer_that_cannot_teach_stopping_is_refused(tmp_path):
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer(eos_token=None).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no end-of-sequence token"):
        Policy.load(ModelConfig(name=str(tmp_path), device="cpu"))


@pytest.mark.parametrize(("pad", "pad_id"), [("<eos>", 2), (None, 0), ("<unk>", 3)])
def test_any_pad_token_will_do(pad, pad_id, tmp_path):
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer(pad_token=pad).save_pretrained(tmp_path)
    policy = Policy.load(ModelConfig(name=str(tmp_path), device="cpu"))
    assert (policy.eos_id, policy.eos_ids, policy.pad_id) == (2, (2,), pad_id)


def test_the_recipe_can_name_other_special_tokens(tmp_path):
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer(pad_token="<eos>").save_pretrained(tmp_path)
    policy = Policy.load(ModelConfig(name=str(tmp_path), device="cpu", pad_token="<unk>"))
    assert (policy.eos_id, policy.pad_id) == (2, 3)


def test_a_tokenizer_with_ids_beyond_the_embedding_is_refused(tmp_path):
    tiny.model(config=tiny.llama_config(vocab_size=20)).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="ids that its model lacks"):
        Policy.load(ModelConfig(name=str(tmp_path), device="cpu"))


def test_an_unknown_model_lists_what_exists():
    with pytest.raises(ModelError, match="testbed/countdown-s0"):
        Policy.load(ModelConfig(name="no/such-dir-or-id", device="cpu"))


def test_pickled_weights_are_refused(tmp_path):
    policy = tiny.policy()
    policy.save(tmp_path)
    torch.save(policy.model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pickled(.|\n)*safetensors"):
        Policy.load(policy.config.model_copy(update={"name": str(tmp_path)}))


@pytest.mark.parametrize("change", [{"num_hidden_layers": 3}, {"intermediate_size": 48}])
def test_weights_of_another_architecture_are_refused(tmp_path, change):
    """transformers would fill in what is missing with random numbers, and only log it."""
    policy = tiny.policy()
    policy.save(tmp_path)
    LlamaForCausalLM(tiny.llama_config(**change)).config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="another architecture"):
        Policy.load(policy.config.model_copy(update={"name": str(tmp_path)}))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, None),
        ({"do_sample": True}, None),
        ({"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}, None),
        ({"max_new_tokens": 9, "eos_token_id": [2, 9]}, None),
        ({"do_sample": True, "temperature": 0.6, "top_k": 20}, "(temperature 0.6, top_k 20)"),
        ({"repetition_penalty": 1.1}, "(repetition_penalty 1.1)"),
    ],
)
def test_generation_settings_of_the_model_are_told_once_and_not_applied(settings, told, capsys):
    progress.say_once.cache_clear()
    model = tiny.model()
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    policies = [tiny.policy_of(model) for _ in range(2)]
    said = capsys.readouterr().err
    assert said.count("generation settings") == (0 if told is None else 1)
    assert told is None or told in said
    free = tiny.policy_of(tiny.model())
    config = SampleConfig(max_new_tokens=6)
    asked = [Problem(id="p", prompt="1+2")]
    first, second = (
        CachedSampler(made).sample(asked, samples=4, config=config, seed=0)
        for made in (policies[0], free)
    )
    assert settings.get("eos_token_id") or [r.tokens for r in first] == [r.tokens for r in second]
