"""When two short texts are the same answer."""

import pytest

from rekindle.rewards.verifiers.texts import normal_text, same_text, without_tail


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("Paris", "paris"),
        ("Paris", "  Paris. "),
        ("Paris", '"Paris"'),
        ("Paris", "the Paris"),
        ("Paris", r"\text{Paris}"),
        ("Paris", "**Paris**"),
        ("Paris", "Paris, not London"),
        ("Paris", "Paris because it is the capital"),
        ("Paris", "B) Paris"),
        ("Paris", "The answer is Paris"),
        ("B", "b"),
        ("B", "(B)"),
        ("B", "B."),
        ("B", "B) Paris"),
        ("B", "B: Paris"),
        ("B", "B - Paris"),
        ("B", "option B"),
        ("(B)", "B"),
        ("B) Paris", "B"),
        ("A, C", "C and A"),
        ("A and C", "(A), (C)"),
        ("142.0", "142"),
        ("1,234", "1234"),
        ("10", "10.0"),
        ("1, 2 and 3", "1, 2 and 3"),
        ("not enough", "Not enough."),
        ("B", "B, Paris"),
        ("B", "B (Paris)"),
        ("B", "option (B): Paris"),
        ("B", "B is correct"),
        ("B", "[B]"),
        ("D", "D) both A and B"),
        ("D", "(D) vitamins A and C"),
        ("(B) Paris", "B) Paris"),
        ("a dog", "dog"),
        ("A minor", "a minor"),
        ("__init__", "`__init__`"),
        ("A*", "A*."),
        ("5!", "5!"),
        ("B", "Ｂ"),
        ("café", "cafe\u0301"),
        ("H2O", "H₂O"),
        ("yes", "Yes, it is."),
    ],
)
def test_the_same(gold, answer):
    assert same_text(gold, answer)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("Paris", "London"),
        ("Paris", "not Paris"),
        ("Paris", "Paris or London"),
        ("Paris", ""),
        ("", ""),
        ("A", "a dog"),
        ("A", "B"),
        ("A", "A or B"),
        ("A", "A and B"),
        ("A, C", "A"),
        ("A, C", "A, B"),
        ("B", "not B"),
        ("B", "Best"),
        ("B) Paris", "C) Paris!?"),
        ("5", "x=5"),
        ("15", "1,5"),
        ("10", "100"),
        ("evil", "live"),
        ("enough", "not enough"),
        ("A", "(A) or (B)"),
        ("A", "A) Paris B) London"),
        ("A", "A) Paris or B"),
        ("A", "(A) is wrong"),
        ("A", "A) no wait, B)"),
        ("A", "a.m."),
        ("(B) Paris", "(C) Paris"),
        ("(B) Paris", "(B) London"),
        ("J. Smith", "K. Smith"),
        ("J. Smith", "J"),
        ("a.m.", "p.m."),
        ("x: 5", "y: 5"),
        ("A minor", "minor"),
        ("A major", "the major"),
        ("__init__", "init"),
        ("a__b", "ab"),
        ("*args", "args"),
        ("A*", "A"),
        ("5!", "5"),
        ("x_1", "x_2"),
        ("ever", "ever since"),
        ("yes", "yes and no"),
        ("yes", "yes, but only here"),
    ],
)
def test_not_the_same(gold, answer):
    assert not same_text(gold, answer)


def test_edges_are_not_all_of_a_text():
    assert normal_text(" $*'Paris'.* ") == "'paris'.".strip("'.")
    assert normal_text("...") == "..."
    assert normal_text("") == ""


def test_what_follows_an_answer_and_says_what_it_is_not():
    assert without_tail("7, not 8") == "7"
    assert without_tail("7 rather than 8") == "7"
    assert without_tail("not 7") == "not 7"
