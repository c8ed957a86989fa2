"""Numbers in words, and when two numbers with units are the same.

seven, minus twenty-one, -five, three hundred and five, two and a half million dollars
5 m = 500 cm, $5 = 5 dollars; 5 m is not 5 ft; 5 is 5 m, where one side names no unit
not read: twenty, five | twenty - five | twenty-fifth
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from rekindle.rewards.verifiers.units import unit_factor
from rekindle.rewards.verifiers.vocabulary import vocabulary

_MOST_WORDS = 12
_MOST_UNIT_WORDS = 3
_HUNDRED = 100
_THOUSAND = 1000
_OTHER = re.compile(r"[^A-Za-z\s,.'\"$-]")  # what no number in words has
_SIGN = re.compile(r"(?:^|(?<=\s))-\s?(?=[a-z])")  # -five
_APART = re.compile(r"\b([a-z]+)\s?[,.]\s?(?=([a-z]+))")  # twenty, five
_DASH = re.compile(r"\s-|-\s")


class Number(NamedTuple):
    """A number as an answer states it."""

    value: Fraction  # as written: 40 for 40 %
    percent: bool = False
    unit: str = ""  # "" where there is none
    letter: str = ""  # the magnitude right behind the digits, which may be a unit: K in 300K


def same_number(one: Number, other: Number) -> bool:
    """Whether two numbers are the same: a per cent sign on one side may stand for itself or for a
    hundredth, and a unit on one side alone says nothing. 300K is 300 K beside a unit K."""
    one, other = _with_letter_of(one, other), _with_letter_of(other, one)
    factor = unit_factor(one.unit, other.unit)
    if factor is None:
        return False
    a, b = one.value * factor, other.value
    if a == b:
        return True
    if one.percent == other.percent:
        return False
    return a / 100 == b if one.percent else a == b / 100


def _with_letter_of(number: Number, other: Number) -> Number:
    if not number.letter or number.letter != other.unit:
        return number
    return Number(number.value / vocabulary().attached[number.letter], unit=number.letter)


def have_same_unit(one: str, other: str) -> bool:
    """Whether two units, "" where there is none, can stand at the same value."""
    return unit_factor(one, other) == 1


def read_words(text: str) -> Number | None:
    """`seven`, `minus twenty-one`, `two and a half million dollars`, `half a dozen`."""
    if _OTHER.search(text):
        return None
    text, sign, words = text.lower(), 1, vocabulary()
    signed = _SIGN.search(text) if "-" in text else None
    if signed is not None:
        if not words.leading.issuperset(_names_of(text[: signed.start()])):
            return None
        text, sign = text[signed.end() :], -1
    names = _names_of(text)
    if not names or len(names) > _MOST_WORDS or _is_interrupted(text):
        return None
    led = ""
    while names and names[0] in words.leading:
        led = names.pop(0)
    if led in ("a", "an") and names and names[0] in words.cardinals:  # a one
        return None
    if names and names[0] in ("minus", "negative", "plus"):
        sign *= 1 if names.pop(0) == "plus" else -1
    if "point" in names:
        value = _decimal_words(names)
        return None if value is None else Number(sign * value)
    parsed = parse_words(names)
    if parsed is None:
        return None
    value, rest = parsed
    if rest in (["percent"], ["per", "cent"]):
        return Number(sign * value, percent=True)
    return Number(sign * value, unit=" ".join(rest)) if _is_unit(rest) else None


def _names_of(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text)


def _is_interrupted(text: str) -> bool:
    """Whether a comma, a full stop or a dash parts number words: `twenty, five`."""
    if _DASH.search(text):
        return True
    words = vocabulary()
    return any(
        (first in words.cardinals or words.magnitudes.get(first, _THOUSAND) < _THOUSAND)
        and (second in words.cardinals or second in words.magnitudes)
        for first, second in _APART.findall(text)
    )


def _is_unit(names: list[str]) -> bool:
    """Whether words behind a number may be its unit; none of them changes it or is one itself."""
    words = vocabulary()
    if len(names) > _MOST_UNIT_WORDS or names[:1] in (["percent"], ["per"]):
        return False
    return not any(
        name in words.spoiling
        or name in words.cardinals
        or name in words.magnitudes
        or name in words.joining
        for name in names
    )


def _decimal_words(names: Sequence[str]) -> Fraction | None:
    """`two point five`."""
    at, cardinals = names.index("point"), vocabulary().cardinals
    digits = [cardinals.get(name, 10) for name in names[at + 1 :]]
    whole = parse_words(names[:at]) if at else (Fraction(0), [])
    if whole is None or whole[1] or not digits or max(digits) > 9:
        return None
    return whole[0] + Fraction(int("".join(map(str, digits))), 10 ** len(digits))


class _Sum(NamedTuple):
    closed: Fraction  # what magnitudes have multiplied: two thousand
    current: Fraction  # what the next may multiply


def parse_words(names: Sequence[str]) -> tuple[Fraction, list[str]] | None:
    """The number that the names begin with, and the names behind it."""
    words, at = vocabulary(), 0
    so_far: _Sum | None = None
    while at < len(names):
        name, following = names[at], names[at + 1] if at + 1 < len(names) else ""
        part = fraction_words(names[at + 1 : at + 3]) if name == "and" and so_far else None
        if part is not None and so_far is not None:
            so_far = _Sum(so_far.closed, so_far.current + part)
            at += 2
        elif name in words.cardinals:
            so_far = _plus(so_far, words.cardinals[name])
        elif name in words.magnitudes:
            so_far = _times(so_far, words.magnitudes[name], is_plural=name.endswith("s"))
        elif not (
            (name == "and" and so_far and following in words.cardinals)
            or (name == "a" and following in words.magnitudes)
        ):
            break
        if so_far is None and name != "a":
            return None
        at += 1
    return None if so_far is None else (so_far.closed + so_far.current, list(names[at:]))


def fraction_words(names: Sequence[str]) -> Fraction | None:
    """`a half`, `three quarters`: less than one."""
    if len(names) != 2:
        return None
    words = vocabulary()
    over = 1 if names[0] in ("a", "an") else words.cardinals.get(names[0], 0)
    value = over * words.magnitudes.get(names[1], Fraction(1))
    return value if 0 < value < 1 else None


def _plus(so_far: _Sum | None, small: int) -> _Sum | None:
    """`twenty` and one, `three hundred` and five; None where they do not go together: `one two`."""
    if so_far is None:
        return _Sum(Fraction(0), Fraction(small))
    current = so_far.current
    fits = current % 100 == 0 or (current % 10 == 0 and current % 100 >= 20 and small < 10)
    return _Sum(so_far.closed, current + small) if fits else None


def _times(so_far: _Sum | None, factor: Fraction, *, is_plural: bool) -> _Sum | None:
    """`three` million, half a dozen; None for what may be an ordinal: `twenty-fifth`."""
    nothing = Fraction(0)
    if so_far is None:
        return _Sum(factor, nothing) if factor > 1 else _Sum(nothing, factor)
    closed, current = so_far
    if factor == _HUNDRED:
        return _Sum(closed, current * factor)
    if factor > 1:
        return _Sum(closed + (current or 1) * factor, nothing)
    if not is_plural and (closed or current > 1):
        return None
    return _Sum(closed, (current or 1) * factor)
