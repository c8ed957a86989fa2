"""WMSS's mixed cross-entropy: identities of eq. 5-6 and 22, and the chunked twin."""

import pytest
import torch

from rekindle.errors import ConfigError
from rekindle.ops import mixing
from rekindle.ops.heads import Head
from rekindle.ops.mixing import mixed_logits

T, V, D, E = 11, 13, 5, 3


def mixed_cross_entropy(strong, strong_head, weak, weak_head, targets, **settings):
    """With plain heads."""
    heads = Head(strong_head), Head(weak_head)
    return mixing.mixed_cross_entropy(strong, heads[0], weak, heads[1], targets, **settings)


def inputs(seed=0, dtype=torch.float64):
    gen = torch.Generator().manual_seed(seed)
    shapes = [(T, D), (V, D), (T, E), (V, E)]
    four = [torch.randn(s, generator=gen, dtype=dtype).requires_grad_() for s in shapes]
    targets = torch.randint(V, (T,), generator=gen)
    targets[3] = -100
    return four, targets


def close(a, b, atol=1e-10):
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("chunk", [1, 4, 11, 100])
def test_chunked_is_plain_in_values_and_all_gradients(lam, chunk):
    (a, targets), (b, _) = inputs(), inputs()
    weight = torch.linspace(-1, 2, T, dtype=torch.float64)
    plain = mixed_cross_entropy(*a, targets, lam=lam)
    chunked = mixed_cross_entropy(*b, targets, lam=lam, chunk=chunk)
    close(plain, chunked)
    ga = torch.autograd.grad((plain * weight).sum(), a, allow_unused=True, materialize_grads=True)
    gb = torch.autograd.grad((chunked * weight).sum(), b)
    for x, y in zip(ga, gb, strict=True):
        close(x, y)
    assert float(plain.detach()[3]) == 0


@pytest.mark.parametrize("told", ["nothing", "the weights", "others"])
@pytest.mark.parametrize("weights", ["equal", "zero", "different", "zero but one"])
def test_gradients_whatever_the_weights_were_said_to_be(told, weights):
    w = {
        "equal": torch.full((T,), 0.3),
        "zero": torch.zeros(T),
        "different": torch.linspace(-1, 2, T),
        "zero but one": torch.eye(T)[0],
    }[weights].double()
    hint = {"nothing": None, "the weights": w, "others": torch.arange(T).double() - 4}[told]
    (a, targets), (b, _) = inputs(), inputs()
    plain = mixed_cross_entropy(*a, targets, lam=0.4)
    chunked = mixed_cross_entropy(*b, targets, lam=0.4, chunk=4, weights_T=hint)
    for factor in (1.0, 2.5):  # the second time on the same graph
        ga = torch.autograd.grad((plain * w * factor).sum(), a, retain_graph=True)
        gb = torch.autograd.grad((chunked * w * factor).sum(), b, retain_graph=True)
        for x, y in zip(ga, gb, strict=True):
            close(x, y)


def test_gradient_splits_into_lam_and_one_minus_lam():
    """dloss/dz_s = lam g and dloss/dz_w = (1 - lam) g with identity heads; rows sum to 0."""
    gen = torch.Generator().manual_seed(1)
    zs, zw = (torch.randn(T, V, generator=gen, dtype=torch.float64).requires_grad_() for _ in "sw")
    eye, eye2 = torch.eye(V, dtype=torch.float64), torch.eye(V, dtype=torch.float64)
    y = torch.randint(V, (T,), generator=gen)
    loss = mixed_cross_entropy(zs, eye, zw, eye2, y, lam=0.7, chunk=4).sum()
    gs, gw = torch.autograd.grad(loss, (zs, zw))
    g = (0.7 * zs + 0.3 * zw).softmax(-1).detach() - torch.nn.functional.one_hot(y, V)
    close(gs, 0.7 * g)
    close(gw, 0.3 * g)
    close(gs.sum(-1), torch.zeros(T, dtype=torch.float64))


def test_finite_differences():
    four, targets = inputs(2)
    assert torch.autograd.gradcheck(
        lambda *x: mixed_cross_entropy(*x, targets, lam=0.4, chunk=4), four, atol=1e-7
    )


