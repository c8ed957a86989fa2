"""A cache that is allocated once holds what the growing one of transformers holds."""

import dataclasses

import pytest
import torch
from transformers import DynamicCache

import tiny
from families import family_config
from rekindle.engine import cache_size
from rekindle.engine.cache import AllocatedLayer, allocate, row_bytes
from rekindle.engine.cache_size import rows_at_once
from rekindle.engine.config import SampleConfig
from rekindle.engine.contrast import ContrastPolicy
from rekindle.engine.device import free_bytes

CONFIGS = {
    "llama": {},
    "gpt2": {},
    **{f"mistral, window {size}": {"sliding_window": size} for size in (4, 7, 8, 12)},
    "gemma2, every other layer slides": {"sliding_window": 5},
}


def config_of(name):
    return family_config(name.split(",")[0], **CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_steps_are_the_same_bits_as_with_the_growing_cache(name, gen):
    """Prompts of 7 slots, 2 samples of each, 9 tokens more, rows dropped on the way."""
    policy = tiny.policy_of(tiny.model(config=config_of(name)))
    tokens_PS = torch.randint(4, 30, (2, 7), generator=gen)
    attend_PS = torch.arange(7) >= torch.tensor([[0], [2]])
    source_B = torch.tensor([0, 0, 1, 1])
    ours, grown = policy.fresh_cache(), policy.fresh_cache()
    for past in (ours, grown):
        policy.extend(past, tokens_PS, attend_PS)
    allocate(ours, source_B, room=9)
    grown.reorder_cache(source_B)
    assert all(type(layer) is AllocatedLayer for layer in ours.layers)
    room = [held.data_ptr() for layer in ours.layers for held in layer._both]
    attend_BS = attend_PS[source_B]
    for step in range(9):
        if step == 4:
            order = torch.tensor([3, 1, 2])
            ours.reorder_cache(order)
            grown.reorder_cache(order)
            attend_BS = attend_BS[order]
        new_B1 = torch.randint(4, 30, (len(attend_BS), 1), generator=gen)
        attend_BS = torch.cat([attend_BS, torch.ones_like(new_B1, dtype=torch.bool)], dim=1)
        expected_BV = policy.extend(grown, new_B1, attend_BS)
        assert torch.equal(policy.extend(ours, new_B1, attend_BS), expected_BV)
        for mine, theirs in zip(ours.layers, grown.layers, strict=True):
            assert mine.get_seq_length() == theirs.get_seq_length()
            assert mine.get_mask_sizes(1) == theirs.get_mask_sizes(1)
    assert [held.data_ptr() for layer in ours.layers for held in layer._both] == room


def test_layers_of_other_kinds_keep_their_own_cache():
    class Other(type(DynamicCache().layer_class_to_replicate())):
        pass

    past = DynamicCache()
    past.layers = [Other(), Other()]
    states = torch.arange(6.0).view(3, 1, 1, 2)
    for layer in past.layers:
        layer.update(states, states)
    allocate(past, torch.tensor([2, 0, 0, 1]), room=3)
    for layer in past.layers:
        assert type(layer) is Other
        assert torch.equal(layer.keys, states[[2, 0, 0, 1]])


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral, window 12"])
@pytest.mark.parametrize("slots", [1, 7, 12, 30])
def test_the_bytes_of_a_row_are_those_of_a_cache_with_that_many_tokens(name, slots):
    policy = tiny.policy_of(tiny.model(config=config_of(name)))
    sizes = []
    for count in (1, slots):
        past, one_BS = policy.fresh_cache(), torch.full((1, count), 5)
        policy.extend(past, one_BS, torch.ones_like(one_BS, dtype=torch.bool))
        held = sum(layer.keys.shape[2] * layer.keys[:, :, :1].nbytes * 2 for layer in past.layers)
        sizes.append((row_bytes(past, slots) if count == 1 else 0, held))
    # a sliding layer holds one token less between steps than within one
    spare = len(past.layers) * 2 * 8 * 4 if "window" in name and slots >= 12 else 0
    assert sizes[0][0] == sizes[1][1] + spare


def test_auto_takes_the_rows_that_half_of_the_free_memory_holds(monkeypatch):
    policy = tiny.policy()
    config = SampleConfig(batch_size="auto", max_new_tokens=20)
    # 2 layers of one head of width 8, keys and values in fp64, and logits of three times fp32
    row = 30 * 2 * 2 * 8 * 8 + 12 * len(tiny.VOCABULARY)
    for rows in (1, 2, 37):
        for spare in (0, 1):
            monkeypatch.setattr(cache_size, "free_bytes", lambda _, b=2 * row * rows - spare: b)
            assert rows_at_once(policy, config, longest=10) == max(1, rows - spare)
    monkeypatch.setattr(cache_size, "free_bytes", lambda _: 0)
    assert rows_at_once(policy, config, longest=10) == 1
    monkeypatch.setattr(cache_size, "free_bytes", lambda _: 10**15)
    assert rows_at_once(policy, config, longest=10) == 1024


def test_auto_counts_both_models_and_no_more_than_the_context(monkeypatch):
    policy = tiny.policy()
    config = SampleConfig(batch_size="auto", max_new_tokens=20)
    monkeypatch.setattr(cache_size, "free_bytes", lambda _: 10**6)
    one = rows_at_once(policy, config, longest=10)
    two = rows_at_once(ContrastPolicy.between(policy, tiny.policy(), 0.5), config, longest=10)
    assert two == one // 2
    short = dataclasses.replace(policy, context=30)
    endless = config.model_copy(update={"max_new_tokens": 10**9})
    assert rows_at_once(short, endless, longest=10) == one


def test_a_number_is_taken_as_it_is():
    assert rows_at_once(tiny.policy(), SampleConfig(batch_size=7), longest=10) == 7


def test_what_is_free_is_less_than_the_machine_has():
    assert 0 < free_bytes(torch.device("cpu")) < 2**50
