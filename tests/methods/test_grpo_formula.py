"""GRPO's formulas: exact gradients by enumeration, clips by hand, presets, overlong penalty."""

import itertools
import math

import pytest
import torch

from rekindle.methods.grpo import PRESETS, Config, credit, soft_overlong
from rekindle.ops.groups import ScoredRows
from rekindle.ops.surrogate import clipped_surrogate

F64 = torch.float64


def rows_of(groups, correct, tokens=None):
    n = len(groups)
    blank = torch.full((n,), math.nan, dtype=F64)
    return ScoredRows(
        group=groups,
        correct_N=torch.tensor(correct, dtype=F64),
        rm_score_N=blank,
        sum_logprob_N=blank,
        num_tokens_N=blank if tokens is None else torch.tensor(tokens, dtype=F64),
    )


def all_sequences(vocabulary, length):
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))


def sequence_logprobs(logits_TVV, sequences_NT):
    """A first-order chain: logits_TVV[t, previous] gives the next token; it starts from 0."""
    previous_NT = torch.cat([torch.zeros_like(sequences_NT[:, :1]), sequences_NT[:, :-1]], 1)
    steps = torch.arange(sequences_NT.shape[1])
    return (
        torch.log_softmax(logits_TVV[steps, previous_NT], -1)
        .gather(-1, sequences_NT[..., None])
        .squeeze(-1)
    )


def test_policy_gradient_matches_exact_gradient_by_enumeration(gen):
    """All V**T sequences weighted by their probability: no Monte Carlo noise to hide in.

    With advantages r (no baseline), sum reduction and ratio 1, the expected gradient of the loss is
    minus the gradient of the expected reward.
    """
    vocabulary, length = 3, 3
    logits = torch.randn(
        length, vocabulary, vocabulary, generator=gen, dtype=F64, requires_grad=True
    )
    sequences = all_sequences(vocabulary, length)
    reward_N = torch.randn(len(sequences), generator=gen, dtype=F64)
    logp_NT = sequence_logprobs(logits, sequences)
    prob_N = logp_NT.sum(1).exp()
    (exact,) = torch.autograd.grad((prob_N * reward_N).sum(), logits, retain_graph=True)
    terms = clipped_surrogate(
        logp_NT, logp_NT.detach(), reward_N[:, None], clip_low=0.2, clip_high=0.2
    )
    expected_loss = (prob_N.detach() * terms.loss_BT.sum(1)).sum()
    (got,) = torch.autograd.grad(expected_loss, logits)
    torch.testing.assert_close(got, -exact, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("method", ["dr_grpo", "rloo"])
def test_group_baselines_keep_the_expected_gradient_exact(method, gen):
    """Every pair of answers (G = 2), weighted by its probability.

    Leave-one-out is unbiased; centring on the group's mean shrinks the gradient by (G - 1) / G.
    """
    vocabulary, length = 2, 2
    logits = torch.randn(
        length, vocabulary, vocabulary, generator=gen, dtype=F64, requires_grad=True
    )
    sequences = all_sequences(vocabulary, length)
    reward_N = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=F64)
    logp_NT = sequence_logprobs(logits, sequences)
    prob_N = logp_NT.sum(1).exp()
    (exact,) = torch.autograd.grad((prob_N * reward_N).sum(), logits, retain_graph=True)
    total = torch.zeros((), dtype=F64)
    for i, j in itertools.product(range(len(sequences)), repeat=2):
        pair = [i, j]
        earned = credit(rows_of(["q", "q"], reward_N[pair].tolist()), PRESETS[method])
        terms = clipped_surrogate(
            logp_NT[pair],
            logp_NT[pair].detach(),
            earned.advantage_N[:, None],
            clip_low=0.2,
            clip_high=0.2,
        )
        total = total + (prob_N[i] * prob_N[j]).detach() * terms.loss_BT.sum(1).mean()
    (got,) = torch.autograd.grad(total, logits)
    factor = {"dr_grpo": 0.5, "rloo": 1.0}[method]
    torch.testing.assert_close(got, -factor * exact, atol=1e-12, rtol=1e-10)


