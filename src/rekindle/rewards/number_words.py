"""Numbers in words, units, and when two numbers with units are the same.

    seven, minus twenty-one, three hundred and five, two and a half million dollars, half a dozen
    5 m = 500 cm, $5 = 5 dollars; 5 m is not 5 ft; 5 is 5 m, where one side names no unit

The words are in words.json: cardinals, magnitudes, units with their size, and the words beside a
number that change it (`squared`), compare with it (`at least`) or negate it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_MOST_WORDS = 12
_MOST_UNIT_WORDS = 3
_HUNDRED = 100
_OTHER = re.compile(r"[^A-Za-z\s,.'\"$-]")  # what no number in words has


class Number(NamedTuple):
    """A number as an answer states it."""

    value: Fraction  # as written: 40 for 40 %
    percent: bool = False
    unit: str = ""  # "" where there is none


def same_number(one: Number, other: Number) -> bool:
    """Whether two numbers are the same: a per cent sign on one side may stand for itself or for a
    hundredth, and a unit on one side alone says nothing."""
    factor = _unit_factor(one.unit, other.unit)
    if factor is None:
        return False
    a, b = one.value * factor, other.value
    if a == b:
        return True
    if one.percent == other.percent:
        return False
    return a / 100 == b if one.percent else a == b / 100


def read_words(text: str) -> Number | None:
    """`seven`, `minus twenty-one`, `two and a half million dollars`, `half a dozen`."""
    names = re.findall(r"[A-Za-z]+", text.lower())
    if not names or len(names) > _MOST_WORDS or _OTHER.search(text):
        return None
    while names and names[0] in vocabulary().leading:
        names.pop(0)
    sign = 1
    if names and names[0] in ("minus", "negative", "plus"):
        sign = 1 if names.pop(0) == "plus" else -1
    if "point" in names:
        value = _decimal_words(names)
        return None if value is None else Number(sign * value)
    parsed = _number_words(names)
    if parsed is None:
        return None
    value, rest = parsed
    if rest in (["percent"], ["per", "cent"]):
        return Number(sign * value, percent=True)
    return Number(sign * value, unit=" ".join(rest)) if _is_unit(rest) else None


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
    whole = _number_words(names[:at]) if at else (Fraction(0), [])
    if whole is None or whole[1] or not digits or max(digits) > 9:
        return None
    return whole[0] + Fraction(int("".join(map(str, digits))), 10 ** len(digits))


class _Sum(NamedTuple):
    closed: Fraction  # what magnitudes have multiplied: two thousand
    current: Fraction  # what the next may multiply


def _number_words(names: Sequence[str]) -> tuple[Fraction, list[str]] | None:
    """The number that the names begin with, and the names behind it."""
    words, so_far = vocabulary(), None
    at = 0
    for at, name in enumerate((*names, "")):
        following = names[at + 1] if at + 1 < len(names) else ""
        if name in words.cardinals:
            so_far = _plus(so_far, words.cardinals[name])
            if so_far is None:
                return None
        elif name in words.magnitudes:
            after_article = at > 0 and names[at - 1] == "a"
            so_far = _times(so_far, words.magnitudes[name], after_article=after_article)
        elif not (
            (name == "and" and so_far and _begins_number(following))
            or (name == "a" and following in words.magnitudes)
        ):
            break
    return None if so_far is None else (so_far.closed + so_far.current, list(names[at:]))


def _begins_number(name: str) -> bool:
    words = vocabulary()
    return name == "a" or name in words.cardinals or name in words.magnitudes


def _plus(so_far: _Sum | None, small: int) -> _Sum | None:
    """`twenty` and one, `three hundred` and five; None where they do not go together: `one two`."""
    if so_far is None:
        return _Sum(Fraction(0), Fraction(small))
    current = so_far.current
    fits = current % 100 == 0 or (current % 10 == 0 and current % 100 >= 20 and small < 10)
    return _Sum(so_far.closed, current + small) if fits else None


def _times(so_far: _Sum | None, factor: Fraction, *, after_article: bool) -> _Sum:
    """`three` million, `two and a` half, half a dozen."""
    nothing = Fraction(0)
    if so_far is None:
        return _Sum(factor, nothing) if factor > 1 else _Sum(nothing, factor)
    closed, current = so_far
    if factor == _HUNDRED:
        return _Sum(closed, current * factor)
    if factor > 1:
        return _Sum(closed + (current or 1) * factor, nothing)
    return _Sum(closed, current + factor if after_article else (current or 1) * factor)


@dataclass(frozen=True)
class Vocabulary:
    """The words of numbers."""

    magnitudes: Mapping[str, Fraction]  # million, dozen, half
    attached: Mapping[str, Fraction]  # k, M, bn: right behind the digits
    cardinals: Mapping[str, int]  # zero to nineteen, twenty to ninety
    spoiling: frozenset[str]  # beside a number they change it, compare with it or negate it
    function: frozenset[str]  # behind a number they are no unit
    leading: frozenset[str]  # in front of a number in words they say nothing
    joining: frozenset[str]  # behind a number in words they go on to something else
    letters: frozenset[str]  # units of one letter
    attached_units: frozenset[str]  # units that may stand right behind the digits
    units: Mapping[str, tuple[str, Fraction]]  # (dimension, size in its first unit)


@cache
def vocabulary() -> Vocabulary:
    """The words of words.json, read once."""
    table = json.loads(files(__package__).joinpath("words.json").read_text(encoding="utf-8"))
    units = {
        name: (dimension, Fraction(factor))
        for dimension, by_factor in table["units"].items()
        for factor, names in by_factor.items()
        for name in names.split()
    }
    listed = {key: frozenset(text.split()) for key, text in table.items() if isinstance(text, str)}
    return Vocabulary(
        magnitudes={name: Fraction(value) for name, value in table["magnitudes"].items()},
        attached={name: Fraction(value) for name, value in table["attached"].items()},
        cardinals=table["cardinals"],
        spoiling=listed["changing"] | listed["comparing"] | listed["negating"],
        function=listed["function"],
        leading=listed["leading"],
        joining=listed["joining"],
        letters=listed["letter_units"],
        attached_units=listed["attached_units"] | {unit for unit in units if len(unit) > 1},
        units=units,
    )


def have_same_unit(one: str, other: str) -> bool:
    """Whether two units, "" where there is none, can stand at the same value."""
    return _unit_factor(one, other) == 1


def _unit_factor(one: str, other: str) -> Fraction | None:
    """What a value in `one` is times in `other`: 1 where one has none, None where they differ."""
    if not one or not other or one == other:
        return Fraction(1)
    a, b = _canonical_unit(one), _canonical_unit(other)
    if a == b:
        return Fraction(1)
    units = vocabulary().units
    if a in units and b in units and units[a][0] == units[b][0]:
        return units[a][1] / units[b][1]
    return None


def _canonical_unit(unit: str) -> str:
    spelled = unit.strip(". ")
    units = vocabulary().units
    if spelled in units:
        return spelled
    lowered = spelled.lower()
    if lowered in units or not lowered.endswith("s"):
        return lowered
    return lowered.removesuffix("es" if lowered.endswith(("shes", "ches", "xes")) else "s")
