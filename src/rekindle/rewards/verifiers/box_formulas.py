"""The formula of which a box is a part, where the box alone is no answer.

    x = \\boxed{5}   \\boxed{5}\\text{ cm}   \\boxed{5}^\\circ   \\therefore \\boxed{5}   the box
    \\frac{\\boxed{3}}{\\boxed{4}}   \\boxed{3}\\pi   \\pm\\boxed{5}   x > \\boxed{5}   the formula

Within dollars or brackets of LaTeX whatever touches the box counts; in prose only what is LaTeX's.
A bounded piece of the text is looked at.
"""

from __future__ import annotations

import re

_FAR = 600  # characters to each side that are looked at
_DELIMITERS = re.compile(r"\\\\\[-?\d+(?:\.\d+)?(?:pt|em|ex|mm|cm)\]|\\{1,2}[\[\]()]|\\\$|\${1,2}")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_WORDS = re.compile(  # text within a formula
    r"\\(?:text|textbf|textit|textrm|textsf|mathrm|mathbf|mathsf|mbox|hbox|operatorname|tag\*?|label"
    r"|color|textcolor|hspace|vspace|phantom)\s?\*?\{[^{}]*\}"
)
_WRAPPER = (  # a group that only sets what is in it
    r"(?:\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|underline|displaystyle|bm|boldsymbol"
    r"|color\{[^{}]*\}|textcolor\{[^{}]*\}|colorbox\{[^{}]*\}|underset\{[^{}]*\}|Large|large|huge|Huge)"
    r"\s?|(?<![\w}\])^_*]))\{"
)
_SPACE = (
    r"\s+|~|&|\\[,;:! ]|\\q?quad(?![a-z])|\\(?:displaystyle|textstyle|[lL]arge|LARGE"
    r"|[hH]uge|bf|rm|left|bigl?|Bigl?|color\{[^{}]*\}|hfill|hspace\{[^{}]*\})(?![a-zA-Z])"
)
_LEFT_BLANKS = re.compile(rf"(?:{_SPACE}|{_WRAPPER}|\\text\{{)$")
_RIGHT_BLANKS = re.compile(
    rf"(?:{_SPACE}|\\right(?![a-z])|\}}(?!\s*(?:[{{_]|\^(?!\s?\{{?\s?\\circ))))"
)
_EQUALS = (
    r"\\(?:approx|equiv|in|to|rightarrow|Rightarrow|implies|therefore|iff|Longrightarrow"
    r"|longrightarrow|Leftrightarrow|mapsto|because|simeq|cong|sim|doteq|triangleq|colon|coloneqq"
    r"|quad|qquad|item|hline|newline)(?![a-zA-Z])|[=≈≡∈→⇒∴⟹⟶:,;.]"
)
# What may stand next to a box that is the answer.
_FREE_LEFT = re.compile(
    rf"(?:{_EQUALS}|\\\\|[(\[|\"'“]|\\\$|[€£¥$]|\\[({{\[]|\\[lL]vert|{_WORDS.pattern})$"
)
_OPERAND_BRACKET = re.compile(r"[\w})^*/+−-]\s?(?:\\left\s?)?[(\[|]$")  # 2(x+1)
_OPERAND_BRACKET_RIGHT = re.compile(
    r"[)\]|]\s?(?:[\^_\w(+*/−-]|\\(?:times|cdot|div|pi|sqrt|[dt]?frac)(?![a-z]))"
)
_OPERAND_COLON = re.compile(r"[\d}]\s?:\s?$")
_FREE_RIGHT = re.compile(
    rf"(?:{_EQUALS}|\\\\|[)\]|\"'”?]|\\[)}}\]]|\\?[%$]|\^\s?(?:\\circ|\{{\s?\\circ\s?\}})|[°€£¥]"
    rf"|{_WORDS.pattern}|\\(?:text|mathrm|textbf)\{{|\\(?:blacksquare|square|Box|checkmark|qed|qedsymbol"
    r"|hfill|end|pmod|bmod|mod|tag|label|newline|degree|circ|quad|qquad|percent|bigstar|heartsuit"
    r"|clubsuit|star|nonumber|notag|ldots|dots|rvert)(?![a-zA-Z])|\((?:\\text|\s?[a-zA-Z]{3}))"
)
_OPERAND_COLON_RIGHT = re.compile(r"\s?:\s?(?:\d|\\(?:boxed|fbox|frac|sqrt))")
_COMPARED = re.compile(
    r"(?:\\(?:n[eo]t?q?|neq|[lg]eq?(?:slant|q)?|lt|gt|ll|gg|not\s?=|not\\?in|notin|nless|ngtr|prec|succ)"
    r"(?![a-zA-Z])|(?<![-=])[<>≤≥≠≪≫≮≯∉])(?:\s|\\[,;! ]|=)*$"
)
_COMPARED_RIGHT = re.compile(
    r"\s*(?:\\(?:neq?|[lg]eq?(?:slant|q)?|lt|gt|ll|gg)(?![a-zA-Z])|[<>≤≥≠≪≫])"
)
# Where another formula begins or ends, looked for beside the one that the box is in.
_BOUNDS = re.compile(
    r"\\\\|&|\\q?quad(?![a-z])|\\(?:approx|equiv|to|rightarrow|Rightarrow|implies|therefore|iff"
    r"|Longrightarrow|because)(?![a-zA-Z])|[=≈→⇒∴⟹]|\\text\{"
)
# In prose: what is LaTeX's, or stands right at the box.
_PART_LEFT = re.compile(
    r"(?:\\(?:pm|mp|times|cdot|div|sqrt|frac|dfrac|tfrac|binom|log|ln|sin|cos|tan|pi)\s?(?:\{|\[[^\]]*\]\{)?"
    r"|\\[dt]?frac\s?\{[^{}]*(?:\{[^{}]*\})?[^{}]*\}\s?\{|[\^_]\{?|[±∓×÷√])\s{0,2}$|(?<=[\d})])[+/:]$"
)
_QUOTE = " \t>"
_BESIDE = 160  # characters
_PART_RIGHT = re.compile(
    r"\s{0,2}(?:\\(?:pm|mp|times|cdot|div|pi|sqrt|frac|dfrac|tfrac|binom|sin|cos|tan|log|ln|theta|alpha"
    r"|beta|lambda)(?![a-zA-Z])|[±×÷√π])|[+/:](?=[\d\\(])|\^(?!\s?\{?\s?\\circ)|_(?=[\d{])"
)


