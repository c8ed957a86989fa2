"""LENS's formulas: the worked groups of 100 tokens with mean log-probs -.2, -.4, -.6, -.8."""

import json
import math

import pytest
import torch

from methods.scored_rows import random_groups, scored, select
from rekindle.errors import DataError
from rekindle.methods import grpo
from rekindle.methods.lens import PRESETS, Config, credit, penalties
from rekindle.ops.groups import group_rows

F64 = torch.float64
MEANS = (-0.2, -0.4, -0.6, -0.8)


def worked(correct, **settings):
    rows = scored("q", correct, logprob=[100 * m for m in MEANS], tokens=[100] * 4)
    return credit(rows, Config(**settings))


def close(values, wanted, tolerance=1e-6):
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=F64), atol=tolerance, rtol=0)


def test_an_all_wrong_group():
    """D = 2 e^-.2 = 1.637462; penalties u / (2 - u), u = e^(l - max l); reward -penalty / 4."""
    found = worked([0, 0, 0, 0])
    close(found.columns["penalty"], [1.0, 0.693094, 0.504121, 0.378181])
    close(found.reward_N, [-0.25, -0.173274, -0.126030, -0.094545])
    close(found.advantage_N, [-0.022259, -0.003078, 0.008733, 0.016604])
    found = worked([0, 0, 0, 0], alpha=1.0, neg_scale="unit")
    close(found.advantage_N, [-0.356151, -0.049245, 0.139728, 0.265668])


@pytest.mark.parametrize(
    ("correct", "difficulty", "wanted"),
    [
        ([1, 0, 0, 0], "raw", [1.497549, -0.573297, -0.489912, -0.434340]),
        ([1, 0, 0, 0], "geometric", [1.499722, -0.524374, -0.497729, -0.477620]),
        ([0, 1, 0, 0], "raw", [-0.656620, 1.490004, -0.443727, -0.389658]),
        ([0, 1, 0, 0], "geometric", [-0.564566, 1.498321, -0.479898, -0.453857]),
        ([1, 1, 1, 0], "geometric", [0.5, 0.5, 0.5, -1.5]),
    ],
)
def test_mixed_groups(correct, difficulty, wanted):
    """geometric, first right: D = D_imp = 4 / (1 / .818731) = 3.274923 > 1.637462. With one wrong
    answer confidence cannot matter: two values are left to standardise."""
    close(worked(correct, difficulty=difficulty).advantage_N, wanted, tolerance=4e-6)


def test_the_difficulty_by_hand():
    """D_imp of [1,1,1,0] = 4 / (1/.818731 + 1/.670320 + 1/.548812) = .881961 < 1.637462."""
    rows = scored("q", [1, 1, 1, 0], logprob=[100 * m for m in MEANS], tokens=[100] * 4)
    grouping = group_rows(rows.group)
    found = penalties(*map(grouping.gather, (rows[1], rows[3], rows[4])), difficulty="geometric")
    pibar = math.exp(-0.8)
    assert not bool(found.from_right_P)
    assert found.penalty_PG[0, 3].item() == pytest.approx(pibar / (2 * math.exp(-0.2) - pibar))


def test_only_differences_of_mean_log_probs_matter_when_all_are_wrong():
    first = worked([0, 0, 0, 0]).advantage_N
    rows = scored("q", [0] * 4, logprob=[100 * (m - 3) for m in MEANS], tokens=[100] * 4)
    torch.testing.assert_close(credit(rows, Config()).advantage_N, first, atol=1e-15, rtol=0)


def test_ties_groups_all_right_and_extreme_confidence():
    tied = credit(scored("q", [0] * 3, logprob=[-5] * 3, tokens=[9] * 3), Config())
    assert tied.advantage_N.tolist() == [0, 0, 0]
    close(tied.reward_N, [-1 / 3] * 3)
    assert worked([1, 1, 1, 1]).advantage_N.tolist() == [0] * 4
    wide = credit(scored("q", [0, 0], logprob=[-1e8, 0.0], tokens=[1e4, 1e4]), Config())
    assert wide.columns["penalty"].tolist() == [0, 1]
    assert bool(wide.advantage_N.isfinite().all())
    for difficulty in ("raw", "geometric"):
        long = scored("q", [1, 0, 0], logprob=[-3000, -2000, -9000], tokens=[9000] * 3)
        assert bool(credit(long, Config(difficulty=difficulty)).advantage_N.isfinite().all())


@pytest.mark.parametrize("difficulty", ["geometric", "raw"])
@pytest.mark.parametrize("neg_scale", ["per_group", "unit"])
def test_twenty_thousand_groups(difficulty, neg_scale, gen):
    """Penalties in [0, 1]; no sign is flipped in a mixed group; sums are 0; ties are 0."""
    rows = random_groups(gen, 5000)
    found = credit(rows, Config(difficulty=difficulty, neg_scale=neg_scale))
    assert bool(found.advantage_N.isfinite().all())
    penalty_N = found.columns["penalty"]
    assert bool(((penalty_N >= 0) & (penalty_N <= 1)).all())
    mixed_N = torch.tensor([name == "mixed" for name in found.group_class_N])
    right_N = rows.correct_N == 1
    assert bool((found.advantage_N[mixed_N & right_N] > 0).all())
    assert bool((found.advantage_N[mixed_N & ~right_N] < 0).all())
    grouping = group_rows(rows.group)
    sums_P = grouping.gather(found.advantage_N).nansum(dim=1)
    assert float(sums_P.abs().max()) < 1e-9
    flat_P = grouping.gather(found.reward_N)
    tied_P = flat_P.nan_to_num(nan=-9).amax(1) == flat_P.nan_to_num(nan=9).amin(1)
    assert bool(tied_P.any())
    assert bool((grouping.gather(found.advantage_N)[tied_P].nan_to_num() == 0).all())


