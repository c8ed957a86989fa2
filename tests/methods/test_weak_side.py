"""The weak half of the mix: live, cached, adapter, moved."""

import pytest
import torch

import tiny
from rekindle.engine.adapters.policies import with_adapter
from rekindle.engine.batch import count, pack
from rekindle.engine.config import LoraConfig, OptimConfig
from rekindle.engine.device import Group
from rekindle.engine.policy import Policy
from rekindle.engine.update import fresh_state, update
from rekindle.errors import DataError, RunDirectoryError
from rekindle.methods.wmss.weak_model import CachedWeak, LiveWeak, ShuffledWeak
from rekindle.methods.wmss.wmss import mixed_objective

PROMPTS = [(1, 4, 5), (1, 6), (1, 9, 10, 11)]
ANSWERS = [(7, 8, 2), (9, 10, 11, 2), (12, 2)]
PLACE = "model.layers.0.self_attn.q_proj"


def rows(prompts=PROMPTS, answers=ANSWERS):
    return pack(prompts, answers, reduction="token", total=count(answers))


def cached(directory, weak, batch=None):
    batch = rows() if batch is None else batch
    return CachedWeak.load_or_compute(directory, weak, batch, micro_tokens=10_000, group=Group())


def gradients(policy, side, batch, micro_tokens):
    policy.model.zero_grad(set_to_none=True)
    objective = mixed_objective(policy, side, lam=0.4, chunk=2)
    value = 0.0
    for micro in batch.split(micro_tokens):
        loss = (objective(micro).loss_BT * micro.weight_BT).sum()
        loss.backward()
        value += float(loss.detach())
    return value, {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("micro_tokens", [8, 10_000])
def test_cached_states_are_the_live_ones(tmp_path, micro_tokens):
    weak = tiny.policy(seed=7).frozen_copy()
    live, policy = LiveWeak(weak, frozen=True), tiny.policy()
    one, a = gradients(policy, live, rows(), micro_tokens)
    two, b = gradients(policy, cached(tmp_path / "c", weak), rows(), micro_tokens)
    assert one == pytest.approx(two, abs=1e-12)
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-12, rtol=0)
    assert live.models() == {}


def test_cached_states_are_in_the_models_own_dtype_bit_for_bit(tmp_path):
    weak = tiny.policy(seed=7, dtype="float32").frozen_copy()
    side = cached(tmp_path / "c", weak)
    assert (tmp_path / "c" / "states.bin").stat().st_size == 9 * 16 * 4  # tokens, width, fp32
    for micro in rows().split(10_000):
        assert torch.equal(side.hidden(micro), weak.hidden(micro.layout))


def test_a_cache_is_taken_up_and_not_made_again(tmp_path, monkeypatch):
    weak = tiny.policy(seed=7).frozen_copy()
    cached(tmp_path / "c", weak)
    monkeypatch.setattr(Policy, "hidden", lambda *a, **k: pytest.fail("computed again"))
    cached(tmp_path / "c", weak)


def test_a_cache_that_was_cut_off_is_made_again(tmp_path):
    weak = tiny.policy(seed=7).frozen_copy()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "states.bin").write_bytes(b"half of it")
    assert cached(tmp_path / "c", weak).width == 16


def test_a_cache_of_something_else_is_refused(tmp_path):
    weak = tiny.policy(seed=7).frozen_copy()
    cached(tmp_path / "c", weak)
    with pytest.raises(RunDirectoryError, match="other weights"):
        cached(tmp_path / "c", tiny.policy(seed=8).frozen_copy())
    with pytest.raises(RunDirectoryError, match="other samples"):
        cached(tmp_path / "c", weak, rows(PROMPTS[:2], ANSWERS[:2]))
    states = tmp_path / "c" / "states.bin"
    states.write_bytes(states.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RunDirectoryError, match="was changed"):
        cached(tmp_path / "c", weak)


def test_a_sample_that_is_not_in_the_cache_is_an_error(tmp_path):
    side = cached(tmp_path / "c", tiny.policy(seed=7).frozen_copy())
    other = rows([(1, 4)], [(5, 2)]).split(100)[0]
    with pytest.raises(DataError, match="not among the cached"):
        side.hidden(other)


def test_moved_states_are_the_same_ones_elsewhere():
    side = LiveWeak(tiny.policy(seed=7), frozen=True)
    micro = rows().split(10_000)[0]
    lengths = micro.mask_BT.sum(dim=1).tolist()
    moved, lain = (s.hidden(micro).split(lengths) for s in (ShuffledWeak(side), side))
    for there, here, length in zip(moved, lain, lengths, strict=True):
        assert torch.equal(there[length // 2 :], here[: length - length // 2])
        assert not torch.equal(there, here)


# --- two adapters


def pair():
    """Strong and weak side on one base, both with adapters that are trained."""
    strong = with_adapter(tiny.policy(), LoraConfig(rank=2), seed=0)
    return strong, LiveWeak.of(strong, frozen=False, seed=0)


def logits(policy):
    micro = rows().split(10_000)[0]
    return policy.logprobs(micro.layout).logprobs_BT


def trained_pair(steps=5):
    policy, side = pair()
    objective = mixed_objective(policy, side, lam=0.5, chunk=2)
    state = fresh_state(
        {"policy": policy.model, **side.models()}, OptimConfig(steps=steps, lr=3e-2)
    )
    for step in range(steps):
        state.step = step
        batch = rows().split(10_000)
        update(state, batch, objective, clip=1e9, group=Group(), device=policy.device)
    return policy, side.policy


def test_both_sides_have_one_base_and_one_head_so_that_hidden_states_are_mixed():
    policy, side = pair()
    assert policy.head().weight is side.head().weight
    halves = [
        p.model.get_parameter(f"{PLACE}.lora_A.default.weight") for p in (policy, side.policy)
    ]
    assert not torch.equal(*halves)  # draws of their own


def test_both_adapters_learn_and_the_base_stays():
    policy, weak = trained_pair()
    base = tiny.policy().model.state_dict()
    for side in (policy, weak):
        found = side.model.state_dict()
        for name, value in base.items():
            at = name if name in found else name.replace(".weight", ".base_layer.weight")
            assert torch.equal(found[at], value)
        assert all(bool(value.any()) for name, value in found.items() if "lora_B" in name)
    assert not torch.equal(logits(weak), logits(policy))


def test_mixing_adapters_is_mixing_their_merged_models(tmp_path):
    policy, weak = trained_pair()
    merged = []
    for name, side in (("strong", policy), ("weak", weak)):
        side.save(tmp_path / name)
        merged.append(Policy.load(policy.config.with_name(str(tmp_path / name))))
    micro = rows().split(10_000)[0]
    losses = [
        mixed_objective(one, LiveWeak(other, frozen=False), lam=0.3, chunk=2)(micro).loss_BT
        for one, other in ((policy, weak), merged)
    ]
    torch.testing.assert_close(*losses, atol=1e-12, rtol=0)


def test_a_frozen_weak_side_with_a_fresh_adapter_is_the_base_itself():
    policy = with_adapter(tiny.policy(), LoraConfig(rank=2), seed=0)
    side = LiveWeak.of(policy, frozen=True, seed=0)
    assert side.models() == {}
    assert side.policy.model is policy.adapter.base.model
