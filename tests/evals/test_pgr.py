"""PGR: the paper's numbers, its limits, and an interval that covers."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rekindle.errors import DataError
from rekindle.evals.intervals import RESAMPLES
from rekindle.evals.pgr import NO_GAP, pgr, pgr_interval, recovered


@pytest.mark.parametrize(
    ("weak", "w2s", "ceiling", "value"),
    [
        (33.81, 62.62, 71.95, 0.755),
        (59.51, 72.18, 71.95, 1.018),
        (11.6, 10.0, 17.8, -0.258),
        (25.17, 64.52, 71.95, 0.841),
        (0.7, 0.8, 0.9, 0.5),
    ],
)
def test_numbers_of_the_paper(weak, w2s, ceiling, value):
    assert pgr(weak, w2s, ceiling) == pytest.approx(value, abs=5e-4)


def test_limits():
    assert pgr(0.2, 0.2, 0.6) == 0
    assert pgr(0.2, 0.6, 0.6) == 1
    assert pgr(0.6, 0.7, 0.6) is None
    assert pgr(0.7, 0.7, 0.6) is None
    assert pgr(math.nan, 0.7, 0.9) is None
    assert pgr(0.1, math.nan, 0.9) is None
    assert pgr(0.1, 0.5, math.nan) is None


shares = st.integers(0, 1000).map(lambda k: k / 1000)


@given(shares, shares, shares, st.floats(0.1, 100), st.floats(-10, 10))
def test_units_and_offsets_do_not_matter(weak, w2s, ceiling, scale, offset):
    assume(ceiling > weak)
    moved = pgr(*(scale * x + offset for x in (weak, w2s, ceiling)))
    assert moved == pytest.approx(pgr(weak, w2s, ceiling), abs=1e-6)


def scores(rng, share, problems=400):
    return (rng.random(problems) < share).astype(float)


def test_the_value_is_that_of_the_means():
    rng = np.random.default_rng(0)
    arms = [[scores(rng, share)] for share in (0.3, 0.5, 0.8)]
    found = pgr_interval(*arms)
    assert found.value == pgr(*(arm[0].mean() for arm in arms))
    assert found.ci_low < found.value < found.ci_high
    assert found[3:] == (400, 1, RESAMPLES, 0, None)
    assert pgr_interval(*arms) == found
    assert pgr_interval(*arms, seed=1) != found


def test_the_student_that_is_the_ceiling_has_recovered_all_in_every_draw():
    rng = np.random.default_rng(0)
    weak, ceiling = [scores(rng, 0.3)], [scores(rng, 0.8)]
    assert pgr_interval(weak, ceiling, ceiling)[:3] == (1, 1, 1)
    assert pgr_interval(weak, weak, ceiling)[:3] == (0, 0, 0)


def test_without_a_gap_it_is_undefined_and_says_so():
    ones, zeros = [np.ones(50)], [np.zeros(50)]
    for weak, ceiling in ((ones, zeros), (ones, ones)):
        found = pgr_interval(weak, ones, ceiling)
        assert math.isnan(found.value)
        assert found.reason == NO_GAP


def test_a_gap_that_may_not_be_there_has_no_bounds():
    """One problem of ten tells them apart: 0.9^10 = 35 % of draws are without it."""
    weak, ceiling = np.zeros(10), np.zeros(10)
    ceiling[3] = 1
    found = pgr_interval([weak], [ceiling], [ceiling])
    assert found.value == 1
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)
    assert found.undefined / found.draws == pytest.approx(0.9**10, abs=0.04)
    assert "resamples" in found.reason


def test_a_few_draws_without_a_gap_are_counted():
    """Four of ten problems: 0.6^10 = 0.6 % of draws."""
    weak, ceiling = np.zeros(10), np.zeros(10)
    ceiling[:4] = 1
    found = pgr_interval([weak], [ceiling / 2], [ceiling])
    assert found[:3] == (0.5, 0.5, 0.5)
    assert 0 < found.undefined < 0.025 * RESAMPLES
    assert found.reason is None


def test_problems_without_a_score_are_left_out_everywhere():
    rng = np.random.default_rng(0)
    weak, w2s, ceiling = (scores(rng, share, 60) for share in (0.2, 0.5, 0.9))
    gaps = w2s.copy()
    gaps[:7] = np.nan
    found = pgr_interval([weak], [gaps], [ceiling])
    assert found == pgr_interval([weak[7:]], [w2s[7:]], [ceiling[7:]])
    assert found.n_problems == 53


def test_runs_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    weak, ceiling = [scores(rng, 0.3)], [scores(rng, 0.8)]
    alike = [scores(rng, 0.55) for _ in range(4)]
    apart = [scores(rng, share) for share in (0.4, 0.5, 0.6, 0.7)]
    narrow, wide = pgr_interval(weak, alike, ceiling), pgr_interval(weak, apart, ceiling)
    assert narrow.n_runs == wide.n_runs == 4
    assert wide.ci_high - wide.ci_low > 1.5 * (narrow.ci_high - narrow.ci_low)


def test_runs_belong_together():
    """Student and ceiling move with the run, so that PGR does not."""
    rng = np.random.default_rng(0)
    ceiling = [scores(rng, share) for share in (0.6, 0.8, 0.9)]
    found = pgr_interval([np.zeros(400)], [c / 2 for c in ceiling], ceiling)
    assert found[:3] == pytest.approx((0.5, 0.5, 0.5))


def test_other_runs_or_problems_are_refused():
    with pytest.raises(DataError, match="1 and 2 and 3 runs"):
        pgr_interval([np.ones(4)], [np.ones(4)] * 2, [np.ones(4)] * 3)
    with pytest.raises(DataError, match=r"\[4, 5\] problems"):
        pgr_interval([np.ones(4)], [np.ones(5)], [np.ones(4)])


def evaluated(scores, name="p"):
    return {
        "task": "t",
        "split": "dev",
        "metrics": {},
        "problems": [{"id": f"{name}{i}", "level": ""} for i in range(len(scores))],
        "outcomes": [[float(x)] for x in scores],
    }


def test_evaluations_of_the_same_problems_give_the_same():
    rng = np.random.default_rng(0)
    arms = [scores(rng, share, 50) for share in (0.3, 0.5, 0.8)]
    found = recovered(*[[evaluated(arm)] for arm in arms])
    assert found == pgr_interval(*[[arm] for arm in arms])
    with pytest.raises(DataError, match="other problems"):
        recovered([evaluated(arms[0])], [evaluated(arms[1], "q")], [evaluated(arms[2])])


@pytest.mark.slow
def test_the_interval_covers():
    """Independent answers, true PGR (0.5 - 0.3) / (0.7 - 0.3) = 0.5."""
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(200):
        arms = [[scores(rng, share, 200)] for share in (0.3, 0.5, 0.7)]
        found = pgr_interval(*arms, seed=i)
        hits += found.ci_low <= 0.5 <= found.ci_high
    assert 0.91 <= hits / 200 <= 0.99


def test_runs_of_one_base_are_drawn_together():
    """Bases differ, runs of one do not: as wide as if each base had one run."""
    rng = np.random.default_rng(0)
    weak, ceiling = scores(rng, 0.1), scores(rng, 0.9)
    bases = [scores(rng, share) for share in (0.3, 0.5, 0.7)]
    twice = [base for base in bases for _ in range(2)]
    names = [name for name in "abc" for _ in range(2)]
    apart = pgr_interval([weak], twice, [ceiling])
    together = pgr_interval([weak], twice, [ceiling], bases=names)
    single = pgr_interval([weak], bases, [ceiling])
    assert together.value == pytest.approx(apart.value)
    width = together.ci_high - together.ci_low
    assert width > 1.3 * (apart.ci_high - apart.ci_low)
    assert width == pytest.approx(single.ci_high - single.ci_low, rel=0.1)
    with pytest.raises(DataError, match="base model of each run"):
        pgr_interval([weak], bases, [ceiling], bases=["a"])
