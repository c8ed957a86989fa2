"""The unit behind a number, and what a value in one unit is in another.

    cm, m/s, km per hour, cm^2, square cm, /hour, °C, degrees Celsius, $
    m is 100 cm, m^2 is 10000 cm^2, km/h is 1000 m / 3600 s; mW is not MW; apples are apple

A word that is no known unit is one of its own: 5 apples are not 5 pears.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rekindle.rewards.verifiers.vocabulary import vocabulary

_UNIT = re.compile(
    r"\s{0,3}-?\s{0,3}(?P<unit>"
    r"(?:/\s?[A-Za-z]+|(?:[sS]q(?:uare)?|[cC]u(?:bic)?)\b\.?\s(?!roots?\b)[A-Za-zµ]+"
    r"|(?:degrees?|deg)\s(?:[cC]elsius|[fF]ahrenheit|[kK]elvin|[CFK]\b)"
    r"|[A-Za-z]{1,3}\s[A-Za-z]{1,3}\^-\d|[A-Za-zµΩ]+'?[A-Za-zΩ]*"
    r"|°\s?[CFK]?\b|[°€£¥₹$¢%])\.?(?:\s?\^\s?-?\d)?"
    r"(?:(?:\s?[/·×]\s?|\sper\s)[A-Za-zµΩ]+(?:\s?\^\s?-?\d)?|\s[A-Za-z]+\^-?\d){0,3})"
)
_NAME = re.compile(r"/?\s?[^\W\d]+|.")
_SQUARED = re.compile(r" (squared|cubed)\b")
_BELOW = re.compile(r"\s?/\s?|\bper\b")
_DEGREES = re.compile(
    r"(?:°|\bdeg(?:rees?)?)\s?(?:(c)(?:elsius)?|(f)(?:ahrenheit)?|(k)(?:elvin)?)\b", re.IGNORECASE
)
_FACTOR = re.compile(
    r"(?:(?P<square>sq(?:uare)?\b\.?)\s+|(?P<cubic>cu(?:bic)?\b\.?)\s+)?"
    r"(?P<name>[^\s^·×]+)(?:\s?\^\s?(?P<power>-?\d))?",
    re.IGNORECASE,
)


def unit_behind(text: str, at: int) -> tuple[str, int] | None:
    """(the unit after a number, its end), ("", at) without one; None: it is part of a formula."""
    if text[at : at + 1] == "_":
        return None
    match = _UNIT.match(text, at)
    if match is None:
        return "", at
    name, is_attached = match["unit"].rstrip("."), match.start("unit") == at
    word = _NAME.match(name)
    first = "" if word is None else word[0].lstrip("/ ")
    words = vocabulary()
    if len(first) == 1 and first.isalpha():
        if first in words.letters and (not is_attached or name[0] == "/"):
            return name, match.end()
        return None if is_attached or first not in "aAI" else ("", at)
    if is_attached and name[0].isalpha() and first not in words.attached_units:
        return None
    lowered = first.lower()
    if lowered in words.spoiling or lowered in words.function or lowered in words.cardinals:
        return "", at
    power = _SQUARED.match(text, match.end())
    if power is None:
        return name, match.end()
    return f"{name}^{2 if power[1] == 'squared' else 3}", power.end()


def unit_factor(one: str, other: str) -> Fraction | None:
    """What a value in `one` is times in `other`: 1 where one has none, None where they differ."""
    if not one or not other or one == other:
        return Fraction(1)
    a, b = _measure(one), _measure(other)
    return a.size / b.size if a.dimensions == b.dimensions else None


class _Measure(NamedTuple):
    dimensions: frozenset[tuple[str, int]]  # (its name, its power)
    size: Fraction


@lru_cache(maxsize=4096)
def _measure(unit: str) -> _Measure:
    powers: dict[str, int] = {}
    size = Fraction(1)
    spelled = _DEGREES.sub(lambda match: f"°{match[1] or match[2] or match[3]}", unit.strip(". "))
    for place, part in enumerate(_BELOW.split(spelled)):
        for factor in _FACTOR.finditer(part):
            power = int(factor["power"] or (2 if factor["square"] else 3 if factor["cubic"] else 1))
            power = power if place == 0 else -power
            dimension, one = _base(factor["name"])
            size *= one**power
            for depth, name in enumerate(dimension.split("/")):
                powers[name] = powers.get(name, 0) + (power if depth == 0 else -power)
    return _Measure(frozenset(item for item in powers.items() if item[1]), size)


def _base(name: str) -> tuple[str, Fraction]:
    """(dimension, size) of a unit that is neither a product nor a power."""
    units = vocabulary().units
    spelled = name.rstrip(".")
    if spelled not in units:
        spelled = _lowered(spelled)
    if spelled not in units and spelled.endswith("s"):
        is_es = spelled.endswith(("shes", "ches", "xes"))
        spelled = spelled.removesuffix("es" if is_es else "s")
    return units.get(spelled, (spelled, Fraction(1)))


def _lowered(name: str) -> str:
    """In lower case, but where that makes another unit: MW is no mW, S no s."""
    lowered = name.lower()
    if len(name) == 1:
        return lowered if name == "L" else name
    is_prefixed = name[0] in "mMpP" and lowered[1:] in vocabulary().prefixed
    return name[0] + lowered[1:] if is_prefixed else lowered
