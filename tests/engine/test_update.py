"""The optimizer step: splits and skipped rows cannot change it, nan cannot enter the weights."""

import copy
import dataclasses

import pytest
import torch

import tiny
from rekindle.engine.batch import count, pack
from rekindle.engine.config import OptimConfig, SampleConfig
from rekindle.engine.device import Group
from rekindle.engine.update import LossTerms, fresh_state, measure_batch, update
from rekindle.errors import TrainingError
from rekindle.loops.group_step import objective
from rekindle.methods.grpo import Config
from rekindle.methods.sft import sft_objective

OPTIM = OptimConfig(lr=1e-2)


def rl_batch(policy, gen, *, reduction="sequence", advantage=None, rows=8):
    prompts = [(1, *range(4, 4 + int(n))) for n in torch.randint(1, 5, (rows,), generator=gen)]
    completions = [
        tuple(torch.randint(4, 30, (int(n),), generator=gen).tolist())
        for n in torch.randint(1, 7, (rows,), generator=gen)
    ]
    if advantage is None:
        advantage = torch.randn(rows, generator=gen, dtype=torch.float64)
    batch = pack(
        prompts,
        completions,
        reduction=reduction,
        total=count(completions),
        budget=8,
        advantage_B=advantage,
    )
    old = measure_batch(policy, batch, micro_tokens=1000, temperature=1.0).logprobs_BT
    return batch.replace(old_logprobs_BT=old + 0.3, ref_logprobs_BT=old - 0.2)


def stepped(policy, micros, config):
    """Weights after one update of a copy."""
    twin = copy.copy(policy)
    twin.model = copy.deepcopy(policy.model)
    state = fresh_state({"policy": twin.model}, OPTIM)
    metrics = update(
        state,
        micros,
        objective(twin, config, temperature=1.0, kl=config.beta),
        clip=1.0,
        group=Group(),
        device=twin.device,
    )
    return torch.cat([p.detach().flatten() for p in twin.model.parameters()]), metrics


