"""Options of a multiple-choice task in normal text: `b`, `(b)`, `b) paris`, `option b: paris`.

    states b      b | (b) | [b] | b. | b) paris | b: paris | b, paris | b (paris) | b is correct
    states none   (a) or (b) | a) paris b) london | (a) is wrong | a) no wait, b) | a dog | a.m.
    labelled      (b) paris | b) paris | b. paris | b: paris; not j. smith, a.m., x: 5

All texts are in lower case, on one line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMED = r"(?:(?:the )?(?:option|choice|answer|letter)\s{0,3})?"
_SINGLE = re.compile(r"[(\[]?\s?(?P<letter>[a-z])\s?[)\]]?\.?")
_STATED = re.compile(  # an option alone, or with what it says
    rf"{_NAMED}(?:[(\[]\s?(?P<boxed>[a-z])\s?[)\]]|(?P<letter>[a-z])(?![\w'’]))"
    r"(?:(?P<mark>\s?\)\s{0,2}[:.,]?|[:：]|\.(?=\s|$)|\s[-–—:](?=\s)|,(?=\s)|\s?(?=\())?"
    r"\s{0,3}(?P<rest>.{0,300}))?",
    re.DOTALL,
)
_LABELLED = re.compile(
    r"(?:(?:\(\s?(?P<round>[a-j])\s?\)|(?P<half>[a-j])\s?\))\s{0,3}[:.]?\s{0,3}"
    r"|(?P<dot>[a-h])\s?\.\s{1,3}|(?P<colon>[a-j])\s?[:：]\s{1,3})(?P<rest>\S.{0,300})",
    re.DOTALL,
)
# several options: `a and c`, `(a), (c)`
_LETTERS = re.compile(r"\(?[a-z]\)?(?:(?:\s?,\s?(?:and\s)?|\sand\s|\s?&\s?)\(?[a-z]\)?)+")
_LETTER = re.compile(r"\b[a-z]\b")
_OPTION_LETTERS = "abcdefghij"

# --- what stands behind the letter

_AFFIRMED = re.compile(
    r"(?:is|was|must be|has to be)\s(?:clearly |indeed |definitely )?(?:(?:the|our|my) )?(?:only )?"
    r"(?:correct|right|best|true|most likely)\b(?!.*\b(?:not|wrong|incorrect)\b)"
)
_VERB = re.compile(
    r"(?:is|was|are|isn['’]?t|wasn['’]?t|cannot|can['’]?t|can not|could|might|may|would|does"
    r"|doesn['’]?t|has|seems|looks)\b"
)
_DENIAL = re.compile(
    r"\b(?:wrong|incorrect|false|not|never|impossible|invalid|unlikely|tempting|might|may|could)\b"
    r"|n['’]t\b|\bcannot\b"
)
_RETRACTED = re.compile(  # what denies the option behind its text
    r"(?:[,;(]|\s[-–—])\s?(?:(?:which|but (?:this|that|it)|this|that|it)\s)?"
    r"(?:is|was|would be)\s(?:\w+ly\s)?(?:not|wrong|incorrect|false|impossible|invalid)\b"
    r"|\b(?:no,? wait|wait,? no|wait[,:]|scratch that|correction:|i mean|sorry,|actually,)"
)
_LISTS_OPTIONS = re.compile(  # an option that names others: `d) both a and b`
    r"(?:both|either|neither|all|none|only|options?|choices?|answers?|statements?|[a-h]\s?(?:,|and\b|or\b|&))"
)
_JOINED = re.compile(r"(?:or|and|nor|&|/|\+|plus)\s?(?:also |maybe |possibly )?[(\[]?[a-j]\b")
_OTHER = re.compile(  # ` b) london`, ` (c) rome`, ` b. london`
    r"(?:^|(?<=[\s,;/&]))(?:[(\[]\s?(?P<round>[a-h])\s?[)\]]|(?P<half>[a-h])\s?\)|(?P<dot>[a-h])[.:]\s)"
)
_OR_OTHER = re.compile(  # `paris or c`
    r"(?P<before>\S*)\s(?:or|and|nor|plus|versus|vs\.?|&)\s(?:(?:maybe|possibly|perhaps|also|even|option"
    r"|choice|answer)\s){0,2}(?P<other>[a-h])(?=$|[,.;:)])"
)
_ALSO_OTHER = re.compile(  # `, but c is also true`
    r"[,;]\s?(?:but|or|and|though|although)\s(?:option |choice )?\(?(?P<other>[a-h])\)?"
    r"\s(?:is|also|could|might|may|would|too)\b"
)
_LONE = re.compile(r"\b[b-h]\b(?!['’])")


class Label(NamedTuple):
    """The letter of an option and what it says: of `(b) paris`."""

    letter: str
    rest: str


def single_letter(text: str) -> str | None:
    """The letter of a text that is nothing else: of `b`, `(b)`, `b.`"""
    single = _SINGLE.fullmatch(text)
    return None if single is None else single["letter"]


def label_of(text: str) -> Label | None:
    """The label of a text and what it labels; None of initials and of what is no option."""
    labelled = _LABELLED.fullmatch(text)
    if labelled is None:
        return None
    letter = labelled["round"] or labelled["half"] or labelled["dot"] or labelled["colon"]
    return Label(letter, labelled["rest"])


def stated_letter(text: str) -> str | None:
    """The one option that a text states, with or without what it says; None of several."""
    option = _STATED.fullmatch(text)
    if option is None:
        return None
    letter, rest = option["boxed"] or option["letter"], (option["rest"] or "").strip()
    if not rest or rest in (".", ":"):
        return str(letter)
    if letter not in _OPTION_LETTERS:
        return None
    if _AFFIRMED.match(rest):
        return str(letter)
    mark = option["mark"]
    is_marked = option["boxed"] is not None or mark is not None
    is_loose = option["boxed"] is None and mark is not None and mark.strip() in ("", ",")
    if not is_marked or (is_loose and _LONE.search(rest) is not None):
        return None
    return str(letter) if _says_one_option(letter, rest.lstrip(" -–—:,.")) else None


def same_letters(gold: str, text: str) -> bool | None:
    """Whether two lists of options hold the same ones, in any order; None if one is no list."""
    if not _LETTERS.fullmatch(gold) or not _LETTERS.fullmatch(text):
        return None
    return sorted(_LETTER.findall(gold)) == sorted(_LETTER.findall(text))


def _says_one_option(letter: str, rest: str) -> bool:
    """Whether what follows a letter neither denies it nor brings in another option."""
    if _RETRACTED.search(rest) or _JOINED.match(rest):
        return False
    if _VERB.match(rest) and _DENIAL.search(rest):
        return False
    if _LISTS_OPTIONS.match(rest):
        return True
    others = (other["round"] or other["half"] or other["dot"] for other in _OTHER.finditer(rest))
    if any(other != letter for other in others):
        return False
    if any(also["other"] != letter for also in _ALSO_OTHER.finditer(rest)):
        return False
    return not any(
        joined["other"] != letter and len(joined["before"].strip("()")) > 1
        for joined in _OR_OTHER.finditer(rest)
    )
