"""Reference solutions that the training verifier rejects: SFT on them is not recommended."""

import math

import numpy as np
import pytest

from rekindle.records import Problem, Score
from rekindle.signals.findings import Finding, Measurement, conclusion
from rekindle.signals.group_signal import group_finding
from rekindle.signals.verifier_signal import grade_solutions, with_solutions
from signals.lookups import refused, row


def problems(n, solution="1+1=2"):
    return [Problem(id=f"p{i}", prompt="1+1=", answer="2", solution=solution) for i in range(n)]


class Says:
    """A verifier that accepts the first so many, and has no score for so many more."""

    def __init__(self, accepted, missing=0):
        self.accepted, self.missing, self.asked = accepted, missing, []

    def grade(self, problem, text):
        number = int(problem.id[1:])
        self.asked.append(number)
        if self.accepted <= number < self.accepted + self.missing:
            return Score.missing("no answer in the data")
        return Score(float(number < self.accepted))


def sft(state="alive"):
    mass = Measurement("mass/non_target", 0.3, 0.2, 0.4, 40, "")
    return Finding("sft", state, "well", "SFT still has signal.", [mass])


def test_sft_on_solutions_that_the_verifier_rejects_is_refused():
    graded = grade_solutions(Says(0), problems(40))
    found = with_solutions(sft(), graded)
    assert (found.state, found.health) == ("rejected", "out")
    share = row(found, "solutions/accepted")
    assert (share.value, share.n) == (0, 40)
    assert share.ci_high == pytest.approx(0.0876, abs=1e-3)  # Wilson, 0 of 40
    assert {"sft", "wmss"} <= set(refused(found))
    assert "accepts 0 [0, 0.0876] of the reference solutions" in refused(found)["sft"]
    assert "problem 'p0' ends '1+1=2', its answer is '2'" in found.remedy.why
    assert "task.verifier" in found.remedy.why


@pytest.mark.parametrize(
    ("accepted", "of", "rejected", "cautious"),
    [(40, 40, False, False), (24, 40, False, True), (10, 40, True, False), (0, 2, False, True)],
)
def test_the_refusal_rests_on_the_interval(accepted, of, rejected, cautious):
    found = with_solutions(sft(), grade_solutions(Says(accepted), problems(of)))
    assert (found.state == "rejected") == rejected
    assert ("look at those that it rejects" in found.verdict) == cautious
    if not rejected:
        assert (found.state, found.remedy, found.against) == ("alive", None, ())


def test_missing_scores_are_no_rejections():
    graded = grade_solutions(Says(0, missing=40), problems(40))
    assert (graded.accepted.n, graded.rejected) == (0, False)
    assert math.isnan(graded.accepted.value)
    half = grade_solutions(Says(20, missing=20), problems(40))
    assert (half.accepted.value, half.accepted.n) == (1, 20)
    assert grade_solutions(Says(0), problems(3, solution=None)) is None


def test_at_most_64_are_graded_and_they_are_spread_over_the_problems():
    """Problems come level by level: the first 64 would be one level's."""
    verifier = Says(0)
    graded = grade_solutions(verifier, problems(640))
    assert graded.accepted.n == 64
    assert verifier.asked == list(range(0, 640, 10))


@pytest.mark.parametrize(
    ("true", "said"), [(40, "the training verifier is at fault"), (0, "the solutions are wrong")]
)
def test_a_stronger_check_says_whose_fault_it_is(true, said):
    graded = grade_solutions(Says(0), problems(40), check=Says(true))
    found = with_solutions(sft(), graded)
    assert row(found, "solutions/accepted/true").value == true / 40
    assert said in found.remedy.why


def test_groups_are_not_too_hard_where_the_verifier_rejects_the_references():
    wrong, graded = np.zeros((40, 8)), grade_solutions(Says(0), problems(40))
    found = group_finding(wrong, solutions=graded)
    assert (found.state, found.health) == ("all-wrong", "out")
    assert "nothing of how hard the problems are" in found.verdict
    assert found.remedy == with_solutions(sft(), graded).remedy
    assert set(refused(found)) == {"lens", "sft", "easier problems first"}
    fine = grade_solutions(Says(40), problems(40))
    plain = group_finding(wrong, solutions=fine)
    assert (plain.remedy.what, "reference" in plain.verdict) == ("easier problems first", False)
    assert row(plain, "solutions/accepted").value == 1


def test_what_two_signals_say_in_the_same_words_is_said_once():
    graded = grade_solutions(Says(0), problems(40))
    groups = group_finding(np.zeros((40, 8)), solutions=graded)
    lines = conclusion([with_solutions(sft(), graded), groups])
    assert lines[0] == "missing: sft (rejected), groups (all-wrong)"
    assert [line for line in lines if line.startswith("fits: ")] == [lines[1]]
    assert "in its form (sft, groups): the training verifier accepts" in lines[1]
    assert sum(line.startswith("does not fit: sft ") for line in lines) == 1
