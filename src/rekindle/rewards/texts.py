"""When two short texts are the same answer, as the user of a multiple-choice task expects.

    same     paris, "Paris.", the Paris, \\text{Paris} | B, (b), B., B) Paris, option B | 142.0, 142
             A, C and C & A | `B, not C` against B
    not      x=5 and 5 | 1,5 and 15 | a dog and A | not B and B

White space, case, edges and quotes do not count. Nothing is evaluated; commas and `x=` belong to
the text. Time is linear in the length.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rekindle.rewards.latex_text import plain_text

_QUOTES = "\"'`“”‘’«»*_$ \t"
_FULL_STOPS = ".。!"
# (b), b., `b) paris`, `option b`, `b - paris`
_OPTION = re.compile(
    r"(?:option|choice|answer|letter)?\s{0,3}\(?(?P<letter>[a-z])(?:\s?\)|[.:]|\s[-–:])?"
    r"(?P<rest>\s.{0,300})?",
    re.DOTALL,
)
_MARKED_OPTION = re.compile(r"(?:option|choice)?\s?\(?[a-z](?:\)|[.:]|\s[-–:])")
_LABELLED = re.compile(r"\(?(?P<letter>[a-z])\s?[).:]\s{0,3}(?P<rest>\S.{0,300})", re.DOTALL)
_SINGLE = re.compile(r"\(?\s?(?P<letter>[a-z])\s?[).]?")
# several options: `a and c`, `(a), (c)`
_LETTERS = re.compile(r"\(?[a-z]\)?(?:(?:\s?,\s?(?:and\s)?|\sand\s|\s?&\s?)\(?[a-z]\)?)+")
_LETTER = re.compile(r"\b[a-z]\b")
_PREFIX = re.compile(r"(?:the )?(?:final |correct )?answer(?: is|\s?:)\s?:?\s?(?=\S)")
_ARTICLE = re.compile(r"(?:the|an|a)\s+(?=\S)")
# What follows an answer and says what it is not, or why it is.
_TAIL = re.compile(
    r"\s?[,;(]\s{0,3}(?:and |but )?not\b.*|\s(?:and not|but not|rather than|instead of)\b.*"
    r"|[\s,;(]\s{0,3}(?:because|since)\b.*",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+|[-+]?\d+(?:\.\d+)?e[-+]?\d{1,3}"
)


def normal_text(text: str) -> str:
    """White space folded, LaTeX's setting, quotes and edges removed, lower case."""
    folded = " ".join(plain_text(text).split())
    return (_without_edges(folded) or folded).lower()


def without_tail(answer: str) -> str:
    """An answer without what follows it and says what it is not, or why: `7, not 8` is `7`."""
    return _TAIL.sub("", answer)


def same_text(gold: str, answer: str) -> bool:
    """Whether an answer is the gold text, as the user of a short-answer task expects."""
    wanted, stated = normal_text(gold), _PREFIX.sub("", normal_text(answer), count=1)
    return bool(wanted) and _is_same(wanted, stated)


def _is_same(wanted: str, stated: str) -> bool:
    """Of two normal texts."""
    if wanted == stated or _without_article(wanted) == _without_article(stated):
        return True
    if _NUMBER.fullmatch(wanted):
        return _NUMBER.fullmatch(stated) is not None and _value(wanted) == _value(stated)
    if " not " not in f" {wanted} ":
        shorter = without_tail(stated)
        if shorter and shorter != stated:
            return _is_same(wanted, _without_edges(shorter))
    option = _SINGLE.fullmatch(wanted)
    if option is not None:
        return _option(stated) == option["letter"]
    if _LETTERS.fullmatch(wanted) and _LETTERS.fullmatch(stated):
        return sorted(_LETTER.findall(wanted)) == sorted(_LETTER.findall(stated))
    unlabelled = _without_label(stated)
    return unlabelled in (wanted, _without_label(wanted)) or _is_its_label(wanted, stated)


def _without_edges(text: str) -> str:
    return text.strip(_QUOTES).rstrip(_FULL_STOPS).strip(_QUOTES)


def _without_article(text: str) -> str:
    return _ARTICLE.sub("", text, count=1)


def _value(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def _option(stated: str) -> str | None:
    """The letter of `(b)`, `b.`, `b) paris`, `option b`; None of `a dog`."""
    option = _OPTION.fullmatch(stated)
    if option is None:
        return None
    is_marked = _LABELLED.fullmatch(stated) or _MARKED_OPTION.match(stated)
    return option["letter"] if option["rest"] is None or is_marked else None


def _without_label(stated: str) -> str:
    labelled = _LABELLED.fullmatch(stated)
    return stated if labelled is None else labelled["rest"].strip(_QUOTES)


def _is_its_label(wanted: str, stated: str) -> bool:
    """A gold of `(b) paris` answered by `b`."""
    gold, answer = _LABELLED.fullmatch(wanted), _SINGLE.fullmatch(stated)
    return gold is not None and answer is not None and gold["letter"] == answer["letter"]
