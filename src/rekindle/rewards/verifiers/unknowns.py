"""What a side of an equation may be beside the side that is the number.

a name       x, x_1, f(2), \\theta, AB, ∠ABC, cost, total cost, the number of eggs
no name      2x, xy, x y, x - y, x(x+1), log x, sqrt(x), twice x, x squared, not x, x plus y
arithmetic   3 + 4, 3 apples + 4 apples, \\sqrt{25}; not 2 * age, cost + 5
"""

from __future__ import annotations

import re

from rekindle.rewards.verifiers.vocabulary import vocabulary

_SYMBOL = re.compile(
    r"(?:m?[∠△]\s?|m?\\(?:angle|triangle|measuredangle|overline|overrightarrow|vec|bar|hat"
    r"|tilde)\s{0,3}\{?\s{0,3}(?=[A-Za-z]))?"
    r"(?P<name>\\?[^\W\d]{1,30})\}?[\u0300-\u036f]{0,2}'{0,3}"
    r"(?:\^\(?-1\)?(?=\s?\())?(?:_\{?\w{1,9}\}?)?(?:\s?\((?P<of>[^()=]{0,40})\))?"
)
_WORDS = re.compile(r"(?:\\?[^\W\d][\w'.()-]*\s+){0,8}[^\W\d][\w'.()-]*\s{0,3}")
_OPERATORS = re.compile(r"[-+*/^×·]")
_LONE = re.compile(r"[a-zα-ωµ]")
_LONE_AMONG = re.compile(r"(?<![\w'])(?!a\s)[a-zα-ωµ]\s+[a-zα-ωµ](?![\w'])")
_PARTED = re.compile(r"^(?:\w{1,2}-)*\w{0,2}$")  # x-y, x-
_AT_LEAST = re.compile(r"\bat (?:least|most)\b|\b(?:square|cube|all|anything)\s(?:root|of|but)\b")
_FUNCTIONS_OF = re.compile(r"[fghFGHPQpqTuv]")
_PRODUCTS = ("xyz", "abcd", "pqrs", "mnkp", "uvw")

# --- arithmetic

_ARITHMETIC = re.compile(r"[\s\d.,+*/×÷^()$%!-]*(?:[A-Za-z]{2,}(?![A-Za-z])[\s\d.,+*/×÷^()$%!-]*)*")
_FUNCTION = re.compile(
    r"\\?(?:sqrt|log(?:_\{?\d+\}?)?|ln|lg|exp|sin|cos|tan|binom)(?![a-z])|(?<=\d)°|[{}]"
)
_OF_NUMBERS = re.compile(r"\\?(?:gcd|lcm|max|min)\s?\(\s?-?\d+(?:\s?,\s?-?\d+){1,9}\s?\)")
_OPERAND = re.compile(r"[-+*/×÷^]|\b(?:times|plus|minus|divided by|less|more|than)\b")
_ATTACHED = re.compile(r"\d([A-Za-z]+)")


def is_name(side: str) -> bool:
    """Whether a side of an equation is the name of one unknown, and nothing is done to it."""
    symbol = _SYMBOL.fullmatch(side)
    if symbol is not None:
        return _is_symbol(symbol["name"], symbol["of"])
    return _WORDS.fullmatch(side) is not None and _is_description(side)


def _is_symbol(name: str, of: str | None) -> bool:
    words = vocabulary()
    bare = name.removeprefix("\\").partition("_")[0]
    if bare.lower() in words.functions and (name[0] == "\\" or of is not None):
        return False
    if name[0] == "\\":
        return bare in words.symbols
    if bare.lower() in words.operating or _is_product(bare):
        return False
    if of is None or len(bare) > 1 or not _OPERATORS.search(of.strip("-")):
        return True
    return _FUNCTIONS_OF.fullmatch(bare) is not None and bare not in of


def _is_product(name: str) -> bool:
    """Whether letters stand side by side: xy, abc; AB is a segment, and age is a word."""
    if not 1 < len(name) <= 3 or not name.islower():
        return False
    return len(name) == 2 or any(set(name) <= set(letters) for letters in _PRODUCTS)


def _is_description(side: str) -> bool:
    words = vocabulary()
    names = [name.strip(".'") for name in side.split()]
    if any("-" in name and _PARTED.match(name) for name in names) or _LONE_AMONG.search(side):
        return False
    for at, name in enumerate(names):
        following = names[at + 1] if at + 1 < len(names) else ""
        bare = name.removeprefix("\\").partition("(")[0].partition("_")[0]
        if name[0] == "\\" and bare not in words.symbols:
            return False
        lowered = bare.lower()
        is_before_letter = _LONE.fullmatch(following.partition("(")[0]) is not None
        if lowered in words.operating or (lowered in words.magnitudes and lowered != "score"):
            return False
        is_applied = lowered in words.functions or lowered in ("negative", "square", "cube")
        if is_applied and (is_before_letter or "(" in name):
            return False
    return _AT_LEAST.search(side.lower()) is None


def is_arithmetic(side: str) -> bool:
    """Whether a side is worked out of numbers alone; it may name their units."""
    side = _FUNCTION.sub(" ", _OF_NUMBERS.sub(" 1 ", side))
    if "," in side or not re.search(r"\d", side) or not _ARITHMETIC.fullmatch(side):
        return False
    words = vocabulary()
    if any(
        name not in words.attached_units and name not in words.attached and name not in ("x", "th")
        for name in _ATTACHED.findall(side)
    ):
        return False
    return all(
        not part.strip(" ().$%!")
        or re.search(r"\d", part) is not None
        or part.strip(" ().$%!") in words.units
        for part in _OPERAND.split(side)
    )
