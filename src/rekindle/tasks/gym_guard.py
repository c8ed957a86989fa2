"""Which texts a scorer may evaluate.

Several of reasoning-gym's scorers call `eval`, or sympy's `parse_expr` which evaluates too, on what
a model wrote: there code would run, and a tower of powers would never end (0.1.25). They are shown
data and plain formulas alone, no code.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Literal

Reader = Literal["python", "sympy"]

LONGEST = 10_000  # characters
LARGEST_POWER = 64
_PYTHON = re.compile(r"(?<![\w.])(?:eval|exec)\(")
_SYMPY = re.compile(r"(?:parse_expr|sympify)\(")
_OWN = re.compile(r"^def (?:parse_expr|sympify)\(", re.MULTILINE)
_FUNCTION = re.compile(r"a?(sin|cos|tan)|(sin|cos|tan)h|exp|log|ln|sqrt|Abs")
_DATA = (
    ast.Expression,
    ast.expr_context,
    ast.Constant,
    ast.Name,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.UnaryOp,
    ast.UAdd,
    ast.USub,
)
_FORMULA = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.Call)
_OPERANDS = (ast.Name, ast.expr_context, ast.UnaryOp, ast.UAdd, ast.USub)


@cache
def reader_of(grader: Callable[..., object]) -> Reader | None:
    """How a grader's module evaluates text, if it does; the strictest where its source is hidden.

    What the module evaluates need not be the answer: then the check costs little.
    """
    module = inspect.getmodule(grader)
    try:
        source = "" if module is None else inspect.getsource(module)
    except OSError:
        return "sympy"
    if _SYMPY.search(source) and not _OWN.search(source):
        return "sympy"
    return "python" if _PYTHON.search(source) else None


def dangerous(text: str, reader: Reader) -> bool:
    """Whether evaluating the text could do more than compute a small value.

    Harmless are numbers, strings, names, lists of them, and formulas of + - * / with small powers
    and well-known functions. A text that is no Python is harmless to Python, which refuses it, but
    not to sympy, which adds rules of its own.
    """
    if len(text) > LONGEST:
        return True
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return reader == "sympy"
    return not all(_harmless(node) for node in ast.walk(tree))


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and _FUNCTION.fullmatch(node.func.id) is not None
        return known and len(node.args) == 1 and not node.keywords
    if isinstance(node, ast.Name):
        return "__" not in node.id
    if isinstance(node, ast.BinOp):
        below = [inner for inner in ast.walk(node) if inner is not node]
        if not all(_is_formula(inner) for inner in below):
            return False  # a list, times a large number
        return not _is_power(node) or (
            _is_small(node.right) and not any(_is_power(inner) for inner in below)
        )
    return isinstance(node, _DATA + _FORMULA)


def _is_power(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)


def _is_formula(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    return isinstance(node, _FORMULA + _OPERANDS)


def _is_small(exponent: ast.AST) -> bool:
    if isinstance(exponent, ast.UnaryOp):
        return _is_small(exponent.operand)
    if isinstance(exponent, ast.BinOp) and isinstance(exponent.op, ast.Div):
        return _is_small(exponent.left)  # 1/3
    return (
        isinstance(exponent, ast.Constant)
        and isinstance(exponent.value, int | float)
        and abs(exponent.value) <= LARGEST_POWER
    )
