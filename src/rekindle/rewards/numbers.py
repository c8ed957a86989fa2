"""The one number that an answer states, exactly; nothing of what is not one number.

    read       -5, −5, minus 5 | 1,234  1 234  1,00,000  1.234.567 | 3 1/2, 3\\frac12, ½ | 1.2e3,
               1.2 × 10^3, 10^3, 5!, 7 squared | 50 %, 50 percent | $5, 5 € | 5 million, 5k, 5 dozen |
               seven, twenty-one | 5 cm, 45°, 5 apples | x = 5, 12 = 3 * 4 | 0.\\overline{3}
    not read   2, 3 | [1, 2] | 3 or 4, 3-4 | x > 5, 2x = 10, x + 1 = 5 | 12:30, 2/3/2024, 3:2 | 101_2 |
               2 h 30 min | 5x, 2\\pi, 2\\sqrt3 | 12,34 | not 7, at least 7, twice 7

The value is an exact rational; powers and factorials of small integers are worked out, sums and
products are not. A unit is kept beside the value: it is compared where both sides have one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from rekindle.rewards.latex_text import plain_text
from rekindle.rewards.number_words import Number, read_words, same_number, vocabulary

LONGEST = 2_000  # characters of an answer that are looked at; longer ones have no number in them
_DIGITS = 400  # of a number; longer ones are compared as text
_POWER = 200  # largest exponent that is worked out
_FACTORIAL = 100

_GROUPED = (
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d{1,3}(?:[ ']\d{3})+(?![ ,']?\d)"
    r"|\d{1,3}(?:\.\d{3}){2,}(?!\d)|\d+)"
)
_DECIMAL = rf"(?:{_GROUPED}(?:\.\d+)?|\.\d+)"
_CURRENCY = r"(?:(?:US|AU?|CA?|HK|NZ|S)?\$|[€£¥₹]|\b(?:USD|EUR|GBP|Rs\.?)\s)"
_VALUE = re.compile(
    rf"(?P<sign>[-+]\s{{0,3}})?(?:(?P<currency>{_CURRENCY})\s{{0,3}}(?P<inner>-\s{{0,3}})?)?"
    rf"(?:(?P<whole>\d+)(?:\s{{1,3}}|\s{{0,3}}and\s{{1,3}}a?\s{{0,3}})(?P<over>\d+)\s{{0,3}}/\s{{0,3}}(?P<under>\d+)"
    rf"|(?P<number>{_DECIMAL})(?P<repeat>\.?\(\d{{1,60}}\))?"
    r"(?:\s{0,3}[x×*]\s{0,3}10\s{0,3}\^\s{0,3}\(?(?P<ten>[-+]?\d{1,4})\)?|[eE](?P<e>[-+]?\d{1,4})(?![\w.]*\w)"
    r"|\s{0,3}\^\s{0,3}\(?(?P<power>[-+]?\d{1,4})\)?|(?P<factorial>!)(?![=!])"
    rf"|\s{{0,3}}/\s{{0,3}}(?P<slash>-?\s{{0,3}}{_DECIMAL}))?)"
)
_DIGIT = re.compile(r"\d")
_STARTS = re.compile(rf"(?:[-+]\s{{0,3}})?(?:{_CURRENCY}\s{{0,3}}(?:-\s{{0,3}})?)?\.?\d")
_WORD = re.compile(r"[A-Za-zµ°€£¥₹$¢Ω][A-Za-zµ'’.]*")
_UNIT = re.compile(
    r"\s{0,3}-?\s{0,3}(?P<unit>(?:/\s?[A-Za-z]+|[A-Za-z]{1,3}\s[A-Za-z]{1,3}\^-\d|[A-Za-zµΩ]+'?[A-Za-z]*|°\s?[CFK]?\b|[°€£¥₹$¢%])\.?"
    r"(?:\s?\^\s?-?\d)?(?:(?:\s?[/·×]\s?|\sper\s)[A-Za-zµΩ]+(?:\s?\^\s?-?\d)?|\s[A-Za-z]+\^-?\d){0,3})"
)
_PERCENT = re.compile(r"\s{0,3}(?:%|per\s?cent\b|percent(?:age)?\b|pct\b)", re.IGNORECASE)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_RELATION = re.compile(r"[<>≤≥≠∈]|!=|\\(?:n?in|subset|not|cup|cap)(?![a-z])")
_TAIL = re.compile(
    r"(?:[,;(]|(?<!\bis)(?<!\bare)(?<!\bwas)(?<!\bbe)(?<!\bdo)(?<!\bdoes)(?<!\bcan)(?<!\bmay)(?<!\bwould)"
    r"(?<!\bcould)(?<!\bshould)(?<!\bmust)(?<!\bdid)\s)\s{0,3}(?:and\s+|but\s+)?(?:not|never|rather than|instead of|as opposed to|unlike)\b.*"
    r"|[,;]\s{0,3}(?:because|since|as|which|so|where|when|if|for|given|assuming|with|after|from|by|"
    r"i\.e\.|that is|because|rounded|obtained|hence|thus|therefore|using|in which|exactly)\b.*"
    r"|\s(?:because|since|by (?:adding|multiplying|dividing|subtracting|using|the))\b.*",
    re.IGNORECASE | re.DOTALL,
)
_ASIDE = re.compile(
    r"\(\s{0,3}(?!mod\b|base\b|in\b|[a-zA-Z]\s*\)|hundred|thousand|million|billion)[A-Za-z][^()]*\)"
)
_LABEL = re.compile(r"\s*\(?[A-Ja-j]\s?[).:]\s{0,3}(?=[-$\d])")
_TO_THE_POWER = re.compile(
    r"(\d+) (?:raised )?to the (?:power(?: of)? (-?\d+)\b|(\d+)(?:st|nd|rd|th)(?: power)?\b)"
)
_MINUS = re.compile(r"\b(?:minus|negative)\s{1,3}(?=[$€£]?\.?\d)", re.IGNORECASE)
_ENDLESS = re.compile(r"\d\.\d+\s?(?:\.\.|…)")
_APART = re.compile(r"[+*/^_<>|\\{}\[\]±√∛∜∑∏∫⌊⌋⌈⌉π∞×÷≈~∼&@#=…∪∩]")
_QUALIFIED = re.compile(
    r"(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|longer|shorter|other) than|"
    r"(?:anything|all|everything) but|apart from|\bMay\s{1,3}$|\bover\s{1,3}$"
)
_OPEN_ENDED = re.compile(
    r"\b(?:or|and)\s(?:more|less|fewer|above|below|over|under|up|beyond|greater|larger|higher|lower|smaller)\b|^\s?May\b"
)
_NAME = re.compile(
    r"[^\W\d]{1,30}'{0,3}(?:_\{?\w{1,9}\}?)?(?:\s?\([^()=]{0,40}\))?|\\[a-zA-Z]+(?:_\{?\w{1,9}\}?)?"
    r"|(?:\\?[^\W\d][\w'.()-]*\s+){1,8}[^\W\d][\w'.()-]*\s{0,3}"
)
_ARITHMETIC = re.compile(r"[\s\d.,+*/×÷^()$%!-]*(?:[A-Za-z]{2,}(?![A-Za-z])[\s\d.,+*/×÷^()$%!-]*)*")
_BETWEEN = re.compile(r"\d\s?:\s?\d|\d\s?/\s?\d+\s?/\s?\d|\d_\d|\d\s?-\s?\d")


class _Item(NamedTuple):
    start: int
    end: int
    number: Number


def read_number(text: str) -> Number | None:
    """The one number that a whole answer states; None where it states none or several."""
    if text.isdecimal() and text.isascii() and len(text) <= _DIGITS:
        return Number(Fraction(int(text)))
    if len(text) > LONGEST:
        return None
    return _read(plain_text(text))


def _read(text: str) -> Number | None:
    text = _TO_THE_POWER.sub(lambda m: f"{m[1]}^{m[2] or m[3]}", text.strip())
    text = _MINUS.sub("-", re.sub(r"\s{1,9}\^", "^", text))
    if _RELATION.search(text):
        return None
    if "=" in text:
        return _of_equation(text)
    return _of_clause(text)


def _of_equation(text: str) -> Number | None:
    """`x = 5`, `5 = x`, `3 + 4 = 7`, `12 = 3 * 4`; None where a side holds an unknown in a formula."""
    sides = [_ASIDE.sub(" ", side).strip() for side in text.split("=")]
    sides[-1] = _TAIL.sub("", sides[-1], count=1)
    if not all(sides):
        return None
    numbers = [None if _is_named(side) else _of_clause(side) for side in sides]
    for side, number in zip(sides, numbers, strict=True):
        if number is None and not (_NAME.fullmatch(side) or _is_arithmetic(side)):
            return None
        if number is not None and re.search(r"\d[a-zA-Z](?![a-zA-Z])", side):
            return None
    stated = [number for number in numbers if number is not None]
    if not stated or any(not same_number(stated[0], other) for other in stated[1:]):
        return None
    return stated[-1] if numbers[-1] is not None else stated[0]


def _is_named(side: str) -> bool:
    return _DIGIT.search(side) is not None and _NAME.fullmatch(side) is not None


def _is_arithmetic(side: str) -> bool:
    return bool(_DIGIT.search(side)) and _ARITHMETIC.fullmatch(side) is not None and "," not in side


def _of_clause(text: str) -> Number | None:
    """The one number in a clause, where no word or sign beside it says that it is not the answer."""
    text = _TAIL.sub("", text, count=1) if _DIGIT.match(text.lstrip("-+$€£ (")) else _cut_tail(text)
    text = _LABEL.sub("", _ASIDE.sub(" ", text), count=1).strip()
    if not _DIGIT.search(text):
        return read_words(text)
    if _BETWEEN.search(text) or _ENDLESS.search(text):
        return None
    items = list(_items(text))
    if not items or any(not same_number(items[0].number, i.number) for i in items[1:]):
        return None
    rest, at = [], 0
    for item in items:
        rest.append(text[at : item.start])
        at = item.end
    rest.append(text[at:])
    if any(_spoils(part, first=i == 0) for i, part in enumerate(rest)):
        return None
    return max((item.number for item in items), key=lambda n: (n.unit != "", n.percent))


def _cut_tail(text: str) -> str:
    """Without what follows the first number and says why, or what it is not."""
    digit = _DIGIT.search(text)
    if digit is None:
        return text
    return text[: digit.end()] + _TAIL.sub("", text[digit.end() :], count=1)


def _items(text: str) -> Iterator[_Item]:
    at = 0
    while True:
        found = _STARTS.search(text, at)
        if found is None:
            return
        start = found.start()
        if found[0][0] in "-+" and not _is_sign(text, start):
            start += 1
        match = _VALUE.match(text, start)
        if match is None:
            match = _VALUE.search(text, start)
            if match is None:
                return
        item = _item(text, match)
        if item is None:
            yield _Item(match.start(), match.start(), Number(Fraction(0)))
            yield _Item(match.end(), match.end(), Number(Fraction(1)))  # two that differ: no answer
            return
        yield item
        at = item.end


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


def _item(text: str, match: re.Match[str]) -> _Item | None:
    value = _value(match)
    if value is None:
        return None
    end = match.end()
    value, end, magnified = _magnify(text, end, value)
    percent = _PERCENT.match(text, end)
    if percent is not None:
        return _Item(match.start(), percent.end(), Number(_signed(match, value), percent=True))
    ordinal = _ORDINAL.match(text, end) if not magnified else None
    if ordinal is not None:
        return _Item(match.start(), ordinal.end(), Number(_signed(match, value)))
    unit = _unit(text, end)
    if unit is None:
        return None
    name, end = unit
    currency = (match["currency"] or "").strip().rstrip(".")
    return _Item(match.start(), end, Number(_signed(match, value), unit=name or currency.lower()))


def _signed(match: re.Match[str], value: Fraction) -> Fraction:
    negative = (match["sign"] or "").startswith("-") != bool(match["inner"])
    return -value if negative else value


# The words that may follow a number without being its unit.
_FUNCTION_WORDS = frozenset(
    ("and", "or", "to", "than", "of", "by", "in", "on", "at", "is", "are", "was", "were", "for")
    + ("with", "left", "so", "if", "the", "a", "an", "as", "that", "which", "when")
)


def _value(match: re.Match[str]) -> Fraction | None:
    if match["whole"] is not None:
        under = int(match["under"][:_DIGITS])
        return (
            None
            if under == 0
            else int(match["whole"][:_DIGITS]) + Fraction(int(match["over"][:_DIGITS]), under)
        )
    number = _decimal(match["number"])
    if number is None:
        return None
    if match["repeat"] is not None:
        if ("." in match["number"]) == (match["repeat"][0] == "."):
            return None
        digits = match["repeat"].strip(".()")
        places = len(match["number"].partition(".")[2])
        number += Fraction(int(digits), 10**places * (10 ** len(digits) - 1))
    exponent = match["ten"] or match["e"]
    if exponent is not None:
        return number * Fraction(10) ** int(exponent) if abs(int(exponent)) <= _DIGITS else None
    if match["power"] is not None:
        return _power(number, int(match["power"]))
    if match["factorial"] is not None:
        if number.denominator != 1 or not 0 <= number <= _FACTORIAL:
            return None
        return Fraction(math.factorial(int(number)))
    if match["slash"] is not None:
        slash = match["slash"].replace(" ", "")
        under_value = _decimal(slash.removeprefix("-"))
        if not under_value:
            return None
        return number / (-under_value if slash.startswith("-") else under_value)
    return number


def _decimal(written: str) -> Fraction | None:
    digits = re.sub(r"[, ']", "", written)
    if digits.count(".") > 1:
        digits = digits.replace(".", "")
    return Fraction(digits) if len(digits) <= _DIGITS else None


def _power(base: Fraction, exponent: int) -> Fraction | None:
    size = max(abs(base.numerator), base.denominator).bit_length() * abs(exponent)
    if abs(exponent) > _POWER or size > 4 * _DIGITS or (base == 0 and exponent <= 0):
        return None
    return Fraction(base**exponent)


def _magnify(text: str, at: int, value: Fraction) -> tuple[Fraction, int, bool]:
    """The value times the magnitudes that follow it: `5 hundred thousand`, `5k`, `7 squared`."""
    words, magnified = vocabulary(), False
    match = re.compile(r"(?:bn|mn|[kKMBT])(?![A-Za-z/^])").match(text, at)
    if match is not None:
        return value * words.attached[match[0]], match.end(), True
    while True:
        word = re.compile(r"[\s-]{1,3}(?:of an? )?([A-Za-z]+)").match(text, at)
        if word is None:
            return value, at, magnified
        name = word[1].lower()
        if name in words.magnitudes:
            value *= words.magnitudes[name]
        elif name in ("squared", "cubed") and not magnified:
            value **= 2 if name == "squared" else 3
        elif name == "factorial" and value.denominator == 1 and 0 <= value <= _FACTORIAL:
            value = Fraction(math.factorial(int(value)))
        else:
            return value, at, magnified
        at, magnified = word.end(), True


def _unit(text: str, at: int) -> tuple[str, int] | None:
    """The unit after a number and its end; ("", at) where there is none; None: no unit, a formula."""
    if text[at : at + 1] == "_":
        return None
    match = _UNIT.match(text, at)
    if match is None:
        return "", at
    words, name = vocabulary(), match["unit"].rstrip(".")
    attached = match.start("unit") == at
    word = re.match(r"/?\s?[^\W\d]+|.", name)
    first = "" if word is None else word[0].lstrip("/ ")
    if len(first) == 1 and first.isalpha():
        if first in words.letters and (not attached or name[0] == "/"):
            return name, match.end()
        return None if attached or first not in "aAI" else ("", at)
    if attached and name[0].isalpha() and first not in words.attached_units:
        return ("", at) if text[at] == "-" else None
    lowered = first.lower()
    if lowered in words.spoiling or lowered in _FUNCTION_WORDS:
        return ("", at)
    power = re.compile(r" (?:squared|cubed)\b").match(text, match.end())
    return name, match.end() if power is None else power.end()


def _spoils(part: str, *, first: bool) -> bool:
    """Whether what stands beside the number says that the number is not the answer."""
    part = re.sub(r"[≈~∼]\s*$", "", part) if first else part
    part = re.sub(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])", " ", part)
    if _APART.search(part) or re.search(r"[-+]\s*\(?\s*$", part):
        return True
    if _QUALIFIED.search(part) if first else _OPEN_ENDED.search(part):
        return True
    words = vocabulary()
    names = [w.rstrip(".'’").lower() for w in _WORD.findall(part)]
    if any(name in words.spoiling or name in words.magnitudes for name in names):
        return not first or names != ["a"]
    if not first:
        letters = [w for w in re.findall(r"(?<![\w'])([A-Za-z])(?![\w'])", part) if w not in "aAI"]
        return bool(letters)
    return False
