"""HERO's formulas: worked groups, and what follows from the algebra."""

import math

import pytest
import torch

from methods.scored_rows import random_groups, scored, select
from rekindle.engine.config import SampleConfig
from rekindle.errors import DataError
from rekindle.methods import grpo
from rekindle.methods.hero import Config, advanced, check, credit, spread, weight
from rekindle.ops.groups import group_rows

F64 = torch.float64
NONE = {"weight_on": "none"}


def close(values, wanted, tolerance=1e-5):
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=F64), atol=tolerance, rtol=0)


def worked(correct, rm, **settings):
    return credit(scored("q", correct, rm=rm), Config(**settings))


MIXED = ([1, 0, 0, 1], [2, -1, 3, 6])
TENTH = {"alpha": 0.1, "beta": 0.1}


def test_a_mixed_group():
    found = worked(*MIXED, **TENTH, **NONE)
    close(found.reward_N, [0.9, -0.1, 0.1, 1.1])
    close(found.advantage_N, [0.679365, -1.019048, -0.679365, 1.019048])
    close(worked(*MIXED, **TENTH, **NONE, scale="none").advantage_N, [0.4, -0.6, -0.4, 0.6])


@pytest.mark.parametrize(
    ("values", "sigma_mean", "wanted"),
    [
        ({}, 2.0, 2.876693),
        ({}, 2.5, 1.7),
        ({}, 3.0, 0.523307),
        ({"w_min": 0.5, "w_max": 2.0, "k": 5.0}, 2.0, 1.886213),
        ({"w_min": 0.5, "w_max": 2.0, "k": 5.0}, 2.5, 1.25),
        ({"w_min": 0.5, "w_max": 2.0, "k": 5.0}, 3.0, 0.613787),
    ],
)
def test_the_weight(values, sigma_mean, wanted):
    """sigma_u of [2, -1, 3, 6] is 2.5 (ddof 0)."""
    found = worked(*MIXED, **values, sigma_mean=sigma_mean)
    close(found.columns["weight"], [wanted] * 4, tolerance=1e-6)


def test_the_weight_on_the_reward_cancels_under_std_and_not_under_centring():
    settings = {**TENTH, "sigma_mean": 2.0, "weight_on": "reward"}
    found = worked(*MIXED, **settings)
    close(found.reward_N, [2.589023, -0.287669, 0.287669, 3.164362])
    plain = worked(*MIXED, **TENTH, **NONE).advantage_N
    torch.testing.assert_close(found.advantage_N, plain, atol=2e-6, rtol=0)
    close(
        worked(*MIXED, **settings, scale="none").advantage_N,
        [1.150677, -1.726016, -1.150677, 1.726016],
    )
    on_advantage = worked(*MIXED, **{**settings, "weight_on": "advantage"})
    close(on_advantage.advantage_N, [1.954325, -2.931487, -1.954325, 2.931487])


def test_with_centring_both_places_of_the_weight_are_the_same(gen):
    rows = random_groups(gen, 200)
    first, second = (
        credit(rows, Config(scale="none", weight_on=place, sigma_mean=1.0)).advantage_N
        for place in ("advantage", "reward")
    )
    torch.testing.assert_close(first, second, atol=1e-12, rtol=1e-12)


def test_an_all_wrong_group_and_what_alpha_does_there():
    group = ([0, 0, 0, 0], [0, 1, 2, 4])
    found = worked(*group, **NONE, scale="none")
    close(found.reward_N, [-0.05, -0.025, 0, 0.05])
    close(found.advantage_N, [-0.04375, -0.01875, 0.00625, 0.05625])
    close(worked(*group, **NONE).advantage_N, [-1.02467, -0.43915, 0.14638, 1.31743], 5e-5)
    doubled = worked(*group, **NONE, scale="none", alpha=0.1).advantage_N
    torch.testing.assert_close(doubled, 2 * found.advantage_N, atol=1e-12, rtol=0)
    same = worked(*group, **NONE, alpha=0.1).advantage_N
    torch.testing.assert_close(same, worked(*group, **NONE).advantage_N, atol=2e-5, rtol=0)


