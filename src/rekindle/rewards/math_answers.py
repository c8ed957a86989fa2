"""When two answers are equal as mathematics: math-verify's parser, with guards of our own.

Its equality is not ours in these places, which are decided here before or after it:

    containers   \\{1, 2\\} is a set, (1, 2) a tuple or an open interval, [1, 2] a closed one, `1, 2` a
                 list without order but with repetitions; none is another; elements are compared
    texts        words and runs of letters are texts: `live` is not `evil`, TA not AT
    numbers      exact: 0.3333 is not 1/3, 3.14159 not pi; 1e3 is 1000; units, magnitudes, per cent
                 and currency as `rewards.numbers` reads them
    equations    2x = 10 is not 5; y = 2x + 1 equals 2x - y + 1 = 0; `x = 5` is 5
    literal      clock times, ratios, bases (`1011_2`): the same or not
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType

from rekindle.errors import missing_extra
from rekindle.records import Score
from rekindle.rewards.latex_text import ROW, tidy_formula
from rekindle.rewards.math_shapes import CLOSE, DEPTH, OPEN, Shape, is_word, shape_of, squeezed
from rekindle.rewards.number_words import same_number
from rekindle.rewards.numbers import read_number

_PRECISE = 60  # digits to which numbers must agree
_POINTS = ("17/23", "29/31", "41/37")  # where formulas must agree as well
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
    one, other = read_number(gold), read_number(answer)
    if _named_apart(gold, answer):
        return Score(0.0)
    if one is not None and other is not None:
        return Score(float(same_number(other, one)))
    wanted, stated = (
        str(one.value) if one is not None and not one.unit else tidy_formula(gold),
        tidy_formula(answer),
    )
    if not wanted:
        return Score.missing("parse: the gold answer is empty")
    return Score(float(_equal(wanted, stated, evaluate, 0)))


def _named_apart(gold: str, answer: str) -> bool:
    """Whether both name their unknown, and not the same one: `x = -2` and `y = -2`."""
    one, other = _UNKNOWN.match(gold.strip(" $\\(")), _UNKNOWN.match(answer.strip(" $\\("))
    return one is not None and other is not None and one[1] != other[1]


def _equal(gold: str, answer: str, evaluate: bool, depth: int) -> bool:
    from rekindle.rewards.verify import same_text

    if gold.replace(" ", "") == answer.replace(" ", ""):
        return True
    wanted, stated = read_number(gold), read_number(answer)
    if wanted is not None and stated is not None:
        return same_number(stated, wanted)
    if wanted is not None and not evaluate:
        return False
    if is_word(gold) or is_word(answer):
        return same_text(gold, answer)
    one, other = shape_of(gold, depth), shape_of(answer, depth)
    if one.kind == "list" and other.kind == "set":
        other = Shape("list", other.parts)
    if one.kind == "set" and other.kind == "list":
        other = Shape("set", other.parts)
    one, other = _as_open(one, other), _as_open(other, one)
    if one.kind != other.kind:
        return False
    return _same_shape(one, other, evaluate, depth)


def _as_open(pair: Shape, other: Shape) -> Shape:
    """(1, 2) as an interval, where the other answer is one."""
    if pair.kind == "tuple" and other.kind == "interval" and len(pair.parts) == 2:
        return Shape("interval", ("(", *pair.parts, ")"))
    return pair


def _same_shape(one: Shape, other: Shape, evaluate: bool, depth: int) -> bool:
    if one.kind == "literal":
        return squeezed(one.parts[0]) == squeezed(other.parts[0])
    if one.kind == "formula":
        return _same_formula(str(one.parts[0]), str(other.parts[0]))
    if one.kind == "equation":
        return _same_equation(one.parts, other.parts, evaluate, depth)
    if depth >= DEPTH:
        return False
    golds, answers = [str(p) for p in one.parts], [str(p) for p in other.parts]
    if one.kind == "matrix":
        return _same_matrix(golds, answers, evaluate, depth)
    if one.kind in ("tuple", "interval"):
        return len(golds) == len(answers) and all(
            _same_part(g, a, evaluate, depth) for g, a in zip(golds, answers, strict=True)
        )
    if one.kind == "set":
        return all(any(_same_part(g, a, evaluate, depth) for a in answers) for g in golds) and all(
            any(_same_part(g, a, evaluate, depth) for g in golds) for a in answers
        )
    return _matched(golds, answers, evaluate, depth)


def _same_matrix(golds: Sequence[str], answers: Sequence[str], evaluate: bool, depth: int) -> bool:
    wanted, stated = ([row[1:-2].split(",") for row in rows] for rows in (golds, answers))
    if [len(row) for row in wanted] != [len(row) for row in stated]:
        return False
    return all(
        _equal(tidy_formula(gold), tidy_formula(cell), evaluate, depth + 1)
        for row, other in zip(wanted, stated, strict=True)
        for gold, cell in zip(row, other, strict=True)
    )


def _matched(golds: Sequence[str], answers: Sequence[str], evaluate: bool, depth: int) -> bool:
    """In any order, each once."""
    left = list(answers)
    if len(golds) != len(left):
        return False
    for gold in golds:
        partner = next((a for a in left if _same_part(gold, a, evaluate, depth)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True


def _same_part(gold: str, answer: str, evaluate: bool, depth: int) -> bool:
    if gold in OPEN + CLOSE or answer in OPEN + CLOSE:
        return gold == answer
    return _equal(gold, answer, evaluate, depth + 1)


# --- formulas


def _same_equation(
    golds: Sequence[object], answers: Sequence[object], evaluate: bool, depth: int
) -> bool:
    """Two sides each: the same where one difference is a multiple of the other."""
    if len(golds) != 2 or len(answers) != 2:
        return False
    sympy = import_module("sympy")
    sides = [_parse(str(side)) for side in (*golds, *answers)]
    if any(side is None for side in sides):
        return squeezed("=".join(map(str, golds))) == squeezed("=".join(map(str, answers)))
    one, other = sides[0] - sides[1], sides[2] - sides[3]
    if one == 0 or other == 0:
        return bool(one == other)
    ratio = sympy.simplify(one / other)
    return bool(ratio.is_number and ratio != 0)


def _same_formula(gold: str, answer: str) -> bool:
    wanted, stated = _parsed(gold), _parsed(answer)
    if not wanted or not stated:
        return squeezed(gold) == squeezed(answer)
    library = _math_verify()
    one, other = wanted[0], stated[0]
    sympy = import_module("sympy")
    if isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr):
        return _same_expression(one, other, sympy)
    return bool(library.verify(wanted, stated, timeout_seconds=None, float_rounding=15))


def _same_expression(one, other, sympy) -> bool:  # type: ignore[no-untyped-def]
    one, other = _exact(one, sympy), _exact(other, sympy)
    unit = {s: sympy.I for s in one.free_symbols | other.free_symbols if s.name == "i"}
    one, other = one.subs(unit), other.subs(unit)
    if one.free_symbols != other.free_symbols:
        difference = sympy.simplify(one - other)
        return bool(difference == 0)
    if not one.free_symbols:
        return _same_value(one, other, sympy)
    for i, point in enumerate(_POINTS):
        at = {
            s: sympy.Rational(point) + i + k
            for k, s in enumerate(sorted(one.free_symbols, key=str))
        }
        try:
            if not _same_value(one.subs(at), other.subs(at), sympy):
                return False
        except (TypeError, ValueError, ZeroDivisionError):
            return bool(sympy.simplify(one - other) == 0)
    return True


def _same_value(one, other, sympy) -> bool:  # type: ignore[no-untyped-def]
    a, b = sympy.N(one, _PRECISE, maxn=400), sympy.N(other, _PRECISE, maxn=400)
    if (
        not (a.is_number and b.is_number)
        or a.has(sympy.nan, sympy.zoo, sympy.oo)
        or b.has(sympy.nan, sympy.zoo, sympy.oo)
    ):
        return bool(one == other)
    size = max(abs(a), abs(b))
    return bool(size == 0 or abs(a - b) < size * sympy.Float(10) ** (-_PRECISE + 15))


def _exact(expression, sympy):  # type: ignore[no-untyped-def]
    """Decimals as they are written, and what is left undone done."""
    floats = {f: sympy.Rational(str(f)) for f in expression.atoms(sympy.Float)}
    return expression.xreplace(floats).doit()


def _parse(side: str) -> object:
    parsed = _parsed(side)
    sympy = import_module("sympy")
    return parsed[0] if parsed and isinstance(parsed[0], sympy.Expr) else None


def _parsed(text: str) -> list:  # type: ignore[type-arg]
    written = text.replace(ROW, "\\\\")
    return list(_math_verify().parse(f"\\boxed{{{written}}}", parsing_timeout=None))


@cache
def _math_verify() -> ModuleType:
    try:
        math_verify = import_module("math_verify")
    except ImportError as error:
        raise missing_extra("math-verify", extra="math", needed_for="verifier: math") from error
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it logs every text it cannot read
    return math_verify
