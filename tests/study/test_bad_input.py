"""What can go wrong around a study: clear words in its results, and no wrong number."""

import json
from pathlib import Path

import pytest

from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import read_json, write_json
from rekindle.report.study import load_study_page
from study.costless_runs import results_of
from study.evaluations import RIGHT, evaluation, usual
from study.inline_runs import Inline


def test_nothing_odd_has_nothing_to_say(made):
    row = made(usual)
    assert (row["n_pairs"], row["missing_pairs"], row["why"]) == (6, 0, "")
    assert row["delta"] == pytest.approx(1 / 8)


def test_seeds_that_one_arm_lacks_are_left_out_and_told(made):
    row = made(lambda a, b, s: None if (a, s) == ("b", 1) and b != "base-2" else usual(a, b, s))
    assert (row["n_pairs"], row["missing_pairs"], row["n_bases"]) == (4, 2, 3)
    assert row["why"] == "2 of 6 pairs are missing"


def test_pairs_of_one_base_of_several_say_nothing_of_bases(made):
    def better(arm, base, seed):
        right = [1] * 30 if arm == "b" else [1, 0, 0] * 10
        return evaluation(right) if base == "base-0" else None

    row = made(better)
    assert row["ci_low"] > 0  # on this base
    assert row["verdict"] == "cannot tell yet"
    assert "one base model of 3 say nothing of the others" in row["why"]
    assert made(better, bases=["base-0"])["verdict"] == "helps"


def test_one_seed_and_one_base_decide_nothing(made):
    row = made(usual, seeds=[0], bases=["base-0"])
    assert (row["verdict"], row["why"]) == ("cannot tell yet", "one pair of runs decides nothing")


def test_arms_that_were_asked_other_problems_are_not_compared(made):
    def asked(arm, base, seed):
        ids = None if arm == "a" else [f"q{i}" for i in range(8)]
        return evaluation(RIGHT[0], ids)

    row = made(asked)
    assert (row["delta"], row["n_pairs"], row["verdict"]) == (None, 0, "cannot tell yet")
    assert row["why"].startswith("the evaluations have different problems, got [('p0', 'q0')")


def test_data_that_was_changed_between_two_runs_of_a_pair_is_told(made):
    row = made(usual, data=lambda key: "new" if key == ("b", "base-1", 0) else "same")
    assert (row["delta"], row["n_pairs"]) == (pytest.approx(1 / 8), 5)
    assert row["why"] == (
        "left out base-1 seed 0: the data was changed between runs: those of a pair had other "
        "files; 1 of 6 pairs are missing"
    )


def test_a_metric_that_some_method_did_not_measure_loses_no_other_result(made):
    recipe = {"task": {"name": "chain"}, "optim": {"steps": 1}, "eval": {"likelihood": True}}
    row = made(usual, recipe=recipe, primary={"arm": "b", "metric": "nll"})
    assert (row["delta"], row["verdict"]) == (None, "cannot tell yet")
    assert row["why"] == "metric 'nll' was not measured"


def test_runs_without_any_score_are_missing_pairs(made):
    def lost(arm, base, seed):
        right = [None] * 8 if (arm, base) == ("b", "base-1") else RIGHT[int(arm == "b")]
        return evaluation(right)

    row = made(lost)
    assert (row["n_pairs"], row["missing_pairs"], row["n_bases"]) == (4, 2, 2)
    assert row["delta"] == pytest.approx(1 / 8)
    row = made(lambda a, b, s: evaluation([None] * 8))
    assert (row["delta"], row["p_value"]) == (None, None)
    assert row["why"] == "no problem has a score of it in both arms"


def test_arms_that_answer_alike_have_no_variance_and_an_honest_interval(made):
    row = made(lambda a, b, s: evaluation(RIGHT[0] * 5))
    assert row["delta"] == 0
    assert row["ci_low"] < -0.05 < 0.05 < row["ci_high"]
    assert (row["p_value"], row["verdict"]) == (1, "cannot tell yet")


def test_both_intervals_are_there_when_the_bootstrap_is_asked_for(made):
    def noisy(arm, base, seed):
        shift = int(base[-1]) + seed
        return evaluation([int((i * 7 + shift * (arm == "b")) % 3 > 0) for i in range(40)])

    plain, row = made(noisy), made(noisy, interval="bootstrap")
    assert "intervals" not in plain
    assert row["delta"] == plain["delta"]
    assert row["intervals"]["crossed"] == [plain["ci_low"], plain["ci_high"]]
    assert row["intervals"]["bootstrap"] == [row["ci_low"], row["ci_high"]]
    assert row["ci_low"] != plain["ci_low"]


# --- another version's directories


def test_a_study_or_run_of_another_version_is_refused_by_name(file):
    study = file(seeds=[0], bases=["base-0"])
    results_of(study, "out", executor=Inline())
    run = next(Path("out").glob("runs/sft/*/*")) / "manifest.json"
    for path, says in (
        (run, "rekindle 0.0.1, state format 1"),
        (Path("out/manifest.json"), "another version"),
    ):
        before = read_json(path)
        write_json(path, {**before, "state_format": 1, "rekindle": "0.0.1"})
        with pytest.raises(RunDirectoryError) as error:
            results_of(study, "out", executor=Inline(), mode="resume")
        assert says in str(error.value)
        assert "0.0.1" in str(error.value)
        write_json(path, before)
    results_of(study, "out", executor=Inline(), mode="resume")


def test_results_of_another_format_are_not_read_as_ours(tmp_path):
    write_json(tmp_path / "study.json", {"format": 99, "comparisons": []})
    with pytest.raises(DataError, match="format 99"):
        load_study_page(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="holds no results"):
        load_study_page(tmp_path)
