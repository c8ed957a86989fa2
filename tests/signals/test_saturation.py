"""Whether SFT has signal left: the numbers, and that the words follow from them."""

import json

import numpy as np
import pytest
import torch

import tiny
from rekindle.engine.batch import count, pack
from rekindle.engine.config import OptimConfig
from rekindle.engine.device import Group
from rekindle.engine.update import fresh_state, update
from rekindle.errors import DataError, ModelError
from rekindle.methods.sft import sft_objective
from rekindle.records import Problem
from rekindle.signals.sft_signal import ratio, saturation
from signals.lookups import row


def problems(first, last, solution="12"):
    return [
        Problem(id=f"p{i}", prompt=f"{i}=", answer="12", level="all", solution=solution)
        for i in range(first, last)
    ]


def fitted(learnt, steps=80):
    policy = tiny.policy()
    prompts = [policy.encode_prompt(p) for p in learnt]
    answers = [policy.encode_completion(p, p.solution) for p in learnt]
    batch = pack(prompts, answers, reduction="token", total=count(answers))
    state = fresh_state({"policy": policy.model}, OptimConfig(steps=steps, lr=2e-2))
    for step in range(steps):
        state.step = step
        micro = batch.split(10_000)
        update(state, micro, sft_objective(policy), clip=1e9, group=Group(), device=policy.device)
    return policy


def test_a_model_that_knows_the_answers_is_saturated():
    found = saturation(fitted(problems(0, 8)), problems(0, 8), problems(10, 18))
    assert found.state == "saturated"
    assert row(found, "tokens/above_099").value == 1
    assert row(found, "mass/non_target").ci_high < 0.01
    assert "stopped" in found.verdict


def test_one_that_knows_only_these_has_memorised_them():
    held_out = problems(10, 18, solution="7+7")
    found = saturation(fitted(problems(0, 8)), problems(0, 8), held_out)
    assert found.state == "memorised"
    assert row(found, "nll/held_out").value > 2 * row(found, "nll").value
    assert "more data" in found.verdict


def test_a_fresh_model_still_has_signal():
    found = saturation(tiny.policy(), problems(0, 8), problems(10, 18))
    assert found.state == "alive"
    assert row(found, "mass/non_target").value > 0.9
    assert row(found, "tokens/above_099").value == 0


def test_with_a_weak_model_the_mix_is_measured():
    strong, weak = fitted(problems(0, 8)), tiny.policy()
    found = saturation(strong, problems(0, 8), problems(10, 18), weak=weak)
    assert row(found, "entropy/change").ci_high < 0
    assert row(found, "entropy/fell").value == 1
    assert row(found, "mix/gradient").value > row(found, "mass/non_target").value
    assert row(found, "mix/reactivated").value > 0.9
    assert "does not say that it helps" in found.verdict
    json.dumps(found.as_dict())


def test_the_weak_model_itself_brings_nothing_back():
    policy = tiny.policy()
    found = saturation(policy, problems(0, 8), problems(10, 18), weak=policy)
    assert row(found, "entropy/change").value == 0
    assert row(found, "mix/amplified").value == 0
    half = row(found, "mass/non_target").value / 2
    assert row(found, "mix/gradient").value == pytest.approx(half, rel=0.02)


def test_bad_input_is_named():
    with pytest.raises(DataError, match="no sample of the dev split has a solution"):
        saturation(tiny.policy(), problems(0, 3), problems(0, 3, solution=None))
    wider = tiny.policy()
    wider.model.lm_head.weight = torch.nn.Parameter(torch.zeros(99, 16, dtype=torch.float64))
    with pytest.raises(ModelError, match="vocabulary"):
        saturation(tiny.policy(), problems(0, 3), problems(0, 3), weak=wider)


def test_a_ratio_of_samples_that_are_all_alike_has_an_interval_all_the_same():
    """No draw differs, and samples that were not seen may."""
    found = ratio(np.full(20, 1.0), np.full(20, 2.0), top=1.0)
    assert found.value == 0.5
    assert found.ci_low < 0.5 < found.ci_high <= 1.0
