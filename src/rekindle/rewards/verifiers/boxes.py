"""Boxes in a text: where they are, and which of them state the answer together.

    \\boxed{5}   \\fbox{5}   \\boxed {\\frac{1}{2}}   \\boxed 5   -\\boxed{5}   \\boxed{5}\\%
                                                                            one number
    \\boxed{1} and \\boxed{2}   \\boxed{x = 1}, \\boxed{y = 2}                        one answer
    \\frac{\\boxed{3}}{\\boxed{4}}   \\boxed{3}\\pi   x > \\boxed{5}                    the formula

Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rekindle.rewards.verifiers.box_formulas import formula_around

_BARE = r"[-−+]?\d+(?:[.,]\d+)*(?:/\d+)?|(?<=[\s\d])[A-Za-z](?![A-Za-z])"  # \boxed 42
_TOKENS = re.compile(
    rf"\\(?:boxed|fbox)(?:\s{{0,20}}\{{|\s{{0,3}}(?P<bare>{_BARE}))"
    r"|\\(?!\\(?:boxed|fbox)(?![a-zA-Z])).|[{}]",
    re.DOTALL,
)
# What joins two boxes to one answer: `and`, commas, the name of the second value.
_JOIN = re.compile(
    r"[\s$\\,;()]{0,9}(?:\b(?:and|or(?: else)?|as well as)\b|[,;&]|\\q?quad"
    r"|\\text\{\s{0,3}(?:and|or)\s{0,3}\})?"
    r"[\s$\\,;()]{0,9}"
    r"(?:[A-Za-z]\w{0,3}\s?=\s?)?[\s$\\(]{0,5}"
)
_LONGEST_JOIN = 40
_AFTER_BOX = re.compile(
    r"\s{0,2}(?:\\?%|(?:\\text\{\s?)?(?:hundred|thousand|million|billion|trillion|dozen|percent"
    r"|per cent)\b\}?)",
    re.IGNORECASE,
)
_BEFORE_BOX = re.compile(  # a minus, and a dollar sign behind it
    r"(?:^|[^\w)\]}.\s])\s{0,3}([-−–]\s{0,2}(?:\\?\$)?)$|(?:=|\bis)\s{0,3}\$?\s{0,3}([-−–]\s{0,2})$"
)
_BULLET = re.compile(r"[ \t]{0,3}[-–][ \t]{1,3}\$?")  # of a list of markdown
_LONGEST_SIGN = 12


class Box(NamedTuple):
    """A box of LaTeX, by positions in the text."""

    start: int  # of the command
    inside: int
    close: int  # -1 where it is not closed
    after: int  # what follows it begins

    def if_cut(self, end: int) -> Box:
        """The box of a text that was cut at `end`: one without braces may go on."""
        return self._replace(close=-1) if self.close == self.after == end else self


def find_boxes(text: str, begin: int, end: int) -> list[Box]:
    """The outermost boxes, in order."""
    starts = [text.find(command, begin, end) for command in ("\\boxed", "\\fbox")]
    first = min((start for start in starts if start >= 0), default=-1)
    if first < 0:
        return []
    boxes: list[Box] = []
    open_braces: list[int | None] = []  # which box each one opened
    for token in _TOKENS.finditer(text, first, end):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            box = open_braces.pop() if open_braces else None
            if box is not None:
                boxes[box] = boxes[box]._replace(close=token.start(), after=token.end())
        elif token["bare"] is not None:
            boxes.append(Box(token.start(), token.start("bare"), token.end(), token.end()))
        elif len(token[0]) > len("\\{"):
            open_braces.append(len(boxes))
            boxes.append(Box(token.start(), token.end(), -1, token.end()))
    outermost: list[Box] = []
    for each in boxes:
        if not outermost or each.close < 0 or each.start >= outermost[-1].close:
            outermost.append(each)
    return outermost


def span_of_answer(text: str, boxes: Sequence[Box], begin: int, end: int) -> tuple[int, int]:
    """The last box, with those that are joined to it and what belongs to its number outside.

    An empty or unclosed last box holds nothing, whatever stands before it. One that is part of a
    formula is no answer: the formula is.
    """
    start, inside, close, after = boxes[-1]
    if not text[inside : max(close, inside)].strip():
        return inside, inside
    joined = _joined_boxes(text, boxes)
    if len({text[box.inside : box.close].strip() for box in joined}) > 1:
        start, after = _in_brackets(text, joined[0].start, after)
        return formula_around(text, start, after, begin, end) or (start, after)
    before = _BEFORE_BOX.search(text[max(begin, start - _LONGEST_SIGN) : start])
    line = max(begin, text.rfind("\n", begin, start) + 1)
    if _BULLET.fullmatch(text, line, start):
        before = None
    factor = _AFTER_BOX.match(text, after, end)
    first = start if before is None else start - len(before[1] or before[2])
    last = after if factor is None else factor.end()
    formula = formula_around(text, first, last, begin, end)
    if formula is not None:
        return formula
    if before is None and factor is None:
        return inside, close
    return first, last


def _in_brackets(text: str, start: int, end: int) -> tuple[int, int]:
    """With the round brackets around boxes that commas join: a point."""
    is_point = text[max(0, start - 1) : start] == "(" and text[end : end + 1] == ")"
    words = re.search(r"\b(?:and|or)\b|;", text[start:end]) if is_point else None
    return (start - 1, end + 1) if is_point and words is None else (start, end)


def _joined_boxes(text: str, boxes: Sequence[Box]) -> Sequence[Box]:
    """The last box and those before it with nothing but `and`, `or`, a comma in between."""
    first = len(boxes) - 1
    while first > 0 and boxes[first - 1].close >= 0:
        between = text[boxes[first - 1].after : boxes[first].start]
        if len(between) > _LONGEST_JOIN or "\n" in between or not _JOIN.fullmatch(between):
            break
        first -= 1
    return boxes[first:]