def test_one_right_answer_stands_at_the_floor_of_its_band():
    group = ([1, 0, 0, 0], [5, 0, 1, 2])
    found = worked(*group, **NONE, scale="none")
    close(found.reward_N, [0.95, -0.05, 0, 0.05])
    close(found.advantage_N, [0.7125, -0.2875, -0.2375, -0.1875])
    close(worked(*group, **NONE).advantage_N, [1.49449, -0.60304, -0.49816, -0.39329], 2e-5)


@pytest.mark.parametrize("scale", ["std", "none"])
def test_ties_give_exactly_nothing(scale):
    found = worked([0, 0, 0, 0], [1.5] * 4, scale=scale)
    assert found.reward_N.tolist() == [-0.05] * 4
    assert found.advantage_N.tolist() == [0] * 4


def test_an_all_right_group():
    group = ([1, 1, 1, 1], [1, 3, 3, 5])
    found = worked(*group, **TENTH, **NONE, scale="none")
    close(found.reward_N, [0.9, 1, 1, 1.1])
    close(found.advantage_N, [-0.1, 0, 0, 0.1])
    close(worked(*group, **TENTH, **NONE).advantage_N, [-1.22473, 0, 0, 1.22473], 2e-5)


def test_the_running_mean():
    """Batches of spreads {1, 3}, {2, 4}, {.5, .5}: scores (-s, s) have spread s."""
    batches = [(1, 3), (2, 4), (0.5, 0.5)]
    for how, wanted in (("average", [2.0, 2.1, 1.94]), ("cumulative", [2.0, 2.5, 11 / 6])):
        scalars, used, after, weights = {}, [], [], []
        config = Config(running=how)
        for first, second in batches:
            rows = scored(["a", "a", "b", "b"], [0] * 4, rm=[-first, first, -second, second])
            before = scalars.get("sigma_mean")
            weights.append(credit(rows, config, sigma_mean=before).columns["weight"][[0, 2]])
            used.append(before)
            scalars |= advanced(scalars, rows, config)
            after.append(scalars["sigma_mean"])
        assert after == pytest.approx(wanted)
        assert used[0] is None
        assert used[1:] == pytest.approx(wanted[:2])
        if how == "average":
            close(torch.stack(weights), [[0.406429, 2.993571], [1.7, 2.999984], [0.400176] * 2])


def test_signs_can_go_against_the_verdict():
    found = worked(
        [1] * 7 + [0], [0, 9, 9, 9, 9, 9, 9, 1], **TENTH, **NONE, scale="none"
    ).advantage_N
    assert found[0].item() == pytest.approx(-0.025, abs=1e-6)
    found = worked(
        [1] + [0] * 7, [0, 9, 1, 1, 1, 1, 1, 1], **TENTH, **NONE, scale="none"
    ).advantage_N
    assert found[1].item() == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("scale", ["std", "none"])
def test_thousands_of_groups(scale, gen):
    """Bands are kept, sums are 0, ties are 0, weights are between their bounds."""
    rows = random_groups(gen, 10_000)
    found = credit(rows, Config(scale=scale, alpha=0.2, beta=0.3))
    assert bool(found.advantage_N.isfinite().all())
    right_N = rows.correct_N == 1
    assert bool((found.reward_N[~right_N].abs() <= 0.2 + 1e-12).all())
    assert bool(((found.reward_N[right_N] - 1).abs() <= 0.3 + 1e-12).all())
    weight_N = found.columns["weight"]
    assert bool(((weight_N >= 0.4) & (weight_N <= 3)).all())
    grouping = group_rows(rows.group)
    assert float(grouping.gather(found.advantage_N).nansum(1).abs().max()) < 1e-9
    assert bool((found.reward_N[right_N].min() > found.reward_N[~right_N].max()).item())


def test_the_order_of_right_and_wrong_breaks_from_one_on():
    group = ([1, 1, 0, 0], [0, 1, 0, 1])
    kept = worked(*group, alpha=0.4, beta=0.5, **NONE).reward_N
    broken = worked(*group, alpha=0.6, beta=0.6, **NONE).reward_N
    assert kept[:2].min() > kept[2:].max()
    assert broken[:2].min() < broken[2:].max()