@pytest.mark.parametrize("lam", [0.0, 1.0])
@pytest.mark.parametrize("chunk", [None, 4])
def test_one_side_alone_is_plain_cross_entropy(lam, chunk):
    (hs, ws, hw, ww), targets = inputs()
    loss = mixed_cross_entropy(hs, ws, hw, ww, targets, lam=lam, chunk=chunk)
    h, w = (hs, ws) if lam == 1 else (hw, ww)
    close(loss, torch.nn.functional.cross_entropy(h @ w.T, targets, reduction="none"), atol=1e-13)


def test_product_of_experts_and_its_decomposition():
    (hs, ws, hw, ww), targets = inputs()
    lam, keep = 0.3, targets != -100
    ls, lw = (hs @ ws.T).log_softmax(-1), (hw @ ww.T).log_softmax(-1)
    log_c = (lam * ls + (1 - lam) * lw).logsumexp(-1)
    y = targets.clamp(min=0)[:, None]
    wanted = -(lam * ls.gather(1, y) + (1 - lam) * lw.gather(1, y)).squeeze(1) + log_c
    close(mixed_cross_entropy(hs, ws, hw, ww, targets, lam=lam)[keep], wanted[keep])
    assert bool((log_c <= 1e-12).all())


def test_constant_weak_logits_are_a_temperature():
    (hs, ws, hw, _), targets = inputs()
    constant = torch.full((V, E), 0.7, dtype=torch.float64)
    got = mixed_cross_entropy(hs, ws, hw, constant, targets, lam=0.4, chunk=3)
    close(got, torch.nn.functional.cross_entropy(0.4 * hs @ ws.T, targets, reduction="none"))


@pytest.mark.parametrize("chunk", [None, 4])
def test_a_shared_head_mixes_hidden_states(chunk):
    gen = torch.Generator().manual_seed(3)
    made = [torch.randn(s, generator=gen, dtype=torch.float64) for s in [(T, D), (T, D), (V, D)]]
    hs, hw, w = (x.requires_grad_() for x in made)
    _, targets = inputs()
    one = mixed_cross_entropy(hs, w, hw, w, targets, lam=0.3, chunk=chunk)
    twin = w.clone()
    two = mixed_cross_entropy(hs, w, hw, twin, targets, lam=0.3)
    close(one, two)
    for x, y in zip(
        torch.autograd.grad(one.sum(), (hs, hw, w)),
        torch.autograd.grad(two.sum(), (hs, hw, w)),
        strict=True,
    ):
        close(x, y)


def test_twins_mix_to_themselves():
    (hs, ws, _, _), targets = inputs()
    loss = mixed_cross_entropy(hs, ws, hs.clone(), ws.clone(), targets, lam=0.5, chunk=4)
    close(loss, torch.nn.functional.cross_entropy(hs @ ws.T, targets, reduction="none"))


def test_theorem_1_and_the_ratio_of_corollary_2():
    """Weak margins below strong ones: the mix is less sure of the target; ratio identity always."""
    gen = torch.Generator().manual_seed(4)
    zs = torch.randn(50, V, generator=gen, dtype=torch.float64)
    gap = torch.rand(50, V, generator=gen, dtype=torch.float64)
    gap[:, 0] = 0
    zw, lam = zs + gap, 0.3  # target 0: every margin shrinks by its gap
    p_s, p_m = zs.softmax(-1), mixed_logits(zs, zw, lam=lam).softmax(-1)
    assert bool((p_m[:, 0] <= p_s[:, 0]).all())
    close(p_m / p_s, (p_m[:, :1] / p_s[:, :1]) * ((1 - lam) * gap).exp())


@pytest.mark.parametrize("trained_weak", [True, False])
def test_fixed_points_of_tabular_training(trained_weak):
    """Joint, lam .5: z_s -> z* + (z_s0 - z_w0)/2. Frozen: z_s -> z* + (1-lam)/lam (z* - z_w)."""
    gen = torch.Generator().manual_seed(5)
    star, zs, zw = (torch.randn(1, 4, generator=gen, dtype=torch.float64) for _ in range(3))
    star, zs, zw = (z - z.mean() for z in (star, zs, zw))
    zs0, zw0, lam, q = zs.clone(), zw.clone(), 0.5, star.softmax(-1)
    for _ in range(4000):
        g = mixed_logits(zs, zw, lam=lam).softmax(-1) - q
        zs = zs - lam * g
        zw = zw - (1 - lam) * g if trained_weak else zw
    wanted = star + (zs0 - zw0) / 2 if trained_weak else star + (star - zw0)
    close(zs, wanted, atol=1e-9)


