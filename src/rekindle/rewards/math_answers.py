"""When two answers are equal as mathematics: math-verify's parser, with guards of our own.

Its equality is not ours in these places, which are decided here before or after it:

    containers   \\{1, 2\\} is a set, (1, 2) a tuple or an open interval, [1, 2] a closed one, 1, 2
                 a list without order but with repetitions; none is another; elements are compared
    texts        words and runs of letters are texts: `live` is not `evil`, TA not AT
    numbers      exact: 0.3333 is not 1/3, 3.14159 not pi; 1e3 is 1000; units, magnitudes, per cent
                 and currency as `rewards.numbers` reads them
    equations    2x = 10 is not 5; y = 2x + 1 equals 2x - y + 1 = 0; `x = 5` is 5
    literal      clock times, ratios, bases (`1011_2`): the same or not

math-verify 0.9 hangs on towers of powers, whatever time limit it is given, and may fill the memory:
`rewards.workers` runs this in processes that can be killed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from rekindle.errors import missing_extra
from rekindle.records import Score
from rekindle.rewards.latex_text import ROW, tidy_formula
from rekindle.rewards.math_shapes import CLOSE, DEPTH, OPEN, Shape, is_word, shape_of, squeezed
from rekindle.rewards.number_words import have_same_unit, same_number
from rekindle.rewards.numbers import read_number
from rekindle.rewards.texts import same_text

Expression = Any  # a sympy.Expr: sympy has no types

_DIGITS = 60  # to which numbers are worked out
_LOST = 15  # of them may be lost in rounding
_MOST_DIGITS = 400  # that working one out may take
_POINTS = ("17/23", "29/31", "41/37")  # where formulas must agree
_ROUNDING = 15  # digits of math-verify's own comparison
_DEEPEST = 16  # brackets within brackets; the parser takes seconds for more
_COMMANDS = re.compile(r"\\(?:begin|end)\{[a-zA-Z]*\}|\\[a-zA-Z]+")
# A unit behind a formula: \text{ cm}^2, \mathrm{m/s}; as plain text where it is known: 4\pi cm
_UNIT = re.compile(
    r"(?<=[\w})\]])(?:\\[,;:! ])?\s{0,3}\\(?:text|mathrm|mbox|textrm)\s?"
    r"\{\s{0,3}(?P<words>(?![eid]\s?\})[A-Za-z][^{}]{0,40})\}(?:\s?\^\s?\{?\d\}?)?[\s.$]*$"
    r"|(?<=[\d}i)])\s{1,3}(?P<name>(?:square |cubic )?(?:cm|mm|km|kg|units?|meters|metres|inches|"
    r"feet|miles|degrees|dollars|cents|seconds|minutes|hours|grams|liters|litres))"
    r"(?:\s?\^\s?\{?\d\}?)?[\s.$]*$"
)
# The unknown that an answer is about: x in `x = 5`, `x < 2`, `x \in A`
_UNKNOWN = re.compile(
    r"([a-zA-Z])\s?(?:=|<|>|≤|≥|\\(?:le|ge|lt|gt|in)(?:q|qslant)?(?![a-z]))[^=]*$"
)


def compare(gold: str, answer: str, *, evaluate: bool = True) -> Score:
    """1 where they are equal, else 0; missing where the gold cannot be read.

    Args:
        gold: the answer that is right, without marks.
        answer: the answer of a text, without marks.
        evaluate: whether an unevaluated form counts where the gold is a number.

    Raises:
        MissingExtraError: math-verify is not installed.
    """
    wanted, stated = read_number(gold), read_number(answer)
    if _name_different_unknowns(gold, answer):
        return Score(0.0)
    if wanted is not None and stated is not None:
        return Score(float(same_number(stated, wanted)))
    if not have_same_unit(*(_unit_of(text) for text in (gold, answer))):
        return Score(0.0)
    gold, answer = (_UNIT.sub("", text) for text in (gold, answer))
    is_bare = wanted is not None and not wanted.unit
    formula = str(wanted.value) if wanted is not None and is_bare else tidy_formula(gold)
    if not formula:
        return Score.missing("parse: the gold answer cannot be read")
    return Score(float(_is_equal(formula, tidy_formula(answer), evaluate, 0)))


def _unit_of(text: str) -> str:
    match = _UNIT.search(text)
    return "" if match is None else match["words"] or match["name"]


def _name_different_unknowns(gold: str, answer: str) -> bool:
    """Whether both name their unknown, and not the same one: `x = -2` and `y = -2`."""
    one, other = (_UNKNOWN.match(text.strip(" $\\(")) for text in (gold, answer))
    return one is not None and other is not None and one[1] != other[1]


def _is_equal(gold: str, answer: str, evaluate: bool, depth: int) -> bool:
    if gold.replace(" ", "") == answer.replace(" ", ""):
        return True
    if _name_different_unknowns(gold, answer):
        return False
    wanted, stated = read_number(gold), read_number(answer)
    if wanted is not None and stated is not None:
        return same_number(stated, wanted)
    if wanted is not None and not evaluate:
        return False
    if is_word(gold) or is_word(answer):
        return same_text(gold, answer)
    one, other = _comparable(shape_of(gold, depth), shape_of(answer, depth))
    if one.kind == "formula" and other.kind == "equation" and _is_asked_for(other.parts):
        other = Shape("formula", other.parts[1:])
    return one.kind == other.kind and _is_same_shape(one, other, evaluate, depth)


def _is_asked_for(sides: Sequence[str]) -> bool:
    """Whether the left side is what was asked for, and the right one its value: `p + q = a + b`.

    They have no letter in common, and both have some: `2x = 10` says what 2x is, not x.
    """
    letters = [set(re.findall(r"[a-zA-Z]", _COMMANDS.sub(" ", side))) for side in sides]
    return len(sides) == 2 and all(letters) and letters[0].isdisjoint(letters[1])


def _comparable(gold: Shape, answer: Shape) -> tuple[Shape, Shape]:
    """Both shapes as one kind, where one may be meant as the other."""
    if {gold.kind, answer.kind} == {"list", "set"}:
        return gold, Shape(gold.kind, answer.parts)
    return _as_interval(gold, answer), _as_interval(answer, gold)


def _as_interval(pair: Shape, other: Shape) -> Shape:
    """(1, 2) as an open interval, where the other answer is an interval."""
    if pair.kind == "tuple" and other.kind == "interval" and len(pair.parts) == 2:
        return Shape("interval", ("(", *pair.parts, ")"))
    return pair


# --- shapes


def _is_same_shape(one: Shape, other: Shape, evaluate: bool, depth: int) -> bool:
    """Of two shapes of one kind."""
    golds, answers = one.parts, other.parts
    if one.kind == "literal":
        return squeezed(golds[0]) == squeezed(answers[0])
    if one.kind == "formula":
        return _is_same_formula(golds[0], answers[0])
    if one.kind == "equation":
        return _is_same_equation(golds, answers)
    if depth >= DEPTH:
        return False
    if one.kind == "matrix":
        return _is_same_matrix(golds, answers, evaluate, depth)
    if one.kind in ("tuple", "interval"):
        return len(golds) == len(answers) and all(
            _is_same_part(gold, answer, evaluate, depth)
            for gold, answer in zip(golds, answers, strict=True)
        )
    if one.kind == "set":
        return _covers(golds, answers, evaluate, depth) and _covers(answers, golds, evaluate, depth)
    return _is_same_list(golds, answers, evaluate, depth)


def _is_same_part(gold: str, answer: str, evaluate: bool, depth: int) -> bool:
    if gold in OPEN + CLOSE or answer in OPEN + CLOSE:
        return gold == answer
    return _is_equal(gold, answer, evaluate, depth + 1)


def _covers(some: Sequence[str], others: Sequence[str], evaluate: bool, depth: int) -> bool:
    """Whether each of some is among the others."""
    return all(any(_is_same_part(a, b, evaluate, depth) for b in others) for a in some)


def _is_same_list(golds: Sequence[str], answers: Sequence[str], evaluate: bool, depth: int) -> bool:
    """In any order, each once."""
    left = list(answers)
    if len(golds) != len(left):
        return False
    for gold in golds:
        partner = next((a for a in left if _is_same_part(gold, a, evaluate, depth)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True


def _is_same_matrix(
    golds: Sequence[str], answers: Sequence[str], evaluate: bool, depth: int
) -> bool:
    wanted, stated = ([row[1:-2].split(",") for row in rows] for rows in (golds, answers))
    if [len(row) for row in wanted] != [len(row) for row in stated]:
        return False
    return all(
        _is_equal(tidy_formula(gold), tidy_formula(cell), evaluate, depth + 1)
        for row, other in zip(wanted, stated, strict=True)
        for gold, cell in zip(row, other, strict=True)
    )


# --- formulas


def _is_same_equation(golds: Sequence[str], answers: Sequence[str]) -> bool:
    """Two sides each: the same where one difference is a multiple of the other."""
    if len(golds) != 2 or len(answers) != 2:
        return False
    parsed = [_parse_expression(side) for side in (*golds, *answers)]
    sides = [side for side in parsed if side is not None]
    if len(sides) < len(parsed):
        return squeezed("=".join(golds)) == squeezed("=".join(answers))
    one, other = sides[0] - sides[1], sides[2] - sides[3]
    if one == 0 or other == 0:
        return bool(one == other)
    ratio = _sympy().simplify(one / other)
    return bool(ratio.is_number and ratio != 0)


def _is_same_formula(gold: str, answer: str) -> bool:
    wanted, stated = _parse(gold), _parse(answer)
    if not wanted or not stated:
        return squeezed(gold) == squeezed(answer)
    one, other = wanted[0], stated[0]
    if isinstance(one, _sympy().Expr) and isinstance(other, _sympy().Expr):
        return _is_same_expression(_exact(one), _exact(other))
    return bool(
        _math_verify().verify(wanted, stated, timeout_seconds=None, float_rounding=_ROUNDING)
    )


def _is_same_expression(one: Expression, other: Expression) -> bool:
    if one.free_symbols != other.free_symbols:
        return _is_zero(one - other)
    if not one.free_symbols:
        return _is_same_value(one, other)
    names = sorted(one.free_symbols, key=str)
    for shift, point in enumerate(_POINTS):
        first = _sympy().Rational(point) + shift
        at = {name: first + i for i, name in enumerate(names)}
        try:
            if not _is_same_value(one.subs(at), other.subs(at)):
                return False
        except (TypeError, ValueError, ZeroDivisionError):  # there it has no value
            return _is_zero(one - other)
    return True


def _is_zero(difference: Expression) -> bool:
    return bool(_sympy().simplify(difference) == 0)


def _is_same_value(one: Expression, other: Expression) -> bool:
    sympy = _sympy()
    values = [sympy.N(each, _DIGITS, maxn=_MOST_DIGITS) for each in (one, other)]
    if any(not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo) for value in values):
        return bool(one == other)
    size = max(abs(value) for value in values)
    tolerance = size * sympy.Float(10) ** (_LOST - _DIGITS)
    return bool(size == 0 or abs(values[0] - values[1]) < tolerance)


def _exact(expression: Expression) -> Expression:
    """Decimals as they are written, what is left undone done, and i the imaginary unit."""
    sympy = _sympy()
    floats = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
    worked_out = expression.xreplace(floats).doit()
    return worked_out.subs({name: sympy.I for name in worked_out.free_symbols if name.name == "i"})


def _parse_expression(side: str) -> Expression | None:
    parsed = _parse(side)
    return parsed[0] if parsed and isinstance(parsed[0], _sympy().Expr) else None


def _parse(text: str) -> list[Expression]:
    """What math-verify reads: an object of sympy and the text; empty where it reads nothing."""
    if _nesting(text) > _DEEPEST:
        return []
    written = text.replace(ROW, "\\\\")
    return list(_math_verify().parse(f"\\boxed{{{written}}}", _reader(), parsing_timeout=None))


@cache
def _reader() -> list[object]:
    """How math-verify reads: units stay, for it takes letters at the end of a formula for some."""
    normalization = import_module("latex2sympy2_extended.math_normalization")
    config = normalization.NormalizationConfig(units=False, malformed_operators=True, nits=True)
    return [
        import_module("math_verify").LatexExtractionConfig(normalization_config=config),
        import_module("math_verify").ExprExtractionConfig(),
    ]


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in OPEN) - (character in CLOSE)
        deepest = max(deepest, depth)
    return deepest


def _sympy() -> ModuleType:
    return import_module("sympy")


@cache
def _math_verify() -> ModuleType:
    try:
        math_verify = import_module("math_verify")
    except ImportError as error:
        raise missing_extra("math-verify", extra="math", needed_for="verifier: math") from error
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it logs every text it cannot read
    return math_verify
