"""The one number that an answer states, exactly; nothing of what is not one number.

    read       -5, −5, minus 5 | 1,234  1 234  1,00,000  1.234.567 | 3 1/2, 3\\frac12, ½
               1.2e3, 1.2 × 10^3, 10^3, 5!, 7 squared | 50 %, 50 percent | $5, 5 €
               5 million, 5k, 5 dozen | seven, twenty-one | 5 cm, 45°, 5 apples
               x = 5, 12 = 3 * 4 | 0.\\overline{3} | 7, not 8 | 7 (odd) | 0.4 or 40 %
    not read   2, 3 | [1, 2] | 3 or 4, 3-4 | x > 5, 2x = 10, x + 1 = 5 | 12:30, 2/3/2024, 3:2
               101_2 | 2 h 30 min | 5x, 2\\pi, 2\\sqrt3 | 12,34 | not 7, at least 7, twice 7
               7 by 7, 7 vs 7 | xy = 6, log x = 2 | 7, which is wrong | 5, so 10 in all

The value is an exact rational; powers and factorials of small integers are worked out, sums and
products are not. A unit is kept beside the value: it is compared where both sides have one. No text
of 2,000 characters takes longer than some milliseconds, and no longer one is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from rekindle.rewards.verifiers.latex_text import plain_text
from rekindle.rewards.verifiers.number_forms import MOST_DIGITS, Stated, stated_numbers
from rekindle.rewards.verifiers.number_words import Number, read_words, same_number
from rekindle.rewards.verifiers.remarks import contradicts, spoils, without_remarks
from rekindle.rewards.verifiers.unknowns import is_arithmetic, is_name

LONGEST = 2_000  # characters of an answer that are looked at; longer ones have no number in them
_MOST_NUMBERS = 20  # in a clause, and sides of an equation

_DIGIT = re.compile(r"\d")
_TO_THE_POWER = re.compile(  # 2 to the power of 10, 2 to the 10th
    r"(?<!\d)(\d++) (?:raised )?to the "
    r"(?:power(?: of)? (-?\d+)\b|(\d+)(?:st|nd|rd|th)(?: power)?\b)"
)
_MINUS = re.compile(r"\b(?:minus|negative)\s{1,3}(?=[$€£]?\.?\d)", re.IGNORECASE)
_DASH = re.compile(r"[—―](?=[$€£]?\.?\d)")  # —5 at the start
_IN_BRACKETS = re.compile(  # -(5)
    r"(?<![\w)\]}%!.°])(-)\s?\(\s{0,3}([$€£]?\d[\d,]*(?:\.\d+)?(?:\s?/\s?\d+)?)\s{0,3}\)(?!\s?[\d(])"
)
_BARE_POINT = re.compile(r"(?<=\d)\.(?=\s+[A-Za-z°Ω])")  # 4. s
_BLANK_CARET = re.compile(r"\s{1,9}\^")
_LABEL = re.compile(r"\(?[A-Ja-j]\s?[).:]\s{0,3}(?=[-$\d])")

# --- what says that a text is not one number

_RELATION = re.compile(r"[<>≤≥≠∈]|!=|\\(?:n?in|subset|not|cup|cap)(?![a-z])")
_BETWEEN = re.compile(  # times, dates, bases, ranges, double factorials
    r"\d\s?:\s?\d|\d\s?/\s?\d+\s?/\s?\d|\d_\d|\d\s?-\s?\d|\d!!"
)
_ENDLESS = re.compile(r"\d\.\d+\s?(?:\.\.|…)")
_NO_NUMBER = re.compile(r"[\\{}|\[\]]")
_AGAIN = re.compile(  # 40% (0.4), 1/2 or 0.5
    r"(?<!\))(?<!\)\s)[(\[]\s{0,3}(?:or|i\.e\.,?|that is,?|about|approximately|=)?\s{0,3}$"
    r"|\b(?:or|is|are|equals|equal to|i\.e\.|that is|equivalently|namely|in other words|written as"
    r"|a\.k\.a\.)[,:]?\s{0,3}(?:about\s|exactly\s|simply\s|just\s)?$",
    re.IGNORECASE,
)
_APPLIED = re.compile(r"[A-Za-z]\([^()]*$|[A-Za-zµ\u0370-\u03ff]$")  # f(7), x7
_PRODUCT = re.compile(r"\d[a-zA-Z](?![a-zA-Z])")  # 2x
_ADDED_TO = re.compile(r"(?<![^\W\d])([^\W\d]+)\s?[-+]\s?[$€£]?\.?\d")
_BEFORE_SIGN = frozenset(("is", "of", "was", "equals", "be", "by", "at", "to", "about", "US"))
_ANOTHER = re.compile(r"\d[^=]*?(?:[,;]\s*(?:and\s+)?|\band\s+|\bor\s+)[^\W\d]")  # 5, tax


def read_number(text: str) -> Number | None:
    """The one number that a whole answer states; None where it states none or several."""
    if text.isdecimal() and text.isascii() and len(text) <= MOST_DIGITS:
        return Number(Fraction(int(text)))
    if len(text) > LONGEST:
        return None
    return _read(plain_text(text))


def _read(text: str) -> Number | None:
    text = _DASH.sub("-", text.strip(), count=1) if text.lstrip()[:1] in "—―" else text.strip()
    if " to the " in text:
        text = _TO_THE_POWER.sub(lambda match: f"{match[1]}^{match[2] or match[3]}", text)
    if "^" in text:
        text = _BLANK_CARET.sub("^", text)
    if "(" in text:
        text = _IN_BRACKETS.sub(r"\1\2", text)
    text = _BARE_POINT.sub("", _MINUS.sub("-", text))
    text, remarks = without_remarks(text.lstrip("= "))
    if _RELATION.search(text):
        return None
    number = _of_equation(text.replace(":=", "=")) if "=" in text else _of_clause(text)
    if number is None or any(contradicts(remark, number, _of_clause) for remark in remarks):
        return None
    return number


def _of_equation(text: str) -> Number | None:
    """`x = 5`, `5 = x`, `3 + 4 = 7`; None where a side holds an unknown in a formula."""
    sides = [side.strip() for side in text.split("=", _MOST_NUMBERS)]
    if not all(sides) or len(sides) > _MOST_NUMBERS:
        return None
    if any(_ANOTHER.search(side) for side in sides[:-1]):
        return None
    numbers = [None if _is_numbered_name(side) else _of_clause(side) for side in sides]
    for side, number in zip(sides, numbers, strict=True):
        if number is None and not (is_name(side) or is_arithmetic(side)):
            return None
        if number is not None and (_PRODUCT.search(side) or _is_added_to_a_word(side)):
            return None
    stated = [number for number in numbers if number is not None]
    if not stated or any(not same_number(stated[0], other) for other in stated[1:]):
        return None
    return stated[-1] if numbers[-1] is not None else stated[0]


def _is_added_to_a_word(side: str) -> bool:
    """Whether a number is added to a word: `cost + 5`, but not `is -5`."""
    return any(word not in _BEFORE_SIGN for word in _ADDED_TO.findall(side))


def _is_numbered_name(side: str) -> bool:
    """x_1, f(2)"""
    return _DIGIT.search(side) is not None and is_name(side)


def _of_clause(text: str) -> Number | None:
    """The one number in a clause, where nothing beside it says that it is not the answer."""
    text = _LABEL.sub("", text, count=1).rstrip(" -–—:,;").strip()
    if not _DIGIT.search(text):
        return read_words(text)
    if _NO_NUMBER.search(text) or _BETWEEN.search(text) or _ENDLESS.search(text):
        return None
    stated = _same_numbers(text)
    if not stated:
        return None
    numbers = [each.number for each in stated if each.number is not None]
    parts = _beside(text, stated)
    if any(_APPLIED.search(part) for part in parts[:-1]):
        return None
    if any(spoils(part, first=i == 0) for i, part in enumerate(parts)):
        return None
    return max(numbers, key=lambda number: (number.unit != "", number.percent))


def _same_numbers(text: str) -> list[Stated]:
    """The numbers of a clause, where they are one, said again in other words; else none."""
    stated: list[Stated] = []
    for each in stated_numbers(text):
        if each.number is None or len(stated) == _MOST_NUMBERS:
            return []
        if stated and not _AGAIN.search(text[stated[-1].end : each.start]):
            return []
        stated.append(each)
    numbers = [each.number for each in stated if each.number is not None]
    return [] if any(not same_number(numbers[0], other) for other in numbers[1:]) else stated


def _beside(text: str, stated: Sequence[Stated]) -> list[str]:
    """What stands before, between and behind the numbers."""
    ends = [0, *(each.end for each in stated)]
    starts = [*(each.start for each in stated), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]
