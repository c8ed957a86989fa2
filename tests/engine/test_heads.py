"""Every family's head: found, tried, and relied on; composite checkpoints; gradients in place."""

import pytest
import torch
import transformers

import tiny
from families import FAMILIES, family_config
from rekindle.engine import heads
from rekindle.engine.config import ModelConfig, OptimConfig
from rekindle.engine.device import Group
from rekindle.engine.layout import lay_out
from rekindle.engine.policy import Policy
from rekindle.engine.update import fresh_state, measure_batch, update
from rekindle.errors import ModelError
from rekindle.loops.pair_step import likeness, packed, pushed
from rekindle.ops.logprobs import head_scores, token_scores

PROMPTS, COMPLETIONS = [(1, 5, 6), (1, 7)], [(8, 9, 10, 2), (11, 2)]


def policy_of(kind, *, config=None, hook=None):
    # transformers computes routers of experts, and Mamba's logits, in fp32
    single = kind in {"mixtral", "qwen2_moe", "qwen3_moe", "mamba"}
    dtype = torch.float32 if single else torch.float64
    model = tiny.model(config=config or family_config(kind), dtype=dtype)
    if hook is not None:
        model.register_forward_hook(hook)
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
    config = family_config("llama")
    config.logits_scaling = 3.0
    assert policy_of("llama", config=config).head().scale == 1.0


def squared_logits(name):
    """A policy whose logits are no head's; the config differs, for heads are tried once a kind."""
    config = family_config("llama")
    config.bos_token_id = {"one": 5, "two": 6}[name]
    policy = policy_of("llama", config=config, hook=lambda *x: {**x[2], "logits": x[2].logits ** 2})
    return policy, lay_out(PROMPTS, COMPLETIONS)


def test_logits_that_are_not_a_heads_are_the_models_own(capsys):
    policy, layout = squared_logits("one")
    with pytest.raises(ModelError, match="cannot be mixed"):
        policy.head()
    logits = policy.model(input_ids=layout.tokens_RS, use_cache=False)["logits"]
    want = token_scores(layout.gather(logits)[None], layout.targets_N[None]).logprobs_BT[0]
    for _ in range(2):
        got = policy.logprobs(layout).logprobs_BT[layout.mask_BT]
        torch.testing.assert_close(got, want)
    assert capsys.readouterr().err.count("are not those of a linear head") == 1


def test_a_model_without_a_body_has_no_cosine_and_says_why_once(capsys):
    policy, _ = squared_logits("two")
    policy.model.base_model_prefix = "none"
    pairs = [{"id": "a", "prompt": "1", "chosen": "2", "rejected": "33"}]
    for _ in range(2):
        assert likeness(policy, pairs, micro_tokens=100) == {"pairs/similarity": 0.0}
    assert capsys.readouterr().err.count("pairs/cosine is left out") == 1


@pytest.mark.parametrize("kind", FAMILIES)
def test_dpo_takes_a_step_on_every_family(kind):
    """The loss of `dpo_terms` falls by a small step along the pushed gradient."""
    policy = policy_of(kind)
    policy.model.requires_grad_(True)
    reference = policy.frozen_copy()
    pairs = [
        {"id": "a", "prompt": "1+1=", "chosen": "2", "rejected": "33"},
        {"id": "b", "prompt": "2+3=", "chosen": "5.", "rejected": "4"},
    ]
    batch = packed(policy, pairs, total=2)
    alike = likeness(policy, pairs, micro_tokens=1000)
    assert -1 <= alike["pairs/cosine"] <= 1

    def margin():
        sums = [
            measure_batch(p, batch, micro_tokens=1000, temperature=1.0).logprobs_BT.nansum(dim=1)
            for p in (policy, reference)
        ]
        return (sums[0] - sums[1]).view(2, -1)

    assert float(margin().abs().max()) < 1e-5
    push_B = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64)
    state = fresh_state({"policy": policy.model}, OptimConfig(lr=1e-3, steps=1, warmup=0))
    micro = batch.replace(advantage_B=push_B).split(1000, policy.arrangement())
    update(state, micro, pushed(policy), clip=1e9, group=Group(), device=policy.device)
    chosen_N, rejected_N = margin()
    assert bool((chosen_N.sum() - rejected_N.sum()) > 0)


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
