"""Log-probs, entropies, KL estimators, and the chunked twin."""

import math
from dataclasses import replace

import pytest
import torch

from rekindle.ops.heads import Head, gradients_in_place
from rekindle.ops.logprobs import (
    categorical_entropy,
    head_scores,
    kl_k3,
    token_scores,
)

F64 = torch.float64


def test_token_scores_are_log_softmax_at_a_temperature(gen):
    logits = torch.randn(2, 3, 7, generator=gen, dtype=F64)
    tokens = torch.randint(0, 7, (2, 3), generator=gen)
    scores = token_scores(logits, tokens, temperature=0.7)
    expected = torch.log_softmax(logits / 0.7, -1).gather(-1, tokens[..., None]).squeeze(-1)
    torch.testing.assert_close(scores.logprobs_BT, expected)


def test_entropy_of_uniform_point_and_masked_logits():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf, 0.0]], dtype=F64)
    expected = torch.tensor([math.log(4), math.log(2)], dtype=F64)
    torch.testing.assert_close(categorical_entropy(logits), expected)


def test_entropy_gradient_flows_only_when_asked(gen):
    logits = torch.randn(1, 2, 5, generator=gen, dtype=F64, requires_grad=True)
    tokens = torch.zeros(1, 2, dtype=torch.long)
    assert not token_scores(logits, tokens).entropy_BT.requires_grad
    entropy = token_scores(logits, tokens, entropy="grad").entropy_BT
    assert torch.autograd.gradcheck(
        lambda z: token_scores(z, tokens, entropy="grad").entropy_BT, (logits,)
    )
    assert entropy.requires_grad


HEADS = {
    "plain": {},
    "bias": {"bias": torch.linspace(-1, 1, 11, dtype=F64)},
    "scale": {"scale": 0.3},
    "cap": {"cap": 1.5},
    "all three": {"bias": torch.linspace(2, -1, 11, dtype=F64), "scale": 2.0, "cap": 0.7},
}
BUDGETS = [1, 2 * 11 * 8, 10**6]  # one row at a time, two, all


def scored(gen, kind="plain"):
    """Hidden states of five tokens, their head, and what a gradient may flow to."""
    hidden = torch.randn(5, 8, generator=gen, dtype=F64, requires_grad=True)
    weight = torch.randn(11, 8, generator=gen, dtype=F64, requires_grad=True)
    settings = dict(HEADS[kind])
    leaves = [hidden, weight]
    if "bias" in settings:
        settings["bias"] = settings["bias"].clone().requires_grad_()
        leaves.append(settings["bias"])
    return hidden, Head(weight, **settings), torch.randint(0, 11, (5,), generator=gen), leaves


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("entropy", ["detached", "grad"])
@pytest.mark.parametrize("kind", HEADS)
def test_chunked_twin_equals_plain_in_values_and_gradients(kind, entropy, temperature, budget, gen):
    hidden, head, tokens, leaves = scored(gen, kind)
    upstream = torch.randn(3, 5, generator=gen, dtype=F64)
    logits, settings = head.logits(hidden), {"temperature": temperature, "entropy": entropy}
    plain = [scores[0] for scores in token_scores(logits[None], tokens[None], **settings)]
    torch.testing.assert_close(plain[2], (logits / temperature).log_softmax(-1).mean(-1))
    twin = head_scores(hidden, head, tokens, **settings, budget=budget)
    assert twin.entropy_N.requires_grad == (entropy == "grad")
    for _ in range(2):  # a second pass over the same graph makes the logits again
        want, got = (
            torch.autograd.grad((torch.stack(list(t)) * upstream).sum(), leaves, retain_graph=True)
            for t in (plain, twin)
        )
        for one, other in [*zip(twin, plain, strict=True), *zip(got, want, strict=True)]:
            torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", HEADS)