def test_more_confident_wrong_answers_are_penalised_more():
    penalty = worked([0, 1, 0, 0]).columns["penalty"].tolist()
    assert penalty[0] > penalty[2] > penalty[3] > penalty[1] == 0


def test_without_penalties_it_is_grpo_to_the_bit(gen):
    rows = random_groups(gen, 300)
    ours = credit(rows, Config(on="negative", alpha=0.0)).advantage_N
    assert torch.equal(ours, grpo.credit(rows, grpo.Config()).advantage_N)
    mean = credit(rows, Config(on="negative", alpha=0.0, scale="none")).advantage_N
    assert torch.equal(mean, grpo.credit(rows, grpo.Config(scale="none")).advantage_N)


def test_alpha_is_linear_and_acts_on_all_wrong_groups_alone(gen):
    rows = random_groups(gen, 300)
    one, two = (credit(rows, Config(alpha=a)).advantage_N for a in (0.5, 1.0))
    negative_N = torch.tensor(
        [name == "all_wrong" for name in credit(rows, Config()).group_class_N]
    )
    assert torch.equal(two[negative_N], 2 * one[negative_N])
    assert torch.equal(two[~negative_N], one[~negative_N])


def test_on_one_kind_of_group_the_other_is_grpo(gen):
    rows = random_groups(gen, 300)
    plain, both = grpo.credit(rows, grpo.Config()), credit(rows, Config())
    negative_N = torch.tensor([name == "all_wrong" for name in both.group_class_N])
    for name, here_N in (("lens_negative", negative_N), ("lens_mixed", ~negative_N)):
        found = credit(rows, PRESETS[name])
        assert torch.equal(found.advantage_N[here_N], both.advantage_N[here_N])
        assert torch.equal(found.advantage_N[~here_N], plain.advantage_N[~here_N])


def test_the_uniform_control_has_the_same_size_and_no_order():
    lens, uniform = worked([0] * 4), worked([0] * 4, penalty="uniform")
    size = float(lens.advantage_N.abs().mean())
    close(uniform.advantage_N, [-size] * 4, tolerance=1e-15)
    mixed = worked([1, 0, 0, 0], penalty="uniform")
    assert len(set(mixed.advantage_N[1:].tolist())) == 1
    lens = worked([1, 0, 0, 0])
    assert mixed.reward_N.sum().item() == pytest.approx(lens.reward_N.sum().item())


def test_the_shuffled_control_keeps_the_values_and_loses_the_order(gen):
    rows = random_groups(gen, 400, size=8)
    lens, shuffled = credit(rows, Config()), credit(rows, Config(penalty="shuffled"))
    grouping = group_rows(rows.group)
    before, after = (grouping.gather(c.reward_N).sort(dim=1).values for c in (lens, shuffled))
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)
    # among wrong answers of a group, confidence and penalty are uncorrelated
    same = total = 0
    for rows_P, wrong in zip(grouping.row_PG, grouping.gather(rows.correct_N) == 0, strict=True):
        index = rows_P[wrong]
        if len(index) > 2 and len(set(lens.columns["penalty"][index].tolist())) > 2:
            top = lens.columns["penalty"][index].argmax()
            same += int(shuffled.columns["penalty"][index].argmax() == top)
            total += 1 / len(index)
    assert same == pytest.approx(total, rel=0.35), "as often at the top as by chance"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_row_order_does_not_matter(preset, gen):
    rows = random_groups(gen, 60)
    found = credit(rows, PRESETS[preset])
    order = torch.randperm(len(rows.group), generator=gen).tolist()
    moved = credit(select(rows, order), PRESETS[preset])
    torch.testing.assert_close(
        moved.advantage_N, found.advantage_N[torch.tensor(order)], atol=1e-12, rtol=1e-9
    )


def test_a_missing_score_leaves_its_group_as_if_it_were_not_there():
    whole = scored("q", [0, None, 0, 0], logprob=[-20, -1, -60, -80], tokens=[100, 100, 100, 100])
    without = scored("q", [0, 0, 0], logprob=[-20, -60, -80], tokens=[100] * 3)
    found, wanted = credit(whole, Config()), credit(without, Config())
    torch.testing.assert_close(found.advantage_N[[0, 2, 3]], wanted.advantage_N)
    assert found.advantage_N[1] == 0
    assert math.isnan(found.reward_N[1])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (scored("q", [0, 0], logprob=[-1, None], tokens=[2, 2]), r"row 2 \(group 'q'\).*'sum_logp"),
        (scored("q", [0, 0], logprob=[-1, -1], tokens=[None, 2]), "row 1.*'num_tokens'"),
        (scored("q", [0, 0], logprob=[-1, 0.5], tokens=[2, 2]), "row 2.*'sum_logprob'"),
        (scored("q", [1, -1], logprob=[-1, -1], tokens=[2, 2]), "row 2.*'correct'"),
        (scored("q", [0, 0], logprob=[-1, -math.inf], tokens=[2, 2]), "row 2.*'sum_logprob'"),
    ],
)
def test_odd_rows_are_named(rows, says):
    with pytest.raises(DataError, match=says):
        credit(rows, Config())


def test_groups_of_one_and_groups_all_missing_give_nothing():
    rows = scored(["a", "b", "b"], [0, None, None], logprob=[-1, -1, -1], tokens=[2, 2, 2])
    found = credit(rows, Config())
    assert found.advantage_N.tolist() == [0, 0, 0]
    assert found.group_class_N == ["all_wrong", "missing", "missing"]
    assert json.dumps(found.group_class_N)
