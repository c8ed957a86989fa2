"""Optimizers by name: what each keeps, that each learns, and that a checkpoint keeps it whole."""

import pytest
import torch
from torch import nn

import tiny
from rekindle.engine.config import OptimConfig
from rekindle.engine.optimizers import hidden_matrices, make_optimizer
from rekindle.engine.update import fresh_state
from rekindle.errors import ConfigError

NAMES = ("adamw", "adafactor", "muon")
RATES = {"adamw": 2e-2, "adafactor": 0.4, "muon": 2e-2}


def loss_of(model):
    tokens_BS = torch.arange(4, 24).view(2, 10)
    return model(input_ids=tokens_BS, labels=tokens_BS).loss


def state_of(name, kind="llama", **models):
    models = {"policy": tiny.model(kind), **models}
    return fresh_state(models, OptimConfig(name=name, lr=RATES[name], weight_decay=0.01))


def take_steps(state, count):
    losses = []
    for _ in range(count):
        state.optimizer.zero_grad()
        loss = loss_of(state.models["policy"])
        loss.backward()
        state.optimizer.step()
        state.step += 1
        losses.append(float(loss.detach()))
    return losses


def weights(state):
    return torch.cat([p.detach().flatten() for p in state.models["policy"].parameters()])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("name", NAMES)
def test_each_learns_and_a_checkpoint_keeps_it_to_the_bit(name, kind, tmp_path):
    straight = state_of(name, kind)
    losses = take_steps(straight, 2)
    straight.save(tmp_path)
    losses += take_steps(straight, 8)
    assert losses[-1] < 0.8 * losses[0]
    resumed = state_of(name, kind)
    take_steps(resumed, 1)  # what it was before does not matter
    resumed.load(tmp_path)
    take_steps(resumed, 8)
    assert resumed.step == straight.step == 10
    assert torch.equal(weights(resumed), weights(straight))


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_of_a_schedule_reaches_every_parameter(name):
    """At rate 0 nothing moves, whichever part of an optimizer it belongs to."""
    state = state_of(name)
    before = weights(state)
    for group in state.optimizer.param_groups:
        group["lr"] = 0.0
    take_steps(state, 1)
    assert torch.equal(weights(state), before)
    for group in state.optimizer.param_groups:
        group["lr"] = RATES[name]
    take_steps(state, 1)
    parameters = list(state.models["policy"].parameters())
    start = list(tiny.model().parameters())
    assert all(not torch.equal(a, b) for a, b in zip(parameters, start, strict=True))


@pytest.mark.parametrize(
    ("name", "least", "most"), [("adamw", 2.0, 2.1), ("adafactor", 0.0, 0.3), ("muon", 1.0, 1.6)]
)
def test_what_each_keeps_is_fp32_and_as_much_as_promised(name, least, most):
    state = state_of(name)
    take_steps(state, 1)
    kept = [t for slot in state.optimizer.state.values() for t in slot.values() if t.numel() > 1]
    assert {tensor.dtype for tensor in kept} == {torch.float32}
    share = sum(t.numel() for t in kept) / weights(state).numel()
    assert least <= share <= most


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_muon_has_the_hidden_matrices_and_adamw_the_rest(kind):
    model = tiny.model(kind)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hidden = {names[id(parameter)] for parameter in hidden_matrices(model)}
    assert all(".weight" in name for name in hidden)
    outside = set(names.values()) - hidden
    layers = {name for name in outside if ".layers." in name or ".h." in name}
    assert all(model.get_parameter(name).ndim == 1 for name in layers)
    assert all(
        "embed" in n or "wte" in n or "wpe" in n or "norm" in n or "ln_" in n or "head" in n
        for n in outside - layers
    )
    made = make_optimizer({"policy": model}, OptimConfig(name="muon"))
    muon, adamw = ({names[id(p)] for p in group["params"]} for group in made.param_groups)
    assert (muon, adamw) == (hidden, outside)


def test_two_models_are_trained_by_one_muon():
    other = tiny.model(seed=1)
    state = state_of("muon", weak=other)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    every = [p for model in state.models.values() for p in model.parameters()]
    assert sorted(map(id, parameters)) == sorted(map(id, every))


def test_muon_without_a_hidden_matrix_is_refused():
    with pytest.raises(ConfigError, match="no hidden matrix is trained"):
        make_optimizer({"policy": nn.Embedding(5, 3)}, OptimConfig(name="muon"))
    frozen = tiny.model().requires_grad_(False)
    frozen.lm_head.requires_grad_(True)
    with pytest.raises(ConfigError, match="no hidden matrix is trained"):
        make_optimizer({"policy": frozen}, OptimConfig(name="muon"))


def test_several_optimizers_take_no_closure():
    optimizer = state_of("muon").optimizer
    with pytest.raises(ValueError, match="no closure"):
        optimizer.step(lambda: 0.0)


def test_the_fused_kernel_is_adamw():
    ours, plain = tiny.model(), tiny.model()
    optim = OptimConfig(lr=1e-2, weight_decay=0.1)
    fused = make_optimizer({"policy": ours}, optim)
    other = torch.optim.AdamW(
        plain.parameters(), lr=1e-2, betas=optim.betas, weight_decay=0.1, fused=False
    )
    for model, optimizer in ((ours, fused), (plain, other)):
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
