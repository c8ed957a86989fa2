"""Metrics of a model's own probabilities: exact, and beside what sampling finds."""

import math

import numpy as np
import pytest
import torch

import tiny
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import SampleConfig
from rekindle.engine.layout import lay_out
from rekindle.errors import DataError
from rekindle.evals.compare import compare
from rekindle.evals.evaluate import (
    brier,
    calibration,
    confidence,
    evaluate,
    reference_values,
)
from rekindle.records import Problem, Rollout, Score


def problem(i, solution="12"):
    return Problem(id=f"p{i}", prompt=f"{i}=", answer="12", level="all", solution=solution)


class Twelve:
    """Right when the text is 12."""

    name = "twelve"

    def grade(self, problem, text):
        return Score(float(text == "12"))

    def answer_of(self, problem, text):
        return text or None


def by_hand(policy, text, temperature=1.0):
    """log p of each token of the answer and the end token, by a loop over prefixes."""
    prompt = policy.encode_prompt(problem(3))
    answer = (*policy.tokenizer(text, add_special_tokens=False)["input_ids"], policy.eos_id)
    out, tokens = [], list(prompt)
    for token in answer:
        z = policy.model(torch.tensor([tokens])).logits[0, -1] / temperature
        out.append(float(z.log_softmax(-1)[token].detach()))
        tokens.append(token)
    return out


def test_chain_probability_and_nll_are_those_of_the_reference_answer():
    policy = tiny.policy()
    found = reference_values(policy, [problem(1, "4"), problem(3)], temperatures=(0.5,))
    logp, colder = by_hand(policy, "12"), by_hand(policy, "12", 0.5)
    assert found["chain_prob"][1] == pytest.approx(math.exp(sum(logp)), rel=1e-9)
    assert found["nll"][1] == pytest.approx(-sum(logp) / 3, rel=1e-9)
    assert found["chain_prob@t0.5"][1] == pytest.approx(math.exp(sum(colder)), rel=1e-9)


def test_without_solutions_there_is_nothing_and_a_missing_one_is_missing():
    policy = tiny.policy()
    assert reference_values(policy, [problem(1, None)]) == {}
    found = reference_values(policy, [problem(1, None), problem(3)])
    assert np.isnan(found["chain_prob"][0])
    assert found["chain_prob"][1] > 0


def test_chain_probability_is_the_accuracy_of_sampling_where_the_answer_is_unique():
    """A model that knows `12` half of the time; 4,000 samples, 4 standard errors."""
    policy = tiny.policy()
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=1e-2)
    prompt = policy.encode_prompt(problem(3))
    layout = lay_out([prompt], [policy.encode_completion(problem(3), "12")])
    for _ in range(60):
        scores = policy.logprobs(layout)
        if float(scores.logprobs_BT.detach().sum().exp()) > 0.3:
            break
        optimizer.zero_grad()
        (-scores.logprobs_BT.sum()).backward()
        optimizer.step()
    exact = float(reference_values(policy, [problem(3)])["chain_prob"][0])
    config = SampleConfig(max_new_tokens=4)
    drawn = CachedSampler(policy).sample([problem(3)], samples=4000, config=config, seed=0)
    share = np.mean([rollout.text == "12" for rollout in drawn])
    assert 0.2 < exact < 0.9
    assert share == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))


def test_calibration_by_hand():
    """Bins [0, .1): .05 -> 0; [.9, 1]: .95, .95, 1 -> 1, 0, 1 (mean .9667 against .6667)."""
    sure, right = np.array([0.05, 0.95, 0.95, 1.0, 0.5]), np.array([0.0, 1, 0, 1, np.nan])
    found = calibration(sure, right)
    assert found["ece"] == pytest.approx((0.05 + 3 * (2.9 / 3 - 2 / 3)) / 4)
    assert found["n"] == 4
    assert [b["n"] for b in found["bins"]] == [1, 3]
    np.testing.assert_allclose(brier(sure, right), [0.0025, 0.0025, 0.9025, 0, np.nan])
    assert calibration(np.array([0.5]), np.array([np.nan])) == {"ece": None, "n": 0, "bins": []}


def test_confidence_is_the_probability_of_the_answer():
    rollout = Rollout(problem(1), 0, (1,), (5, 2), (-0.5, -0.25), "1", "eos")
    assert confidence([rollout])[0] == pytest.approx(math.exp(-0.75))


@pytest.fixture
def result():
    policy = tiny.policy()
    return evaluate(
        [problem(i) for i in range(6)],
        sampler=CachedSampler(policy),
        task=Twelve(),
        sample_config=SampleConfig(max_new_tokens=4),
        samples=4,
        seed=0,
        temperatures=(0.5, 2.0),
        policy=policy,
    )


def test_an_evaluation_has_them_beside_the_others(result):
    metrics = result["metrics"]
    for name in ("pass@1@t0.5", "pass@1@t2", "chain_prob", "chain_prob@t0.5", "nll", "brier"):
        assert metrics[name]["n"] == 6
        assert len(result["values"][name]) == 6
    assert metrics["nll"]["value"] > 1
    assert metrics["nll"]["ci_low"] <= metrics["nll"]["value"] <= metrics["nll"]["ci_high"]
    assert set(result["calibration"]) == {"ece", "n", "bins"}


def test_they_are_compared_in_pairs(result):
    better = {**result, "values": {**result["values"], "chain_prob": [0.5] * 6}}
    found = compare(result, better, metric="chain_prob")
    assert found.value == pytest.approx(0.5 - result["metrics"]["chain_prob"]["value"])
    assert compare(result, result, metric="nll").value == 0
    with pytest.raises(DataError, match="not measured"):
        compare(result, result, metric="chain_prob@t3")


def test_without_a_policy_there_are_none():
    plain = evaluate(
        [problem(1), problem(2)],
        sampler=CachedSampler(tiny.policy()),
        task=Twelve(),
        sample_config=SampleConfig(max_new_tokens=2),
        samples=1,
        seed=0,
    )
    assert plain["values"] == {}
    assert "calibration" not in plain