def test_finite_differences_of_every_kind_of_head(kind, gen):
    _, head, tokens, leaves = scored(gen, kind)

    def scores(hidden, weight, *bias):
        changed = replace(head, weight=weight, bias=bias[0] if bias else None)
        return head_scores(hidden, changed, tokens, temperature=0.8, entropy="grad", budget=1)

    assert torch.autograd.gradcheck(scores, leaves)
    kept = 1e-12  # the softmax that was kept, and the one that is made again
    assert torch.autograd.gradcheck(
        lambda hidden: head_scores(hidden, head, tokens)[::2], leaves[:1], nondet_tol=kept
    )


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_gradient_of_a_head_is_added_where_it_is_kept(kind, budget, gen):
    hidden, head, tokens, leaves = scored(gen, kind)
    want = torch.autograd.grad(head_scores(hidden, head, tokens).logprobs_N.sum(), leaves)
    kept = [torch.ones_like(leaf) for leaf in leaves]
    for leaf, grad in zip(leaves, kept, strict=True):
        leaf.grad = grad
    with gradients_in_place():
        loss = head_scores(hidden, head, tokens, budget=budget).logprobs_N.sum()
    assert torch.autograd.grad(loss, leaves[1:], retain_graph=True, allow_unused=True)[0] is None
    for leaf in leaves:
        leaf.grad.fill_(1)
    loss.backward()
    for leaf, grad, wanted in zip(leaves, kept, want, strict=True):
        assert leaf.grad is grad
        torch.testing.assert_close(grad, wanted + 1)


def test_outside_of_an_update_gradients_are_returned(gen):
    hidden, head, tokens, leaves = scored(gen)
    head.weight.grad = torch.ones_like(head.weight)
    gradient = torch.autograd.grad(head_scores(hidden, head, tokens).logprobs_N.sum(), leaves)[1]
    assert bool((head.weight.grad == 1).all())
    assert bool(gradient.any())


def test_a_head_that_is_not_trained_costs_no_gradient(gen):
    hidden, head, tokens, _ = scored(gen, "bias")
    frozen = head.detach()
    with gradients_in_place():
        head_scores(hidden, frozen, tokens).logprobs_N.sum().backward()
    assert hidden.grad is not None
    assert frozen.weight.grad is None


def test_low_precision_products_are_scored_in_fp32(gen):
    """A head of fp32 whose products are in bf16, beside one in bf16: the same numbers."""
    hidden = torch.randn(40, 16, generator=gen)
    weight = torch.randn(50, 16, generator=gen, requires_grad=True)
    tokens = torch.randint(0, 50, (40,), generator=gen)
    exact = head_scores(hidden.double(), Head(weight.detach().double()), tokens)
    for master in (weight, weight.detach().bfloat16().requires_grad_()):
        got = head_scores(hidden, Head(master, product=torch.bfloat16), tokens)
        assert got.logprobs_N.dtype == got.entropy_N.dtype == torch.float32
        torch.testing.assert_close(got.logprobs_N.double(), exact.logprobs_N, atol=0.1, rtol=0)
        assert torch.autograd.grad(got.logprobs_N.sum(), master)[0].dtype == master.dtype
    raised = head_scores(hidden.bfloat16(), Head(weight.detach().bfloat16()), tokens)
    same = head_scores(
        hidden.bfloat16().double(), Head(weight.detach().bfloat16().double()), tokens
    )
    torch.testing.assert_close(raised.logprobs_N.double(), same.logprobs_N, atol=1e-5, rtol=1e-5)


def test_chunked_twin_never_holds_all_logits(gen):
    hidden = torch.randn(64, 4, generator=gen, requires_grad=True)
    head = torch.randn(1000, 4, generator=gen, requires_grad=True)
    head.grad = torch.zeros_like(head)
    tokens = torch.zeros(64, dtype=torch.long)
    biggest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal biggest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    biggest = max(biggest, tensor.numel())
            return out

    with Watch(), gradients_in_place():
        scores = head_scores(hidden, Head(head), tokens, entropy="grad", budget=8 * 1000 * 4)
        (scores.logprobs_N + scores.entropy_N).sum().backward()
    assert biggest <= 8 * 1000


def test_k3_is_never_negative_and_estimates_the_kl_over_the_whole_vocabulary(gen):
    logp = torch.log_softmax(torch.randn(9, generator=gen, dtype=F64), -1)
    logq = torch.log_softmax(torch.randn(9, generator=gen, dtype=F64), -1)
    exact = (logp.exp() * (logp - logq)).sum()
    assert bool((kl_k3(logp, logq) >= 0).all())
    torch.testing.assert_close((logp.exp() * kl_k3(logp, logq)).sum(), exact)
