"""Two models whose logits are added: checks, and extrapolation at test time."""

import pytest
import torch

import tiny
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import ModelConfig, SampleConfig
from rekindle.engine.contrast import ContrastPolicy
from rekindle.engine.layout import lay_out
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, ModelError
from rekindle.records import Problem

PROBLEMS = [Problem(id=f"p{i}", prompt=f"{i}+{i}=", answer="1", level="all") for i in range(5)]


def of(config=None, tok=None, **settings):
    model = tiny.model(config=tiny.llama_config(**(config or {})), dtype=torch.float64)
    settings = {"name": "other", "dtype": "float64", "device": "cpu", **settings}
    return Policy.of(model, tok or tiny.tokenizer(), ModelConfig(**settings))


def test_two_checkpoints_of_one_family_go_together_whatever_their_width():
    check_pair(tiny.policy(), tiny.policy(seed=3))
    check_pair(tiny.policy(), of({"hidden_size": 24, "num_hidden_layers": 1}))
    for pad in ("<eos>", "<unk>", None):  # padding is masked by place
        check_pair(tiny.policy(), of(tok=tiny.tokenizer(pad_token=pad)))


def swapped():
    tok = tiny.tokenizer()
    text = tok.backend_tokenizer.to_str()
    changed = text.replace('"5":9', '"5":x').replace('"6":10', '"6":9').replace('"5":x', '"5":10')
    assert changed != text
    tok._tokenizer = type(tok.backend_tokenizer).from_str(changed)
    return tok


def test_the_same_size_with_other_ids_is_refused_by_the_first_one():
    with pytest.raises(ModelError, match=r"another tokenizer(.|\n)*'6'(.|\n)*token 9 = '5'"):
        check_pair(tiny.policy(), of(tok=swapped()))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: of({"vocab_size": 48}), "another padded vocabulary(.|\n)*48 rows"),
        (lambda: of(tok=tiny.tokenizer(eos_token="?")), "another eos_id"),
        (lambda: of(system="be brief"), "another model.system"),
        (lambda: of(chat_template="never"), "another model.chat_template"),
    ],
)
def test_what_else_must_be_the_same(other, words):
    with pytest.raises(ModelError, match=words):
        check_pair(tiny.policy(), other())


def test_another_template_is_shown_where_it_first_differs():
    ours, theirs = tiny.tokenizer(), tiny.tokenizer()
    ours.chat_template = tiny.CHAT_TEMPLATE
    theirs.chat_template = tiny.CHAT_TEMPLATE.replace("a:", "b:")
    with pytest.raises(ModelError, match=r"another chat template(.|\n)*b:"):
        check_pair(of(tok=ours), of(tok=theirs))


# --- extrapolation


def direct(strong, weak, c, tokens):
    with torch.no_grad():
        zs, zw = strong.model(tokens).logits, weak.model(tokens).logits
    return zs + c * (zs - zw)


def test_log_probs_are_those_of_the_extrapolated_logits():
    strong, weak = tiny.policy(), tiny.policy(seed=5)
    both = ContrastPolicy.between(strong, weak, 0.7)
    tokens = torch.tensor([[1, 4, 5, 7, 8, 2]])
    found = both.logprobs(lay_out([(1, 4, 5)], [(7, 8, 2)]), temperature=0.5)
    logp = (direct(strong, weak, 0.7, tokens) / 0.5).log_softmax(-1)[:, 2:5]
    wanted = logp.gather(-1, tokens[:, 3:, None]).squeeze(-1)
    torch.testing.assert_close(found.logprobs_BT, wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.entropy_BT, -(logp.exp() * logp).sum(-1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("twin", [True, False])
def test_it_samples_from_the_extrapolated_logits(twin):
    strong, weak = tiny.policy(), tiny.policy(seed=5)
    both = ContrastPolicy.between(strong, weak, 0.7)
    config = SampleConfig(max_new_tokens=6, temperature=0.0)
    for rollout in CachedSampler(both, twin=twin).sample(
        PROBLEMS, samples=1, config=config, seed=0
    ):
        tokens = list(rollout.prompt_tokens)
        for token, logp in zip(rollout.tokens, rollout.sampled_logprobs, strict=True):
            z = direct(strong, weak, 0.7, torch.tensor([tokens]))[0, -1]
            assert token == int(z.argmax())
            assert logp == pytest.approx(float(z.log_softmax(-1)[token]), abs=1e-9)
            tokens.append(token)


def test_without_strength_it_is_the_model_itself():
    strong, weak = tiny.policy(), tiny.policy(seed=5)
    config = SampleConfig(max_new_tokens=6)
    both = ContrastPolicy.between(strong, weak, 0.0)
    a, b = (
        CachedSampler(p).sample(PROBLEMS, samples=3, config=config, seed=1) for p in (strong, both)
    )
    assert [x.tokens for x in a] == [x.tokens for x in b]


def test_a_pair_is_checked():
    with pytest.raises(ConfigError, match="below 0"):
        ContrastPolicy.between(tiny.policy(), tiny.policy(), -0.1)
    with pytest.raises(ModelError, match="vocabulary"):
        ContrastPolicy.between(tiny.policy(), of({"vocab_size": 48}), 0.1)