def test_low_precision_is_mixed_in_fp32():
    four, targets = inputs(dtype=torch.bfloat16)
    chunked = mixed_cross_entropy(*four, targets, lam=0.5, chunk=4)
    plain = mixed_cross_entropy(*[x.double() for x in four], targets, lam=0.5)
    assert chunked.dtype == torch.float32
    close(chunked.double(), plain, atol=1e-5)


def test_a_frozen_side_gets_no_gradient():
    (hs, ws, hw, ww), targets = inputs()
    loss = mixed_cross_entropy(hs, ws, hw.detach(), ww.detach(), targets, lam=0.5, chunk=4)
    loss.sum().backward()
    assert hw.grad is None
    assert ww.grad is None
    assert hs.grad is not None


def test_bad_settings_are_refused():
    (hs, ws, hw, ww), targets = inputs()
    with pytest.raises(ConfigError, match="lam"):
        mixed_cross_entropy(hs, ws, hw, ww, targets, lam=1.5)
    with pytest.raises(ConfigError, match="different vocabularies"):
        mixed_cross_entropy(hs, ws, hw, ww[:-1], targets, lam=0.5)
    with pytest.raises(ConfigError, match="chunk"):
        mixed_cross_entropy(hs, ws, hw, ww, targets, lam=0.5, chunk=0)


@pytest.mark.parametrize("chunk", [None, 4])
def test_nothing_but_ignored_tokens_is_no_loss_and_no_gradient(chunk):
    four, targets = inputs()
    loss = mixed_cross_entropy(*four, torch.full_like(targets, -100), lam=0.5, chunk=chunk)
    assert torch.equal(loss, torch.zeros(T, dtype=torch.float64))
    for grad in torch.autograd.grad(loss.sum(), four):
        assert torch.equal(grad, torch.zeros_like(grad))


KINDS = {
    "bias": {"bias": torch.linspace(-1, 1, V, dtype=torch.float64)},
    "scale": {"scale": 0.25},
    "cap": {"cap": 2.0},
    "all three": {"bias": torch.linspace(1, -2, V, dtype=torch.float64), "scale": 3.0, "cap": 1.5},
}


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("weak_kind", KINDS)
@pytest.mark.parametrize("strong_kind", KINDS)
def test_logits_are_mixed_as_each_head_gives_them(strong_kind, weak_kind, chunk):
    (hs, ws, hw, ww), targets = inputs(7)
    heads = [
        Head(
            weight, **{k: v.clone().requires_grad_() if k == "bias" else v for k, v in kind.items()}
        )
        for weight, kind in ((ws, KINDS[strong_kind]), (ww, KINDS[weak_kind]))
    ]
    wanted = mixing.mixed_logit_loss(heads[0].logits(hs), heads[1].logits(hw), targets, lam=0.3)
    got = mixing.mixed_cross_entropy(hs, heads[0], hw, heads[1], targets, lam=0.3, chunk=chunk)
    close(got, wanted)
    leaves = [hs, ws, hw, ww, *(head.bias for head in heads if head.bias is not None)]
    weight = torch.linspace(-1, 2, T, dtype=torch.float64)
    pairs = [torch.autograd.grad((loss * weight).sum(), leaves) for loss in (got, wanted)]
    for one, other in zip(*pairs, strict=True):
        close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_one_head_on_both_sides_mixes_hidden_states_only_where_that_is_the_same(kind):
    (hs, ws, _, _), targets = inputs(8)
    head, hw = Head(ws, **KINDS[kind]), hs.detach().flip(0)
    one = mixing.mixed_cross_entropy(hs, head, hw, head, targets, lam=0.3, chunk=4)
    wanted = mixing.mixed_logit_loss(head.logits(hs), head.logits(hw), targets, lam=0.3)
    close(one, wanted)
