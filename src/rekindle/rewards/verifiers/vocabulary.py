"""The words of numbers, from words.json.

Cardinals, magnitudes, units with their size, and the words beside a number that change it
(`squared`), compare with it (`at least`) or negate it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Vocabulary:
    """The words of numbers."""

    magnitudes: Mapping[str, Fraction]  # million, dozen, half
    attached: Mapping[str, Fraction]  # k, M, bn: right behind the digits
    cardinals: Mapping[str, int]  # zero to nineteen, twenty to ninety
    spoiling: frozenset[str]  # beside a number they change it, compare with it or negate it
    negating: frozenset[str]  # those of them that deny it
    function: frozenset[str]  # behind a number they are no unit
    leading: frozenset[str]  # in front of a number in words they say nothing
    joining: frozenset[str]  # behind a number in words they go on to something else
    operating: frozenset[str]  # in the name of an unknown they say that it is not alone
    functions: frozenset[str]  # log, sqrt: names of functions, and no names of unknowns
    symbols: frozenset[str]  # commands of LaTeX that name an unknown, or a part of a figure
    letters: frozenset[str]  # units of one letter
    attached_units: frozenset[str]  # units that may stand right behind the digits
    prefixed: frozenset[str]  # units in front of which m is milli and M is mega
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
        negating=listed["negating"],
        function=listed["function"],
        leading=listed["leading"],
        joining=listed["joining"],
        operating=listed["operating"] | listed["negating"],
        functions=listed["functions"],
        symbols=listed["symbols"],
        letters=listed["letter_units"],
        attached_units=listed["attached_units"] | {unit for unit in units if len(unit) > 1},
        prefixed=listed["prefixed"],
        units=units,
    )
