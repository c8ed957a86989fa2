"""What HERO and LENS are compared with: the papers' worked groups."""

import math

import pytest
import torch

from methods.scored_rows import random_groups, scored
from rekindle.errors import DataError
from rekindle.methods import blend, grpo, hero, ngrpo, nsr, rl_zvp

F64 = torch.float64
SPARSE, WRONG = [1, 0, 0, 0], [0, 0, 0, 0]


def close(values, wanted):
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=F64), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("correct", "wanted"),
    [
        (WRONG, [-0.447213] * 4),
        ([0] * 8, [-0.333332] * 8),
        ([0] * 16, [-0.242535] * 16),
        (SPARSE, [1.095443, -0.730295, -0.730295, -0.730295]),
        ([1] + [0] * 7, [1.76383] + [-0.503951] * 7),
        ([1, 1, 1, 1], [0] * 4),
    ],
)
def test_ngrpo(correct, wanted):
    """One virtual right answer: all-wrong G = 4 is (0 - .2) / .447214."""
    close(ngrpo.credit(scored("q", correct), ngrpo.Config()).advantage_N, wanted)


def test_more_virtual_answers_push_wrong_ones_down_by_less():
    """Two virtual right answers, all-wrong G = 4: (0 - 1/3) / sqrt(4/15)."""
    rows = scored("q", [0, 0, 0, 0])
    close(ngrpo.credit(rows, ngrpo.Config(virtual=2)).advantage_N, [-0.645496] * 4)


def test_ngrpo_leaves_missing_answers_out():
    found = ngrpo.credit(scored("q", [0, None, 0, 0, 0]), ngrpo.Config()).advantage_N
    close(found, [-0.447213, 0, -0.447213, -0.447213, -0.447213])


@pytest.mark.parametrize(
    ("preset", "wanted"),
    [("psr", [1, 0, 0]), ("nsr", [0, -1, 0]), ("w_reinforce", [0.1, -1, 0])],
)
def test_signs_without_a_baseline(preset, wanted):
    found = nsr.credit(scored("q", [1, 0, None]), nsr.PRESETS[preset])
    close(found.advantage_N, wanted)


def test_rl_zvp_by_hand():
    """H = [.1, 2, .5, 1], a = .1: right .01 .2 .05 .1, wrong -.19 0 -.15 -.1."""
    entropy_BT = torch.tensor([[0.1, 2, 0.5, 1, math.nan]] * 3, dtype=F64)
    factor_BT = rl_zvp.entropy_factor(entropy_BT, torch.tensor([1.0, -1, 0], dtype=F64))
    close(0.1 * factor_BT[0, :4], [0.01, 0.2, 0.05, 0.1])
    close(-0.1 * factor_BT[1, :4], [-0.19, 0, -0.15, -0.1])
    close(factor_BT[2], [1.0] * 5)
    assert bool(factor_BT.isfinite().all())


def test_rl_zvp_is_grpo_in_mixed_groups(gen):
    rows = random_groups(gen, 100)
    found = rl_zvp.credit(rows, rl_zvp.Config())
    mixed_N = torch.tensor([name == "mixed" for name in found.group_class_N])
    plain = grpo.credit(rows, grpo.Config()).advantage_N
    assert torch.equal(found.advantage_N[mixed_N], plain[mixed_N])
    assert set(found.advantage_N[~mixed_N].tolist()) == {0.1, -0.1}


def test_blends():
    rows = scored("q", SPARSE, rm=[2, 0, 1, 4])
    close(blend.credit(rows, blend.PRESETS["verifier_only"]).reward_N, SPARSE)
    close(blend.credit(rows, blend.PRESETS["rm_only"]).reward_N, [2, 0, 1, 4])
    close(blend.credit(rows, blend.PRESETS["naive_blend"]).reward_N, [1.5, 0, 0.5, 2])
    close(
        blend.credit(rows, blend.Config(share=0.5, squash=True)).reward_N,
        [0.5 + 0.5 / (1 + math.exp(-2)), 0.25, 0.5 / (1 + math.exp(-1)), 0.5 / (1 + math.exp(-4))],
    )
    equal = blend.credit(rows, blend.PRESETS["verifier_only"]).advantage_N
    assert torch.equal(equal, grpo.credit(rows, grpo.Config()).advantage_N)


def test_the_gate_opens_in_groups_of_one_verdict_alone():
    rows = scored(["a"] * 4 + ["b"] * 4, SPARSE + WRONG, rm=[2, 0, 1, 4, 0, 1, 2, 4])
    found = blend.credit(rows, blend.PRESETS["gated"])
    close(found.reward_N, [*SPARSE, -0.05, -0.025, 0, 0.05])
    theirs = hero.credit(rows, hero.Config(weight_on="none"))
    assert torch.equal(found.advantage_N[4:], theirs.advantage_N[4:])


def test_rm_only_needs_no_verdict_and_the_others_do():
    rows = scored("q", [None, None, 1], rm=[1, 2, 3])
    assert blend.credit(rows, blend.PRESETS["rm_only"]).advantage_N.tolist() != [0, 0, 0]
    assert blend.credit(rows, blend.PRESETS["naive_blend"]).advantage_N.tolist() == [0, 0, 0]
    for preset in ("rm_only", "naive_blend", "gated"):
        with pytest.raises(DataError, match="no answer has a score of a reward model"):
            blend.credit(scored("q", [1, 0]), blend.PRESETS[preset])


def test_the_entropy_is_a_mean_over_tokens_not_over_answers():
    """8 nats over 12.5 tokens; a mean of the answers' own means would be 1."""
    rows = scored("q", [0, 0], logprob=[-4, -4], tokens=[10, 2.5])
    assert grpo.mean_entropy(rows) == pytest.approx(8 / 12.5)


def test_the_entropy_bonus_follows_a_curve():
    """.1 nats below the curve the bonus rises by rate * .1; above it, it falls, never below 0."""
    config, scalars = grpo.Config(entropy_rate=0.02), {}
    curve = {1: 0.5, 2: 0.2}
    assert grpo.mean_entropy(scored("q", [0, 0], logprob=[-4, -4], tokens=[10, 10])) == 0.4
    found = [grpo.follow(curve, step, 0.4, config, scalars) for step in (1, 1, 9)]
    assert found == pytest.approx([0.002, 0.004, 0.0])
    assert grpo.follow({}, 1, 0.4, grpo.Config(entropy_bonus=0.3), {}) == 0.3
