"""What enters a comparison, and what is said beside it."""

import numpy as np
import pytest

from rekindle.study.analyse.spending import unequal_budgets
from rekindle.study.plan.study_file import Budget
from study.costless_runs import cost
from study.evaluations import BASES, RIGHT, evaluation, usual

ARMS = {name: {"method": "sft"} for name in "abc"}
GAP = {"arms": ARMS, "pgr": {"weak": "a", "ceiling": "c"}}


def three(arm, base, seed):
    rng = np.random.default_rng([BASES.index(base), seed, ord(arm)])
    return evaluation((rng.random(60) < {"a": 0.2, "b": 0.5, "c": 0.9}[arm]).astype(int).tolist())


# --- what enters


def test_pairs_of_other_data_than_most_are_left_out(made):
    row = made(usual, data=lambda key: "new" if key[1:] == ("base-2", 1) else "old")
    assert (row["n_pairs"], row["missing_pairs"]) == (5, 1)
    assert row["why"].startswith("left out base-2 seed 1: the data was changed between runs")


def test_where_half_of_the_pairs_have_other_data_nothing_is_decided(made):
    better = {"a": [1, 0, 0] * 30, "b": [1] * 90}
    row = made(lambda a, b, s: evaluation(better[a]))
    assert row["verdict"] == "helps"
    row = made(lambda a, b, s: evaluation(better[a]), data=lambda key: f"{key[2]}")
    assert (row["n_pairs"], row["verdict"]) == (3, "cannot tell yet")
    assert "as many pairs had other data or problems" in row["why"]


def test_other_problems_in_one_seed_do_not_turn_three_bases_into_one(made):
    """An effect in one base of three: eight seeds do not make it a claim about bases."""

    def gains(arm, base, seed, moved=None):
        share = {"base-0": 0.75, "base-1": 0.55, "base-2": 0.5}[base] if arm == "b" else 0.5
        rng = np.random.default_rng([BASES.index(base), seed, ord(arm)])
        ids = [f"q{i}" for i in range(200)] if seed == moved else None
        return evaluation((rng.random(200) < share).astype(int).tolist(), ids)

    row = made(gains, seeds=list(range(8)))
    assert (row["verdict"], row["n_problems"]) == ("cannot tell yet", 200)
    row = made(lambda *key: gains(*key, moved=7), seeds=list(range(8)))
    assert (row["verdict"], row["n_problems"]) == ("cannot tell yet", 200)
    assert (row["n_pairs"], row["missing_pairs"]) == (21, 3)
    assert "most runs of the study had other problems" in row["why"]


def test_other_levels_of_the_same_problems_are_told(made):
    def leveled(arm, base, seed):
        found = usual(arm, base, seed)
        for i, problem in enumerate(found["problems"]):
            problem["level"] = "2" if i < (5 if base == "base-1" else 6) else "3"
        return found

    recipe = {"task": {"name": "chain"}, "optim": {"steps": 1}, "eval": {"samples": 1}}
    row = made(leveled, recipe=recipe, primary={"arm": "b", "level": "2"})
    assert (row["n_pairs"], row["n_problems"]) == (4, 6)
    assert "left out base-1 seed 0, base-1 seed 1" in row["why"]


def test_a_performance_gap_needs_one_data_too(made):
    found = made(three, data=lambda k: "new" if k[0] == "b" else "same", whole=True, **GAP)
    assert found["pgr"][0]["pgr"] is None
    assert "the data was changed between runs" in found["pgr"][0]["why"]
    found = made(three, data=lambda k: "new" if k[1:] == ("base-0", 0) else "x", whole=True, **GAP)
    assert (found["pgr"][0]["n_pairs"], found["pgr"][0]["missing_pairs"]) == (5, 1)
    assert "left out base-0 seed 0" in found["pgr"][0]["why"]


# --- what is said beside it


