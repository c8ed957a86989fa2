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
from itertools import pairwise
from typing import Literal, NamedTuple

from rekindle.rewards.verifiers.latex_text import ROW
from rekindle.rewards.verifiers.math_names import is_name
from rekindle.rewards.verifiers.numbers import read_number

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
_UNKNOWN = re.compile(r"\\?[a-zA-Z]+")
_MEMBER = re.compile(r"\\?[a-zA-Z]{1,9}\s?\\in(?![a-z])\s?")
_COMMANDS = re.compile(r"\\(?:begin|end)\{[a-zA-Z]*\}|\\[a-zA-Z]+")
_SCALAR = r"(?P<scalar>(?:[-+\d\s./{}()*]|\\frac|\\sqrt|\\cdot|\\times){0,40})"
_MATRIX = re.compile(
    _SCALAR + r"\\begin\{(?P<kind>[pbB]?)(?:small)?(?:matrix|array)\}(?:\{[lcr|]+\})?"
    r"(?P<rows>.*)\\end\{(?P=kind)(?:small)?(?:matrix|array)\}"
)
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[\s'.-])*")
_UNKNOWNS = re.compile(r"[xyzwei]{2,4}")  # a product of unknowns, not a word
_DIFFERENCE = re.compile(r"[A-Za-z]{1,2}(?:\s?-\s?[A-Za-z]{1,2})+")  # R - r, ad - bc
_LITERAL = re.compile(r"[\d}]\s?:\s?\d|\d_\{?\d")  # clock times, ratios, bases
_SEPARATOR = re.compile(
    r"\s(?:or|and)\s|\\(?:text|mathrm)\{\s*,?\s*(?:or|and)\s*\}|\\(?:lor|vee|land|wedge)(?![a-z])"
    r"|[,;]"
)
_AND = re.compile(r"\sand\s|\band\b|\\(?:land|wedge)(?![a-z])")
_OR = re.compile(r"\bor\b|\\(?:lor|vee)(?![a-z])|[,;]")
_LOGIC = re.compile(r"\\(?:lor|vee|land|wedge)(?![a-z])")
_SIGN = re.compile(r"\\(?:pm|mp)(?![a-z])")
_HELD = "\x03"
_OUTWARD = re.compile(r"([\[\](])([^\[\](){},;]{1,60})[,;]([^\[\](){},;]{1,60})([\[\])])")  # ]1, 2[
_WITHOUT = re.compile(
    r"\\mathbb\{R\}\s?(?:\\setminus|\\backslash|∖|\\|-)\s?\\?\{([^{}]{1,60}?)\\?\}"
)
_DESCRIBED = re.compile(
    r"\\\{\s?([a-zA-Z])\s?(?:\\in\s?\\mathbb\{R\}\s?)?(?:\||\\mid(?![a-z])|:)(.{1,80})\\\}"
)
_COMMA, _EQUALS, _CUP = re.compile(r"[,;]"), re.compile("="), re.compile(r"\\cup(?![a-z])")
_CASED = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_SINGLE = re.compile(r"\{\s?(\w*)\s?\}")  # 2^{3} is 2^3, 2^{n + 1} not 2^n + 1
_IGNORED = re.compile(r"\s|\\(?:text|mathrm)")


class Shape(NamedTuple):
    """What kind of thing an answer is, and what it is made of.

    An interval's parts are its opening bracket, its two ends and its closing bracket; a matrix's
    are its rows, whose cells `&` separates.
    """

    kind: Kind
    parts: tuple[str, ...]


def shape_of(text: str, depth: int) -> Shape:
    """The shape of a tidy formula, which stands `depth` containers deep."""
    text = _without_name(text)
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        return _of_matrix(matrix)
    special = _without_points(text) or _outward(text) or _described(text)
    if special is not None:
        return special
    parts = _split(text, _SEPARATOR)
    if _LITERAL.search(text):
        is_list = len(parts) > 1 and all(_LITERAL.search(part) for part in parts)
        return Shape("list", tuple(parts)) if is_list else Shape("literal", (text,))
    if len(parts) > 1:
        return _of_parts(parts, text)
    if len(_signed(text)) > 1 and depth < DEPTH and not text.startswith("\\{"):
        return Shape("list", _signed(text))
    union = _split(text, _CUP)
    if len(union) > 1:
        return Shape("union", tuple(_interval_text(part) for part in union))
    return _as_interval(text) or _in_brackets(text, depth) or _of_sides(text)


def _of_matrix(matrix: re.Match[str]) -> Shape:
    """Its rows, each cell times what stands in front of it."""
    rows = matrix["rows"].strip().strip(ROW).split(ROW)
    scalar = re.sub(r"(?:\\cdot|\\times|\*)\s*$", "", matrix["scalar"].strip()).strip()
    if scalar:
        factor = f"{scalar}1" if scalar in "+-" else scalar
        rows = [
            "&".join(f"({factor}) \\cdot ({cell.strip()})" for cell in row.split("&"))
            for row in rows
        ]
    return Shape("matrix", tuple(rows))


def _in_brackets(text: str, depth: int) -> Shape | None:
    """What a pair of brackets around all of a text makes of it; None without such a pair."""
    if text.startswith("\\{") and text.endswith("\\}"):
        described = "|" in text or "\\mid" in text or ":" in text  # {x | x > 2}
        members = (both for part in _split(text[2:-2], _COMMA) for both in _signed(part))
        return None if described else Shape("set", tuple(members))
    if text.startswith("\\langle") and text.endswith("\\rangle"):
        return Shape("tuple", tuple(_split(text[7:-7], _COMMA)))
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or not encloses(text):
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


def _of_parts(parts: Sequence[str], text: str) -> Shape:
    """A list; with one interval a part, a union (`x < 2 or x > 3`) or what all have in common."""
    intervals = [_as_interval(part) for part in parts]
    known = [interval for interval in intervals if interval is not None]
    if len(known) == len(parts):
        if len({_unknown_of(part) for part in parts}) > 1:
            return Shape("list", tuple(parts))  # x > 2, y < 5
        if _AND.search(text) and not _OR.search(text):
            return _intersection(known, text)
        return Shape("union", tuple(_interval_text(part) for part in parts))
    names = [part.split("=")[0].strip() for part in parts if part.count("=") == 1]
    if _LOGIC.search(text) and not names:
        return Shape("formula", (text,))
    if len(names) == len(parts) and len(set(names)) > 1:
        return Shape("list", tuple(parts))  # x = 2, y = 3: the names say which
    return Shape("list", tuple(both for part in parts for both in _signed(_without_name(part))))


def _intersection(intervals: Sequence[Shape], text: str) -> Shape:
    """`x > 2 and x < 5` is (2, 5); what is no two half-lines that face each other stays a text."""
    falling = [each.parts for each in intervals if each.parts[1] == "-\\infty"]
    rising = [each.parts for each in intervals if each.parts[2] == "\\infty"]
    if len(intervals) == 2 and len(falling) == len(rising) == 1:
        return Shape("interval", (*rising[0][:2], *falling[0][2:]))
    return Shape("literal", (text,))


def _signed(text: str) -> tuple[str, ...]:
    """`\\pm 1` is two values; so is `\\mp 1`, where it stands alone."""
    signs = _SIGN.findall(text)
    if not signs or (len(signs) > 1 and "\\mp" not in signs):
        return (text,)  # of two \\pm each has a sign of its own
    opposite = text.replace("\\pm", _HELD).replace("\\mp", "\\pm").replace(_HELD, "\\mp")
    return tuple(each.replace("\\pm", "+").replace("\\mp", "-") for each in (text, opposite))


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


def _unknown_of(text: str) -> str:
    sides = (side.strip() for side in _RELATIONS.split(_without_name(text)))
    return next((side for side in sides if _is_unknown(side)), "")


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


def _outward(text: str) -> Shape | None:
    """`]1, 2[`: a bracket that faces outward leaves its end out."""
    match = _OUTWARD.fullmatch(text)
    if match is None or (match[1] != "]" and match[4] != "["):
        return None
    opening = "(" if match[1] == "]" else match[1]
    closing = ")" if match[4] == "[" else match[4]
    return Shape("interval", (opening, match[2].strip(), match[3].strip(), closing))


def _without_points(text: str) -> Shape | None:
    """All real numbers but some, as intervals."""
    match = _WITHOUT.fullmatch(text)
    if match is None:
        return None
    points = [both for part in _split(match[1], _COMMA) for both in _signed(part)]
    values = {point: read_number(point) for point in points}
    known = [(number.value, point) for point, number in values.items() if number is not None]
    if len(points) > 1 and len(known) < len(points):
        return None
    ends = ["-\\infty", *(point for _, point in sorted(known)), "\\infty"]
    if not known:
        ends[1:1] = points
    return Shape("union", tuple(f"({low},{high})" for low, high in pairwise(ends)))


def _described(text: str) -> Shape | None:
    """`{x | x > 2}`, by its condition on x alone."""
    match = _DESCRIBED.fullmatch(text)
    if match is None or match[1] not in re.findall(r"[a-zA-Z]+", match[2]):
        return None
    return shape_of(match[2].strip(), DEPTH) if _as_interval(match[2]) is not None else None


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


def encloses(text: str) -> bool:
    """Whether the first bracket closes with the last character; of different kinds too: [0, 1)."""
    if len(text) < 2 or text[0] not in OPEN or text[-1] not in CLOSE:
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
        if is_name(left) and right and not _has_unknowns(right, left):
            return right
        if is_name(right) and left and read_number(left) is not None:
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
    if _UNKNOWNS.fullmatch(bare) is not None or _DIFFERENCE.fullmatch(bare) is not None:
        return False
    return _LETTERS.fullmatch(bare) is not None


def squeezed(text: str) -> str:
    """What no parser reads, to compare it: without blanks, needless braces and case of words."""
    cased = _CASED.sub(lambda match: match[0].lower(), text)
    return _SINGLE.sub(r"\1", _IGNORED.sub("", cased))
