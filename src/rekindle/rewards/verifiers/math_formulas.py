"""When two formulas are equal, exactly: math-verify's parser, and values at points of our own.

The whole text must be a formula: what the parser cannot read to its end, and prose, is compared as
text. Letters keep their case: R / r is not 1. Formulas of letters agree where they do at rational
points that differ from letter to letter; those with roots, bars or logarithms also where a letter
is negative or large: |x| is not x.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

from rekindle.errors import missing_extra
from rekindle.rewards.verifiers.latex_text import ROW
from rekindle.rewards.verifiers.math_shapes import CLOSE, OPEN, squeezed
from rekindle.rewards.verifiers.vocabulary import vocabulary

Expression = Any  # a sympy.Expr: sympy has no types

# What the parser and sympy raise of what has no meaning to them: a matrix beside a letter, a
# broken sum
NO_VALUE = (
    TypeError, ValueError, AssertionError, AttributeError, ArithmeticError, LookupError, NameError,
    NotImplementedError, RecursionError, SyntaxError,
)  # fmt: skip

_DIGITS = 60  # to which numbers are worked out
_LOST = 15  # of them may be lost in rounding
_MOST_DIGITS = 400  # that working one out may take
_VALUES = (  # of letters; no sum, difference or product of two is another
    "17/23", "43/29", "91/37", "41/53", "127/47", "59/71", "107/31", "73/61", "151/79", "47/67",
    "163/43", "83/101",
)  # fmt: skip
_POINTS = 3  # of positive values
_STRIDE = 5  # between the values of a letter at two points
_MOST_NEGATIVE = 4  # letters that are tried with a negative value
_FAR, _MOST_FAR = 13, 1000  # beyond the bends of |x - 10|; numbers above the second have none
_ROUNDING = 15  # digits of math-verify's own comparison
_DEEPEST = 16  # brackets within brackets; the parser takes seconds for more
_LONG_WORD, _SHORT_WORD = 5, 3  # letters that are no product, and that may be one
_SHORT_WORDS = frozenset(("is", "or", "if", "of", "to"))

_ENVIRONMENT = re.compile(r"\\(?:begin|end|operatorname|mathrm|mathbb|mathcal)\s?\{[a-zA-Z]*\}")
_RUN = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]{2,}")
_SPELLED = re.compile(
    r"(?<![\\a-zA-Z])((?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|pi|ln|log|exp|theta|alpha|beta"
    r"|gamma|delta|lambda|sigma|omega|epsilon)(?![a-zA-Z])"
)
_NAMED = re.compile(
    rf"{_SPELLED.pattern}|(?<![\\\\a-zA-Z])(?:sqrt|abs|mod|gcd|lcm|infinity|infty)(?![a-zA-Z])"
)
_PRIME = re.compile(r"(?<=[A-Za-z])(?:\s?\^\s?\{?\s?((?:\\prime\s?)+)\}?|('+))")


def is_same_formula(gold: str, answer: str) -> bool:
    """Whether two formulas have the same value; as texts, where one of them is none."""
    one, other = _parse(gold), _parse(answer)
    if one is None or other is None:
        return squeezed(gold) == squeezed(answer)
    if isinstance(one, _sympy().Expr) and isinstance(other, _sympy().Expr):
        return _is_same_expression(_exact(one), _exact(other))
    return bool(
        math_verify().verify([one], [other], timeout_seconds=None, float_rounding=_ROUNDING)
    )


def is_same_equation(golds: Sequence[str], answers: Sequence[str]) -> bool:
    """Two sides each: the same where one difference is a multiple of the other."""
    if len(golds) != 2 or len(answers) != 2:
        return False
    parsed = [_parse_expression(side) for side in (*golds, *answers)]
    sides = [side for side in parsed if side is not None]
    if len(sides) < len(parsed):
        return squeezed("=".join(golds)) == squeezed("=".join(answers))
    one, other = _exact(sides[0] - sides[1]), _exact(sides[2] - sides[3])
    if one == 0 or other == 0:
        return bool(one == other)
    ratio = _sympy().simplify(one / other)
    return bool(ratio.is_number and ratio != 0)


def is_readable(formula: str) -> bool:
    """Whether a formula can be parsed and worked out."""
    parsed = _parse(formula)
    if isinstance(parsed, _sympy().Expr):
        _exact(parsed)  # raises where it has no value
    return parsed is not None


# --- values


def _is_same_expression(one: Expression, other: Expression) -> bool:
    if one == other:
        return not one.has(_sympy().nan, _sympy().zoo)
    names = sorted(one.free_symbols | other.free_symbols, key=str)
    if not names:
        return _is_same_value(one, other)
    try:
        return all(
            _agree(one.subs(at), other.subs(at), lenient=is_outside)
            for at, is_outside in _points(names, one, other)
        )
    except (TypeError, ValueError, ZeroDivisionError):  # there it has no value
        return bool(_sympy().simplify(one - other) == 0)


def _points(
    names: Sequence[Expression], one: Expression, other: Expression
) -> Iterator[tuple[dict[Expression, Expression], bool]]:
    """Values of all letters, and whether one is negative, where roots of both may have none."""
    values = [_sympy().Rational(value) for value in _VALUES]
    count = len(values)
    for point in range(_POINTS):
        at = [values[(point * _STRIDE + i) % count] + i // count for i in range(len(names))]
        yield dict(zip(names, at, strict=True)), False
    if all(each.is_rational_function(*names) for each in (one, other)):
        return
    near = {name: values[i % count] + i // count for i, name in enumerate(names)}
    far = _beyond_bends(one, other)
    if far:
        yield {name: far + value for name, value in near.items()}, False
    if any(_is_odd_root(power.exp) for each in (one, other) for power in _powers(each)):
        return  # the real cube root of a negative number is not sympy's
    for name in names[:_MOST_NEGATIVE]:
        yield near | {name: -near[name] - far}, True


def _is_odd_root(exponent: Expression) -> bool:
    return bool(exponent.is_Rational and exponent.q > 1 and exponent.q % 2)


def _powers(expression: Expression) -> set[Expression]:
    powers: set[Expression] = expression.atoms(_sympy().Pow)
    return powers


def _beyond_bends(*expressions: Expression) -> int:
    """Beyond where |x - 10|, floors and roots of squares bend; 0 where nothing does."""
    sympy = _sympy()
    bent = (sympy.Abs, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min, sympy.Mod, sympy.sign)
    halves = (power.exp for each in expressions for power in _powers(each))
    if not any(each.has(*bent) for each in expressions) and not any(
        exponent.is_Rational and exponent.q % 2 == 0 for exponent in halves
    ):
        return 0
    integers = {abs(int(i)) for each in expressions for i in each.atoms(sympy.Integer)}
    return _FAR + max((i for i in integers if i <= _MOST_FAR), default=0)


def _agree(one: Expression, other: Expression, *, lenient: bool) -> bool:
    """Of two values; where letters are negative, two that are not real say nothing."""
    if _is_same_value(one, other):
        return True
    return lenient and all(_sympy().N(each).is_real is False for each in (one, other))


def _is_same_value(one: Expression, other: Expression) -> bool:
    sympy = _sympy()
    values = [sympy.N(each, _DIGITS, maxn=_MOST_DIGITS) for each in (one, other)]
    if any(value.has(sympy.nan, sympy.zoo) for value in values):
        return False
    if any(not value.is_number or value.has(sympy.oo) for value in values):
        return bool(one == other)
    size = max(abs(value) for value in values)
    tolerance = size * sympy.Float(10) ** (_LOST - _DIGITS)
    return bool(size == 0 or abs(values[0] - values[1]) < tolerance)


def _exact(expression: Expression) -> Expression:
    """Decimals as they are written, what is left undone done, and i the imaginary unit.

    dy/dx stays: y is not known, and not constant.
    """
    sympy = _sympy()
    written = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
    unknown = {
        derivative: sympy.Symbol(str(derivative))
        for derivative in expression.atoms(sympy.Derivative)
        if derivative.expr.is_Symbol and derivative.expr not in derivative.variables
    }
    worked_out = expression.xreplace(written | unknown).doit()
    return worked_out.subs({name: sympy.I for name in worked_out.free_symbols if name.name == "i"})


# --- reading


def _parse_expression(side: str) -> Expression | None:
    parsed = _parse(side)
    return parsed if isinstance(parsed, _sympy().Expr) else None


@lru_cache(maxsize=64)
def _parse(text: str) -> Expression | None:
    """An object of sympy; None where the whole is no formula."""
    if _nesting(text) > _DEEPEST or _is_prose(text):
        return None
    written = _PRIME.sub(_primed, _SPELLED.sub(r"\\\1 ", text.replace(ROW, "\\\\")))
    parser, normalization = _parser()
    latex = normalization.normalize_latex(written, _normalization())
    if not latex:
        return None
    with _Refusals():
        return parser.latex2sympy(
            latex,
            normalization_config=None,
            conversion_config=parser.ConversionConfig(lowercase_symbols=False),
        )
    return None


class _Refusals:
    """Ends a block where the parser refuses a text: it raises bare `Exception`s and `NO_VALUE`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        return kind is Exception or (kind is not None and issubclass(kind, NO_VALUE))