def test_affine_changes_of_the_scores_change_nothing_but_the_weight(gen):
    rows = random_groups(gen, 200)
    moved = rows._replace(rm_score_N=rows.rm_score_N * 7 - 3)
    first, second = (credit(r, Config(**NONE, min_range=0)).reward_N for r in (rows, moved))
    # (max - min) / (max - min + 1e-6) is not quite the same
    apart_P = group_rows(rows.group).gather(rows.rm_score_N)
    wide_P = spread(apart_P) > 0.01
    wide_N = group_rows(rows.group).scatter(wide_P[:, None].expand_as(apart_P).double()) == 1
    torch.testing.assert_close(first[wide_N], second[wide_N], atol=1e-4, rtol=0)


def test_the_weight_rises_with_the_spread_and_is_midway_at_the_mean():
    sigma_P = torch.tensor([0.0, 0.5, 1.0, 2.0, 1e6], dtype=F64)
    found = weight(sigma_P, 1.0, w_min=0.4, w_max=3.0, k=6.0)
    assert bool((found.diff() >= 0).all())
    assert found[2].item() == pytest.approx(1.7)
    assert bool(found.isfinite().all())


def test_with_no_band_and_no_weight_it_is_grpo(gen):
    rows = random_groups(gen, 300)
    ours = credit(rows, Config(alpha=0.0, beta=0.0, **NONE)).advantage_N
    torch.testing.assert_close(
        ours, grpo.credit(rows, grpo.Config()).advantage_N, atol=1e-12, rtol=0
    )


def test_noise_is_not_blown_up_to_a_band():
    """Scores that differ by a ten-thousandth of the running spread are a tie."""
    noisy = ([0, 0, 0, 0], [1.0, 1.0001, 1.0, 1.0001])
    assert worked(*noisy, sigma_mean=1.0).advantage_N.tolist() == [0] * 4
    assert worked(*noisy, sigma_mean=1.0, min_range=0.0).advantage_N.abs().max() > 0.1


def test_what_counts_as_noise_grows_with_the_running_spread():
    """A span of 0.5: of 1000 running means of 1 it is a signal, of a mean of 1000 it is noise."""
    group = ([0, 0], [1.0, 1.5])
    assert worked(*group, sigma_mean=1.0).columns["flat"].tolist() == [0, 0]
    assert worked(*group, sigma_mean=1000.0).columns["flat"].tolist() == [1, 1]


def test_a_partial_score_is_accepted_above_one_half_alone():
    found = worked([0.5, 0.6, 0, 1], [1, 2, 3, 4], **TENTH, **NONE, scale="none")
    close(found.reward_N, [-0.1, 0.9, 0.1, 1.1])


def test_row_order_does_not_matter(gen):
    rows = random_groups(gen, 60)
    order = torch.randperm(len(rows.group), generator=gen).tolist()
    found, moved = credit(rows, Config()), credit(select(rows, order), Config())
    torch.testing.assert_close(
        moved.advantage_N, found.advantage_N[torch.tensor(order)], atol=1e-12, rtol=1e-9
    )


def test_an_answer_without_a_score_is_left_out_or_falls_back():
    whole = scored("q", [1, 0, 0, 1], rm=[2, None, 3, 6])
    without = scored("q", [1, 0, 1], rm=[2, 3, 6])
    found, wanted = credit(whole, Config()), credit(without, Config())
    torch.testing.assert_close(found.advantage_N[[0, 2, 3]], wanted.advantage_N)
    assert found.advantage_N[1] == 0
    assert math.isnan(found.reward_N[1])
    back = credit(whole, Config(missing_rm="verifier"))
    torch.testing.assert_close(back.advantage_N, grpo.credit(whole, grpo.Config()).advantage_N)


def test_what_cannot_be_used_is_refused():
    with pytest.raises(DataError, match="no answer has a score of a reward model"):
        credit(scored("q", [1, 0]), Config())
    with pytest.raises(DataError, match=r"row 2.*'correct'"):
        credit(scored("q", [1, 2], rm=[1, 2]), Config())


def test_settings_without_effect_or_order_are_said():
    with pytest.warns(UserWarning, match="weight_on=reward has no effect with scale=std"):
        check(Config(weight_on="reward"), SampleConfig())
    with pytest.warns(UserWarning, match="rewarded above an accepted one"):
        check(Config(alpha=0.5, beta=0.5), SampleConfig())
    check(Config(weight_on="reward", scale="none"), SampleConfig())
