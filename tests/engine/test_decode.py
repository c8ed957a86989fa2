"""The decode twin computes what transformers computes, or refuses."""

import pytest
import torch
from torch import nn
from transformers import GemmaConfig, Qwen2Config

import tiny
from rekindle.engine.small_decoder import decode, fused
from rekindle.engine.small_decoder.decode import Memory, Twin
from rekindle.engine.small_decoder.fused import Weights, supports

SHARED = {
    key: value
    for key, value in tiny.config_of("qwen3").to_dict().items()
    if key
    in {
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
    }
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CONFIGS = {
    "llama grouped heads": lambda: tiny.llama_config(),
    "llama biases, tied head, head of its own width": lambda: tiny.llama_config(
        attention_bias=True, mlp_bias=True, tie_word_embeddings=True, num_key_value_heads=2
    ),
    "llama 4 heads on 2": lambda: tiny.llama_config(
        num_attention_heads=4, num_key_value_heads=2, head_dim=4
    ),
    "llama scaled positions": lambda: tiny.llama_config(rope_parameters=LLAMA3_ROPE),
    "qwen2": lambda: Qwen2Config(**SHARED),
    "qwen3": lambda: tiny.config_of("qwen3"),
}
LENGTHS, SOURCE = (3, 7, 5), (0, 0, 1, 2, 2, 2)


def lively(config, dtype=torch.float64):
    """A model whose every weight matters: gains and biases away from 1 and 0, peaked logits."""
    model = tiny.model(config=config, dtype=dtype)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        weight.data.normal_(std=0.25)
        if "norm" in name:
            weight.data += 1.0
    return model


def prompts(gen):
    slots = max(LENGTHS)
    tokens_PS = torch.randint(4, 30, (len(LENGTHS), slots), generator=gen)
    attend_PS = torch.arange(slots) >= slots - torch.tensor(LENGTHS)[:, None]
    return tokens_PS, attend_PS, torch.tensor(SOURCE)


def twin_of(model):
    return Twin(Weights.read(model), Memory())


@torch.no_grad()
def alone(model, tokens):
    """Next-token logits of one sequence, without padding or cache: the oracle."""
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]


@torch.no_grad()
def largest_error(model, gen, *, steps=9):
    """Over a decode with shared prompts, left padding and dropped rows, against `alone`."""
    tokens_PS, attend_PS, source_B = prompts(gen)
    histories = [
        row[seen].tolist()
        for row, seen in zip(tokens_PS[source_B], attend_PS[source_B], strict=True)
    ]
    twin = twin_of(model)
    logits_BV = twin.begin(tokens_PS, attend_PS, source_B, room=steps)
    largest = 0.0
    for step in range(steps):
        expected_BV = torch.stack([alone(model, history) for history in histories])
        largest = max(largest, (logits_BV - expected_BV).abs().max().item())
        new_B = torch.randint(4, 30, (len(histories),), generator=gen)
        if step == 4:
            order = torch.tensor([0, 5, 2, 4])
            twin.keep(order)
            histories, new_B = [histories[row] for row in order], new_B[order]
        for history, token in zip(histories, new_B.tolist(), strict=True):
            history.append(token)
        logits_BV = twin.extend(new_B)
    return largest


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_the_transformers_forward(name, dtype, close, gen, monkeypatch):
    monkeypatch.setattr(decode, "_FIRST_SLOTS", 2)  # so that the cache has to grow
    model = lively(CONFIGS[name](), dtype)
    assert supports(model)
    assert largest_error(model, gen) < close


def test_reading_prompts_in_pieces_changes_nothing(gen, monkeypatch):
    monkeypatch.setattr(decode, "_PREFILL_TOKENS", 8)
    assert largest_error(lively(tiny.llama_config()), gen) < 1e-10


def test_widening_short_prompts_changes_nothing(gen, monkeypatch):
    """Where there are many rows, prompts of few slots are padded to a faster width."""
    monkeypatch.setattr(decode, "_MANY_PRODUCTS", 1)
    assert largest_error(lively(tiny.llama_config()), gen) < 1e-10


def test_prompts_of_equal_length_need_no_mask(gen, monkeypatch):
    monkeypatch.setattr(f"{__name__}.LENGTHS", (6, 6, 6))
    assert largest_error(lively(tiny.llama_config()), gen) < 1e-10