def _primed(match: re.Match[str]) -> str:
    """y' as a name of its own, which the parser would read as y."""
    return f"_{{{'q' * (match[1] or match[2]).count(chr(39) if match[2] else 'prime')}}}"


def _is_prose(text: str) -> bool:
    """Whether words stand in a formula: the parser reads them as products of letters."""
    return any(
        not run.startswith("\\") and _is_word(run)
        for run in _RUN.findall(_NAMED.sub(" ", _ENVIRONMENT.sub(" ", text)))
    )


def _is_word(run: str) -> bool:
    if len(run) < _SHORT_WORD:
        return run in _SHORT_WORDS
    words, name = vocabulary(), run.lower()
    return len(run) >= _LONG_WORD or any(
        name in listed
        for listed in (words.function, words.spoiling, words.cardinals, words.magnitudes)
    )


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in OPEN) - (character in CLOSE)
        deepest = max(deepest, depth)
    return deepest


def _sympy() -> ModuleType:
    return import_module("sympy")


@cache
def _parser() -> tuple[ModuleType, ModuleType]:
    math_verify()
    package = "latex2sympy2_extended"
    return import_module(f"{package}.latex2sympy2"), import_module(f"{package}.math_normalization")


@cache
def _normalization() -> object:
    """How LaTeX is set right: units stay, for it takes letters at the end of a formula for some."""
    return _parser()[1].NormalizationConfig(
        units=False, malformed_operators=True, nits=True, boxed="none"
    )


@cache
def math_verify() -> ModuleType:
    """The package, which does not log the texts that it cannot read.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        library = import_module("math_verify")
    except ImportError as error:
        raise missing_extra("math-verify", extra="math", needed_for="verifier: math") from error
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return library
