"""PGR: the paper's numbers, its limits, and an interval that covers."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from rekindle.errors import DataError
from rekindle.evals.crossed import crossed
from rekindle.evals.pgr import NO_GAP, UNSURE, pgr, pgr_interval, recovered


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
    assert found.value == pytest.approx(pgr(*(arm[0].mean() for arm in arms)))
    assert found.ci_low < found.value < found.ci_high
    assert found[3:] == (400, 1, None)
    uneven = [[scores(rng, share) for _ in range(3)] for share in (0.3, 0.5, 0.8)]
    means = [(np.mean(arm[:2]) + np.mean(arm[2])) / 2 for arm in uneven]
    assert pgr_interval(*uneven, bases=["a", "a", "b"]).value == pytest.approx(pgr(*means))


def unseen(value, gap, problems=400):
    """How far from a PGR on which all problems agree Wilson lets those not yet seen bring it."""
    z2 = stats.norm.ppf(0.975) ** 2
    return (1 + abs(value)) * z2 / (problems + z2) / gap


def test_the_student_that_is_the_ceiling_has_recovered_all():
    rng = np.random.default_rng(0)
    weak, ceiling = [scores(rng, 0.3)], [scores(rng, 0.8)]
    gap = ceiling[0].mean() - weak[0].mean()
    for student, value in ((ceiling, 1), (weak, 0)):
        expected = (value, value - unseen(value, gap), value + unseen(value, gap))
        assert pgr_interval(weak, student, ceiling)[:3] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("runs", [1, 3])
def test_scores_that_all_agree_are_not_certain(runs):
    """Zero variance: of four problems nobody knows the fifth. Of ten on which the student equals
    the ceiling, Wilson allows 28 % on which it does not."""
    rng = np.random.default_rng(0)
    flat = [np.full(4, share) for share in (0.0, 0.5, 1.0)]
    few = [np.zeros(4), np.ones(4), np.ones(4)]
    weak, ceiling = np.zeros(10), 0.8 + 0.2 * rng.random(10)
    for arms in (flat, few, [weak, ceiling, ceiling]):
        found = pgr_interval(*([arm] * runs for arm in arms))
        assert found.value in (0.5, 1.0)
        assert found.ci_low < found.value - 0.25 or found.reason == UNSURE
        assert not found.ci_high < found.value + 0.25 or found.reason == UNSURE
    wide = pgr_interval([weak], [ceiling], [ceiling], reach=math.inf)
    assert (wide.ci_low, wide.ci_high) == (-math.inf, math.inf)


def test_one_run_has_fiellers_closed_form():
    """The roots of (gain - r gap)^2 = t^2 (V_gain - 2 r C + r^2 V_gap), by hand."""
    rng = np.random.default_rng(0)
    weak, w2s, ceiling = (scores(rng, share, 80) for share in (0.2, 0.5, 0.9))
    gain, gap = w2s - weak, ceiling - weak
    v = np.cov(gain, gap) / 80
    t2 = stats.t.ppf(0.975, 79) ** 2
    roots = np.roots([
        gap.mean() ** 2 - t2 * v[1, 1],
        -2 * (gain.mean() * gap.mean() - t2 * v[0, 1]),
        gain.mean() ** 2 - t2 * v[0, 0],
    ])  # fmt: skip
    found = pgr_interval([weak], [w2s], [ceiling])
    assert (found.ci_low, found.ci_high) == pytest.approx(sorted(roots), abs=1e-6)


def test_it_is_above_0_exactly_where_the_student_is_above_the_weak_model():
    """Shifts of the student around the place where the paired interval touches 0."""
    rng = np.random.default_rng(3)
    weak = [rng.random(60) * 0.4 for _ in range(6)]
    ceiling = [w + 0.4 + 0.05 * rng.normal(size=60) for w in weak]
    bases = list("aabbcc")
    noise = [w + rng.normal(0, 0.05) + 0.1 * rng.normal(size=60) for w in weak]
    seen = set()
    for shift in np.linspace(-0.1, 0.25, 8):
        w2s = [x + shift for x in noise]
        nested = {}
        for name, one, other in zip(bases, w2s, weak, strict=True):
            seeds = nested.setdefault(name, {})
            seeds[len(seeds)] = one - other
        above = crossed(nested).ci_low > 0
        assert (pgr_interval(weak, w2s, ceiling, bases=bases).ci_low > 0) == above
        seen.add(above)
    assert seen == {True, False}


def test_without_a_gap_it_is_undefined_and_says_so():
    ones, zeros = [np.ones(50)], [np.zeros(50)]
    for weak, ceiling in ((ones, zeros), (ones, ones)):
        found = pgr_interval(weak, ones, ceiling)
        assert math.isnan(found.value)
        assert found.reason == NO_GAP


def test_a_gap_that_may_not_be_there_has_no_bounds():
    """One problem of ten tells them apart: the gap is 0.1 +- 0.23."""
    weak, ceiling = np.zeros(10), np.zeros(10)
    ceiling[3] = 1
    found = pgr_interval([weak], [ceiling], [ceiling])
    assert found.value == 1
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)
    assert found.reason == UNSURE


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
    far = unseen(0.5, np.mean(ceiling))
    assert found[:3] == pytest.approx((0.5, 0.5 - far, 0.5 + far), abs=1e-6)


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
    with pytest.raises(DataError, match="different problems"):
        recovered([evaluated(arms[0])], [evaluated(arms[1], "q")], [evaluated(arms[2])])


def test_less_is_better_turned_round_is_the_same():
    rng = np.random.default_rng(0)
    arms = [[evaluated(scores(rng, share, 50))] for share in (0.3, 0.5, 0.8)]
    found = recovered(*arms)
    for arm in arms:
        right = arm[0]["outcomes"]
        arm[0]["values"] = {"nll": [5.0 - 2.0 * row[0] for row in right]}
    assert recovered(*arms, metric="nll")[:3] == pytest.approx(found[:3], abs=1e-6)
    assert recovered(*arms[::-1], metric="nll").reason == NO_GAP


@pytest.mark.slow
@pytest.mark.parametrize(("bases", "seeds", "spread"), [(3, 2, 0.03), (3, 8, 0.06), (4, 4, 0.0)])
def test_the_interval_covers(bases, seeds, spread):
    """Students of bases that differ; true PGR (0.5 - 0.3) / (0.7 - 0.3) = 0.5. Of 100 intervals
    95 hold it, 89 or more with all but a chance of 0.01."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        of_problem = rng.normal(0, 0.15, 100)
        names, arms = [], ([], [], [])
        for base in range(bases):
            shift = rng.normal(0, spread)
            for _ in range(seeds):
                names.append(str(base))
                for arm, mean in zip(arms, (0.3, 0.5 + shift, 0.7), strict=True):
                    arm.append(rng.binomial(8, np.clip(mean + of_problem, 0, 1)) / 8)
        found = pgr_interval(*arms, bases=names)
        hits += found.ci_low <= 0.5 <= found.ci_high
    assert hits >= 89


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
    assert width > 1.3 * (apart.ci_high - apart.ci_low)  # t of 2 degrees of freedom, not 5
    assert width == pytest.approx(single.ci_high - single.ci_low, rel=0.1)
    with pytest.raises(DataError, match="base model of each run"):
        pgr_interval([weak], bases, [ceiling], bases=["a"])
