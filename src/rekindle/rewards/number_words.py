"""Numbers in words, units, and when two numbers with units are the same.

    seven, minus twenty-one, three hundred and five, two and a half million dollars, half a dozen
    5 m = 500 cm, $5 = 5 dollars; 5 m is not 5 ft; 5 is 5 m, where one side names no unit

The words are in words.json: cardinals, magnitudes, units with their size, and the words beside a
number that change it (`squared`), compare with it (`at least`) or negate it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_LEADING = frozenset(
    ("the", "a", "an", "exactly", "about", "approximately", "total", "of", "is", "just", "only")
    + ("equal", "to", "number", "therefore", "thus", "so")
)
_JOINING = frozenset(("and", "or", "to", "than", "of", "by", "plus", "minus", "times"))
_MOST_WORDS = 12


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
    if not names or len(names) > _MOST_WORDS or re.search(r"[^A-Za-z\s,.'\"$-]", text):
        return None
    while names and names[0] in _LEADING:
        names.pop(0)
    sign = 1
    if names and names[0] in ("minus", "negative", "plus"):
        sign, names = 1 if names[0] == "plus" else -1, names[1:]
    if "point" in names:
        return _decimal_words(names, sign)
    parsed = _number_words(tuple(names))
    if parsed is None:
        return None
    value, rest = parsed
    if rest and rest[0] in ("percent", "per"):
        return (
            Number(sign * value, percent=True) if rest in (["percent"], ["per", "cent"]) else None
        )
    words = vocabulary()
    if len(rest) > 3 or any(
        r in words.spoiling or r in words.cardinals or r in words.magnitudes or r in _JOINING
        for r in rest
    ):
        return None
    return Number(sign * value, unit=" ".join(rest))


def _decimal_words(names: list[str], sign: int) -> Number | None:
    """`two point five`."""
    at, cardinals = names.index("point"), vocabulary().cardinals
    digits = [cardinals.get(name, 10) for name in names[at + 1 :]]
    whole = _number_words(tuple(names[:at])) if at else (Fraction(0), [])
    if whole is None or whole[1] or not digits or max(digits) > 9:
        return None
    return Number(sign * (whole[0] + Fraction(int("".join(map(str, digits))), 10 ** len(digits))))


def _number_words(names: tuple[str, ...]) -> tuple[Fraction, list[str]] | None:
    words = vocabulary()
    total, current, at, seen = Fraction(0), Fraction(0), 0, False
    while at < len(names):
        name = names[at]
        following = names[at + 1] if at + 1 < len(names) else ""
        if name in words.cardinals:
            small = words.cardinals[name]
            if seen and not (
                current % 100 == 0 or (current % 10 == 0 and current % 100 >= 20 and small < 10)
            ):
                return None
            current, seen = current + small, True
        elif name == "hundred" and seen:
            current *= 100
        elif name in words.magnitudes and (seen or not current):
            factor = words.magnitudes[name]
            if factor < 1:
                current = (
                    (current or 1) * factor
                    if not (seen and at and names[at - 1] == "a")
                    else current + factor
                )
            else:
                total, current = total + (current or 1) * factor, Fraction(0)
            seen = True
        elif (
            name == "and"
            and seen
            and (following in words.cardinals or following in ("a", *words.magnitudes))
        ) or (name == "a" and (following in words.magnitudes)):
            pass
        else:
            break
        at += 1
    return (total + current, list(names[at:])) if seen else None


@dataclass(frozen=True)
class Vocabulary:
    """The words of numbers."""

    magnitudes: Mapping[str, Fraction]
    attached: Mapping[str, Fraction]
    cardinals: Mapping[str, int]
    spoiling: frozenset[str]
    letters: frozenset[str]
    attached_units: frozenset[str]
    units: Mapping[str, tuple[str, Fraction]]


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
    spoiling = " ".join(table[key] for key in ("changing", "comparing", "negating")).split()
    return Vocabulary(
        {name: Fraction(value) for name, value in table["magnitudes"].items()},
        {name: Fraction(value) for name, value in table["attached"].items()},
        table["cardinals"],
        frozenset(spoiling),
        frozenset(table["letter_units"].split()),
        frozenset(table["attached_units"].split()) | frozenset(u for u in units if len(u) > 1),
        units,
    )


def _unit_factor(one: str, other: str) -> Fraction | None:
    """What a value in `one` is times in `other`; 1 where a side has no unit, None where they differ."""
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
    return (
        lowered.removesuffix("es")
        if lowered.endswith(("shes", "ches", "xes"))
        else lowered.removesuffix("s")
    )