def test_on_policy_gradient_is_reinforce(gen):
    logp_BT = torch.randn(3, 4, generator=gen, dtype=F64).clamp(max=-0.01).requires_grad_()
    advantage_B = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    terms = clipped_surrogate(
        logp_BT, logp_BT.detach(), advantage_B[:, None], clip_low=0.2, clip_high=0.28
    )
    (got,) = torch.autograd.grad(terms.loss_BT.sum(), logp_BT)
    torch.testing.assert_close(got, -advantage_B[:, None].expand(3, 4))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 1.0, -1.0, -1.0),
        (1.5, 1.0, -1.28, 0.0),  # held at 1 + clip_high
        (0.5, 1.0, -0.5, -0.5),  # falling back is never held
        (0.5, -1.0, 0.8, 0.0),  # held at 1 - clip_low
        (1.5, -1.0, 1.5, 1.5),
    ],
)
def test_clipping_by_hand(ratio, advantage, loss, slope):
    """loss = -min(rho A, clip(rho, 0.8, 1.28) A); slope = d loss / d logp = -rho A where free."""
    new = torch.tensor([[math.log(ratio)]], dtype=F64, requires_grad=True)
    terms = clipped_surrogate(
        new,
        torch.zeros(1, 1, dtype=F64),
        torch.tensor([[advantage]], dtype=F64),
        clip_low=0.2,
        clip_high=0.28,
    )
    (gradient,) = torch.autograd.grad(terms.loss_BT.sum(), new)
    assert terms.loss_BT.item() == pytest.approx(loss)
    assert gradient.item() == pytest.approx(slope)
    assert bool(terms.clipped_BT.item()) == (slope == 0.0)


def test_the_kl_term_is_zero_at_the_reference_and_pulls_back(gen):
    ref_BT = torch.randn(2, 3, generator=gen, dtype=F64).clamp(max=-0.1)
    logp_BT = ref_BT.clone().requires_grad_()
    zero_B = torch.zeros(2, 1, dtype=F64)
    terms = clipped_surrogate(
        logp_BT, logp_BT.detach(), zero_B, ref_BT, clip_low=0.2, clip_high=0.2, beta=0.5
    )
    assert torch.equal(terms.loss_BT, torch.zeros_like(terms.loss_BT))
    moved_BT = (ref_BT + 0.3).requires_grad_()
    terms = clipped_surrogate(
        moved_BT, moved_BT.detach(), zero_B, ref_BT, clip_low=0.2, clip_high=0.2, beta=0.5
    )
    (gradient,) = torch.autograd.grad(terms.loss_BT.sum(), moved_BT)
    # d/dx [exp(ref - x) - 1 - (ref - x)] = 1 - exp(ref - x)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 0.5 * (1 - math.exp(-0.3))))


def test_scale_invariance_holds_exactly_when_std_scaled():
    correct = [0.0, 0.25, 1.0, 0.5]
    for name, invariant in [("grpo", True), ("dr_grpo", False), ("rloo", False)]:
        small = credit(rows_of(["q"] * 4, correct), PRESETS[name]).advantage_N
        large = credit(rows_of(["q"] * 4, [c / 2 for c in correct]), PRESETS[name]).advantage_N
        assert torch.allclose(small, large, atol=1e-4) == invariant


def test_soft_overlong_by_hand():
    """max 100, buffer 20: free up to 80, -1/2 at 90, -1 from 100 on."""
    lengths = torch.tensor([10.0, 80.0, 90.0, 100.0, 120.0], dtype=F64)
    penalty = soft_overlong(lengths, max_tokens=100, buffer=20)
    assert penalty.tolist() == [0.0, 0.0, -0.5, -1.0, -1.0]


def test_dapo_punishes_length_only_when_the_limit_is_known_and_classes_ignore_it():
    rows = rows_of(["q", "q"], [0.0, 0.0], tokens=[10.0, 100.0])
    silent = credit(rows, PRESETS["dapo"])
    assert silent.advantage_N.tolist() == [0.0, 0.0]
    loud = credit(rows, PRESETS["dapo"], max_tokens=100)
    assert loud.reward_N.tolist() == [0.0, -1.0]
    assert loud.advantage_N[0] > 0 > loud.advantage_N[1]
    assert loud.group_class_N == ["all_wrong", "all_wrong"]


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_missing_score_gets_nothing_and_changes_nobody(name):
    whole = credit(rows_of(["a", "a", "a"], [1.0, 0.0, 1.0]), PRESETS[name])
    holed = credit(rows_of(["a", "a", "b", "a"], [1.0, 0.0, math.nan, 1.0]), PRESETS[name])
    assert holed.advantage_N[[0, 1, 3]].tolist() == whole.advantage_N.tolist()
    assert holed.advantage_N[2] == 0
    assert math.isnan(holed.reward_N[2])
    assert holed.group_class_N == ["mixed", "mixed", "missing", "mixed"]


def test_vetted_presets():
    """The settings that the names stand for; a change here is a change of what is claimed."""
    assert PRESETS["grpo"] == Config()
    assert PRESETS["dr_grpo"] == Config(scale="none", reduction="constant")
    assert PRESETS["dapo"] == Config(
        reduction="token", clip_low=0.2, clip_high=0.28, overlong=0.2, extra_rollouts=2.0
    )
    assert PRESETS["rloo"] == Config(scale="leave_one_out", reduction="constant", budget=1)
