"""Exact and numeric verifiers: what counts as the same answer, and that nothing is evaluated."""

from fractions import Fraction

import pytest

from rekindle.rewards.verify import as_number, canonical, exact, numeric


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("56", "7 * 8 = 56", 1),
        ("56", "7 * 8 = 56.", 1),
        ("56", "The answer is 56, not 57.", 1),
        ("56", r"so \boxed{56} and nothing else, not 57", 1),
        ("56", r"\boxed{\text{no}} 56", 0),
        ("56", "#### 56\n", 1),
        ("1234", "1,234", 1),
        ("1,234", "it is 1234", 1),
        ("0.5", "1/2", 1),
        ("1/3", "0.333", 0),
        ("50%", "0.5", 1),
        ("-3", "answer: -3", 1),
        ("3", "answer: -3", 0),
        ("3", "30", 0),
        ("3", "", 0),
        ("3", "no number here", 0),
        ("1e3", "1e3", 1),
        ("Paris", "The answer is Paris.", 1),
        ("Paris", "London", 0),
        ("7", "٧", 0),  # other digits than ASCII are not read as numbers
        ("1/0", "1/0", 1),  # no number: the same text
        ("5", "5 apples, then 6 pears", 0),  # the last number counts
    ],
)
def test_numeric(gold, text, score):
    assert numeric(gold, text).value == score


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [("A", "so the answer is A", 1), ("a b", "A   B.", 1), ("10", "10.0", 0), ("x", "y\nx", 1)],
)
def test_exact(gold, text, score):
    assert exact(gold, text).value == score


def test_numbers_are_exact_rationals():
    assert as_number("0.1") + as_number("0.2") == as_number("0.3")
    assert as_number(" $1,000.50 ") == Fraction(2001, 2)
    assert as_number("2/4") == Fraction(1, 2)
    for text in ("", ".", "1,00", "1/0", "--1", "1.2.3", "nan", "inf", "0x10", "9" * 10_000):
        assert as_number(text) is None


def test_hostile_texts_are_answers_like_any_other():
    for text in (
        "__import__('os').system('true')",
        "9**9**9",
        "(" * 100_000,
        "x" * 1_000_000,
        "\\boxed{" * 5000,
        "1/" * 50_000,
    ):
        assert numeric("1", text).value in (0.0, 1.0)


@pytest.mark.parametrize(
    ("one", "other"), [("1,000", "1000.0"), ("1/2", "0.5"), (r"\boxed{7}", "the answer is 7")]
)
def test_votes_for_the_same_answer_count_together(one, other):
    assert canonical(one, "numeric") == canonical(other, "numeric")


def test_no_answer_is_no_vote():
    assert canonical("", "numeric") is None
    assert canonical("  \n", "exact") is None
