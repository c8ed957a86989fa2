"""Log-probs of a log: how sure the policy is where it is wrong, and who computed them."""

from dataclasses import replace

import numpy as np
import pytest

from rekindle.signals.run_diagnosis.confidence import confidence_findings
from signals.run_diagnosis.planted import by_name, make_log

RIGHT = np.array([1.0, 0, 0, 0])
TOKENS = np.array([10.0, 10, 20, 40])
PER_TOKEN = np.log([0.8, 0.95, 0.6, 0.3])


def log_of(**columns):
    return make_log(RIGHT, [0, 0, 1, 1], tokens=TOKENS, **columns)


def test_wrong_answers_by_hand():
    """Probabilities per token .95, .6, .3 of the wrong ones: 2 of 3 above .5, 1 of 3 above .9."""
    found = by_name(confidence_findings(log_of(logprob=PER_TOKEN * TOKENS), RIGHT))
    assert found["confidence/right"].value == pytest.approx(np.log(0.8))
    assert found["confidence/wrong"].value == pytest.approx(PER_TOKEN[1:].mean())
    assert found["confidence/wrong_above_50"].value == pytest.approx(2 / 3)
    assert found["confidence/wrong_above_90"].value == pytest.approx(1 / 3)
    assert found["confidence/auc_in_groups"].value == 0  # .8 right against .95 wrong
    assert "1 pairs" in found["confidence/auc_in_groups"].rests_on
    assert "trainer" in found["confidence/wrong"].rests_on


def test_the_samplers_log_probs_serve_where_the_trainers_are_missing():
    found = by_name(confidence_findings(log_of(sampler_logprob=PER_TOKEN * TOKENS), RIGHT))
    assert found["confidence/right"].value == pytest.approx(np.log(0.8))
    assert "sampler" in found["confidence/right"].rests_on
    assert "confidence/gap" not in found


def test_the_gap_of_sums_by_hand():
    """Sums 1, 2, 2 and 8 nats apart over 10, 10, 20 and 40 tokens: .1, .2, .1, .2."""
    logprob = PER_TOKEN * TOKENS
    log = log_of(logprob=logprob, sampler_logprob=logprob + np.array([1, -2, 2, 8]))
    found = by_name(confidence_findings(log, RIGHT))["confidence/gap"]
    assert found.value == pytest.approx(0.15)
    assert "the least that it can be" in found.rests_on


def test_a_gap_by_token_is_preferred():
    logprob = PER_TOKEN * TOKENS
    log = log_of(logprob=logprob, sampler_logprob=logprob, gap=[0.1, 0.2, 0.3, 0.4])
    found = by_name(confidence_findings(log, RIGHT))["confidence/gap"]
    assert found.value == pytest.approx(0.25)
    assert "mean over tokens" in found.rests_on


def test_confidence_that_knows_right_from_wrong():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 8)
    right = (rng.random(480) < 0.5).astype(float)
    tokens = np.full(480, 50.0)
    sure = make_log(right, group, tokens=tokens, logprob=50 * (0.3 * right - rng.random(480) - 0.4))
    found = by_name(confidence_findings(sure, right))["confidence/auc_in_groups"]
    assert found.ci_low > 0.5
    assert "surer of right answers" in found.says
    blind = make_log(right, group, tokens=tokens, logprob=-50 * rng.random(480))
    found = by_name(confidence_findings(blind, right))["confidence/auc_in_groups"]
    assert found.ci_low < 0.5 < found.ci_high


def test_prime_rls_rounding_is_bounded():
    """Four decimals: 5e-5 a token; 20 tokens on average, 40 at most."""
    log = log_of(logprob=PER_TOKEN * TOKENS)
    prime = replace(log, about=replace(log.about, format="prime-rl"))
    found = by_name(confidence_findings(prime, RIGHT))["confidence/rounding"]
    assert found.value == pytest.approx(20 * 5e-5)
    assert "0.002 for the longest" in found.says
    assert "confidence/rounding" not in by_name(confidence_findings(log, RIGHT))


@pytest.mark.parametrize(
    ("columns", "missing"), [({}, "log-probs"), ({"logprob": [-1, -1, -1, -1]}, "counts of tokens")]
)
def test_what_is_missing_is_said(columns, missing):
    log = make_log(RIGHT, [0, 0, 1, 1], **columns)
    found = by_name(confidence_findings(log, RIGHT))
    assert list(found) == ["confidence/wrong"]
    assert missing in found["confidence/wrong"].says
    assert np.isnan(found["confidence/wrong"].value)


def test_answers_of_no_token_and_log_probs_above_zero():
    logprob = PER_TOKEN * TOKENS
    log = make_log(RIGHT, [0, 0, 1, 1], tokens=[0, 10, 20, 40], logprob=[0, *logprob[1:3], 4.0])
    found = by_name(confidence_findings(log, RIGHT))
    assert "confidence/right" not in found
    assert "above 0" in found["confidence/wrong"].rests_on
