"""The weak half of the mix: live, cached, adapter, moved."""

import json

import pytest
import torch

import tiny
from rekindle.engine.adapters import Adapters
from rekindle.engine.batch import count, pack
from rekindle.engine.config import OptimConfig
from rekindle.engine.device import Group
from rekindle.engine.policy import Policy
from rekindle.engine.update import fresh_state, update
from rekindle.errors import DataError, RunDirectoryError
from rekindle.methods.sft import sft_objective
from rekindle.methods.wmss.weak_model import AdapterWeak, CachedWeak, LiveWeak, ShuffledWeak
from rekindle.methods.wmss.wmss import mixed_objective

PROMPTS = [(1, 4, 5), (1, 6), (1, 9, 10, 11)]
ANSWERS = [(7, 8, 2), (9, 10, 11, 2), (12, 2)]


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


def pair(**settings):
    policy = tiny.policy()
    return policy, Adapters(policy, ("strong", "weak"), rank=2, alpha=4.0, **settings)


def logits(policy):
    micro = rows().split(10_000)[0]
    return policy.logprobs(micro.layout).logprobs_BT


def trained_pair(steps=5):
    policy, adapters = pair()
    objective = mixed_objective(policy, AdapterWeak(adapters, "weak"), lam=0.5, chunk=2)
    state = fresh_state({"policy": policy.model}, OptimConfig(steps=steps, lr=3e-2))
    for step in range(steps):
        state.step = step
        batch = rows().split(10_000)
        update(state, batch, objective, clip=1e9, group=Group(), device=policy.device)
    return policy, adapters


def test_fresh_adapters_are_the_base_and_only_they_are_trained():
    policy, adapters = pair()
    base = tiny.policy()
    for name in ("strong", "weak"):
        with adapters.active(name):
            torch.testing.assert_close(logits(policy), logits(base), atol=1e-12, rtol=0)
    trained = [n for n, p in policy.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    weak = AdapterWeak(adapters, "weak").head()
    assert policy.head().weight is weak.weight  # so hidden states are mixed


def test_both_adapters_learn_and_the_base_stays():
    policy, adapters = trained_pair()
    base, found = tiny.policy().model.state_dict(), policy.model.state_dict()
    for name, value in base.items():
        at = name if name in found else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(found[at], value)
    moved = {n: float(p.detach().abs().sum()) for n, p in policy.model.named_parameters()}
    for side in ("strong", "weak"):
        assert all(v > 0 for n, v in moved.items() if f"lora_B.{side}" in n)
    with adapters.active("weak"):
        weak = logits(policy)
    assert not torch.equal(weak, logits(policy))


def test_mixing_adapters_is_mixing_their_merged_models():
    policy, adapters = trained_pair()
    strong, weak = adapters.merged("strong"), adapters.merged("weak")
    micro = rows().split(10_000)[0]
    ours = mixed_objective(policy, AdapterWeak(adapters, "weak"), lam=0.3, chunk=2)(micro).loss_BT
    theirs = mixed_objective(strong, LiveWeak(weak, frozen=False), lam=0.3, chunk=2)(micro).loss_BT
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_what_ships_is_the_bases_own_format_with_the_adapter_beside_it(tmp_path):
    policy, adapters = trained_pair()
    adapters.shipped("strong").save(tmp_path / "final")
    config = policy.config.model_copy(update={"name": str(tmp_path / "final")})
    loaded, base = Policy.load(config), tiny.policy()
    torch.testing.assert_close(logits(loaded), logits(policy), atol=1e-12, rtol=0)
    assert loaded.model.state_dict().keys() == base.model.state_dict().keys()
    assert (
        json.loads((tmp_path / "final" / "adapter" / "adapter_config.json").read_text())["r"] == 2
    )
    again, others = pair()
    others.load("strong", tmp_path / "final" / "adapter")
    torch.testing.assert_close(logits(again), logits(policy), atol=1e-12, rtol=0)


def test_training_one_adapter_leaves_the_other():
    policy, adapters = pair()
    adapters.require_gradients(("strong",))
    state = fresh_state({"policy": policy.model}, OptimConfig(steps=3, lr=3e-2))
    for step in range(3):
        state.step = step
        batch = rows().split(10_000)
        update(state, batch, sft_objective(policy), clip=1e9, group=Group(), device=policy.device)
    with adapters.active("weak"):
        torch.testing.assert_close(logits(policy), logits(tiny.policy()), atol=1e-12, rtol=0)
    assert not torch.equal(logits(policy), logits(tiny.policy()))
