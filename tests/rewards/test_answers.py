"""Answer equality: what is the same, what is not, and that it is an equivalence."""

from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rekindle.rewards.answers import answer_of_text, canonical_answer, same_answer

SAME = [
    ("72", "72.0", "$72", "\\$72", "72.", " 72 ", "72 eggs", "$72.00", "7.2e1"),
    ("1,000", "1000", "1{,}000", "1e3"),
    ("3.50", "3.5", "7/2", "3\\frac12"),
    ("-3.0", "-3", "\u22123", "-$3"),
    ("1/2", "0.5", ".5", "\\frac12", "\\frac{1}{2}", "\\dfrac{1}{2}", "2/4", "$\\frac{1}{2}$."),
    ("40%", "40 %", "40\\%", "40", "40 percent"),
    ("5 apples", "5", "5 dollars", "$5"),
    ("90°", "90", "90^\\circ", "90^{\\circ}", "90 degrees", "90.0 °"),
    ("16", "\\boxed{16}", "$\\boxed{16.0}$", "\\boxed{\\frac{32}{2}}"),
    ("7, 8", "\\boxed{7,8}"),
    ("1, 2", "1,2", "1.0,2", "$1, 2$", "1 apple, 2 pears"),
    ("(1,2)", "( 1, 2.0 )", "\\left(1, 2\\right)"),
    ("{1,2}", "{1, 2}", "{1.0, 2}"),
    ("[0,1)", "[0, 1.0)"),
    ("((1,2),3)", "((1, 2), 3)"),
    ("Paris", "paris.", "**Paris**", "\\text{Paris}"),
]
APART = [
    ("74,39", "7439"),
    ("1,2,3", "123"),
    ("1, 2", "2, 1"),
    ("1, 2", "(1, 2)"),
    ("(1, 2)", "[1, 2]"),
    ("1, 000", "1,000"),
    ("40%", "0.4"),
    ("5 million", "5"),
    ("5 dozen", "5"),
    ("5 am", "5 pm"),
    ("2 pi", "2"),
    ("5 x", "5"),
    ("5x", "5"),
    ("3", "-3"),
    ("5 or 6", "5"),
    ("5°C", "5"),
    ("\\boxed{5} or 6", "5"),
    ("1,,2", "1,2"),
]


@pytest.mark.parametrize("texts", SAME, ids=lambda t: t[0])
def test_ways_to_write_one_answer_are_the_same(texts):
    for a, b in combinations(texts, 2):
        assert same_answer(a, b), (a, b, canonical_answer(a), canonical_answer(b))


@pytest.mark.parametrize(("a", "b"), APART)
def test_different_answers_stay_apart(a, b):
    assert not same_answer(a, b)


def test_answers_of_different_groups_are_all_different():
    forms = [canonical_answer(texts[0]) for texts in SAME]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("nothing", ["", " ", "\n", None, "\\text{}", "\\boxed{ }"])
def test_no_answer_equals_nothing(nothing):
    assert canonical_answer(nothing) is None
    assert not same_answer(nothing, nothing)
    assert not same_answer(nothing, "5")
    assert not same_answer("5", nothing)


def test_a_number_of_many_digits_is_a_text():
    assert same_answer("1" * 500, "1" * 500)
    assert not same_answer("1" * 500, "1" * 499 + "2")
    assert same_answer("x" * 3000, "X" * 3000)
    assert same_answer("(" * 1000 + ")" * 1000, "(" * 1000 + ")" * 1000)
    assert same_answer("5." + "*." * 900, "5")


answers = st.one_of(
    st.sampled_from([text for texts in SAME for text in texts]),
    st.text(alphabet="0123456789,./%$* ()[]{}-eax\\.", max_size=12),
    st.lists(
        st.sampled_from(["1", ",", " ", ".", "$", "\\", "{", "}", "(", ")", "\\frac", "12", "%",
                         "\\text", "\\boxed{", "°", "*", "apples", "0", "-", "1e3", "{,}", "\\ ",
                         "/"]),
        max_size=8,
    ).map("".join),
    st.text(max_size=8),
)  # fmt: skip


@given(answers)
@example("a\\$,b")
@example("5.*.")
@example("1e99")
def test_every_answer_is_itself_and_its_form_the_form_of_itself(a):
    form = canonical_answer(a)
    assert same_answer(a, a) is (form is not None)
    if form is not None:
        assert canonical_answer(form) == form
    if any(c.isalnum() for c in a) and "\\" not in a:
        assert form is not None


@given(answers, answers)
def test_equality_is_symmetric(a, b):
    assert same_answer(a, b) == same_answer(b, a)


@given(answers, answers, answers)
def test_equality_is_transitive(a, b, c):
    if same_answer(a, b) and same_answer(b, c):
        assert same_answer(a, c)


@given(st.sampled_from([text for texts in SAME for text in texts]), st.data())
def test_transitive_where_much_is_equal(a, data):
    [group] = [texts for texts in SAME if a in texts]
    b, c = data.draw(st.sampled_from(group)), data.draw(st.sampled_from(group))
    assert same_answer(a, b)
    assert same_answer(a, c)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a\n#### 72\nmore", "72"),
        ("####72", "72"),
        ("x #### 5 #### 6", "6"),
        ("The answer is 5. It was easy.", "5"),
        ("The answer is: $3.50", "$3.50"),
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        ("The answer is $\\boxed{7}$.", "7"),
        ("#### 5\nno, the answer is 6\nindeed", "6"),
        ("The answer is 6\n#### 5", "5"),
        ("#### 5\n####", "5"),
        ("#### 5\n\\boxed{", "5"),
        ("\\boxed{4} #### 5", "5"),
        ("answer: 1, 2", "1, 2"),
        ("it is 5", None),
        ("", None),
    ],
)
def test_the_last_mark_gives_the_answer(text, answer):
    assert answer_of_text(text) == answer
