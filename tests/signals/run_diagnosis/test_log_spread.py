"""Spread of the reward that is not of right and wrong: who carries it, and what it follows."""

import numpy as np
import pytest

from rekindle.signals.run_diagnosis.spread import carried, spread_findings
from rekindle.signals.run_diagnosis.within_groups import correlation, groups_of, ranks
from signals.run_diagnosis.planted import by_name, make_log

BOX = "\\boxed{1}"


def healthy(seed, *, groups=60, size=4):
    """Right or wrong by chance, a box now and then that nobody pays for."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    right = (rng.random(groups * size) < np.repeat(rng.random(groups), size)).astype(float)
    texts = ["x" * int(n) + (BOX if n % 2 else "") for n in rng.integers(1, 40, len(group))]
    return group, right, texts


def test_groups_that_only_the_format_keeps_alive_are_counted():
    """Four groups of two: format splits an all-wrong and an all-right one, the verdict one, none
    the last: 2 of 3 groups with spread are not of the verdict, and all of that is the box."""
    right = [0, 0, 1, 0, 0, 0, 1, 1]
    boxed = [1, 0, 0, 0, 0, 0, 1, 0]
    texts = [BOX if b else "no box" for b in boxed]
    log = make_log(
        np.add(right, boxed),
        [0, 0, 1, 1, 2, 2, 3, 3],
        texts=texts,
        parts={"right": right, "in_box": boxed},
    )
    found = by_name(spread_findings(log, np.array(right, dtype=float)))
    assert found["spread/not_of_verdict"].value == pytest.approx(2 / 3)
    assert found["spread/of_form"].value == pytest.approx(2 / 3)
    assert "in_box alone" in found["spread/of_form"].says
    assert "(33 % are all wrong)" in found["spread/not_of_verdict"].says
    assert found["spread/part/in_box"].value == pytest.approx(1)
    assert found["spread/part/right"].value == 0
    assert found["spread/mark/in_box"].value == pytest.approx(1)
    assert "spread/mark/right" not in found  # the verdict itself is never taken for a format


def test_a_reward_that_is_the_verdict_has_no_spread_of_its_own():
    for seed in range(5):
        group, right, texts = healthy(seed)
        found = by_name(spread_findings(make_log(right, group, texts=texts), right))
        share = found["spread/not_of_verdict"]
        assert (share.value, share.ci_low) == (0, 0)
        assert 0 < share.ci_high < 0.1  # not proven to be nothing
        assert found["spread/of_form"].value == 0


@pytest.mark.parametrize("kept", ["tokens", "characters"])
def test_a_reward_for_brevity_is_a_function_of_length(kept):
    group, right, texts = healthy(1)
    tokens = np.array([float(len(text)) for text in texts])
    parts = {"right": right, "brief": 1 / tokens}
    known = {"tokens": tokens} if kept == "tokens" else {}
    log = make_log(right + 1 / tokens, group, texts=texts, parts=parts, **known)
    found = by_name(spread_findings(log, right))
    assert found["spread/length/brief"].value == pytest.approx(-1)
    assert "brief is a function of length" in found["spread/length/brief"].says
    assert kept in found["spread/length/brief"].rests_on
    assert found["spread/of_form"].value == found["spread/not_of_verdict"].value > 0


def test_a_reward_model_that_ranks_wrong_answers_is_no_form():
    """HERO's case: spread without a verdict, and not of length or format."""
    group, right, texts = healthy(2)
    model = np.random.default_rng(0).normal(size=len(right))
    log = make_log(right + model, group, texts=texts, parts={"right": right, "model": model})
    found = by_name(spread_findings(log, right))
    assert found["spread/not_of_verdict"].value > 0.1
    assert found["spread/of_form"].value == 0
    assert found["spread/part/model"].value == pytest.approx(1)


