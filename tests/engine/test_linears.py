"""oneDNN's linear maps: the same numbers, in plain layers, and only while they are asked for."""

import pytest
import torch
from torch import nn

import tiny
from rekindle.engine import linears
from rekindle.engine.linears import quick_linears


class Doubled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x):
        return 2 * super().forward(x)


def inputs(gen):
    """Every number of axes, rows that do not lie one after the other, and no rows at all."""
    yield torch.randn(20, generator=gen)
    yield torch.randn(0, 20, generator=gen)
    for rows in (1, 2, 16, 65, 300):
        yield torch.randn(rows, 20, generator=gen)
    yield torch.randn(2, 3, 20, generator=gen)
    yield torch.randn(20, 5, generator=gen).T
    yield torch.randn(2, 6, 40, generator=gen)[:, ::2, ::2]


@pytest.mark.parametrize("bias", [True, False])
def test_the_products_are_the_same(bias, gen):
    layer = nn.Linear(20, 30, bias=bias)
    for x in inputs(gen):
        with torch.no_grad():
            expected = layer(x)
            with quick_linears(layer):
                assert torch.allclose(layer(x), expected, atol=1e-6)


def test_a_row_that_is_not_finite_stays_so_and_alone(gen):
    layer, x = nn.Linear(20, 30), torch.randn(4, 20, generator=gen)
    x[1, 3] = torch.nan
    with torch.no_grad(), quick_linears(layer):
        assert layer(x).isfinite().all(dim=1).tolist() == [True, False, True, True]


def calls(monkeypatch):
    seen = []
    own = linears._linear
    monkeypatch.setattr(linears, "_linear", lambda module, x: seen.append(module) or own(module, x))
    return seen


def test_only_plain_layers_change_and_only_while_it_is_open(gen, monkeypatch):
    seen = calls(monkeypatch)
    low, double = nn.Linear(20, 20).bfloat16(), nn.Linear(20, 20).double()
    plain, other = nn.Linear(20, 20), Doubled(20, 20)
    model, x = nn.ModuleList([plain, other, low, double]), torch.randn(3, 20, generator=gen)
    with torch.no_grad():
        before = [layer(x.to(layer.weight.dtype)) for layer in model]
        with quick_linears(model):
            for layer, expected in zip(model, before, strict=True):
                assert torch.allclose(layer(x.to(layer.weight.dtype)), expected, atol=1e-6)
        assert all("forward" not in vars(layer) for layer in model)
    assert seen == [plain]


def test_an_interrupt_leaves_the_layers_as_they_were():
    layer = nn.Linear(3, 3)
    with pytest.raises(KeyboardInterrupt), quick_linears(layer):
        raise KeyboardInterrupt
    assert "forward" not in vars(layer)


def test_gradients_and_autocast_go_the_usual_way(gen):
    layer, x = nn.Linear(20, 30), torch.randn(3, 20, generator=gen)
    expected = layer(x)
    with quick_linears(layer):
        layer(x).sum().backward()
        assert layer.weight.grad is not None
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
    assert torch.equal(layer(x), expected)


def test_a_model_gives_the_same_logits(gen):
    model = tiny.model("qwen3")
    tokens_BS = torch.randint(4, 30, (3, 9), generator=gen)
    with torch.no_grad():
        expected = model(input_ids=tokens_BS).logits
        with quick_linears(model):
            assert torch.allclose(model(input_ids=tokens_BS).logits, expected, atol=1e-5)
