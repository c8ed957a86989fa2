"""Answers graded again: what the verdict of the run let through, and what it lost."""

from dataclasses import replace

import numpy as np
import pytest

from rekindle.errors import ConfigError
from rekindle.records import Score
from rekindle.rewards.verifiers import verify
from rekindle.signals.run_diagnosis.regrade import regrade, regrade_findings
from signals.run_diagnosis.planted import by_name, make_log

GOLDS = ["4", "1/2"]
TEXTS = [
    "it is 4",
    "\\boxed{4}",
    "\\boxed{5}",
    "so 7",
    "\\boxed{0.5}",
    "#### 2",
    "0.5",
    "\\boxed{1/2}",
]
OURS = [1, 1, 0, 0, 1, 0, 1, 1]
LOGGED = np.array([0.0, 1, 1, 0, 1, 0, 0, 1])  # loses rows 0 and 6, accepts row 2


def log_of(**changes):
    return make_log(LOGGED, np.repeat([0, 1], 4), texts=TEXTS, golds=GOLDS, **changes)


def test_recall_and_errors_by_hand():
    """Of 5 that are right 3 are accepted, of 3 that are wrong 1; of 4 accepted 1 is wrong, of 4
    rejected 2 are right."""
    made = regrade(log_of(), LOGGED, check="numeric")
    assert made.ours_K.tolist() == OURS
    found = by_name(made.findings)
    assert {name: one.value for name, one in found.items()} == {
        "check/recall": 3 / 5,
        "check/accepts_of_wrong": 1 / 3,
        "check/false_accepts": 1 / 4,
        "check/false_rejects": 2 / 4,
    }
    assert (made.false_accepts, made.false_rejects) == ([2], [0, 6])
    assert "(planted.jsonl:1, planted.jsonl:7)" in found["check/false_rejects"].says
    assert "(planted.jsonl:3)" in found["check/false_accepts"].says
    assert "all 8 rows" in found["check/recall"].rests_on


def test_rows_that_our_check_cannot_grade_are_no_errors(monkeypatch):
    verdict = verify.Verdict(verify.Reading("box", 0, 0, ""), Score.missing("timeout"))
    monkeypatch.setattr(verify, "judge_answer", lambda *_: verdict)
    found = by_name(regrade_findings(log_of(), LOGGED, check="numeric"))
    assert found["check/unread"].value == 1
    assert np.isnan(found["check/false_accepts"].value)
    assert np.isnan(found["check/recall"].value)


def test_a_verdict_that_agrees_has_an_interval_all_the_same():
    ours = np.array(OURS, dtype=float)
    found = by_name(regrade_findings(log_of(), ours, check="numeric"))
    assert found["check/recall"].value == 1
    assert found["check/false_accepts"].value == found["check/false_rejects"].value == 0
    assert found["check/recall"].ci_low < 1
    assert found["check/false_accepts"].ci_high > 0
    assert "(" not in found["check/false_accepts"].says  # no example


def test_math_runs_in_processes_of_its_own():
    pytest.importorskip("math_verify")
    texts = ["\\boxed{\\frac{2}{4}}", "\\boxed{2}", "\\boxed{x+1}", "\\boxed{1+x}"]
    log = make_log([0, 0, 1, 1], [0, 0, 1, 1], texts=texts, golds=["1/2", "x+1"])
    made = regrade(log, np.array([0.0, 0, 1, 1]), check="math")
    assert made.ours_K.tolist() == [1, 0, 1, 1]
    assert made.false_rejects == [0]


def test_a_sample_of_a_large_log_is_spread_over_it():
    made = regrade(log_of(), LOGGED, check="numeric", most=4)
    assert made.row_K.tolist() == [0, 2, 4, 6]
    assert "4 of 8 rows, evenly spread" in made.findings[0].rests_on


def test_texts_that_were_not_kept_are_read_again():
    made = regrade(log_of(kept=False), LOGGED, check="numeric")
    assert made.ours_K.tolist() == OURS


def test_texts_that_were_sampled_are_not():
    sample = {row: TEXTS[row] for row in (0, 2, 4, 6)}
    log = replace(log_of(kept=False), sample=sample, reader=None)
    made = regrade(log, LOGGED, check="numeric", most=6)
    assert made.row_K.tolist() == [0, 2, 4, 6]
    assert made.ours_K.tolist() == [OURS[row] for row in (0, 2, 4, 6)]


def test_repeats_and_prompts_without_a_reference_stay_out():
    log = make_log(
        LOGGED, np.repeat([0, 1], 4), texts=TEXTS, golds=["4", None], repeated_N=[1] + [0] * 7
    )
    assert regrade(log, LOGGED, check="numeric").row_K.tolist() == [1, 2, 3]


def test_a_cut_answer_is_read_as_cut():
    """It ends at the limit: a number in a last sentence is not yet an answer, one in a box is."""
    texts = ["so the answer is 4", "\\boxed{4} and"]
    log = make_log([0, 0], [0, 0], texts=texts, golds=["4"], cut=[1, 1])
    assert regrade(log, np.zeros(2), check="numeric").ours_K.tolist() == [0, 1]
    whole = make_log([0, 0], [0, 0], texts=texts, golds=["4"])
    assert regrade(whole, np.zeros(2), check="numeric").ours_K.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("log", "verdict", "missing"),
    [
        (make_log(LOGGED, [0] * 8, texts=TEXTS), LOGGED, "reference answers"),
        (log_of(), np.full(8, np.nan), "verdicts"),
        (make_log(LOGGED, [0] * 8, texts=[""] * 8, golds=["4"]), LOGGED, "texts"),
    ],
    ids=["golds", "verdicts", "texts"],
)
def test_what_is_missing_is_said(log, verdict, missing):
    (found,) = regrade_findings(log, verdict, check="numeric")
    assert np.isnan(found.value)
    assert missing in found.says


def test_an_unknown_check_is_refused():
    with pytest.raises(ConfigError, match="exact, numeric, math"):
        regrade(log_of(), LOGGED, check="maths")
