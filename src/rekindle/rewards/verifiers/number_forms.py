"""Numbers as digits write them, each with the magnitude, per cent sign and unit that belong to it.

    -5, - 5, -$5 | 1,234  1 234  1,00,000  1.234.567 | 3 1/2, 5 and a half | 0.1(6)
    1.2e3, 1.2 x 10^3, 1.2 times 10^3, 10^3, 5! | 5 million, 5k, 5 thousand two hundred | 50 %

A text is plain here: `latex_text.plain_text` has set it. What is too large to work out is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from rekindle.rewards.verifiers.number_words import Number, fraction_words, parse_words
from rekindle.rewards.verifiers.units import unit_behind
from rekindle.rewards.verifiers.vocabulary import vocabulary

MOST_DIGITS = 400  # of a number; longer ones are compared as text
_POWER = 200  # largest exponent that is worked out
_POWER_BITS = 4 * MOST_DIGITS  # of a power that is worked out
_FACTORIAL = 100
_HUNDRED = 100
_MOST_WORDS = 12  # that go on behind a magnitude

_GROUPED = (  # 1,234 and 1,00,000 and 1 234 and 1'234 and 1.234.567
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d{1,3}(?:[ ']\d{3})+(?![ ,']?\d)"
    r"|\d{1,3}(?:\.\d{3}){2,}(?!\d)|\d+)"
)
_DECIMAL = rf"(?:{_GROUPED}(?:\.\d+)?|\.\d+)"
_CURRENCY = r"(?:(?:US|AU?|CA?|HK|NZ|S)?\$|[€£¥₹]|\b(?:USD|EUR|GBP|Rs\.?)\s)"
_MIXED = (  # 3 1/2, 3 and 1/2
    r"(?P<whole>\d+)(?:\s{1,3}|\s{0,3}and\s{1,3}a?\s{0,3})(?P<over>\d+)\s{0,3}/\s{0,3}(?P<under>\d+)"
)
_TIMES_TEN = (
    r"\s{0,3}(?:[x×*·⋅∙]|\btimes\b)\s{0,3}10\s{0,3}"
    r"(?:\^\s{0,3}|to the (?:power )?(?:of )?)\(?(?P<ten>[-+]?\d{1,4})\)?"
)
_VALUE = re.compile(
    rf"(?P<sign>[-+]\s{{0,3}})?(?:(?P<currency>{_CURRENCY})\s{{0,3}}(?P<inner>-\s{{0,3}})?)?"
    rf"(?:{_MIXED}|(?P<number>{_DECIMAL})(?P<repeat>\.?\(\d{{1,60}}\))?"
    rf"(?:{_TIMES_TEN}|[eE](?P<e>[-+]?\d{{1,4}})(?![\w.]*\w)"
    r"|\s{0,3}\^\s{0,3}\(?(?P<power>[-+]?\d{1,4})\)?|(?P<factorial>!)(?![=!])"
    rf"|\s{{0,3}}/\s{{0,3}}(?P<slash>-?\s{{0,3}}{_DECIMAL}))?)"
)
_STARTS = re.compile(rf"(?:[-+]\s{{0,3}})?(?:{_CURRENCY}\s{{0,3}}(?:-\s{{0,3}})?)?\.?\d")
_SEPARATORS = re.compile(r"[, ']")

# --- what may follow a number and belongs to it

_PERCENT = re.compile(r"\s{0,3}(?:%|per\s?cent\b|percent(?:age)?\b|pct\b)", re.IGNORECASE)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_ATTACHED = re.compile(r"(?:bn|mn|[kKMBT])(?![A-Za-z/^])")  # 5k
_MAGNITUDE = re.compile(r"[\s-]{1,3}(?:of an? )?([^\W\d_]+)")
_SIGNS = re.compile(r"\s?([百千万萬亿億만억천‰‱]+)")
_AND_A_HALF = re.compile(r"\s{1,3}and\s{1,3}(an?|[a-z]+)[\s-]{1,3}([a-z]+)\b", re.IGNORECASE)
_WORDS_ON = re.compile(r"[\s-]{1,3}([A-Za-z]+)")  # two hundred, behind 5 thousand


class Stated(NamedTuple):
    """A number and where it stands."""

    start: int
    end: int
    number: Number | None  # None: it looks like a number and is none, 1/0


def stated_numbers(text: str) -> Iterator[Stated]:
    """The numbers of a plain text in order, up to the first that is none."""
    at = 0
    while True:
        found = _STARTS.search(text, at)
        if found is None:
            return
        start = found.start()
        if found[0][0] in "-+" and not _is_sign(text, start):
            start += 1
        match = _VALUE.search(text, start)
        if match is None:
            return
        stated = _stated_number(text, match)
        yield stated
        if stated.number is None:
            return
        at = stated.end


def _is_sign(text: str, at: int) -> bool:
    """A minus between operands is none; `the answer is - 5` has one, `x - 5` has none."""
    before = text[:at].rstrip()
    if not before:
        return True
    last = before[-1]
    if last.isdigit() or last in ".)]}%!°_":
        return False
    if last.isalpha():
        return before != text[:at] and len(before) > 1 and before[-2].isalpha()
    return True


def _stated_number(text: str, match: re.Match[str]) -> Stated:
    """A number with what belongs to it: its magnitude, per cent sign, unit."""
    start, end, value = match.start(), match.end(), _value(match)
    if value is None:
        return Stated(start, end, None)
    value, end, magnified = _magnify(text, end, value)
    if (match["sign"] or "").startswith("-") != bool(match["inner"]):
        value = -value
    percent = _PERCENT.match(text, end)
    if percent is not None:
        return Stated(start, percent.end(), Number(value, percent=True))
    ordinal = None if magnified else _ORDINAL.match(text, end)
    if ordinal is not None:
        return Stated(start, ordinal.end(), Number(value))
    letter = text[match.end() : end] if magnified else ""
    unit = unit_behind(text, end)
    if unit is None:
        return Stated(start, end, None)
    name, end = unit
    name = name or (match["currency"] or "").strip().rstrip(".").lower()
    is_letter = letter in vocabulary().attached and not name
    return Stated(start, end, Number(value, unit=name, letter=letter if is_letter else ""))


def _value(match: re.Match[str]) -> Fraction | None:
    """What the digits are worth; None where that is nothing, or too large to work out."""
    if match["whole"] is not None:
        whole, over, under = (int(match[key][:MOST_DIGITS]) for key in ("whole", "over", "under"))
        return whole + Fraction(over, under) if under else None
    number = _decimal(match["number"])
    if number is None:
        return None
    if match["repeat"] is not None:
        if ("." in match["number"]) == (match["repeat"][0] == "."):
            return None
        number += _repeating(match["number"], match["repeat"].strip(".()"))
    if match["power"] is not None:
        return _power(number, int(match["power"]))
    if match["factorial"] is not None:
        return _factorial(number)
    if match["slash"] is not None:
        return _divide(number, match["slash"].replace(" ", ""))
    exponent = match["ten"] or match["e"]
    return number if exponent is None else _times_ten(number, int(exponent))


def _decimal(written: str) -> Fraction | None:
    digits = _SEPARATORS.sub("", written)
    if digits.count(".") > 1:  # 1.234.567
        digits = digits.replace(".", "")
    if len(digits) > MOST_DIGITS:
        return None
    return Fraction(digits) if "." in digits else Fraction(int(digits))


def _repeating(before: str, digits: str) -> Fraction:
    """What 3 adds to 0.1 in 0.1(3)."""
    places = len(before.partition(".")[2])
    return Fraction(int(digits), 10**places * (10 ** len(digits) - 1))


def _divide(over: Fraction, written: str) -> Fraction | None:
    under = _decimal(written.removeprefix("-"))
    if not under:
        return None
    return over / (-under if written.startswith("-") else under)


def _times_ten(number: Fraction, exponent: int) -> Fraction | None:
    return number * Fraction(10) ** exponent if abs(exponent) <= MOST_DIGITS else None


def _power(base: Fraction, exponent: int) -> Fraction | None:
    size = max(abs(base.numerator), base.denominator).bit_length() * abs(exponent)
    if abs(exponent) > _POWER or size > _POWER_BITS or (base == 0 and exponent <= 0):
        return None
    return Fraction(base**exponent)


def _factorial(number: Fraction) -> Fraction | None:
    if number.denominator != 1 or not 0 <= number <= _FACTORIAL:
        return None
    return Fraction(math.factorial(int(number)))


def _magnify(text: str, at: int, value: Fraction) -> tuple[Fraction, int, bool]:
    """(the value times the magnitudes that follow it, their end, whether there are any)."""
    words, magnified = vocabulary(), False
    attached = _ATTACHED.match(text, at)
    if attached is not None:
        return value * words.attached[attached[0]], attached.end(), True
    characters = _SIGNS.match(text, at)
    if characters is not None:
        factors = [words.magnitudes[character] for character in characters[1]]
        return value * math.prod(factors), characters.end(), True
    part = _AND_A_HALF.match(text, at)
    more = None if part is None else fraction_words([part[1].lower(), part[2].lower()])
    if part is not None and more is not None:
        value, at, magnified = value + more, part.end(), True
    while True:
        word = _MAGNITUDE.match(text, at)
        if word is None:
            return value, at, magnified
        name = word[1].lower()
        if name in words.magnitudes:
            factor = words.magnitudes[name]
            value, at = _with_words_on(text, word.end(), value * factor, factor)
        elif name in ("squared", "cubed") and not magnified:
            value, at = value ** (2 if name == "squared" else 3), word.end()
        elif name == "factorial" and (factorial := _factorial(value)) is not None:
            value, at = factorial, word.end()
        else:
            return value, at, magnified
        magnified = True


def _with_words_on(text: str, at: int, value: Fraction, factor: Fraction) -> tuple[Fraction, int]:
    """5200 for `5 thousand two hundred`, where the words are less than the magnitude before."""
    if factor < _HUNDRED:
        return value, at
    words, names, ends = vocabulary(), list[str](), list[int]()
    end = at
    while len(names) < _MOST_WORDS and (word := _WORDS_ON.match(text, end)) is not None:
        name, end = word[1].lower(), word.end()
        if name not in words.cardinals and words.magnitudes.get(name, 0) < 1 and name != "and":
            break
        names.append(name)
        ends.append(end)
    while names and names[-1] == "and":
        names.pop(), ends.pop()
    parsed = parse_words(names[1:] if names[:1] == ["and"] else names) if names else None
    if parsed is None or parsed[1] or not 0 < parsed[0] < factor or names[0] in words.magnitudes:
        return value, at
    return value + parsed[0], ends[-1]