def formula_around(
    text: str, start: int, end: int, begin: int, stop: int
) -> tuple[int, int] | None:
    """(start, end) of the formula that `text[start:end]`, a box, is a part of; None where the box
    is the answer.

    Args:
        text: what a model wrote.
        start: where the box begins.
        end: where it ends.
        begin: where what is read begins.
        stop: where what is read ends.
    """
    left, right = max(begin, start - _FAR), min(stop, end + _FAR)
    left = max(left, text.rfind("\n\n", left, start) + 1)
    blank = text.find("\n\n", end, right)
    right = right if blank < 0 else blank
    span = _math_span(text, start, end, left, right)
    if span is None:
        return _in_prose(text, start, end, left, right)
    first, last = span
    before, behind = text[first:start], text[end:last]
    if _COMPARED.search(_bare_left(before)) or _COMPARED_RIGHT.match(_bare_right(behind)):
        return first, last
    if not _touches_left(before) and not _touches_right(behind):
        return None
    bounds = list(_BOUNDS.finditer(before))
    ahead = _BOUNDS.search(behind)
    return first + (
        bounds[-1].end() if bounds and not before[bounds[-1].start() :].startswith("\\text") else 0
    ), last if ahead is None else end + ahead.start()


def _math_span(text: str, start: int, end: int, left: int, right: int) -> tuple[int, int] | None:
    """What the delimiters of a formula around a box hold; None in prose."""
    opened: re.Match[str] | None = None
    for mark in _DELIMITERS.finditer(text, left, start):
        sign = mark[0].lstrip("\\")
        if mark[0] == "\\$" or (sign[-1:] == "]" and len(sign) > 1):
            continue
        opens = sign in "([" or (sign[0] == "$" and (opened is None or opened[0] != mark[0]))
        opened = mark if opens else None
    if opened is None:
        return None
    closing = {"(": ")", "[": "]"}.get(opened[0].lstrip("\\"), opened[0])
    for mark in _DELIMITERS.finditer(text, end, right):
        if mark[0].lstrip("\\") == closing.lstrip("\\") and mark[0] != "\\$":
            span = opened.end(), mark.start()
            outside = _WORDS.sub(" ", text[span[0] : start]), _WORDS.sub(" ", text[end : span[1]])
            return None if any(_PROSE.search(part) for part in outside) else span
    return None


def _bare_left(before: str) -> str:
    """What stands in front of a box, without blanks and settings next to it."""
    while True:
        blank = _LEFT_BLANKS.search(before)
        if blank is None:
            return before
        before = before[: blank.start()]


def _bare_right(behind: str) -> str:
    at = 0
    while True:
        blank = _RIGHT_BLANKS.match(behind, at)
        if blank is None:
            return behind[at:]
        at = blank.end()


def _touches_left(before: str) -> bool:
    bare = _bare_left(before)
    return bool(bare) and (
        _FREE_LEFT.search(bare) is None
        or _OPERAND_COLON.search(bare) is not None
        or _OPERAND_BRACKET.search(bare) is not None
    )


def _touches_right(behind: str) -> bool:
    bare = _bare_right(behind)
    return bool(bare) and (
        _FREE_RIGHT.match(bare) is None
        or _OPERAND_COLON_RIGHT.match(bare) is not None
        or _OPERAND_BRACKET_RIGHT.match(bare) is not None
    )


def _in_prose(text: str, start: int, end: int, left: int, right: int) -> tuple[int, int] | None:
    """Of a box that stands in no dollars: what touches it on its line."""
    line = text.rfind("\n", left, start) + 1
    before = text[max(left, line) : start]
    stop = text.find("\n", end, right)
    stop = right if stop < 0 else stop
    beside = before[-_BESIDE:]  # both end at the box: a search of all that is before takes longer
    part = _PART_LEFT.search(beside)
    compared = _COMPARED.search(beside) if before.strip(_QUOTE) else None
    touched = _PART_RIGHT.match(text, end, stop)
    if part is None and compared is None and touched is None:
        return None
    if part is not None:
        start = max(start - len(before), text.rfind(" ", left, start - len(part[0])) + 1)
    if compared is not None:
        start -= len(before)
    return start, end if touched is None else stop