def test_one_run_and_one_base_are_told_beside_a_performance_gap(made):
    row = made(three, whole=True, seeds=[0], bases=["base-0"], **GAP)["pgr"][0]
    assert (row["n_pairs"], row["why"]) == (1, "one pair of runs decides nothing")
    some = made(lambda a, b, s: three(a, b, s) if b == "base-0" else None, whole=True, **GAP)
    assert "one base model of 3 say nothing of the others" in some["pgr"][0]["why"]


def test_a_performance_gap_in_what_is_lower_for_the_better(made):
    def lost(arm, base, seed):
        nll = {"a": 3.0, "b": 2.0, "c": 1.0}[arm]
        shift = 0.1 * BASES.index(base) + 0.01 * seed
        more = {"values": {"nll": [nll + shift + 0.05 * (i % 3) for i in range(60)]}}
        return {**evaluation([0] * 60, **more), "metrics": {"nll": {}}}

    recipe = {"task": {"name": "chain"}, "optim": {"steps": 1}, "eval": {"likelihood": True}}
    primary = {"arm": "b", "metric": "nll"}
    found = made(lost, whole=True, recipe=recipe, primary=primary, **GAP)["pgr"]
    assert [row["metric"] for row in found] == ["nll"]
    assert found[0]["pgr"] == pytest.approx(0.5)


def test_ends_without_an_arm_between_them_are_told(made):
    found = made(usual, whole=True, pgr={"weak": "a", "ceiling": "b"})["pgr"]
    assert [row["why"] for row in found] == ["there is no arm besides the two ends, a and b"]


def test_an_effect_that_is_too_small_to_matter_is_told(made):
    base = [1, 0] * 200
    row = made(
        lambda a, b, s: evaluation([1] * 40 + base if a == "b" else [0] * 40 + base),
        meaningful=0.5,
    )
    assert row["verdict"] == "helps"
    assert "above 0, but smaller than what was declared to matter" in row["why"]


def test_unequal_budgets_of_a_pair_are_told(made):
    row = made(usual, log=lambda arm: '{"step": 1}\n' * (10 if arm == "b" else 1))
    assert row["unequal_budget"] == ["b"]
    assert row["why"] == "unequal budget: b spent 10 updates, a 1"


def test_who_generates_nothing_is_exempt_only_where_it_does_nothing():
    spent = {
        "grpo": cost(generated=1000.0, trained=900.0, updates=9.0),
        "sft": cost(trained=900.0, updates=9.0),
        "start": cost(),
    }
    budget = Budget(unit="generated", at_most=1000)
    assert unequal_budgets(budget, spent, baseline="grpo") == {"sft": 0.0}


# --- runs that cannot be read


def test_a_run_that_cannot_be_read_is_a_failed_one(made):
    """No evaluation of ours, no cost: the rest of the study is still computed."""
    gone = ("b", "base-1", 0)
    found = made(lambda *key: {"a": 1} if key == gone else three(*key), whole=True, **GAP)
    assert found["comparisons"][0]["n_pairs"] == 5
    assert found["pgr"][0]["n_pairs"] == 5
    assert [(f["arm"], f["base"], f["seed"]) for f in found["failed"]] == [gone]
    assert "eval.json is not an evaluation" in found["failed"][0]["why"]
    assert found["unfinished"] == 1
    found = made(usual, log=lambda arm: "" if arm == "a" else '{"step": 1}\n', whole=True)
    assert len(found["failed"]) == 6
    assert "metrics.jsonl is empty" in found["failed"][0]["why"]


def test_one_arm_that_did_not_measure_a_metric_is_named(made):
    def measured(arm, base, seed):
        more = {"values": {"nll": [1.0] * 8}} if (arm, base) != ("b", "base-0") else {}
        return evaluation(RIGHT[0], **more)

    recipe = {"task": {"name": "chain"}, "optim": {"steps": 1}, "eval": {"likelihood": True}}
    row = made(measured, recipe=recipe, primary={"arm": "b", "metric": "nll"})
    assert row["n_pairs"] == 4
    assert "base-0 seed 0, base-0 seed 1: metric 'nll' was not measured in b" in row["why"]
