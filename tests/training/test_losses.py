"""WMSS's loss for a loop of one's own equals the library's, and its gradient splits by lam."""

import pytest
import torch

from rekindle.errors import ConfigError
from rekindle.ops import mixing
from rekindle.ops.heads import Head
from rekindle.training.losses import mixed_cross_entropy


@pytest.fixture
def sides(gen):
    make = lambda *shape: torch.randn(*shape, generator=gen, dtype=torch.float64)  # noqa: E731
    return (
        make(2, 3, 4),
        make(7, 4),
        make(2, 3, 5),
        make(7, 5),
        torch.randint(7, (2, 3), generator=gen),
    )


def test_logits_and_hidden_states_with_heads_are_the_same_loss(sides):
    strong, strong_head, weak, weak_head, targets = sides
    heads = Head(strong_head), Head(weak_head)
    wanted = mixing.mixed_cross_entropy(
        strong.view(6, 4), heads[0], weak.view(6, 5), heads[1], targets.view(6), lam=0.3
    ).view(2, 3)
    by_logits = mixed_cross_entropy(strong @ strong_head.T, weak @ weak_head.T, targets, lam=0.3)
    by_heads = mixed_cross_entropy(
        strong, weak, targets, lam=0.3, strong_head=strong_head, weak_head=weak_head, chunk=4
    )
    torch.testing.assert_close(by_logits, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_heads, wanted, rtol=1e-12, atol=1e-12)


def test_one_gradient_is_shared_by_lam(gen):
    strong, weak = (torch.randn(5, 6, generator=gen, dtype=torch.float64) for _ in range(2))
    strong.requires_grad_()
    weak.requires_grad_()
    mixed_cross_entropy(strong, weak, torch.tensor([0, 1, 2, 3, -100]), lam=0.25).sum().backward()
    torch.testing.assert_close(strong.grad / 0.25, weak.grad / 0.75)
    assert torch.equal(strong.grad[4], torch.zeros(6, dtype=torch.float64))


def test_lam_1_is_cross_entropy_and_lists_are_taken():
    loss = mixed_cross_entropy([[0.0, 1.0]], [[9.0, 9.0]], [1], lam=1.0)
    wanted = torch.nn.functional.cross_entropy(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    assert loss.shape == (1,)
    torch.testing.assert_close(loss[0], wanted)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lam": 1.5}, "outside 0 to 1"),
        ({"chunk": 2}, "no effect with logits"),
        ({"strong_head": [[1.0, 0.0]]}, "one head is missing"),
    ],
)
def test_settings_that_cannot_be_meant(settings, says):
    with pytest.raises(ConfigError, match=says):
        mixed_cross_entropy([[0.0, 1.0]], [[0.0, 1.0]], [1], **settings)


def test_other_vocabularies_or_tokens_are_refused():
    with pytest.raises(ConfigError, match="different vocabularies"):
        mixed_cross_entropy([[0.0, 1.0]], [[0.0, 1.0, 2.0]], [1])
    with pytest.raises(ConfigError, match="other tokens"):
        mixed_cross_entropy([[0.0, 1.0]], [[0.0, 1.0]], [1, 0])
