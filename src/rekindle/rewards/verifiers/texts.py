"""When two short texts are the same answer, as the user of a multiple-choice task expects.

    same     paris, "Paris.", the Paris, \\text{Paris} | B, (b), B., B) Paris, option B | 142.0, 142
             A, C and C & A | `B, not C` against B | H₂O and H2O | yes and `Yes, it is.`
    not      x=5 and 5 | 1,5 and 15 | a dog and A | not B and B | B) Paris and C) Paris
             A minor and minor | __init__ and init | 5! and 5

White space, case, edges and quotes do not count. Nothing is evaluated; commas and `x=` belong to
the text. Time is linear in the length.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from rekindle.rewards.verifiers.latex_text import plain_text
from rekindle.rewards.verifiers.options import label_of, same_letters, single_letter, stated_letter

_QUOTES = "\"'`“”‘’«»*_$ \t"
_FULL_STOPS = ".。!"
_PREFIX = re.compile(r"(?:the )?(?:final |correct )?answer(?: is|\s?:)\s?:?\s?(?=\S)")
_NAMES_WITH_A = (  # of keys, blood groups and grades, whose letter is no article
    r"(?:minor|major|flat|sharp|natural|positive|negative|plus|minus|level|star)"
    r"(?:\s(?:minor|major|scale|chord|key|blood|type|group|rh))*$"
)
_ARTICLE = re.compile(rf"(?:the|an|a(?!\s+{_NAMES_WITH_A}))\s+(?=\S)")
# What follows an answer and says what it is not, or why it is; not `ever since`, `since 1990`.
_TAIL = re.compile(
    r"\s?[,;(]\s{0,3}(?:and |but )?not\b.*|\s(?:and not|but not|rather than|instead of)\b.*"
    r"|[\s,;(]\s{0,3}because\b.*|[,;(]\s{0,3}since\b.*"
    r"|(?<!\bever)\ssince\s+(?!(?:\d{4}|then|when|birth|childhood)\b)\S.*",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+|[-+]?\d+(?:\.\d+)?e[-+]?\d{1,3}"
)


# Yes, it is.
_SAID_TWICE = re.compile(r"(?P<said>yes|no|true|false)\s?[,;.:–—-]\s(?P<again>.{2,300})", re.DOTALL)
_OPPOSITES = {
    "yes": "no|not quite|false",
    "no": "yes|true",
    "true": "false|no",
    "false": "true|yes",
}
_TURN = r"\b(?:but|however|wait|actually|unless|if|except|although|though|maybe|or)\b"
_CHEMISTRY = re.compile(r"(?:[A-Z][a-z]?|[()\[\]]|_?\{?\d{1,3}\}?|\^?\{?\d?[+-]\}?){2,40}")
_LOW_DIGITS = re.compile("[₀-₉]+")
_INDEX = re.compile(r"_\{(\w{1,9})\}")
_LONGEST_LETTER = len("the option (b).")
_NO_INDICES = str.maketrans("", "", "_^{}")
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width letters and signs
# Stars, underscores and factorials that belong to a text: `A*`, `__init__`, `5!`
_OWN_MARKS = re.compile(r"[*_]")
_FACTORIAL = re.compile(r"(?:[\d)]|(?<![^\W\d_])[k-zK-Z])!+$")
_SHIELDED = {ord("*"): "\ue000", ord("_"): "\ue001", ord("!"): "\ue002"}
_PAIRS = ("**", "*", "`", '"', "'", "$")


def normal_text(text: str) -> str:
    """White space folded, LaTeX's setting, quotes and edges removed, lower case."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_WIDE)
    folded = " ".join(plain_text(text).split())
    folded = _without_edges(folded) or folded
    if "_" in folded or "^" in folded:  # H_2O
        substance = folded.replace(" ", "")
        folded = substance.translate(_NO_INDICES) if _CHEMISTRY.fullmatch(substance) else folded
    return folded.lower()


def without_tail(answer: str) -> str:
    """An answer without what follows it and says what it is not, or why: `7, not 8` is `7`."""
    return _TAIL.sub("", answer)


def same_text(gold: str, answer: str) -> bool:
    """Whether an answer is the gold text, as the user of a short-answer task expects."""
    gold, answer = _shielded(gold, answer)
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
    letter = single_letter(wanted)
    if letter is not None:
        return stated_letter(stated) == letter
    letters = same_letters(wanted, stated)
    if letters is not None:
        return letters
    return _is_same_labelled(wanted, stated) or _is_said_twice(wanted, stated)


def _is_same_labelled(wanted: str, stated: str) -> bool:
    """Whether two texts are the same without their labels, if these are: of `(b) paris`."""
    gold, answer = label_of(wanted), label_of(stated)
    if gold is None:
        return answer is not None and answer.rest.strip(_QUOTES) == wanted
    if answer is None:
        return gold.rest.strip(_QUOTES) == stated or _is_its_letter(gold.letter, stated)
    return gold.letter == answer.letter and _without_article(gold.rest.strip(_QUOTES)) == (
        _without_article(answer.rest.strip(_QUOTES))
    )


def _is_its_letter(letter: str, stated: str) -> bool:
    """`b`, `option (b)`; not what has a text, which would have to be the gold's."""
    return stated_letter(stated) == letter and len(stated) <= _LONGEST_LETTER


def _is_said_twice(wanted: str, stated: str) -> bool:
    """`yes, it is` against `yes`."""
    said = _SAID_TWICE.fullmatch(stated)
    if said is None or said["said"] != wanted:
        return False
    return re.search(rf"{_TURN}|\b(?:{_OPPOSITES[wanted]})\b", said["again"]) is None


def _shielded(gold: str, answer: str) -> tuple[str, str]:
    """Both with stars, underscores and factorials out of the reach of what removes markdown, where
    they are the gold's own."""
    bare, stated = _unpaired(gold), _unpaired(answer)
    has_own = "\\" not in gold and _OWN_MARKS.search(bare) and not _CHEMISTRY.fullmatch(bare)
    if has_own or _FACTORIAL.search(bare) or _FACTORIAL.search(stated):
        return bare.translate(_SHIELDED), stated.translate(_SHIELDED)
    return gold, answer


def _unpaired(text: str) -> str:
    """A text without the markdown, quotes and full stop around it, indices in one spelling."""
    text = text.strip().removesuffix(".")
    for pair in _PAIRS:
        inside = text[len(pair) : -len(pair)]
        if inside and text.startswith(pair) and text.endswith(pair) and pair not in inside:
            text = inside.strip().removesuffix(".")
    if not text.isascii():
        text = _LOW_DIGITS.sub(lambda digits: f"_{unicodedata.normalize('NFKC', digits[0])}", text)
    text = text.replace("\\_", "_")
    return _INDEX.sub(r"_\1", text) if "_{" in text else text


def _without_edges(text: str) -> str:
    return text.strip(_QUOTES).rstrip(_FULL_STOPS).strip(_QUOTES)


def _without_article(text: str) -> str:
    return _ARTICLE.sub("", text, count=1)


def _value(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))
