"""The shape of a mathematical answer: what kind of thing it is, and its parts as LaTeX.

set       \\{1, 2\\}                 list      1, 2; x = 1 or x = 2; \\pm 5
tuple     (1, 2); \\langle 1, 2 \\rangle   interval  [1, 2); x < 2; 1 \\le x < 3
union     of intervals               equation  y = 2x + 1
matrix    rows of cells              literal   3:45, 2:3, 1011_2
formula   all else; what it is, a parser says
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rekindle.rewards.numbers import read_number

DEPTH = 8  # containers within containers
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
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s?\^\s?\{?\s?\\circ\s?\}?")
_SEGMENT = re.compile(
    r"\\(?:overline|overrightarrow|overleftrightarrow|angle|triangle|vec|widehat|bar)\s?\{?\s?([A-Za-z]{1,4})\s?\}?$"
)
_MATRIX = re.compile(
    r"\\begin\{([pbB]?)(?:small)?(?:matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1(?:small)?(?:matrix|array)\}"
)
ROW = "\x02"  # the double backslash between rows
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[\s'.-])*")
_LITERAL = re.compile(r"\d\s?:\s?\d|\d_\{?\d")
_SEPARATOR = re.compile(
    r"\s(?:or|and)\s|\\(?:text|mathrm)\{\s*,?\s*(?:or|and)\s*\}|\\(?:lor|vee|land|wedge)(?![a-z])|[,;]"
)
OPEN, CLOSE = "([{", ")]}"


class Shape(NamedTuple):
    kind: str  # set | tuple | list | interval | union | equation | text | literal | formula
    parts: tuple[Shape | str, ...]


def shape_of(text: str, depth: int) -> Shape:
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
        return Shape("list", (text.replace("\\pm", "+"), text.replace("\\pm", "-")))
    union = _split(text, re.compile(r"\\cup(?![a-z])"))
    if len(union) > 1:
        return Shape("union", tuple(_interval_text(u) for u in union))
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
        return Shape("set", tuple(_split(text[2:-2], re.compile(r"[,;]"))))
    if _encloses(text):
        inside = _split(text[1:-1], re.compile(r"[,;]"))
        if len(inside) > 1:
            if text[0] == "(" and text[-1] == ")":
                return Shape("tuple", tuple(inside))
            return Shape("interval", (text[0], *inside, text[-1]))
        return (
            shape_of(text[1:-1].strip(), depth + 1)
            if text[0] == "(" and depth < DEPTH
            else Shape("formula", (text,))
        )
    if text.startswith("\\langle") and text.endswith("\\rangle"):
        return Shape("tuple", tuple(_split(text[7:-7], re.compile(r"[,;]"))))
    sides = _split(text, re.compile("="))
    if len(sides) > 1 and not _RELATIONS.search(text) and "\\begin" not in text:
        return Shape("equation", tuple(sides))
    return Shape("formula", (text,))


def _of_parts(parts: Sequence[str]) -> Shape:
    """A list; with one interval a part, a union (`x < 2 or x > 3`)."""
    intervals = [_as_interval(part) for part in parts]
    if all(interval is not None for interval in intervals):
        return Shape("union", tuple(_interval_text(part) for part in parts))
    names = [part.split("=")[0].strip() for part in parts if part.count("=") == 1]
    if len(names) == len(parts) and len(set(names)) > 1:
        return Shape("list", tuple(parts))  # x = 2, y = 3: the names say which
    return Shape("list", tuple(_without_name(part) for part in parts))


def _as_interval(text: str) -> Shape | None:
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
            return Shape("interval", ("(", "-\\infty", value, "]" if closed else ")"))
        return Shape("interval", ("[" if closed else "(", value, "\\infty", ")"))
    if len(sides) == 3 and unknown == [1] and len({(sign or "")[0] for sign in signs}) == 1:
        ends, closed = [sides[0], sides[2]], [(sign or "").endswith("=") for sign in signs]
        if (signs[0] or "").startswith(">"):
            ends, closed = ends[::-1], closed[::-1]
        return Shape("interval", ("[" if closed[0] else "(", *ends, "]" if closed[1] else ")"))
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
        if character in OPEN:
            depth += 1
        elif character in CLOSE:
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
        depth += (character in OPEN) - (character in CLOSE)
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


def is_word(text: str) -> bool:
    """Whether a text is made of words or letters only, as names, options and `DNE` are."""
    bare = text.strip("() ")
    if not _LETTERS.fullmatch(bare):
        return False
    return not re.fullmatch(r"[xyzwei]{1,4}", bare) or len(bare) == 1


def squeezed(text: object) -> str:
    return re.sub(r"[\s{}]|\\(?:text|mathrm)", "", str(text)).lower()


def tidy_formula(text: str) -> str:
    text = text.strip().rstrip(".").strip()
    for sign, command in _UNICODE:
        if sign in text:
            text = text.replace(sign, command)
    text = text.translate(_INDICES) if not text.isascii() else text
    text = (
        text.replace("\\\\", ROW)
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
    text = re.sub(
        r"\(\s*(?:check|since|because)\b[^()]*\)|[\s,;(]\s*(?:and |but )?not\b.*", "", text
    )
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
