"""A verifier that rejects right answers: which, how many, and what it leaves alone."""

import pytest

from rekindle.errors import DataError
from rekindle.records import Problem, Score
from rekindle.tasks import load_task
from rekindle.tasks.brittle import BrittleVerifier

TASK = load_task(name="countdown")


def problem(i=0):
    """2+3=5;5+1=6 is the reference; 3+2=5;1+5=6 is as right."""
    return Problem(id=f"p{i}", prompt="1,2,3>6:", solution="2+3=5;5+1=6")


def test_on_a_brittle_problem_only_the_reference_text_counts():
    verifier = BrittleVerifier(TASK, 1.0)
    asked = problem()
    assert verifier.grade(asked, "2+3=5;5+1=6").value == 1.0
    other = verifier.grade(asked, "3+2=5;1+5=6")
    assert (other.value, other.parts["true"], other.parts["brittle"]) == (0.0, 1.0, 1.0)
    wrong = verifier.grade(asked, "3+2=5;1+5=7")
    assert (wrong.value, wrong.parts["true"]) == (0.0, 0.0)


def test_share_zero_is_the_true_check():
    verifier = BrittleVerifier(TASK, 0.0)
    assert verifier.grade(problem(), "3+2=5;1+5=6").value == 1.0
    assert verifier.grade(problem(), "nonsense").value == 0.0


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_share_is_met_and_a_larger_one_holds_the_smaller(share):
    """1,000 problems: within four standard errors."""
    problems = TASK.problems("train", count=1000, seed=0, levels=["4"])
    chosen = {p.id for p in problems if BrittleVerifier(TASK, share).is_brittle(p)}
    assert abs(len(chosen) / 1000 - share) < 4 * (share * (1 - share) / 1000) ** 0.5
    more = {p.id for p in problems if BrittleVerifier(TASK, share + 0.2).is_brittle(p)}
    assert chosen <= more


def test_a_problem_drawn_twice_is_brittle_both_times():
    verifier = BrittleVerifier(TASK, 0.5)
    for p in TASK.problems("train", count=50, seed=0, levels=["4"]):
        twice = Problem(id=f"{p.id}#2", prompt=p.prompt, solution=p.solution)
        assert verifier.is_brittle(p) == verifier.is_brittle(twice)


def test_a_missing_verdict_stays_missing():
    class Broken:
        def grade(self, problem, text):
            return Score.missing("timeout")

    assert BrittleVerifier(Broken(), 1.0).grade(problem(), "x") == Score.missing("timeout")


def test_without_a_reference_it_says_so():
    with pytest.raises(DataError, match="no reference solution"):
        BrittleVerifier(TASK, 1.0).grade(Problem(id="p", prompt="1,2>3:"), "1+2=3")
