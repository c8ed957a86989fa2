"""Group statistics: ties are exactly 0, missing scores stay out, order does not matter."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rekindle.ops.groups import (
    centre,
    classify,
    classify_rows,
    group_rows,
    leave_one_out,
    read_verdicts,
    standardise,
)

F64 = torch.float64


@pytest.mark.parametrize("rule", [centre, standardise, leave_one_out])
@pytest.mark.parametrize("size", [2, 3, 7, 8, 16, 64])
def test_equal_rewards_give_exactly_zero_for_every_hundredth(rule, size):
    # Unguarded, the rounding of mean and std leaves advantages of up to 0.19 in fp32.
    score_PG = (torch.arange(-100, 101, dtype=F64) / 100)[:, None].expand(-1, size).contiguous()
    assert torch.equal(rule(score_PG), torch.zeros_like(score_PG))
    assert torch.equal(rule(score_PG / 3), torch.zeros_like(score_PG))


@pytest.mark.parametrize("rule", [centre, standardise, leave_one_out])
def test_groups_sum_to_zero(rule, gen):
    advantage_PG = rule(torch.randn(50, 8, generator=gen, dtype=F64))
    torch.testing.assert_close(advantage_PG.sum(1), torch.zeros(50, dtype=F64))


def test_worked_example_of_grpo():
    # r = [1, 0, 0, 0]: mean 1/4, sample std 1/2, so (3/4) / (1/2) and -(1/4) / (1/2)
    advantage = standardise(torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=F64))
    expected = torch.tensor([[1.5, -0.5, -0.5, -0.5]], dtype=F64)
    torch.testing.assert_close(advantage, expected, atol=5e-6, rtol=0)


def test_standardising_ignores_scale_and_shift_and_centring_does_not(gen):
    score_PG = torch.randn(5, 8, generator=gen, dtype=F64)
    other_PG = 7 * score_PG + 3
    torch.testing.assert_close(standardise(other_PG), standardise(score_PG), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(centre(other_PG), 7 * centre(score_PG))


def test_leave_one_out_is_the_score_minus_the_mean_of_the_others(gen):
    score_PG = torch.randn(4, 6, generator=gen, dtype=F64)
    for g in range(6):
        others = [h for h in range(6) if h != g]
        expected_P = score_PG[:, g] - score_PG[:, others].mean(1)
        torch.testing.assert_close(leave_one_out(score_PG)[:, g], expected_P)


@pytest.mark.parametrize("rule", [centre, standardise, leave_one_out])
def test_a_missing_score_is_as_if_the_answer_had_not_been_sampled(rule, gen):
    full_PG = torch.randn(3, 5, generator=gen, dtype=F64)
    holed_PG = torch.cat(
        [full_PG[:, :2], torch.full((3, 1), math.nan, dtype=F64), full_PG[:, 2:]], 1
    )
    got_PG = rule(holed_PG)
    assert torch.equal(got_PG[:, 2], torch.zeros(3, dtype=F64))
    torch.testing.assert_close(got_PG[:, [0, 1, 3, 4, 5]], rule(full_PG))


@pytest.mark.parametrize("rule", [centre, standardise, leave_one_out])
def test_nothing_to_compare_with_gives_zero(rule):
    nan = math.nan
    score_PG = torch.tensor([[1.0, nan, nan], [nan, nan, nan], [0.3, 0.3, nan]], dtype=F64)
    assert torch.equal(rule(score_PG), torch.zeros(3, 3, dtype=F64))


NAN = math.nan


@pytest.mark.parametrize(
    ("verdicts", "totals", "wanted"),
    [
        # by the verifier first, whatever the totals
        ([0, 0, NAN], None, "all_wrong"),
        ([0, 0, 0], [0, 0.1, -0.1], "all_wrong"),
        ([1, NAN, 1], None, "all_right"),
        ([1, 1, 1], [1, 0.9, 0.8], "all_right"),
        ([NAN, NAN, NAN], None, "missing"),
        ([NAN, NAN, NAN], [0.1, 0.2, 0.3], "missing"),
        # then by whether anything differs
        ([0.01] * 3, None, "tied"),
        ([0.7, 0.7, NAN], None, "tied"),
        ([0.7, NAN, NAN], None, "tied"),
        ([0.7, 0.7, 0.7 + 1e-12], None, "mixed"),
        ([0, 1, NAN], None, "mixed"),
        ([0, 0, 0.01], None, "mixed"),
        ([1, 1, 0.99], None, "mixed"),
        ([0.7] * 3, [0.7, 0.6, 0.7], "mixed"),
        ([0, 1, 1], [0.5] * 3, "tied"),
        ([0, 1, 1], [NAN, 0.5, 0.5], "tied"),
        ([0, 1, 1], [NAN, NAN, NAN], "tied"),
        ([0, 1, NAN], [0.5, NAN, 0.4], "mixed"),
    ],
)
def test_a_class_goes_by_the_verifier_first_and_then_by_the_totals(verdicts, totals, wanted):
    correct_PG = torch.tensor([verdicts], dtype=F64)
    total_PG = None if totals is None else torch.tensor([totals], dtype=F64)
    assert classify(correct_PG, total_PG) == [wanted]
    grouping = group_rows("aaa")
    assert classify_rows(correct_PG[0], grouping, total_PG) == [wanted] * 3


@pytest.mark.parametrize(
    ("values", "right", "wanted"),
    [
        ([-1, 1, NAN, 1], None, [0, 1, NAN, 1]),
        ([0, 1, 0], None, [0, 1, 0]),
        ([0, 0.5], None, [0, 1]),
        ([3, 5], None, [0, 1]),
        ([-1, 1], -1.0, [1, 0]),
        ([0, 0.5, 1], None, [0, 0.5, 1]),  # partial scores
        ([0.7, 0.7], None, [0.7, 0.7]),
        ([-1, -1], None, [-1, -1]),  # of one value nothing can be said
        ([-1, -1], 1.0, [0, 0]),
        ([0, 0.5, 1, NAN], 0.5, [0, 1, 0, NAN]),
        ([NAN], 1.0, [NAN]),
        ([], None, []),
    ],
)
def test_of_two_values_the_larger_is_right_unless_one_is_named(values, right, wanted):
    found = read_verdicts(torch.tensor(values, dtype=F64), right=right)
    assert torch.equal(found.nan_to_num(nan=-9), torch.tensor(wanted, dtype=F64).nan_to_num(nan=-9))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, math.nan])), max_size=12),
    st.randoms(use_true_random=False),
)
def test_row_order_and_unequal_groups_do_not_matter(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)

    def advantages(some):
        grouping = group_rows([key for key, _ in some])
        values_N = torch.tensor([score for _, score in some], dtype=F64)
        out_N = grouping.scatter(standardise(grouping.gather(values_N)))
        return out_N, classify_rows(values_N, grouping)

    straight, classes = advantages(rows)
    shuffled, shuffled_classes = advantages([rows[i] for i in order])
    torch.testing.assert_close(shuffled, straight[order])
    assert shuffled_classes == [classes[i] for i in order]
