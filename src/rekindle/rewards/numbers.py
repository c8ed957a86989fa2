"""The one number that an answer states, exactly; nothing of what is not one number.

    read       -5, −5, minus 5 | 1,234  1 234  1,00,000  1.234.567 | 3 1/2, 3\\frac12, ½
               1.2e3, 1.2 × 10^3, 10^3, 5!, 7 squared | 50 %, 50 percent | $5, 5 €
               5 million, 5k, 5 dozen | seven, twenty-one | 5 cm, 45°, 5 apples
               x = 5, 12 = 3 * 4 | 0.\\overline{3}
    not read   2, 3 | [1, 2] | 3 or 4, 3-4 | x > 5, 2x = 10, x + 1 = 5 | 12:30, 2/3/2024, 3:2
               101_2 | 2 h 30 min | 5x, 2\\pi, 2\\sqrt3 | 12,34 | not 7, at least 7, twice 7

The value is an exact rational; powers and factorials of small integers are worked out, sums and
products are not. A unit is kept beside the value: it is compared where both sides have one. No text
of 2,000 characters takes longer than some milliseconds, and no longer one is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice

from rekindle.rewards.latex_text import plain_text
from rekindle.rewards.number_forms import MOST_DIGITS, Stated, stated_numbers
from rekindle.rewards.number_words import Number, read_words, same_number, vocabulary

LONGEST = 2_000  # characters of an answer that are looked at; longer ones have no number in them
_MOST_NUMBERS = 20  # in a clause, and sides of an equation

# --- spellings that are changed before numbers are looked for

_DIGIT = re.compile(r"\d")
_TO_THE_POWER = re.compile(  # 2 to the power of 10, 2 to the 10th
    r"(?<!\d)(\d++) (?:raised )?to the "
    r"(?:power(?: of)? (-?\d+)\b|(\d+)(?:st|nd|rd|th)(?: power)?\b)"
)
_MINUS = re.compile(r"\b(?:minus|negative)\s{1,3}(?=[$€£]?\.?\d)", re.IGNORECASE)
_BARE_POINT = re.compile(r"(?<=\d)\.(?=\s+[A-Za-z°Ω])")  # 4. s
_BLANK_CARET = re.compile(r"\s{1,9}\^")
# --- what is cut off: reasons, denials, remarks in brackets, labels of options

_TAIL = re.compile(
    r"[,;(\s](?:"
    # `7, not 8`, but no `7 is not ...`
    r"(?:(?<=[,;(])|(?<=\s)(?<!\bis\s)(?<!\bare\s)(?<!\bwas\s)(?<!\bbe\s)(?<!\bdo\s)(?<!\bdoes\s)"
    r"(?<!\bcan\s)(?<!\bmay\s)(?<!\bwould\s)(?<!\bcould\s)(?<!\bshould\s)(?<!\bmust\s)(?<!\bdid\s))"
    r"\s{0,3}(?:and\s+|but\s+)?(?:not|never|rather than|instead of|as opposed to|unlike)\b.*"
    # `7, since ...`
    r"|(?<=[,;])\s{0,3}(?:because|since|as|which|so|where|when|if|for|given|assuming|with|after|"
    r"from|by|i\.e\.|that is|rounded|obtained|hence|thus|therefore|using|in which|exactly)\b.*"
    # `7 because ...`
    r"|(?<=\s)(?:because|since|by (?:adding|multiplying|dividing|subtracting|using|the))\b.*)",
    re.IGNORECASE | re.DOTALL,
)
_ASIDE = re.compile(
    r"\(\s{0,3}(?!mod\b|base\b|in\b|[a-zA-Z]\s*\)|hundred|thousand|million|billion)"
    r"[A-Za-z][^()]*\)"
)
_LABEL = re.compile(r"\(?[A-Ja-j]\s?[).:]\s{0,3}(?=[-$\d])")

# --- what says that a text is not one number

_RELATION = re.compile(r"[<>≤≥≠∈]|!=|\\(?:n?in|subset|not|cup|cap)(?![a-z])")
_BETWEEN = re.compile(  # times, dates, bases, ranges, double factorials
    r"\d\s?:\s?\d|\d\s?/\s?\d+\s?/\s?\d|\d_\d|\d\s?-\s?\d|\d!!"
)
_ENDLESS = re.compile(r"\d\.\d+\s?(?:\.\.|…)")
# No, not, more, less, at least, at most in Chinese, Japanese and Korean
_CJK_QUALIFIED = re.compile(
    "[不非没沒无無未]|超[过過]|[多少大小]于|至[少多]|以[上下内內]|ない|아니|이상|이하|미만"
)
_APART = re.compile(r"[+*/^_<>|\\{}\[\]±√∛∜∑∏∫⌊⌋⌈⌉π∞×÷≈~∼&@#=…∪∩]")
_ABOUT = re.compile(r"[≈~∼]\s*$")
_WORDS_OVER = re.compile(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])")  # and/or
_OPERATOR = re.compile(r"[-+]\s*\(?\s*$")
_LIST = re.compile(r"\s{0,3}(?:[,;]|[,;]?\s?and)\s{0,3}")  # 7, 7
_APPLIED = re.compile(r"[A-Za-z]\(\s{0,3}$|[A-Za-z]$")  # f(7), x7
_QUALIFIED = re.compile(
    r"(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|longer|shorter|other) than|"
    r"(?:anything|all|everything) but|apart from|\bMay\s{1,3}$|\bover\s{1,3}$|"
    # the same in Spanish, Portuguese, French, German
    r"\b(?:m[áa]s|menos|mais|al menos|no (?:es|son)|não é|plus|moins|au moins|mehr als|weniger als)"
    r"\b[^\d]*$"
)
_OPEN_ENDED = re.compile(
    r"\b(?:or|and)\s(?:more|less|fewer|above|below|over|under|up|beyond|greater|larger|higher|lower"
    r"|smaller)\b|^\s?May\b"
)
_WORD = re.compile(r"(?:[^\W\d_]|[°€£¥₹$¢])(?:[^\W\d_]|['’.])*")
_LONE_LETTER = re.compile(r"(?<![\w'])([A-Za-z])(?![\w'])")

# --- sides of an equation

_NAME = re.compile(  # x, x_1, f(2), \theta, total cost
    r"[^\W\d]{1,30}'{0,3}(?:_\{?\w{1,9}\}?)?(?:\s?\([^()=]{0,40}\))?|\\[a-zA-Z]+(?:_\{?\w{1,9}\}?)?"
    r"|(?:\\?[^\W\d][\w'.()-]*\s+){1,8}[^\W\d][\w'.()-]*\s{0,3}"
)
_ARITHMETIC = re.compile(r"[\s\d.,+*/×÷^()$%!-]*(?:[A-Za-z]{2,}(?![A-Za-z])[\s\d.,+*/×÷^()$%!-]*)*")
_PRODUCT = re.compile(r"\d[a-zA-Z](?![a-zA-Z])")  # 2x


def read_number(text: str) -> Number | None:
    """The one number that a whole answer states; None where it states none or several."""
    if text.isdecimal() and text.isascii() and len(text) <= MOST_DIGITS:
        return Number(Fraction(int(text)))
    if len(text) > LONGEST:
        return None
    return _read(plain_text(text))


def _read(text: str) -> Number | None:
    text = text.strip()
    if " to the " in text:
        text = _TO_THE_POWER.sub(lambda match: f"{match[1]}^{match[2] or match[3]}", text)
    if "^" in text:
        text = _BLANK_CARET.sub("^", text)
    text = _BARE_POINT.sub("", _MINUS.sub("-", text))
    if _RELATION.search(text):
        return None
    return _of_equation(text) if "=" in text else _of_clause(text)


def _of_equation(text: str) -> Number | None:
    """`x = 5`, `5 = x`, `3 + 4 = 7`; None where a side holds an unknown in a formula."""
    sides = [side.strip() for side in _ASIDE.sub(" ", text).split("=")]
    sides[-1] = _TAIL.sub("", sides[-1], count=1)
    if not all(sides) or len(sides) > _MOST_NUMBERS:
        return None
    numbers = [None if _is_numbered_name(side) else _of_clause(side) for side in sides]
    for side, number in zip(sides, numbers, strict=True):
        if number is None and not (_NAME.fullmatch(side) or _is_arithmetic(side)):
            return None
        if number is not None and _PRODUCT.search(side):
            return None
    stated = [number for number in numbers if number is not None]
    if not stated or any(not same_number(stated[0], other) for other in stated[1:]):
        return None
    return stated[-1] if numbers[-1] is not None else stated[0]


def _is_numbered_name(side: str) -> bool:
    """x_1, f(2)"""
    return _DIGIT.search(side) is not None and _NAME.fullmatch(side) is not None


def _is_arithmetic(side: str) -> bool:
    return bool(_DIGIT.search(side)) and "," not in side and bool(_ARITHMETIC.fullmatch(side))


def _of_clause(text: str) -> Number | None:
    """The one number in a clause, where nothing beside it says that it is not the answer."""
    begins_with_it = _DIGIT.match(text.lstrip("-+$€£ (")) is not None
    text = _TAIL.sub("", text, count=1) if begins_with_it else _without_tail(text)
    text = _LABEL.sub("", _ASIDE.sub(" ", text), count=1).rstrip(" -–—:,;").strip()
    if not _DIGIT.search(text):
        return read_words(text)
    if _BETWEEN.search(text) or _ENDLESS.search(text):
        return None
    stated = list(islice(stated_numbers(text), _MOST_NUMBERS + 1))
    numbers = [each.number for each in stated if each.number is not None]
    if not 0 < len(numbers) <= _MOST_NUMBERS or len(numbers) < len(stated):
        return None
    if any(not same_number(numbers[0], other) for other in numbers[1:]):
        return None
    parts = _beside(text, stated)
    if any(_LIST.fullmatch(part) for part in parts[1:-1]):
        return None
    if any(_APPLIED.search(part) for part in parts[:-1]):
        return None
    if any(_spoils(part, first=i == 0) for i, part in enumerate(parts)):
        return None
    return max(numbers, key=lambda number: (number.unit != "", number.percent))


def _without_tail(text: str) -> str:
    """Without what follows the first number and says why, or what it is not."""
    digit = _DIGIT.search(text)
    if digit is None:
        return text
    return text[: digit.end()] + _TAIL.sub("", text[digit.end() :], count=1)


def _beside(text: str, stated: Sequence[Stated]) -> list[str]:
    """What stands before, between and behind the numbers."""
    ends = [0, *(each.end for each in stated)]
    starts = [*(each.start for each in stated), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def _spoils(part: str, *, first: bool) -> bool:
    """Whether what stands beside the number says that the number is not the answer."""
    part = _WORDS_OVER.sub(" ", _ABOUT.sub("", part) if first else part)
    if _APART.search(part) or _OPERATOR.search(part) or _CJK_QUALIFIED.search(part):
        return True
    if _QUALIFIED.search(part) if first else _OPEN_ENDED.search(part):
        return True
    words = vocabulary()
    names = [word.rstrip(".'’").lower() for word in _WORD.findall(part)]
    if any(name in words.spoiling or name in words.magnitudes for name in names):
        return True
    return not first and any(letter not in "aAI" for letter in _LONE_LETTER.findall(part))
