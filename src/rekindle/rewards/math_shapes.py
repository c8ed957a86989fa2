"""The shape of a mathematical answer: what kind of thing it is, and its parts as LaTeX.

set       \\{1, 2\\}                     list      1, 2; x = 1 or x = 2; \\pm 5
tuple     (1, 2); \\langle 1, 2 \\rangle   interval  [1, 2); x < 2; 1 \\le x < 3
union     of intervals                 equation  y = 2x + 1
matrix    rows of cells                literal   3:45, 2:3, 1011_2
formula   all else; what it is, a parser says
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rekindle.rewards.latex_text import ROW
from rekindle.rewards.numbers import read_number

DEPTH = 8  # containers within containers
OPEN, CLOSE = "([{", ")]}"
Kind = Literal[
    "set", "list", "tuple", "interval", "union", "equation", "matrix", "literal", "formula"
]

_RELATIONS = re.compile(r"\\(?:leq?|geq?|lt|gt|neq?)(?![a-zA-Z])|[<>]=?|!=")
_SIGNS = {
    **dict.fromkeys(("\\le", "\\leq", "<="), "<="),
    **dict.fromkeys(("\\ge", "\\geq", ">="), ">="),
    **dict.fromkeys(("\\lt", "<"), "<"),
    **dict.fromkeys(("\\gt", ">"), ">"),
}
# What stands on the other side of `=` as the name of a value: x, x_1, f(x), \theta, (x, y)
_NAME = re.compile(
    r"\\?[A-Za-z]+'{0,2}(?:_\{?[\w,]{1,6}\}?)?(?:\([A-Za-z0-9, ]{1,12}\))?"
    r"|\([A-Za-z](?:\s?,\s?[A-Za-z])+\)"
)
_UNKNOWN = re.compile(r"\\?[a-zA-Z]+")
_MEMBER = re.compile(r"\\?[a-zA-Z]{1,9}\s?\\in(?![a-z])\s?")
_COMMANDS = re.compile(r"\\(?:begin|end)\{[a-zA-Z]*\}|\\[a-zA-Z]+")
_MATRIX = re.compile(
    r"\\begin\{([pbB]?)(?:small)?(?:matrix|array)\}(?:\{[lcr|]+\})?(.*)"
    r"\\end\{\1(?:small)?(?:matrix|array)\}"
)
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[\s'.-])*")
_UNKNOWNS = re.compile(r"[xyzwei]{2,4}")  # a product of unknowns, not a word
_LITERAL = re.compile(r"\d\s?:\s?\d|\d_\{?\d")  # clock times, ratios, bases
_SEPARATOR = re.compile(
    r"\s(?:or|and)\s|\\(?:text|mathrm)\{\s*,?\s*(?:or|and)\s*\}|\\(?:lor|vee|land|wedge)(?![a-z])"
    r"|[,;]"
)
_COMMA, _EQUALS, _CUP = re.compile(r"[,;]"), re.compile("="), re.compile(r"\\cup(?![a-z])")
_IGNORED = re.compile(r"[\s{}]|\\(?:text|mathrm)")


class Shape(NamedTuple):
    """What kind of thing an answer is, and what it is made of.

    An interval's parts are its opening bracket, its two ends and its closing bracket; a matrix's
    are its rows, each a tuple of one part more than it has cells: `(1,2,)`.
    """

    kind: Kind
    parts: tuple[str, ...]


def shape_of(text: str, depth: int) -> Shape:
    """The shape of a tidy formula, which stands `depth` containers deep."""
    text = _without_name(text)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        rows = matrix[2].strip().strip(ROW).split(ROW)
        return Shape("matrix", tuple(f"({','.join(row.split('&'))},)" for row in rows))
    if _LITERAL.search(text):
        return Shape("literal", (text,))
    parts = _split(text, _SEPARATOR)
    if len(parts) > 1:
        return _of_parts(parts)
    if text.count("\\pm") == 1 and depth < DEPTH:
        return Shape("list", _signed(text))
    union = _split(text, _CUP)
    if len(union) > 1:
        return Shape("union", tuple(_interval_text(part) for part in union))
    return _as_interval(text) or _in_brackets(text, depth) or _of_sides(text)


def _in_brackets(text: str, depth: int) -> Shape | None:
    """What a pair of brackets around all of a text makes of it; None without such a pair."""
    if text.startswith("\\{") and text.endswith("\\}"):
        described = "|" in text or "\\mid" in text or ":" in text  # {x | x > 2}
        return None if described else Shape("set", tuple(_split(text[2:-2], _COMMA)))
    if text.startswith("\\langle") and text.endswith("\\rangle"):
        return Shape("tuple", tuple(_split(text[7:-7], _COMMA)))
    if not _encloses(text):
        return None
    inside = _split(text[1:-1], _COMMA)
    if len(inside) > 1 and text[0] == "(" and text[-1] == ")":
        return Shape("tuple", tuple(inside))
    if len(inside) > 1:
        return Shape("interval", (text[0], *inside, text[-1]))
    if text[0] == "(" and depth < DEPTH:
        return shape_of(text[1:-1].strip(), depth + 1)
    return Shape("formula", (text,))


def _of_sides(text: str) -> Shape:
    sides = _split(text, _EQUALS)
    if len(sides) > 1 and not _RELATIONS.search(text) and "\\begin" not in text:
        return Shape("equation", tuple(sides))
    return Shape("formula", (text,))


def _of_parts(parts: Sequence[str]) -> Shape:
    """A list; with one interval a part, a union (`x < 2 or x > 3`)."""
    if all(_as_interval(part) is not None for part in parts):
        return Shape("union", tuple(_interval_text(part) for part in parts))
    names = [part.split("=")[0].strip() for part in parts if part.count("=") == 1]
    if len(names) == len(parts) and len(set(names)) > 1:
        return Shape("list", tuple(parts))  # x = 2, y = 3: the names say which
    return Shape("list", tuple(both for part in parts for both in _signed(_without_name(part))))


def _signed(text: str) -> tuple[str, ...]:
    """`\\pm 1` is two values."""
    if text.count("\\pm") != 1:
        return (text,)
    return text.replace("\\pm", "+"), text.replace("\\pm", "-")


# --- intervals


def _as_interval(text: str) -> Shape | None:
    """`x < 2`, `1 \\le x < 3` in one form; None where it is no interval of one variable."""
    text = _without_name(text)
    signs = [_SIGNS.get(relation) for relation in _RELATIONS.findall(text)]
    known = [sign for sign in signs if sign is not None]
    if not known or len(known) != len(signs):
        return None
    sides = [side.strip() for side in _RELATIONS.split(text)]
    unknown = [at for at, side in enumerate(sides) if _is_unknown(side)]
    if len(sides) == 2 and len(unknown) == 1:
        return _half_line(sides[1 - unknown[0]], known[0], unknown_first=unknown[0] == 0)
    if len(sides) == 3 and unknown == [1]:
        return _between(sides[0], known, sides[2])
    return None


def _is_unknown(side: str) -> bool:
    return _UNKNOWN.fullmatch(side) is not None and side not in ("\\pi", "e")


def _half_line(value: str, sign: str, *, unknown_first: bool) -> Shape:
    closed = sign.endswith("=")
    if sign.startswith("<") == unknown_first:
        return Shape("interval", ("(", "-\\infty", value, "]" if closed else ")"))
    return Shape("interval", ("[" if closed else "(", value, "\\infty", ")"))


def _between(left: str, signs: Sequence[str], right: str) -> Shape | None:
    if signs[0][0] != signs[1][0]:
        return None
    if signs[0].startswith(">"):
        left, right, signs = right, left, signs[::-1]
    opening = "[" if signs[0].endswith("=") else "("
    return Shape("interval", (opening, left, right, "]" if signs[1].endswith("=") else ")"))


def _interval_text(part: str) -> str:
    interval = _as_interval(part.strip())
    if interval is None:
        return part.strip()
    opening, low, high, closing = interval.parts
    return f"{opening}{low},{high}{closing}"


# --- brackets, separators, names


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """At separators outside brackets; one part where brackets do not close or a part is empty."""
    parts, start, at, depth = [], 0, 0, 0
    ends = {match.start(): match.end() for match in separator.finditer(text)}
    while at < len(text):
        if depth == 0 and at in ends:
            parts.append(text[start:at])
            start = at = ends[at]
            continue
        depth += (text[at] in OPEN) - (text[at] in CLOSE)
        if depth < 0:
            return [text]
        at += 1
    if depth != 0:
        return [text]
    parts = [part.strip().strip("$").strip() for part in (*parts, text[start:])]
    last = len(parts) - 1
    parts = [part for i, part in enumerate(parts) if part or not 0 < i < last]  # `1, and 2`
    return parts if all(parts) else [text]


def _encloses(text: str) -> bool:
    """Whether the first bracket closes with the last character."""
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return False
    depth = 0
    for at, character in enumerate(text):
        depth += (character in OPEN) - (character in CLOSE)
        if depth == 0:
            return at == len(text) - 1
    return False


def _without_name(text: str) -> str:
    """`x = 5`, `f(x) = x^2`, `x \\in (1, 2)`, `5 = x` without the name."""
    member = _MEMBER.match(text)
    if member is not None:
        return text[member.end() :].strip()
    sides = _split(text, _EQUALS)
    if len(sides) == 2 and not _RELATIONS.search(text):
        left, right = sides
        if _NAME.fullmatch(left) and right and not _has_unknowns(right, left):
            return right
        if _NAME.fullmatch(right) and left and read_number(left) is not None:
            return left
    return text


def _has_unknowns(formula: str, name: str) -> bool:
    """Whether a formula speaks of unknowns: `y = 2x + 1` is an equation, `f(x) = x^2` none."""
    if "(" in name or "\\text" in formula or "\\mathrm" in formula:
        return False
    letters = set(re.findall(r"[a-zA-Z]", _COMMANDS.sub(" ", formula)))
    return not letters.isdisjoint("xyzwt")


def is_word(text: str) -> bool:
    """Whether a text is made of words or letters only, as names, options and `DNE` are."""
    bare = text.strip("() ")
    return _LETTERS.fullmatch(bare) is not None and _UNKNOWNS.fullmatch(bare) is None


def squeezed(text: str) -> str:
    """The text without blanks, braces and case, to compare what no parser reads."""
    return _IGNORED.sub("", text).lower()
