"""When two answers are the same: answers have a canonical form, and equal answers equal forms.

Equality of forms is reflexive, symmetric and transitive, which a tolerance or a verifier is not.

    number     the exact rational: 72 = 72.0 = $72, 1,000 = 1000, 1/2 = 0.5 = \\frac12
    per cent   as it is written: 40 % = 40, and neither is 0.4
    unit       one word of letters behind a number, with a space between, is dropped: 5 apples = 5.
               Not words that change the value (million, dozen, half, pm, pi, ...), nor single
               letters: 5 x is a product. Degrees: 90° = 90^\\circ = 90
    list       commas outside brackets; element by element, in order: 1, 2 = 1,2. 1,000 is a number
               and 74,39 a list
    brackets   kept as they are written around their elements: (1,2) = (1, 2), and neither is [1, 2]
               nor 1, 2
    box        \\boxed{5} around it all = 5
    text       white space folded, edges (`$`, `*`, a closing full stop) removed, lower case

No answer is equal to nothing, not even to no answer.
"""

from __future__ import annotations

import re

from rekindle.rewards.verifiers.math_shapes import encloses
from rekindle.rewards.verifiers.verify_v1 import LONGEST, as_number, boxed, tidy

_UNIT = re.compile(r"(?P<number>\S(?:.*\S)?) (?P<unit>[a-z]{2,})")
_NO_UNITS = re.compile(  # they change the value, or are no unit
    r"(hundred|thousand|[mb]illion|trillion|hundredth|thousandth|third|quarter|fourth|fifth|sixth|"
    r"seventh|eighth|ninth|tenth|root)s?|dozens?|score|half|halves|squared|cubed|factorial|"
    r"pi|tau|am|pm|or|and|mod"
)
_DEPTH = 20  # brackets within brackets that are looked into
_OPEN, _CLOSE = "([{", ")]}"
_ROUNDS = 8  # what one round tidies may leave edges for the next
_MARKS = re.compile(r"####|\\boxed\{|answer(?:\s+is\s*:?|\s*:)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|;")


def canonical_answer(text: str | None) -> str | None:
    """The form that equal answers share; None when there is no answer.

    The form of a form is itself.
    """
    if text is None:
        return None
    form = " ".join(text.split()).lower()
    if len(form) > LONGEST:
        return form
    for _ in range(_ROUNDS):
        before, form = form, _form(form)
        if form == before:
            break
    return form or None


def same_answer(a: str | None, b: str | None) -> bool:
    """Whether both are answers, with the same canonical form."""
    form = canonical_answer(a)
    return form is not None and form == canonical_answer(b)


def answer_of_text(text: str) -> str | None:
    """The answer that a text marks, as it is written; None when it marks none.

    Marks are `####`, "answer is", "answer:" and `\\boxed{...}`, each with its answer on the same
    line. The last one that has an answer wins; a sentence ends it.
    """
    answer: str | None = None
    for line in text.split("\n"):
        marks = list(_MARKS.finditer(line))
        for i, mark in enumerate(marks):
            end = marks[i + 1].start() if i + 1 < len(marks) else len(line)
            if mark[0].startswith("\\"):
                marked = boxed(line[mark.start() : end]) or ""
            else:
                marked = _SENTENCE_END.split(line[mark.end() : end], maxsplit=1)[0]
            answer = marked.strip() or answer
    return answer


def _form(text: str, depth: int = 0) -> str:
    text = _tidy(text)
    inside = boxed(text)
    if depth < _DEPTH and inside is not None and text == f"\\boxed{{{inside}}}":
        return _form(inside, depth + 1)
    number = as_number(text.removesuffix("°"))
    if number is not None:
        return str(number)
    unit = _UNIT.fullmatch(text)
    if unit is not None and _NO_UNITS.fullmatch(unit["unit"]) is None:
        number = as_number(unit["number"])
        if number is not None:
            return str(number)
    parts = _split(text)
    if len(parts) > 1:
        return ", ".join(_form(part, depth) for part in parts)
    if depth < _DEPTH and encloses(text):
        inside = text[1:-1].strip()
        return f"{text[0]}{_form(inside, depth + 1) if inside else ''}{text[-1]}"
    return text


def _tidy(text: str) -> str:
    again = tidy(text)
    while again != text:
        text, again = again, tidy(again)
    return text


def _split(text: str) -> list[str]:
    """At commas outside brackets; one part where brackets do not close or a part is empty."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth < 0:
            return [text]
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    return parts if depth == 0 and all(parts) else [text]
