"""What stands beside the value of a formula: the name of the unknown, and the unit.

name     x, x_1, f(2), AB, \\angle A, (x, y); none are \\log x, xy, x^2, 2x
unit     cm, cm^2 = square cm, m/s, apples; none are million, squared, is wrong, times the radius
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rekindle.rewards.verifiers.number_words import Number, have_same_unit
from rekindle.rewards.verifiers.numbers import read_number
from rekindle.rewards.verifiers.vocabulary import vocabulary

_MOST_UNIT_WORDS = 3
_PER_CENT = ("percent", "cent", "percentage")  # cents are a unit
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_BEHIND = {"squared": 2, "cubed": 3}
_WORDS = re.compile(r"[^\W\d_]+")
# A unit behind a formula: \text{ cm}^2, \mathrm{m/s}; as plain text where it is known: 4\pi cm
_INNER, _OUTER, _BEHIND = (
    rf"(?:\s?\^\s?\{{?\s?(?P<{place}>\d)\s?\}}?|(?P<{place}_sign>[²³]))?"
    for place in ("inner", "outer", "behind")
)
_UNIT = re.compile(
    r"(?<=[\w})\]])(?:\\[,;:! ])?\s{0,3}\\(?:text|mathrm|mbox|textrm)\s?\{\s{0,3}"
    rf"(?P<words>(?![eid]\s?\}})[A-Za-z][^{{}}^²³]{{0,40}}){_INNER}\s?\}}{_OUTER}[\s.$]*$"
    r"|(?<=[\d}i)])\s{1,3}(?P<name>(?:square |cubic )?(?:cm|mm|km|kg|units?|meters|metres|inches|"
    r"feet|miles|degrees|dollars|cents|seconds|minutes|hours|grams|liters|litres|rad(?:ians)?))"
    rf"{_BEHIND}[\s.$]*$"
)
_FUNCTION = re.compile(
    r"\\?(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?(?![a-z])|\\?(?:log|ln|lg|exp|sqrt)(?![a-z])"
)
# 3.5(x + 1), \frac{3}{4}!, \frac{3}{4} minus one, per mille
_NO_NUMBER = re.compile(
    r"[\d}]\s?\(\s?(?=[^()]{0,40}[-+*/^\d])[^()]{0,40}[a-zA-Z][^()]{0,40}\)"
    r"|\}\s?!(?!=)|[\d})]\s?(?:\\text\s?\{\s?)?\s?(?:minus|plus|times)\b|‰"
    r"|(?<![a-zA-Z])[a-zA-Z]'{1,2}\s?[-+*/^]"
)
_COMMANDS = re.compile(r"\\(?:begin|end)\{[a-zA-Z]*\}|\\[a-zA-Z]+")
_PRODUCT, _PRODUCTS = re.compile(r"[a-z]\s?[a-z]"), re.compile("[a-z]{1,3}")
_INDEX = r"(?:_(?:\{[\w,]{1,6}\}|\w))?"
_NAME = re.compile(  # x, x_1, f(x), \theta, (x, y), \frac{dy}{dx}
    rf"\\?[A-Za-z]+'{{0,2}}{_INDEX}(?:\([A-Za-z0-9, ]{{1,12}}\))?"
    r"|\([A-Za-z](?:\s?,\s?[A-Za-z])+\)"
)
_LETTER = rf"(?:\\[a-zA-Z]++|[a-zA-Z]){_INDEX}(?:\^(?:\{{\d\}}|\d))?"
_SUM = re.compile(rf"[-+]?\s?(?:{_LETTER}\s?)+(?:[-+]\s?(?:{_LETTER}\s?)+)+")  # p^2 + q^2, a + bc
_RELATED = re.compile(r"[=<>≤≥∈]|\\(?:[lg][et]|in)")
_LEADING = re.compile(
    r"(?P<name>[A-Za-z]'{0,2}(?:_(?:\{[\w,]{1,6}\}|\w))?(?:\([A-Za-z0-9, ]{1,12}\))?|[A-Z]{2,4}"
    r"|\([A-Za-z](?:\s?,\s?[A-Za-z])+\)"
    r"|\\(?:angle|triangle|overline|overrightarrow|vec|widehat)\s?\{?\s?[A-Z]{1,4}\s?\}?)"
    r"\s?(?:=|<|>|≤|≥|∈|\\(?:le|ge|lt|gt|in)(?:q|qslant)?(?![a-z]))[^=]*$"
)
_MARKED = re.compile(
    r"[\s$({\\]*?\\(?P<mark>overline|bar|overrightarrow|overleftrightarrow|angle|triangle|vec|widehat)"
    r"\s?\{?\s?(?P<name>[A-Za-z]{1,4})\s?\}?[\s$.)}\\]*"
)
_SAME_MARKS = {"bar": "overline", "vec": "overrightarrow", "widehat": "angle"}


# --- names


def is_name(side: str) -> bool:
    """Whether one side of an equation is a bare name: x, f(x), AB; not \\log x, xy."""
    return (
        _NAME.fullmatch(side) is not None
        and _FUNCTION.match(side) is None
        and _PRODUCT.fullmatch(side) is None
    )


def is_asked_for(sides: Sequence[str]) -> bool:
    """Whether the left side is what was asked for, and the right one its value: `p + q = a + b`.

    They have no letter in common, and both have some. x^2 = a + b says what x^2 is, not x.
    """
    letters = [_letters(side) for side in sides]
    if len(sides) != 2 or not all(letters) or not letters[0].isdisjoint(letters[1]):
        return False
    return is_name(sides[0]) or _SUM.fullmatch(sides[0]) is not None


def number_of(text: str) -> Number | None:
    """The number that a text states; None of `\\log x = 3` and `xy = 3`."""
    if text.isdecimal():
        return read_number(text)
    if _NO_NUMBER.search(text) is not None:
        return None
    if _PRODUCTS.fullmatch(text) is not None and text not in vocabulary().cardinals:
        return None  # mn is m times n, no million
    sides = text.split("=") if "=" in text else []
    if any(_is_function_of_unknowns(side.strip(" $({})[].:\\")) for side in sides):
        return None
    return read_number(text)


def _is_function_of_unknowns(side: str) -> bool:
    if _PRODUCT.fullmatch(side) is not None and side not in vocabulary().units:
        return True
    return _FUNCTION.search(side) is not None and bool(_letters(_FUNCTION.sub(" ", side)))


def _letters(side: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z]", _COMMANDS.sub(" ", side)))


def name_different_unknowns(gold: str, answer: str) -> bool:
    """Whether both name their unknown, and not the same one: `x = -2` and `y = -2`."""
    if not (_RELATED.search(gold) and _RELATED.search(answer)):
        return False
    one, other = (_LEADING.match(_bare(text)) for text in (gold, answer))
    if one is None or other is None:
        return False
    names = [re.sub(r"[\s{}]", "", match["name"]) for match in (one, other)]
    rests = [match.string[match.end("name") :] for match in (one, other)]
    if all(name in _letters(rest) for name, rest in zip(names, rests[::-1], strict=True)):
        return False  # y = 2x and x = y / 2: equations of both
    return _differ(*names)


def _bare(text: str) -> str:
    return text.strip().removeprefix("$").removeprefix("$").removeprefix("\\(").strip()


def _differ(one: str, other: str) -> bool:
    """Of two names that may be of several kinds; of different kinds they may mean the same."""
    if one == other:
        return False
    if one[0] == other[0] == "(":
        return sorted(one) == sorted(other)  # (y, x) for (x, y)
    if one[0] == "\\" or other[0] == "\\" or _is_capitals(one) or _is_capitals(other):
        mark, name = _mark_and_letters(one)
        other_mark, other_name = _mark_and_letters(other)
        return mark == other_mark and len(name) == len(other_name) and name[::-1] != other_name
    if ("(" in one) != ("(" in other):
        return False
    if one[0] != other[0] or one.count("'") != other.count("'"):
        return True
    if "(" in one:  # P(A) is not P(B), f(1) not f(2); f(x) may be f(t)
        return any(c.isdigit() or c.isupper() for c in one[1:] + other[1:])
    return "_" in one and "_" in other


def _is_capitals(name: str) -> bool:
    return len(name) > 1 and name.isalpha() and name.isupper()


def _mark_and_letters(name: str) -> tuple[str, str]:
    letters = re.search(r"[A-Z]{1,4}$", name)
    return (name, "") if letters is None else (name[: letters.start()], letters[0])


def have_different_marks(gold: str, answer: str) -> bool:
    """Whether two names bear different marks of geometry: an angle is no triangle."""
    if "\\" not in gold or "\\" not in answer:
        return False
    one, other = (_MARKED.fullmatch(text) for text in (gold, answer))
    if one is None or other is None:
        return False
    mark, other_mark = (_SAME_MARKS.get(match["mark"], match["mark"]) for match in (one, other))
    return mark != other_mark


# --- units


class Unit(NamedTuple):
    """cm^2: a name and its power."""

    name: str
    power: int


def split_unit(text: str) -> tuple[str, Unit | None]:
    """A formula, and the unit behind it; None where no unit is there."""
    match = _UNIT.search(text)
    if match is None:
        return text, None
    unit = _unit(match)
    return (text, None) if unit is None else (text[: match.start()], unit)


def have_same_units(one: Unit | None, other: Unit | None) -> bool:
    """Whether two units can stand at the same value: no unit at all says nothing."""
    if one is None or other is None:
        return True
    return one.power == other.power and have_same_unit(one.name, other.name)


def _unit(match: re.Match[str]) -> Unit | None:
    places = ("inner", "outer", "behind")
    written = [match[place] for place in places if match[place]]
    signs = [match[f"{place}_sign"] for place in places if match[f"{place}_sign"]]
    power = int(written[0]) if written else 2 + "²³".index(signs[0]) if signs else 1
    text = (match["words"] or match["name"]).strip(". ")
    names = _WORDS.findall(text.lower())
    if names[:1] and names[0] in _POWERS:
        power, text = _POWERS[names[0]], re.sub(r"^[A-Za-z]+\.?\s+", "", text)
    elif len(names) == 2 and names[1] in _POWERS_BEHIND and names[0] in vocabulary().units:
        power, text = _POWERS_BEHIND[names[1]], text.split()[0]
    return Unit(text, power) if _is_unit(_WORDS.findall(text.lower())) else None


def _is_unit(names: list[str]) -> bool:
    """Whether none of the words changes the value, compares with it or denies it."""
    words = vocabulary()
    if names == ["in"]:
        return True
    return 0 < len(names) <= _MOST_UNIT_WORDS and not any(
        name in _PER_CENT
        or name in words.spoiling
        or name in words.function
        or name in words.cardinals
        or name in words.magnitudes
        or name in words.joining
        for name in names
    )
