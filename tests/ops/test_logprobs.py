"""Log-probs, entropies, KL estimators, and the chunked twin."""

import math

import pytest
import torch

from rekindle.ops.logprobs import (
    categorical_entropy,
    chunked_token_scores,
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


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_chunked_twin_equals_plain_in_values_and_gradients(chunk, temperature, gen):
    hidden = torch.randn(2, 5, 8, generator=gen, dtype=F64, requires_grad=True)
    head = torch.randn(11, 8, generator=gen, dtype=F64, requires_grad=True)
    tokens = torch.randint(0, 11, (2, 5), generator=gen)
    upstream = torch.randn(2, 5, generator=gen, dtype=F64)
    plain = token_scores(hidden @ head.T, tokens, temperature=temperature)
    want = torch.autograd.grad((plain.logprobs_BT * upstream).sum(), (hidden, head))
    chunked = chunked_token_scores(hidden, head, tokens, temperature=temperature, chunk=chunk)
    got = torch.autograd.grad((chunked.logprobs_BT * upstream).sum(), (hidden, head))
    for one, other in [
        (chunked.logprobs_BT, plain.logprobs_BT),
        (chunked.entropy_BT, plain.entropy_BT),
        *zip(got, want, strict=True),
    ]:
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_chunked_twin_never_holds_all_logits(gen):
    hidden = torch.randn(1, 64, 4, generator=gen)
    head = torch.randn(1000, 4, generator=gen)
    tokens = torch.zeros(1, 64, dtype=torch.long)
    biggest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal biggest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    biggest = max(biggest, tensor.numel())
            return out

    with Watch():
        chunked_token_scores(hidden, head, tokens, chunk=8)
    assert biggest <= 8 * 1000


def test_k3_is_never_negative_and_estimates_the_kl_over_the_whole_vocabulary(gen):
    logp = torch.log_softmax(torch.randn(9, generator=gen, dtype=F64), -1)
    logq = torch.log_softmax(torch.randn(9, generator=gen, dtype=F64), -1)
    exact = (logp.exp() * (logp - logq)).sum()
    assert bool((kl_k3(logp, logq) >= 0).all())
    torch.testing.assert_close((logp.exp() * kl_k3(logp, logq)).sum(), exact)
