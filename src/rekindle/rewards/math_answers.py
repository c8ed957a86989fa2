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
from typing import NamedTuple

from rekindle.errors import missing_extra
from rekindle.records import Score
from rekindle.rewards.numbers import read_number, same_number

_DEPTH = 8  # containers within containers
_PRECISE = 60  # digits to which numbers must agree
_POINTS = ("17/23", "29/31", "41/37")  # where formulas must agree as well
_UNICODE = (
    ("∛", r"\sqrt[3]"), ("∜", r"\sqrt[4]"), ("√", r"\sqrt"), ("π", r"\pi "), ("∞", r"\infty "), ("±", r"\pm "),
    ("≤", r"\le "), ("≥", r"\ge "), ("≠", r"\ne "), ("×", r"\times "), ("·", r"\cdot "), ("÷", r"\div "),
    ("⌊", r"\lfloor "), ("⌋", r"\rfloor "), ("⌈", r"\lceil "), ("⌉", r"\rceil "), ("∪", r"\cup "), ("∩", r"\cap "),
    ("∅", r"\emptyset "), ("∈", r"\in "), ("θ", r"\theta "), ("α", r"\alpha "), ("β", r"\beta "), ("°", r"^\circ "),
    ("−", "-"), ("–", "-"), ("－", "-"), ("′", "'"), ("ℝ", r"\mathbb{R}"), ("ℤ", r"\mathbb{Z}"), ("ℕ", r"\mathbb{N}"),
)  # fmt: skip
_SILENT = re.compile(
    r"\\(?:left|right)(?![a-zA-Z])\.?|\\[!,;:> ]|\\q?quad(?![a-z])|\\(?:display|text)style(?![a-z])|~|"
    r"\\[bB]igg?[lr]?(?![a-zA-Z])|\\limits"
)
_WRAPPED = re.compile(
    r"\\(?:boxed|fbox|mathbf|boldsymbol|bm|textbf|mathrm|text|mbox|textit|mathit|emph|underline)\s?\{([^{}]*)\}"
)
_RELATIONS = re.compile(r"\\(?:leq?|geq?|lt|gt|neq?)(?![a-zA-Z])|[<>]=?|!=")
_NAME = re.compile(
    r"\\?[A-Za-z]+'{0,2}(?:_\{?\w{1,6}\}?)?(?:\([A-Za-z0-9, ]{1,12}\))?|\([A-Za-z](?:\s?,\s?[A-Za-z])+\)"
)
_UNKNOWN = re.compile(
    r"([a-zA-Z])\s?(?:=|<|>|≤|≥|\\(?:le|ge|lt|gt|in)(?:q|qslant)?(?![a-z]))[^=]*$"
)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s?\^\s?\{?\s?\\circ\s?\}?")
_SEGMENT = re.compile(
    r"\\(?:overline|overrightarrow|overleftrightarrow|angle|triangle|vec|widehat|bar)\s?\{?\s?([A-Za-z]{1,4})\s?\}?$"
)
_MATRIX = re.compile(
    r"\\begin\{([pbB]?)(?:small)?(?:matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1(?:small)?(?:matrix|array)\}"
)
_ROW = "\x02"  # the double backslash between rows
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[\s'.-])*")
_LITERAL = re.compile(r"\d\s?:\s?\d|\d_\{?\d")
_SEPARATOR = re.compile(
    r"\s(?:or|and)\s|\\(?:text|mathrm)\{\s*,?\s*(?:or|and)\s*\}|\\(?:lor|vee|land|wedge)(?![a-z])|[,;]"
)
_OPEN, _CLOSE = "([{", ")]}"


class _Shape(NamedTuple):
    kind: str  # set | tuple | list | interval | union | equation | text | literal | formula
    parts: tuple[_Shape | str, ...]


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
        str(one.value) if one is not None and not one.unit else _tidy(gold),
        _tidy(answer),
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
    if _is_word(gold) or _is_word(answer):
        return same_text(gold, answer)
    one, other = _shape(gold, depth), _shape(answer, depth)
    if one.kind == "list" and other.kind == "set":
        other = _Shape("list", other.parts)
    if one.kind == "set" and other.kind == "list":
        other = _Shape("set", other.parts)
    one, other = _as_open(one, other), _as_open(other, one)
    if one.kind != other.kind:
        return False
    return _same_shape(one, other, evaluate, depth)


def _as_open(pair: _Shape, other: _Shape) -> _Shape:
    """(1, 2) as an interval, where the other answer is one."""
    if pair.kind == "tuple" and other.kind == "interval" and len(pair.parts) == 2:
        return _Shape("interval", ("(", *pair.parts, ")"))
    return pair


def _same_shape(one: _Shape, other: _Shape, evaluate: bool, depth: int) -> bool:
    if one.kind == "literal":
        return _squeezed(one.parts[0]) == _squeezed(other.parts[0])
    if one.kind == "formula":
        return _same_formula(str(one.parts[0]), str(other.parts[0]))
    if one.kind == "equation":
        return _same_equation(one.parts, other.parts, evaluate, depth)
    if depth >= _DEPTH:
        return False
    golds, answers = [str(p) for p in one.parts], [str(p) for p in other.parts]
    if one.kind == "matrix":
        cells = [[row[1:-2].split(",") for row in rows] for rows in (golds, answers)]
        if [len(row) for row in cells[0]] != [len(row) for row in cells[1]]:
            return False
        flat = [[_tidy(cell) for row in rows for cell in row] for rows in cells]
        return all(_equal(g, a, evaluate, depth + 1) for g, a in zip(*flat, strict=True))
    if one.kind in ("tuple", "interval"):
        return len(golds) == len(answers) and all(
            _same_part(g, a, evaluate, depth) for g, a in zip(golds, answers, strict=True)
        )
    if one.kind == "set":
        return all(any(_same_part(g, a, evaluate, depth) for a in answers) for g in golds) and all(
            any(_same_part(g, a, evaluate, depth) for g in golds) for a in answers
        )
    return _matched(golds, answers, evaluate, depth)


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
    if gold in _OPEN + _CLOSE or answer in _OPEN + _CLOSE:
        return gold == answer
    return _equal(gold, answer, evaluate, depth + 1)


# --- shapes


def _shape(text: str, depth: int) -> _Shape:
    text = _without_name(text)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        rows = matrix[2].strip().strip(_ROW).split(_ROW)
        return _Shape("matrix", tuple(f"({','.join(row.split('&'))},)" for row in rows))
    if _LITERAL.search(text):
        return _Shape("literal", (text,))
    parts = _split(text, _SEPARATOR)
    if len(parts) > 1:
        return _of_parts(parts)
    if text.count("\\pm") == 1 and depth < _DEPTH:
        return _Shape("list", (text.replace("\\pm", "+"), text.replace("\\pm", "-")))
    union = _split(text, re.compile(r"\\cup(?![a-z])"))
    if len(union) > 1:
        return _Shape("union", tuple(_interval_text(u) for u in union))
    interval = _as_interval(text)
    if interval is not None:
        return interval
    if (
        text.startswith("\\{")
        and text.endswith("\\}")
        and "|" not in text
        and "\\mid" not in text
        and ":" not in text
    ):
        return _Shape("set", tuple(_split(text[2:-2], re.compile(r"[,;]"))))
    if _encloses(text):
        inside = _split(text[1:-1], re.compile(r"[,;]"))
        if len(inside) > 1:
            if text[0] == "(" and text[-1] == ")":
                return _Shape("tuple", tuple(inside))
            return _Shape("interval", (text[0], *inside, text[-1]))
        return (
            _shape(text[1:-1].strip(), depth + 1)
            if text[0] == "(" and depth < _DEPTH
            else _Shape("formula", (text,))
        )
    if text.startswith("\\langle") and text.endswith("\\rangle"):
        return _Shape("tuple", tuple(_split(text[7:-7], re.compile(r"[,;]"))))
    sides = _split(text, re.compile("="))
    if len(sides) > 1 and not _RELATIONS.search(text) and "\\begin" not in text:
        return _Shape("equation", tuple(sides))
    return _Shape("formula", (text,))


def _of_parts(parts: Sequence[str]) -> _Shape:
    """A list; with one interval a part, a union (`x < 2 or x > 3`)."""
    intervals = [_as_interval(part) for part in parts]
    if all(interval is not None for interval in intervals):
        return _Shape("union", tuple(_interval_text(part) for part in parts))
    names = [part.split("=")[0].strip() for part in parts if part.count("=") == 1]
    if len(names) == len(parts) and len(set(names)) > 1:
        return _Shape("list", tuple(parts))  # x = 2, y = 3: the names say which
    return _Shape("list", tuple(_without_name(part) for part in parts))


def _as_interval(text: str) -> _Shape | None:
    """`x < 2`, `1 \\le x < 3`, `(-\\infty, 2)` in one form; None where it is none of one variable."""
    text = _without_name(text)
    relations = _RELATIONS.findall(text)
    if not relations:
        return None
    sides = [side.strip() for side in _RELATIONS.split(text)]
    signs = [_sign(relation) for relation in relations]
    if any(sign is None for sign in signs):
        return None
    unknown = [
        i
        for i, side in enumerate(sides)
        if re.fullmatch(r"\\?[a-zA-Z]+", side) and side not in ("\\pi", "e")
    ]
    if len(sides) == 2 and len(unknown) == 1:
        value = sides[1 - unknown[0]]
        less = (signs[0] or "").startswith("<") == (unknown[0] == 0)
        closed = (signs[0] or "").endswith("=")
        if less:
            return _Shape("interval", ("(", "-\\infty", value, "]" if closed else ")"))
        return _Shape("interval", ("[" if closed else "(", value, "\\infty", ")"))
    if len(sides) == 3 and unknown == [1] and len({(sign or "")[0] for sign in signs}) == 1:
        ends, closed = [sides[0], sides[2]], [(sign or "").endswith("=") for sign in signs]
        if (signs[0] or "").startswith(">"):
            ends, closed = ends[::-1], closed[::-1]
        return _Shape("interval", ("[" if closed[0] else "(", *ends, "]" if closed[1] else ")"))
    return None


def _interval_text(part: str) -> str:
    interval = _as_interval(part.strip())
    if interval is None:
        return part.strip()
    opening, low, high, closing = (str(p) for p in interval.parts)
    return f"{opening}{low},{high}{closing}"


def _sign(relation: str) -> str | None:
    name = relation.lstrip("\\")
    return {
        "le": "<=",
        "leq": "<=",
        "<=": "<=",
        "<": "<",
        "lt": "<",
        "ge": ">=",
        "geq": ">=",
        ">=": ">=",
        ">": ">",
        "gt": ">",
    }.get(name)


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """At separators outside brackets; one part where brackets do not close or a part is empty."""
    spots, depth, at = [0], 0, 0
    cuts = {m.start(): m.end() for m in separator.finditer(text)}
    parts = []
    while at < len(text):
        character = text[at]
        if depth == 0 and at in cuts:
            parts.append(text[spots[-1] : at])
            spots.append(cuts[at])
            at = cuts[at]
            continue
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
            if depth < 0:
                return [text]
        at += 1
    parts.append(text[spots[-1] :])
    parts = [part.strip().strip("$").strip() for part in parts]
    if depth != 0:
        return [text]
    parts = [part for i, part in enumerate(parts) if part or i not in range(1, len(parts) - 1)]
    return parts if all(parts) else [text]


def _encloses(text: str) -> bool:
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return False
    depth = 0
    for at, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0:
            return at == len(text) - 1
    return False


def _without_name(text: str) -> str:
    """`x = 5`, `f(x) = x^2`, `x \\in (1, 2)`, `5 = x` without the name."""
    member = re.match(r"\\?[a-zA-Z]{1,9}\s?\\in(?![a-z])\s?", text)
    if member is not None:
        return text[member.end() :].strip()
    sides = _split(text, re.compile("="))
    if len(sides) == 2 and not _RELATIONS.search(text):
        left, right = sides
        if _NAME.fullmatch(left) and right and not _mentions(right, left):
            return right
        if _NAME.fullmatch(right) and left and read_number(left) is not None:
            return left
    return text


def _mentions(formula: str, name: str) -> bool:
    """Whether a formula speaks of other unknowns: `y = 2x + 1` is an equation, `f(x) = x^2` none."""
    if "(" in name:
        return False
    bare = re.sub(r"\\(?:begin|end)\{[a-zA-Z]*\}|\\[a-zA-Z]+", " ", formula)
    return (
        bool(re.search(r"[a-zA-Z]", bare))
        and not re.search(r"\\(?:text|mathrm)", formula)
        and bool(set(re.findall(r"[a-zA-Z]", bare)) & set("xyzwt"))
    )


def _is_word(text: str) -> bool:
    """Whether a text is made of words or letters only, as names, options and `DNE` are."""
    bare = text.strip("() ")
    if not _LETTERS.fullmatch(bare):
        return False
    return not re.fullmatch(r"[xyzwei]{1,4}", bare) or len(bare) == 1


def _squeezed(text: object) -> str:
    return re.sub(r"[\s{}]|\\(?:text|mathrm)", "", str(text)).lower()


def _tidy(text: str) -> str:
    text = text.strip().rstrip(".").strip()
    for sign, command in _UNICODE:
        if sign in text:
            text = text.replace(sign, command)
    text = text.translate(_INDICES) if not text.isascii() else text
    text = (
        text.replace("\\\\", _ROW)
        .replace("\\$", "")
        .replace("$", " ")
        .replace("\\(", " ")
        .replace("\\)", " ")
        .replace("\\[", " ")
        .replace("\\]", " ")
    )
    text = text.replace("{,}", "").replace("\\%", "%").replace("**", "")
    text = re.sub(r"(?<=\d)\\[,! ](?=\d{3}(?!\d))", "", text)
    text = _SILENT.sub(" ", text)
    text = (
        _respelled(text)
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
        .replace("\\cfrac", "\\frac")
    )
    for _ in range(4):
        before = text
        text = _WRAPPED.sub(lambda m: f" {m[1]} ", text)
        if text == before:
            break
    text = re.sub(r"\(\s*(?:check|since|because)\b[^()]*\)|[\s,;(]\s*(?:and |but )?not\b.*", "", text)
    return " ".join(text.split()).strip("`*_\"' ").rstrip(".").strip()


_SPELLINGS = (
    ("\\geqslant", "\\ge "), ("\\leqslant", "\\le "), ("\\lbrace", "\\{"), ("\\rbrace", "\\}"),
    ("\\varnothing", "\\emptyset"), ("\\mathbb R", "\\mathbb{R}"), ("\\mathbb Z", "\\mathbb{Z}"),
    ("\\lparen", "("), ("\\rparen", ")"), ("\\lbrack", "["), ("\\rbrack", "]"),
)  # fmt: skip
_OVER = re.compile(r"\{([^{}]{1,60})\\over(?![a-zA-Z])([^{}]{1,60})\}")


def _respelled(text: str) -> str:
    """One spelling for what LaTeX spells in several ways."""
    for other, one in _SPELLINGS:
        text = text.replace(other, one)
    text = _OVER.sub(r"\\frac{\1}{\2}", text)
    if re.fullmatch(r"\s*\\\{\s*\\\}\s*", text):
        return "\\emptyset"
    if re.fullmatch(r"\s*\(\s*-\s*\\infty\s*,\s*\+?\s*\\infty\s*\)\s*", text):
        return "\\mathbb{R}"
    if _TRIGONOMETRIC.search(text):
        return _DEGREES.sub(r"{(\1 \\pi / 180)}", text)
    return _SEGMENT.sub(r"\1", text.strip())


_INDICES = {
    **{ord(s): f"^{{{d}}}" for s, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)},
    **{ord(s): f"_{{{d}}}" for s, d in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)},
    **{
        ord(s): rf"\frac{{{f[0]}}}{{{f[1]}}}"
        for s, f in {
            "½": "12",
            "⅓": "13",
            "⅔": "23",
            "¼": "14",
            "¾": "34",
            "⅕": "15",
            "⅙": "16",
            "⅛": "18",
        }.items()
    },
}


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
        return _squeezed("=".join(map(str, golds))) == _squeezed("=".join(map(str, answers)))
    one, other = sides[0] - sides[1], sides[2] - sides[3]
    if one == 0 or other == 0:
        return bool(one == other)
    ratio = sympy.simplify(one / other)
    return bool(ratio.is_number and ratio != 0)


def _same_formula(gold: str, answer: str) -> bool:
    wanted, stated = _parsed(gold), _parsed(answer)
    if not wanted or not stated:
        return _squeezed(gold) == _squeezed(answer)
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
    if (
        one.free_symbols != other.free_symbols
        and not (one.free_symbols ^ other.free_symbols) == set()
    ):
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
    written = text.replace(_ROW, "\\\\")
    return list(_math_verify().parse(f"\\boxed{{{written}}}", parsing_timeout=None))


@cache
def _math_verify() -> ModuleType:
    try:
        math_verify = import_module("math_verify")
    except ImportError as error:
        raise missing_extra("math-verify", extra="math", needed_for="verifier: math") from error
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it logs every text it cannot read
    return math_verify