def test_without_parts_the_total_itself_is_looked_at():
    group, right, texts = healthy(3)
    paid = right + 0.1 * np.array([BOX in text for text in texts])
    found = by_name(spread_findings(make_log(paid, group, texts=texts), right))
    assert found["spread/of_form"].value == found["spread/not_of_verdict"].value > 0.1
    assert "\\boxed{ alone" in found["spread/of_form"].says


def test_repeats_evaluations_and_rows_without_a_score_stay_out():
    right = np.array([0.0, 0, 1, 0, 0, 0, 0, 0])
    score = np.array([0.0, 1, 1, 0, 0, 1, np.nan, 1])
    out = np.arange(8) >= 4
    log = make_log(score, [0, 0, 1, 1, 2, 2, 3, 3], repeated_N=out & (np.arange(8) < 6))
    found = by_name(spread_findings(log, right))
    assert found["spread/not_of_verdict"].value == 0.5
    assert "of 2" in found["spread/not_of_verdict"].rests_on


def test_without_verdicts_only_length_is_told():
    group, right, texts = healthy(4)
    found = by_name(
        spread_findings(make_log(right, group, texts=texts), np.full(len(right), np.nan))
    )
    assert list(found) == ["spread/length"]


# --- the pieces


def test_shares_of_the_variance_sum_to_one_and_weights_are_found():
    """total = 2 a + b, in one group a = (1, -1, 1, -1), b = (1, 1, -1, -1): uncorrelated, 4 : 1."""
    a, b = np.array([1.0, -1, 1, -1]), np.array([1.0, 1, -1, -1])
    log = make_log(2 * a + b, [0] * 4)
    shares = carried(groups_of(log, log.score_N), log.score_N, {"a": a, "b": b})
    assert {name: round(share.value, 9) for name, share in shares.items()} == {"a": 0.8, "b": 0.2}
    shares = carried(groups_of(log, log.score_N), log.score_N, {"a": a})
    assert {name: round(share.value, 9) for name, share in shares.items()} == {
        "a": 0.8,
        "rest": 0.2,
    }


def test_equal_thirds_are_no_spread():
    """0.1 + 0.2 against 0.3, and 1/3 three times: rounding is not taken for a reward."""
    score = [0.1 + 0.2, 0.3, 1 / 3, np.float32(1 / 3), 1e-9, 2e-9]
    log = make_log(score, [0, 0, 1, 1, 2, 2])
    groups = groups_of(log, log.score_N)
    assert groups.has_spread(log.score_N).tolist() == [False, False, True]


def test_a_correlation_within_groups_by_hand():
    """(-1, 1) against (-1, 1), (1, -1), (-1, 1): (2 - 2 + 2) / 6; by chance sqrt(12) / 6."""
    x, y = np.array([0.0, 2, 10, 12, 0, 2]), np.array([0.0, 2, 7, 5, 0, 2])
    log = make_log(x, [0, 0, 1, 1, 2, 2])
    found = correlation(groups_of(log, log.score_N), x, y)
    assert found.estimate.value == pytest.approx(1 / 3)
    assert found.by_chance == pytest.approx(12**0.5 / 6)
    assert found.estimate.n == 3


def test_ranks_within_groups_have_ties_in_the_middle():
    value = np.array([5.0, 1, 5, 7, 2, 2])
    assert ranks(value, np.array([0, 0, 0, 1, 1, 1])).tolist() == [2.5, 1, 2.5, 3, 1.5, 1.5]


def test_the_interval_of_a_correlation_covers_it():
    """y = x + noise within 40 groups of 4, prompts with levels of their own: 1 / sqrt(2)."""
    rng, inside, trials = np.random.default_rng(0), 0, 300
    group = np.repeat(np.arange(40), 4)
    log = make_log(np.zeros(160), group)
    groups = groups_of(log, log.score_N)
    for _ in range(trials):
        x = rng.normal(size=160)
        y = x + rng.normal(size=160)
        level = 3 * rng.normal(size=40)[group]
        low, high = correlation(groups, x + level, y - level).estimate[1:3]
        inside += low <= 2**-0.5 <= high
    assert 0.91 < inside / trials < 0.98