def test_what_lies_in_reused_memory_is_never_seen(gen):
    model, memory = lively(tiny.config_of("qwen3")), Memory()
    tokens_PS, attend_PS, source_B = prompts(gen)
    results = []
    for _ in range(2):
        with torch.inference_mode():
            twin = Twin(Weights.read(model), memory)
            twin.begin(tokens_PS, attend_PS, source_B, room=5)
            results.append(twin.extend(torch.full((len(SOURCE),), 9)))
            memory.reserve((memory.fits(results[0]),), results[0]).fill_(torch.nan)
    assert torch.equal(results[0], results[1])


def test_growing_over_its_own_memory_keeps_what_is_there(gen, monkeypatch):
    """With fewer rows than at the start, the larger cache fits where the smaller one lies."""
    monkeypatch.setattr(decode, "_FIRST_SLOTS", 6)
    model = lively(tiny.llama_config())
    tokens_PS, attend_PS, source_B = prompts(gen)
    twin = twin_of(model)
    with torch.inference_mode():
        twin.begin(tokens_PS, attend_PS, source_B, room=30)
        twin.keep(torch.tensor([3]))
        history = tokens_PS[2][attend_PS[2]].tolist()
        for token in range(4, 24):
            logits_BV = twin.extend(torch.tensor([token]))
            history.append(token)
    assert (logits_BV[0] - alone(model, history)).abs().max() < 1e-10


def test_weights_are_copies_of_the_moment():
    model = lively(tiny.llama_config())
    before = Weights.read(model)
    model.model.layers[0].mlp.up_proj.weight.data.add_(1.0)
    after = Weights.read(model)
    assert not torch.equal(before.layers[0].mlp_in, after.layers[0].mlp_in)
    assert torch.equal(before.layers[1].mlp_in, after.layers[1].mlp_in)


class Adapted(nn.Linear):
    """Stands for any layer that is more than the linear map it inherits from."""


def with_adapter(model):
    old = model.model.layers[1].self_attn.v_proj
    model.model.layers[1].self_attn.v_proj = Adapted(old.in_features, old.out_features, bias=False)


def with_parametrized_weight(model):
    nn.utils.parametrizations.orthogonal(model.model.layers[0].self_attn.o_proj)


def with_replaced_forward(model):
    layer = model.model.layers[0].mlp
    layer.forward = lambda x, old=layer.forward: 2 * old(x)


def with_frozen_low_precision(model):
    layer = model.model.layers[0].mlp.down_proj
    layer.weight = nn.Parameter(layer.weight.detach().bfloat16())


CHANGES = {
    "hook": lambda model: model.model.norm.register_forward_hook(lambda *_: None),
    "pre-hook": lambda model: model.lm_head.register_forward_pre_hook(lambda *_: None),
    "adapter": with_adapter,
    "parametrized": with_parametrized_weight,
    "replaced forward": with_replaced_forward,
    "mixed dtypes": with_frozen_low_precision,
    "bfloat16": lambda model: model.bfloat16(),
    "own attention": lambda model: setattr(model.config, "_attn_implementation", "mine"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_refuses_a_changed_model(name):
    model = tiny.model("llama")
    assert supports(model)
    CHANGES[name](model)
    assert not supports(model)


REFUSED = {
    "another family": lambda: GemmaConfig(**SHARED, head_dim=8),
    "gpt2": lambda: tiny.config_of("gpt2"),
    "sliding window": lambda: Qwen2Config(
        **SHARED, use_sliding_window=True, sliding_window=4, max_window_layers=0
    ),
    "dynamic positions": lambda: tiny.llama_config(
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    ),
    "activation": lambda: tiny.llama_config(hidden_act="gelu"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_another_architecture(name):
    assert not supports(tiny.model(config=REFUSED[name]()))


def test_refuses_a_model_too_large_to_copy(monkeypatch):
    monkeypatch.setattr(fused, "_MAX_PARAMETERS", 1000)
    assert not supports(tiny.model("llama"))


def test_serves_again_once_the_hook_is_gone():
    model = tiny.model("llama")
    handle = model.model.norm.register_forward_hook(lambda *_: None)
    handle.remove()
    assert supports(model)
