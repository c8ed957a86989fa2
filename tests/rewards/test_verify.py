"""Exact and numeric verifiers: what counts as the same answer, and that nothing is evaluated."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rekindle.rewards.verifiers.math_answers import compare
from rekindle.rewards.verifiers.numbers import read_number
from rekindle.rewards.verifiers.verify import Settings, canonical, exact, numeric


def as_number(text):
    number = read_number(text)
    return None if number is None else number.value


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("56", "7 * 8 = 56", 1),
        ("56", "7 * 8 = 56.", 1),
        ("56", "The answer is 56, not 57.", 1),
        ("56", r"so \boxed{56} and nothing else, not 57", 1),
        ("56", r"\boxed{\text{no}} 56", 0),
        ("56", "#### 56\n", 1),
        ("56", "#### 55\nno:\n#### 56", 1),
        ("55", "#### 55\nno:\n#### 56", 0),
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
        ("7", "٧", 1),  # digits of any alphabet
        ("1/0", "1/0", 1),  # no number: the same text
        ("5", "5 apples, then 6 pears", 0),  # the last number counts
        ("3", "10-3", 0),  # a sum that is not worked out is no number
        ("-3", "10-3", 0),
        ("-5", "x = \u22125", 1),
        ("-5", "#### -$5", 1),
        ("1234.5", "so it costs $1,234.50.", 1),
        ("1234.5", "it costs $1,234.50.", 0),  # neither a mark nor a word that concludes
        ("1e-07", "0.0000001", 1),
        ("6", "The answer is 2*3=6", 1),
        ("42", "The answer is below:\n\n42", 1),
        ("7", "**Answer:** **7**", 1),
    ],
)
def test_numeric(gold, text, score):
    assert numeric(gold, text).value == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (r"\boxed{\frac{1}{2}}", 1),
        (r"\boxed{\dfrac12}", 1),
        (r"the answer is $\tfrac{2}{4}$", 1),
        (r"\boxed{x = 0.5\text{ cm}}", 1),
        (r"\boxed{3\frac{1}{2}}", 0),  # a mixed number
        (r"\boxed{\frac{1}{2}x}", 0),
        (r"\boxed{1}", 0),
    ],
)
def test_latex_fractions(text, score):
    assert numeric("1/2", text).value == score


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{2\sqrt{3}}",
        r"\boxed{2x}",
        r"\boxed{x+2}",
        r"\boxed{2, 3}",
        r"\boxed{2^{10}}",
        r"\boxed{\frac{2}{3}}",
        r"\boxed{2**3}",
        "#### x/2",
        "#### 2 or 3",
    ],
)
def test_a_formula_is_not_the_number_that_occurs_in_it(text):
    assert numeric("2", text).value == 0.0


@pytest.mark.parametrize(
    "text",
    ["#### 2", "#### **2**", "#### 2 dollars", "#### $2/hour", r"\boxed{2^\circ}", r"\boxed{\$2}"],
)
def test_a_number_with_its_unit_is_the_number(text):
    assert numeric("2", text).value == 1.0


def test_a_gold_may_be_a_worked_answer():
    worked = "He sold 48/2 = <<48/2=24>>24 clips.\n#### 24"
    assert numeric(worked, "so 24").value == 1.0
    assert numeric(worked, "so 48").value == 0.0
    assert numeric(r"We get \boxed{24}.", "24").value == 1.0
    assert exact("thinking...\n#### Paris", "The answer is Paris.").value == 1.0
    assert exact("Paris", r"\boxed{\text{Paris}}").value == 1.0


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("40%", "so 40%", 1),
        ("40%", "so 40", 1),
        ("40%", "so 0.4", 1),
        ("40", "so 40%", 1),
        ("0.4", r"\boxed{40\%}", 1),
        ("40%", "so 0.4%", 0),
        ("0.4%", "so 40%", 0),
        ("0.4%", "so 0.004", 1),
    ],
)
def test_a_per_cent_sign_on_one_side(gold, text, score):
    assert numeric(gold, text).value == score


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("A", "so the answer is A", 1),
        ("a b", "A   B.", 1),
        ("10", "10.0", 1),
        ("10", "100", 0),
        ("x", "y\nx", 1),
    ],
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
        "2**3**2",
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


def test_votes_keep_apart_what_some_gold_tells_apart():
    """A gold of 40 takes 40 % but not 0.4, a gold of 0.4 % takes 0.4 but not 40 %."""
    assert len({canonical(text, "numeric") for text in ("40", "0.4", "40%", "0.4%")}) == 4


def test_no_answer_is_no_vote():
    assert canonical("", "numeric") is None
    assert canonical("  \n", "exact") is None


_PIECES = st.sampled_from(
    [
        *("2", "40", "0.4", "-2", "2/5", "%", "$", " ", "\n", "=", "-", "+", ",", ".", "x"),
        *(
            "1,000",
            "1e3",
            "\u2212",
            "apples",
            "answer is ",
            "#### ",
            r"\boxed{",
            "}",
            r"\frac{2}{5}",
        ),
    ]
)
_TEXTS = st.lists(_PIECES, max_size=8).map("".join)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    one=_TEXTS, other=_TEXTS, gold=st.sampled_from(["2", "40%", "40", "0.4", "2/5", "-2", "1000"])
)
def test_texts_that_vote_alike_score_alike(one, other, gold):
    """maj@k scores the winner by any of its texts, so a form must decide the score."""
    texts = (one, other, f"{one}{other}")
    forms = {text: canonical(text, "numeric") for text in texts}
    for a in texts:
        for b in texts:
            if forms[a] is not None and forms[a] == forms[b]:
                assert numeric(gold, a).value == numeric(gold, b).value


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(over=st.integers(-(10**30), 10**30), under=st.integers(1, 10**6), places=st.integers(0, 9))
def test_every_way_to_write_a_number_is_that_number(over, under, places):
    ways = [f"{over}/{under}", rf"the answer is \frac{{{over}}}{{{under}}}", f"#### {over}/{under}"]
    assert all(numeric(str(Fraction(over, under)), way).value == 1.0 for way in ways)
    assert numeric(str(Fraction(over, under) + 1), ways[0]).value == 0.0
    decimal = Fraction(over, 10**places)
    text = f"{'-' if over < 0 else ''}{abs(over) // 10**places:,}"
    text += f".{abs(over) % 10**places:0{places}d}" if places else ""
    assert as_number(text) == decimal
    assert numeric(str(decimal), f"it is {text}.").value == 1.0


def test_a_text_of_any_length_is_equal_to_itself():
    for text in ("word " * 1_000, "two\nlines"):
        assert exact(text, text).value == 1.0
        assert exact(text, text + "s").value == 0.0


@pytest.mark.parametrize("how", ["cut", "thought_open", "marked"])
def test_the_gold_itself_is_read_as_every_text_is(how):
    assert exact("B", "B", Settings(**{how: True})).value == 0.0


def test_a_gold_worth_nothing_is_a_gold():
    """An answer that the parser cannot work out is wrong, and not missing."""
    pytest.importorskip("math_verify")
    broken = r"A\begin{pmatrix}1\\2\end{pmatrix}"
    assert compare(r"\sin(0)+x-x", broken).value == 0.0
    assert compare(r"\sin(1)+x-x", broken).value == 0.0
