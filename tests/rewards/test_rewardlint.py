"""rewardlint's cases, 83 without those that it calls contested: what is accepted, what is lost."""

import pytest
from rewardlint import load

from rekindle.rewards.verifiers.verify import exact, numeric
from rekindle.rewards.workers import VerifierPool

CASES = list(load())
# Right answers that a verifier is not for.
NOT_FOR = {
    "numeric": {
        "eq.frac.repeating": "1/3 is not 0.3333333333: numbers are exact",
        "eq.radical.latex": "the gold is a formula",
        "eq.radical.spacing": "the gold is a formula",
        "eq.pi.coefficient": "the gold is a formula",
        "eq.tuple.spacing": "the gold is a tuple",
    },
    "math": {"eq.frac.repeating": "1/3 is not 0.3333333333: numbers are exact"},
}


@pytest.fixture(scope="module")
def scores():
    """Of each verifier, in the order of the cases."""
    pytest.importorskip("math_verify")
    asked = [(case.reference, case.completion) for case in CASES]
    pool = VerifierPool("math", workers=1, timeout=30.0)
    given = {
        "exact": [exact(*pair).value for pair in asked],
        "numeric": [numeric(*pair).value for pair in asked],
        "math": [score.value for score in pool.grade(asked)],
    }
    pool.close()
    return given


def test_there_are_all_cases():
    assert len(CASES) == 83


@pytest.mark.parametrize("verifier", ["exact", "numeric", "math"])
def test_nothing_wrong_is_accepted(verifier, scores):
    accepted = zip(CASES, scores[verifier], strict=True)
    assert [case.id for case, score in accepted if not case.expect and score != 0.0] == []


@pytest.mark.parametrize("verifier", ["numeric", "math"])
def test_nothing_right_is_lost_but_what_a_verifier_is_not_for(verifier, scores):
    graded = zip(CASES, scores[verifier], strict=True)
    lost = {case.id for case, score in graded if case.expect and score != 1.0}
    assert len(NOT_FOR[verifier]) <= 8
    assert lost == NOT_FOR[verifier].keys()
