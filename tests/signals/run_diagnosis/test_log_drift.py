"""What moved between the first third of a run and the last."""

import numpy as np
import pytest

from rekindle.signals.run_diagnosis.drift import drift_findings, late_minus_early, slope
from signals.run_diagnosis.planted import by_name, make_log


def run(seed=0, *, steps=30, groups=8, size=4, rise=0.0, **columns):
    """Answers whose chance of being right and length grow by `rise` over the run."""
    rng = np.random.default_rng(seed)
    step = np.repeat(np.arange(1, steps + 1), groups * size)
    along = (step - 1) / (steps - 1)
    right = (rng.random(len(step)) < 0.3 + rise * along).astype(float)
    tokens = np.round(100 + 100 * rise * along + rng.normal(0, 10, len(step)))
    group = np.repeat(np.arange(steps * groups), size)
    return make_log(right, group, step=step, tokens=tokens, **columns), right


def test_thirds_by_hand():
    """Six steps of one group of two: lengths 1, 1 early, 3, 5 late; the middle does not count."""
    tokens = [1, 1, 1, 1, 9, 9, 9, 9, 3, 3, 5, 5]
    log = make_log(
        np.zeros(12), np.repeat(np.arange(6), 2), step=np.repeat(range(6), 2), tokens=tokens
    )
    found = by_name(drift_findings(log, np.zeros(12)))["drift/length"]
    assert found.value == 3
    assert "steps 0 to 1 against 4 to 5" in found.rests_on
    assert "tokens" in found.says


def test_the_same_prompts_are_held_against_themselves():
    """Two prompts gain 2 each; a hard one is asked late alone, and the plain difference lies."""
    step = np.repeat([0, 1, 2], [4, 4, 6])
    prompt = np.repeat([0, 1, 2, 3, 0, 1, 4], 2)
    score = np.repeat([1.0, 3, 9, 9, 3, 5, -20], 2)
    log = make_log(score, np.repeat(np.arange(7), 2), prompt=prompt, step=step)
    found = by_name(drift_findings(log, np.full(14, np.nan)))
    assert found["drift/reward"].value == pytest.approx(-4 - 2)
    own = found["drift/reward/same_prompts"]
    assert (own.value, own.n) == (2, 2)


def test_a_run_that_moves_is_seen_and_one_that_rests_is_not():
    moved, right = run(rise=0.4)
    found = by_name(drift_findings(moved, right))
    for name in ("drift/right", "drift/length", "drift/right/slope", "drift/length/slope"):
        assert found[name].ci_low > 0, name
    assert "drift/reward" not in found  # it is the verdict
    rests, wrong = 0, 0
    for seed in range(100):
        log, right = run(seed)
        found = by_name(drift_findings(log, right))
        rests += 4
        wrong += sum(
            not found[name].ci_low <= 0 <= found[name].ci_high
            for name in ("drift/right", "drift/length", "drift/right/slope", "drift/length/slope")
        )
    assert wrong / rests < 0.08


def test_a_line_is_fitted_exactly():
    step = np.array([0, 50, 100, 150])
    found = slope(3 + 0.02 * step, step, np.arange(4))
    assert found.value == pytest.approx(2)  # in 100 steps
    assert found.ci_low == pytest.approx(2)


def test_surprise_is_minus_log_prob_per_token():
    log, right = run(steps=3)
    early = log.step_N == 1
    logprob = np.where(early, -0.5, -0.1) * log.tokens_N
    log, right = run(steps=3, logprob=logprob)
    assert by_name(drift_findings(log, right))["drift/surprise"].value == pytest.approx(-0.4)


@pytest.mark.parametrize("steps", [1, 2])
def test_two_steps_are_no_run(steps):
    log, right = run(steps=2)
    step = np.minimum(log.step_N, steps)
    log = make_log(right, log.group_N, step=step)
    assert drift_findings(log, right) == []


def test_rows_without_a_step_and_repeats_stay_out():
    step = [-1, -1, 0, 0, 1, 1, 2, 2, 2, 2]
    repeated = np.arange(10) >= 8
    log = make_log(
        [9, 9, 1, 1, 5, 5, 2, 2, 9, 9], np.repeat(range(5), 2), step=step, repeated_N=repeated
    )
    assert by_name(drift_findings(log, np.full(10, np.nan)))["drift/reward"].value == 1


@pytest.mark.parametrize("name", ["entropy", "actor/entropy"])
def test_the_logged_entropy_is_followed(name):
    rng = np.random.default_rng(0)
    history = [{"step": s, name: 2 - s / 30 + 0.1 * rng.normal()} for s in range(30)]
    history.append({"step": 31, "loss": 0.0})
    log = make_log([0, 1], [0, 0], history=history)
    found = by_name(drift_findings(log, np.array([0.0, 1])))["drift/entropy"]
    assert found.value == pytest.approx(-20 / 30, abs=0.1)
    assert found.ci_high < 0
    assert "30 logged steps" in found.rests_on


def test_neighbouring_steps_widen_the_interval():
    """An AR(1) series of correlation 0.5 with a trend, 30 steps: it covers in 93 % of 2,000."""
    rng, inside, trials = np.random.default_rng(1), 0, 1000
    for _ in range(trials):
        noise = rng.normal(size=80)
        for at in range(1, 80):
            noise[at] += 0.5 * noise[at - 1]
        found = late_minus_early(noise[50:] + 0.05 * np.arange(30))
        inside += found.ci_low <= 0.05 * 20 <= found.ci_high
    assert 0.915 < inside / trials < 0.97


def test_a_constant_entropy_has_no_interval():
    found = late_minus_early(np.full(30, 0.7))
    assert found.value == 0
    assert np.isnan(found.ci_low)
