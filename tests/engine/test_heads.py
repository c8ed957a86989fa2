"""Every family's head: found, tried, and relied on; composite checkpoints; gradients in place."""

import pytest
import torch
import transformers

import tiny
from families import FAMILIES, family_config
from rekindle.engine import heads
from rekindle.engine.config import ModelConfig
from rekindle.engine.layout import lay_out
from rekindle.engine.policy import Policy
from rekindle.errors import ModelError
from rekindle.ops.logprobs import head_scores, token_scores

PROMPTS, COMPLETIONS = [(1, 5, 6), (1, 7)], [(8, 9, 10, 2), (11, 2)]


def policy_of(kind):
    # transformers computes routers of experts, and Mamba's logits, in fp32
    dtype = (
        torch.float32 if kind in {"mixtral", "qwen2_moe", "qwen3_moe", "mamba"} else torch.float64
    )
    model = tiny.model(config=family_config(kind), dtype=dtype)
    settings = ModelConfig(name=kind, dtype=str(dtype).removeprefix("torch."), device="cpu")
    return Policy.of(model, tiny.tokenizer(), settings)


@pytest.mark.parametrize("kind", FAMILIES)
def test_scores_by_the_head_are_those_of_the_models_own_logits(kind):
    policy, layout = policy_of(kind), lay_out(PROMPTS, COMPLETIONS)
    head, hidden_ND = policy.head(), policy.hidden(layout)
    logits = policy.model(input_ids=layout.tokens_RS, use_cache=False).logits
    want = token_scores(layout.gather(logits)[None], layout.targets_N[None], temperature=0.7)
    for budget in (1, 10**6):
        got = head_scores(hidden_ND, head, layout.targets_N, temperature=0.7, budget=budget)
        for one, other in zip(got, want, strict=True):
            torch.testing.assert_close(one, other[0], atol=1e-5, rtol=1e-5)
    by_policy = policy.logprobs(layout, temperature=0.7).logprobs_BT[layout.mask_BT]
    torch.testing.assert_close(by_policy, want.logprobs_BT[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite", "cohere", "phi", "opt", "gpt2"])
def test_gradients_of_a_large_vocabulary_are_those_of_the_models_own_logits(kind, monkeypatch):
    policy, layout = policy_of(kind), lay_out(PROMPTS, COMPLETIONS)
    policy.model.requires_grad_(True)
    logits = policy.model(input_ids=layout.tokens_RS, use_cache=False).logits
    want = token_scores(layout.gather(logits)[None], layout.targets_N[None], entropy="grad")
    (want.logprobs_BT.sum() + want.entropy_BT.sum()).backward()
    wanted = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    monkeypatch.setattr("rekindle.engine.policy.LARGE_VOCABULARY", 1)
    monkeypatch.setattr(heads, "LARGE_VOCABULARY", 1)
    parameters = dict(policy.model.named_parameters())
    kept = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for name, parameter in parameters.items():
        parameter.grad = kept[name]
    with heads.updated_in_place([policy.model]):
        assert policy.model.get_input_embeddings().sparse
        scores = policy.logprobs(layout, entropy="grad")
    assert not policy.model.get_input_embeddings().sparse
    (scores.logprobs_BT.sum() + scores.entropy_BT.sum()).backward()
    for name, parameter in parameters.items():
        assert parameter.grad is kept[name]
        gradient = wanted.get(name, torch.zeros_like(parameter))
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("llama", heads.Form()),
        ("gemma2", heads.Form(cap=2.0)),
        ("granite", heads.Form(scale=0.25)),
        ("cohere", heads.Form(scale=0.25)),
        ("recurrent_gemma", heads.Form(cap=30.0)),
    ],
)
def test_what_a_config_says_of_the_head(kind, form):
    head = policy_of(kind).head()
    assert heads.form_in(family_config(kind).to_dict()) == form == (head.scale, head.cap)


def test_a_config_that_says_what_the_model_does_not_do_is_found_out():
    policy = policy_of("llama")
    policy.model.config.logits_scaling = 3.0
    assert policy.head().scale == 1.0


def test_logits_that_are_not_a_heads_are_the_models_own(capsys):
    policy, layout = policy_of("llama"), lay_out(PROMPTS, COMPLETIONS)
    policy.config = policy.config.model_copy(update={"name": "squared"})
    squared = policy.model.register_forward_hook(
        lambda module, args, out: {**out, "logits": out.logits.square()}
    )
    with pytest.raises(ModelError, match="cannot be mixed"):
        policy.head()
    logits = policy.model(input_ids=layout.tokens_RS, use_cache=False)["logits"]
    want = token_scores(layout.gather(logits)[None], layout.targets_N[None]).logprobs_BT[0]
    got = policy.logprobs(layout).logprobs_BT[layout.mask_BT]
    torch.testing.assert_close(got, want)
    policy.logprobs(layout)
    assert capsys.readouterr().err.count("are not those of a linear head") == 1
    squared.remove()


@pytest.mark.parametrize("kind", ["bloom", "mamba", "recurrent_gemma"])
def test_a_family_without_a_longest_sequence_has_no_limit(kind):
    assert policy_of(kind).context > 10**9


@pytest.mark.parametrize(("kind", "most"), [("mpt", 2048), ("gpt2", 64), ("opt", 64)])
def test_the_longest_sequence_by_the_name_that_a_family_gives_it(kind, most):
    assert policy_of(kind).context == most


def composite(directory):
    """A tiny Gemma 3 of text and images, saved with a tokenizer."""
    text = family_config("gemma3_text").to_dict() | {"final_logit_softcapping": None}
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Gemma3ForConditionalGeneration(
        transformers.Gemma3Config(
            text_config=text,
            vision_config=vision,
            mm_tokens_per_image=4,
            image_token_index=37,
            boi_token_index=36,
            eoi_token_index=35,
        )
    ).eval()
    model.save_pretrained(directory)
    tiny.tokenizer().save_pretrained(directory)
    return model


def test_a_checkpoint_of_text_and_images_is_loaded_as_its_text_model(tmp_path):
    whole = composite(tmp_path / "composite")
    policy = Policy.load(ModelConfig(name=str(tmp_path / "composite"), device="cpu"))
    tokens = torch.tensor([[1, 5, 6, 7]])
    assert policy.model.config.model_type == "gemma3_text"
    assert policy.context == 64
    torch.testing.assert_close(policy.model(tokens).logits, whole(input_ids=tokens).logits)
    policy.save(tmp_path / "text")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "text")
    torch.testing.assert_close(again(tokens).logits, whole(input_ids=tokens).logits)
