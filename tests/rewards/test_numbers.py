"""The one number that an answer states: what is read, what is not, and when two are the same."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rekindle.rewards.verifiers.number_words import Number, same_number
from rekindle.rewards.verifiers.numbers import read_number

READ = {
    "5": ["5", "+5", "5.", "5.0", "05", "$5", "5 $", "€5", "US$5", "**5**", "`5`", "(5)", "\\$5"],
    "-5": ["-5", "−5", "–5", "－5", "- 5", "minus 5", "negative 5", "-$5", "$-5", "answer is - 5"],
    "1234": ["1,234", "1 234", "1\u202f234", "1\u00a0234", "1\\,234", "1{,}234", "1'234", "1234.0"],
    "1234567": ["1,234,567", "1 234 567", "1.234.567", "12,34,567"],
    "1234.5": ["1,234.50", "$1,234.5"],
    "7/2": [
        "3 1/2",
        "3\\frac12",
        "3\\frac{1}{2}",
        "3½",
        "3 and 1/2",
        "7/2",
        "\\dfrac{7}{2}",
        "3.5",
    ],
    "-1/2": ["-1/2", "-\\frac{1}{2}", "\\frac{-1}{2}", "-½", "1/-2", "-0.5", "{-1 \\over 2}"],
    "2/3": ["²⁄₃", "⅔", "2⁄3", "4/6"],
    "1200": ["1.2e3", "1.2E3", "1.2 \\times 10^3", "1.2 × 10³", "1.2*10^{3}", "12 hundred"],
    "0.0012": ["1.2e-3", "1.2 \\cdot 10^{-3}", "1.2×10⁻³"],
    "1000": ["10^3", "10^{3}", "10³", "10**3", "10 to the power of 3", "1k", "1K", "1 thousand"],
    "120": ["5!", "10 dozen", "one hundred and twenty", "one hundred twenty", "6 score"],
    "49": ["7 squared", "7^2", "7²", "forty-nine", "forty nine"],
    "5000000": ["5 million", "5 million dollars", "$5M", "five million", "5,000,000"],
    "2500000": ["2.5 million", "two and a half million", "2 1/2 million"],
    "6": [
        "half a dozen",
        "six",
        "6 apples",
        "6th",
        "x = 6",
        "6 = x",
        "f(2) = 6",
        "12/2 = 6",
        "B) 6",
    ],
    "21": ["twenty-one", "21 (odd)", "21, not 22", "21 because 3 * 7", "21, since it is odd"],
    "2.5": ["two point five", "2.5 kg", "2.50"],
    "1/3": [
        "0.\\overline{3}",
        "0.(3)",
        "0.\\bar{3}",
        "0.3\u0305",
        "0.3\u0307",
        "one third",
        "a third",
    ],
    "7": [
        "٧",
        "７",
        "x_1 = 7",
        "\\theta = 7",
        "total cost = 7",
        "7 cm^2",
        "7 m/s",
        "7°",
        "about 7",
        *("7 (odd)", "7 (seven)", "7 (the smaller root)", "7 (since 3 + 4 = 7)", "7 (not 8)"),
        *("7, which is odd", "7, so x = 7", "7, because 8 is impossible", "seven, not eight"),
        *("f(x+1) = 7", "AB = 7", "∠ABC = 7°", "the larger root = 7", "\\sqrt{49} = 7", "x := 7"),
        *("7 ✅", "7个", "→ 7", "7 кг", "7 or 7.0", "7 (7.0)", "7 for each of the three"),
    ],
    "-7": ["-seven", "−seven", "-(7)", "minus seven"],
    "5200": ["5 thousand two hundred", "five thousand, two hundred", "52 hundred"],
    "11/2": ["5 and a half", "five and a half", "5 and one half"],
    "1/1000000": ["1 millionth", "one millionth", "1e-6"],
    "1/7": ["0.\\dot{1}4285\\dot{7}", "0.\\overline{142857}"],
    "100000": ["1 times 10^5", "1·10^5", "10^5"],
    "3/4": ["\\nicefrac{3}{4}", "\\sfrac34"],
}


@pytest.mark.parametrize(
    ("value", "text"), [(value, text) for value, texts in READ.items() for text in texts]
)
def test_a_number_in_any_form_is_read(value, text):
    number = read_number(text)
    assert number is not None
    assert number.value == Fraction(value)


NOT_READ = [
    *("", " ", ".", "-", "$", "abc", "nan", "inf", "x", "½x", "__", "\\frac{1}{x}", "²"),
    *("2, 3", "2; 3", "2 and 3", "3 or 4", "[1, 2]", "(1, 2)", "\\{1, 2\\}", "1 2"),  # several
    *("3-4", "3 - 4", "3–4", "3 to 4", "between 3 and 4", "±5", "\\pm 5"),  # ranges
    *("x > 5", "x \\ge 5", "5 < x", "x ≠ 5", "\\le 5", "at least 7", "more than 7", "7 or more"),
    *("2x = 10", "x + 1 = 5", "x = y + 5", "x = 2, y = 3", "x^2 = 4", "5 = 6"),  # equations
    *("12:30", "3:2", "2/3/2024", "2024-01-05", "May 5", "7 am", "101_2", "101_{2}"),
    *("2 h 30 min", "5x", "5 x", "x - 5", "x-5", "2\\pi", "2π", "2\\sqrt{3}", "√2"),
    *("3 + 4", "3*4", "2/", "10 - 3"),
    *("12,34", "1,23,4", "1,5", "1.2.3", "1.23.456", "1,2345", "--1", "1/0", "0x10", "1e"),
    *("not 7", "isn't 7", "7 is wrong", "twice 7", "half of 7 apples x", "sqrt 7", "7 mod 3"),
    *("7!!", "0.333...", "1.5…", "2^{3^{2}}"),
    *("5(x+1)", "5 (a + b)", "5 (dozen)", "5 (or more)", "5 (wrong)", "5 (binary)", "5 (six)"),
    *("7, which is wrong", "7, as well as 9", "7, if n is even; 8 if odd", "7, so 14 in all"),
    *("7, with 7 left over", "7, not possible", "7 (not correct)", "7, when even, and 9 otherwise"),
    *("xy = 6", "\\log_2 x = 2", "sqrt(x) = 3", "\\sin x = 1", "twice x = 10", "x squared = 9"),
    *("not x = 5", "x plus y = 5", "x- y = 5", "cost = 5, tax = 5", "n(n+1) = 6", "cost + 2 = 6"),
    *("2θ", "5 λ", "x ≫ 5", "x ≢ 5", "∓5", "5∶5", "5\u0336", "5 ❌", "5𝑥"),
    *("twenty, five", "twenty - five", "twenty-fifth", "5 or six", "5 minus one", "5 out of eight"),
    *("7 by 7", "7 vs 7", "7, remainder 7", "7 · 7", "7 and 7"),
]


@pytest.mark.parametrize("text", NOT_READ)
def test_what_is_not_one_number_is_not_read(text):
    assert read_number(text) is None


@pytest.mark.parametrize(
    "text", ["9" * 401, "1e401", "101!", "7^201", "2^{-201}", "1/" + "9" * 401]
)
def test_what_would_be_large_to_work_out_is_not_read(text):
    assert read_number(text) is None


@pytest.mark.parametrize("text", ["9" * 400, "1e400", "100!", "7^200", "2^{-200}"])
def test_what_is_just_small_enough_is_read(text):
    assert read_number(text) is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("5", "5 m", True),  # a unit on one side says nothing
        ("5 m", "500 cm", True),
        ("5 m", "5 cm", False),
        ("5 m", "5 ft", False),
        ("5 m", "5 meters", True),
        ("$5", "5 dollars", True),
        ("$5", "500 cents", True),
        ("$5", "€5", False),
        ("5 apples", "5 apple", True),
        ("5 apples", "5 pears", False),
        ("60 km/h", "60 kph", True),
        ("90°", "90 degrees", True),
        ("5 million", "5", False),
        ("5 dozen", "60", True),
        ("5 hours", "300 minutes", True),
        ("40%", "40", True),
        ("40%", "0.4", True),
        ("40%", "2/5", True),
        ("40%", "40 percent", True),
        ("40%", "0.4%", False),
        ("0.4%", "40", False),
        ("0.4%", "0.004", True),
        ("1/3", "0.33", False),
        ("5 mW", "5 MW", False),
        ("5 mg", "5 Mg", False),
        ("5 kg", "5 KG", True),
        ("5 kWh", "5 kwh", True),
        ("5 μm", "5 \\mu m", True),  # the Greek letter
        ("5 µm", "5 mm", False),
        ("5 mm", "5000 µm", True),
        ("5 square cm", "5 cm^2", True),
        ("5 cm^2", "5 cm", False),
        ("5 m^2", "50000 cm^2", True),
        ("18 km/h", "5 meters per second", True),
        ("300K", "300 K", True),
        ("300K", "300000", True),
        ("300K", "300", False),
        ("300K", "300 m", False),
    ],
)
def test_units_and_per_cent(one, other, same):
    a, b = read_number(one), read_number(other)
    assert same_number(a, b) is same
    assert same_number(b, a) is same


_QUICK = settings(max_examples=200, deadline=None, derandomize=True, database=None)
_RATIONALS = st.builds(Fraction, st.integers(-(10**12), 10**12), st.integers(1, 10**4))


def spellings(value):
    """Ways to write a rational."""
    over, under = value.numerator, value.denominator
    sign, size = ("-" if over < 0 else ""), abs(over)
    yield f"{over}/{under}"
    yield rf"{sign}\frac{{{size}}}{{{under}}}"
    yield rf"\dfrac{{{over}}}{{{under}}}"
    yield f"{'−' if over < 0 else ''}{size:,}/{under}"
    yield f"x = {over} / {under}"
    if under == 1:
        yield f"{sign}{size:,} apples"
        yield f"{sign}${size:,}.00"
        yield f"{sign}{size}e0"
    if size > under > 1:
        yield f"{sign}{size // under} {size % under}/{under}"


@_QUICK
@given(value=_RATIONALS)
def test_every_spelling_is_the_same_number(value):
    assert {read_number(text).value for text in spellings(value)} == {value}


@_QUICK
@given(value=_RATIONALS, other=_RATIONALS)
def test_the_same_number_is_the_same_value(value, other):
    assert same_number(Number(value), Number(other)) is (value == other)


@_QUICK
@given(text=st.one_of(st.text(max_size=40), st.text("0123456789.,-+/^!%$eE×½² ()=x", max_size=25)))
def test_no_text_raises(text):
    number = read_number(text)
    assert number is None or isinstance(number.value, Fraction)