@pytest.mark.parametrize("reduction", ["token", "sequence", "constant"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_micro_batches_cannot_change_the_step(reduction, beta, gen):
    policy = tiny.policy()
    config = Config(reduction=reduction, beta=beta, minibatches=2)  # uses the old log-probs
    batch = rl_batch(policy, gen, reduction=reduction)
    whole, whole_metrics = stepped(policy, batch.split(10_000), config)
    for micro_tokens in (1, 25, 60):
        split, metrics = stepped(policy, batch.split(micro_tokens), config)
        torch.testing.assert_close(split, whole, atol=1e-9, rtol=1e-9)
        for name in ("loss", "grad_norm", "clip_ratio", "entropy/trained"):
            assert metrics[name] == pytest.approx(whole_metrics[name], abs=1e-12)


def test_rows_without_signal_change_nothing_whether_sent_or_not(gen):
    policy = tiny.policy()
    advantage = torch.tensor([1.0, 0, -2, 0, 0, 0.5, 0, 0], dtype=torch.float64)
    batch = rl_batch(policy, gen, advantage=advantage)
    config = Config(minibatches=2)
    sent, _ = stepped(policy, batch.split(10_000), config)
    skipped, _ = stepped(policy, batch.with_signal().split(10_000), config)
    torch.testing.assert_close(skipped, sent, atol=1e-12, rtol=1e-12)
    # ... but their share of the denominator counts: alone, the three would step further
    rows = [0, 2, 5]
    alone = batch.select(rows)
    alone = alone.replace(weight_BT=alone.weight_BT * len(batch) / len(rows))
    _, metrics = stepped(policy, alone.split(10_000), config)
    _, skipped_metrics = stepped(policy, batch.with_signal().split(10_000), config)
    assert metrics["grad_norm"] == pytest.approx(8 / 3 * skipped_metrics["grad_norm"])


def test_a_step_without_any_signal_is_a_step_with_zero_gradient(gen):
    """AdamW's momentum moves on, as it would if zero-advantage rows were sent."""
    policy = tiny.policy()
    batch = rl_batch(policy, gen)
    states = []
    for send in (True, False):
        twin = copy.copy(policy)
        twin.model = copy.deepcopy(policy.model)
        state = fresh_state({"policy": twin.model}, OPTIM)
        loss = objective(twin, Config(minibatches=2), temperature=1.0)
        silent = batch.replace(advantage_B=torch.zeros(len(batch), dtype=torch.float64))
        for part in (batch, silent if send else silent.with_signal()):
            update(state, part.split(1000), loss, clip=1.0, group=Group(), device=twin.device)
            state.step += 1
        states.append(torch.cat([p.detach().flatten() for p in twin.model.parameters()]))
    torch.testing.assert_close(states[0], states[1], atol=1e-12, rtol=1e-12)


def test_on_policy_ratio_is_exactly_one(gen):
    policy = tiny.policy(dtype="float32")
    batch = rl_batch(policy, gen)
    _, metrics = stepped(policy, batch.split(40), Config())
    assert metrics["ratio/mean"] == 1.0
    assert metrics["clip_ratio"] == 0.0


def test_sft_loss_is_the_mean_cross_entropy_over_all_answer_tokens(gen):
    policy = tiny.policy()
    batch = rl_batch(policy, gen, reduction="token")
    state = fresh_state({"policy": policy.model}, OPTIM)
    want = -measure_batch(policy, batch, micro_tokens=1000, temperature=1.0).logprobs_BT.nanmean()
    metrics = update(
        state, batch.split(30), sft_objective(policy), clip=1.0, group=Group(), device=policy.device
    )
    assert metrics["loss"] == pytest.approx(float(want), abs=1e-12)


def test_a_step_that_is_not_finite_is_not_taken(gen):
    policy = tiny.policy()
    batch = rl_batch(policy, gen)
    state = fresh_state({"policy": policy.model}, OPTIM)
    before = [p.detach().clone() for p in policy.model.parameters()]
    honest = objective(policy, Config(), temperature=1.0)

    def poisoned(micro):
        terms = honest(micro)
        return LossTerms(terms.loss_BT * float("nan"), terms.stats)

    with pytest.raises(TrainingError, match="step 1 is not finite"):
        update(state, batch.split(1000), poisoned, clip=1.0, group=Group(), device=policy.device)
    assert all(torch.equal(p, b) for p, b in zip(policy.model.parameters(), before, strict=True))


def test_a_gradient_that_is_not_finite_stops_the_step_though_the_loss_is(gen):
    """The square root of |x - x|: its value is 0, its slope infinite."""
    policy = tiny.policy()
    batch = rl_batch(policy, gen)
    state = fresh_state({"policy": policy.model}, OPTIM)
    before = [p.detach().clone() for p in policy.model.parameters()]
    honest = objective(policy, Config(), temperature=1.0)

    def steep(micro):
        terms = honest(micro)
        root_BT = (terms.loss_BT - terms.loss_BT.detach()).abs().sqrt()
        return LossTerms(terms.loss_BT.detach() + root_BT, terms.stats)

    with pytest.raises(TrainingError, match="step 1 is not finite") as error:
        update(state, batch.split(1000), steep, clip=1.0, group=Group(), device=policy.device)
    assert "gradient norm nan" in str(error.value)
    assert all(torch.equal(p, b) for p, b in zip(policy.model.parameters(), before, strict=True))


def moved_by(policy, batch, *, clip, optimizer, finished=0, optim=OPTIM):
    """How far one update with plain SGD moves the weights, and its metrics."""
    twin = copy.copy(policy)
    twin.model = copy.deepcopy(policy.model)
    state = fresh_state({"policy": twin.model}, optim)
    state = dataclasses.replace(state, optimizer=optimizer(twin.model.parameters()), step=finished)
    metrics = update(
        state, batch.split(1000), sft_objective(twin), clip=clip, group=Group(), device=twin.device
    )
    pairs = zip(twin.model.parameters(), policy.model.parameters(), strict=True)
    return float(sum((a - b).detach().square().sum() for a, b in pairs).sqrt()), metrics


def test_the_gradient_is_cut_to_the_clip_and_its_norm_told_before(gen):
    """SGD at rate r moves the weights by r times the gradient's norm."""
    policy = tiny.policy()
    batch = rl_batch(policy, gen, reduction="token")
    free, metrics = moved_by(policy, batch, clip=1e9, optimizer=torch.optim.SGD)
    assert free == pytest.approx(OPTIM.lr * metrics["grad_norm"])
    for share in (0.5, 0.1):
        clip = share * metrics["grad_norm"]
        held, cut = moved_by(policy, batch, clip=clip, optimizer=torch.optim.SGD)
        assert held == pytest.approx(OPTIM.lr * clip, rel=1e-5)
        assert cut["grad_norm"] == metrics["grad_norm"]


@pytest.mark.parametrize(("finished", "rate"), [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (6, 0.5)])
def test_an_update_has_the_rate_of_the_steps_that_are_finished(finished, rate, gen):
    """Four of eight steps rise, then linear: the first is at a quarter, the seventh at half."""
    optim = OptimConfig(lr=1e-2, schedule="linear", steps=8, warmup=0.5)
    policy = tiny.policy()
    batch = rl_batch(policy, gen, reduction="token")
    moved, metrics = moved_by(
        policy, batch, clip=1e9, optimizer=torch.optim.SGD, finished=finished, optim=optim
    )
    assert metrics["lr"] == pytest.approx(1e-2 * rate)
    assert moved == pytest.approx(1e-2 * rate * metrics["grad_norm"])


def test_scores_do_not_depend_on_the_split(gen):
    policy = tiny.policy()
    batch = rl_batch(policy, gen)
    whole = measure_batch(policy, batch, micro_tokens=10_000, temperature=0.8).logprobs_BT
    single = measure_batch(policy, batch, micro_tokens=1, temperature=0.8).logprobs_BT
    torch.testing.assert_close(single, whole, atol=1e-12, rtol=1e-12, equal_nan=True)


def test_what_cannot_be_meant_is_refused_before_anything_is_loaded():
    from rekindle.methods.grpo import check

    with pytest.raises(ValueError, match="group of one always has"):
        check(Config(group_size=1), SampleConfig())
    with pytest.raises(ValueError, match="importance ratio"):
        check(Config(), SampleConfig(top_p=0.9))
    with pytest.raises(ValueError, match="temperature is 0"):
        check(Config(), SampleConfig(temperature=0.0))
