"""What stands beside a number and is no part of it: reasons, denials, remarks; and what spoils it.

    taken off    7, not 8 | 7, since 3 + 4 = 7 | 7 (odd) | 7 (seven) | 12 (three rows of four)
    no answer    7, which is wrong | 7, not possible | 7, if n is even; 8 otherwise | 5, so 10
    left where they stand, and spoil it: 5(x+1), 5 (dozen), 7 (or more), 101 (binary), 7 (wrong)

A remark that is taken off may still contradict the number: `contradicts` says so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rekindle.rewards.verifiers.number_words import Number, read_words, same_number
from rekindle.rewards.verifiers.vocabulary import vocabulary


class Remark(NamedTuple):
    """What was taken off: the word that it begins with, "" without one, and what it says."""

    word: str
    said: str


_DIGIT = re.compile(r"\d")
_NOT = r"not|never|rather than|instead of|as opposed to|unlike"
_REASONS = r"because|since|as(?!\s+well\b)"
_RESULTS = r"so|hence|thus|therefore|i\.e\.,?|that is|giving|making"
_CONDITIONS = r"where|when|if|unless|for|given|assuming|provided|with|depending"
_OTHERS = (
    r"which|after|from|by|using|in which|rounded|rounding|obtained|exactly|see|double[- ]check\w*"
    r"|check\w*|verified"
)
_CLAUSE = rf"(?:{_REASONS}|{_RESULTS}|{_CONDITIONS}|{_OTHERS})(?!\w)"
# No `not` behind a verb: `7 is not ...`
_NO_VERB = "".join(
    rf"(?<!\b{verb}\s)"
    for verb in (
        *("is", "are", "was", "be", "do", "does", "can", "may", "would", "could", "should", "must"),
        *("did", "were", "will", "has"),
    )
)
_TAIL = re.compile(
    rf"[,;(\s](?:(?:(?<=[,;(])|(?<=\s){_NO_VERB})\s{{0,3}}(?:and\s+|but\s+)?(?P<not>{_NOT})\b"
    rf"|(?<=[,;])\s{{0,3}}(?P<clause>{_CLAUSE})"
    r"|(?<=\s)(?<![.!?]\s)(?P<reason>because|since"
    r"|by (?:adding|multiplying|dividing|subtracting|using|the))\b)",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"(?:(?<=\s)|^)\(\s{0,3}([A-Za-z][^()]*(?:\([^()]*\)[^()]*)*)\)")
_REMARK = re.compile(
    rf"(?:and\s+|but\s+)?(?:(?P<not>{_NOT})\b|(?P<clause>{_CLAUSE}))", re.IGNORECASE
)
_KINDS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("not", _NOT), ("reason", _REASONS), ("result", _RESULTS), ("condition", _CONDITIONS),
    )
)  # fmt: skip

# --- what a remark may say against the number

_RIGHT = (
    r"(?:possible|correct|right|valid|true|allowed|feasible|acceptable|sure|certain|likely"
    r"|(?:the |an? |our |my |your )?(?:right |correct |valid |final |real |actual )?"
    r"(?:solution|answer|option|result|case))"
)
_NOT_RIGHT = re.compile(rf"\s*(?:(?:quite|really|exactly|necessarily)\b\s*)*(?:{_RIGHT}\b|\W*$)")
_DENIES = re.compile(
    r"\b(?:wrong|incorrect|impossible|invalid|false|absurd|mistaken|mistake|contradict\w*|nonsense"
    r"|(?<!not )too (?:large|small|big|many|few|high|low|much|little)"
    rf"|(?:not|cannot|never|\w+n['’]?t) (?:be )?(?:{_RIGHT}\b|be\s*$|work|fit|make sense|satisfy))",
    re.IGNORECASE,
)
_OTHER_CASE = re.compile(
    r"\b(?:otherwise|else|vice versa)\b"
    r"|(?:[;,]|\b(?:and|or|but)\b)\s*(?:it is |it's |is )?[-+$]?\d",
    re.IGNORECASE,
)
_OTHER_VALUE = re.compile(  # 7, since n is even; 8 otherwise
    r"[;,]\s*(?:and |or |but )?[-+$]?\d[^;,]*\b(?:if|when|otherwise|else)\b", re.IGNORECASE
)
_RELATION = re.compile(r"[<>≤≥≠]")
_DOUBT = re.compile(r"\s+(?:I|we|you|my|there|something)\b")  # unless I forgot a step
_LEFT_OVER = re.compile(r"\b(?:remainder|left)\b", re.IGNORECASE)
_UNNAMED = re.compile(r"(?<![\d.,=])(?<!=\s)(?<![\d.,=]-)\d")  # a number that is not behind `=`
_TOTAL = re.compile(r"\b(?:total|altogether|in all|in sum)\b", re.IGNORECASE)
_IS = re.compile(
    r"\s*(?:(?:is|are|equals?|makes?|gives?|leaves?|yields?|means|becomes)\b|(?:could|may|might|would|should|must"
    r"|will|can) (?:also |then )?be\b)",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"\b(?:less|more|fewer|than|times|of|larger|smaller|higher|lower)\b")
_NUMBERS = re.compile(r"[-+]?\$?\d[\d,]*(?:\.\d+)?(?:\s?/\s?\d+)?%?")
_WORDS = re.compile(r"[A-Za-z]+")

# --- what spoils a number beside which it stands

_APART = re.compile(r"[+*/^_<>|\\{}\[\]±√∛∜∑∏∫⌊⌋⌈⌉π∞×÷≈~∼&@#=…∪∩]")
_ABOUT = re.compile(r"[≈~∼≃→⇒➜∴]\s*$")
_WORDS_OVER = re.compile(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])")  # and/or
_OPERATOR = re.compile(r"[-+]\s*\(?\s*$")
# No, not, more, less, at least, at most in Chinese, Japanese and Korean
_CJK_QUALIFIED = re.compile(
    "[不非没沒无無未]|超[过過]|[多少大小]于|至[少多]|以[上下内內]|ない|아니|이상|이하|미만"
)
_QUALIFIED = re.compile(
    r"(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|longer|shorter|other) than|"
    r"(?:anything|all|everything) but|apart from|\bMay\s{1,3}$|\bover\s{1,3}$|\bno longer\b|"
    # the same in Spanish, Portuguese, French, German
    r"\b(?:m[áa]s|menos|mais|al menos|no (?:es|son)|não é|plus|moins|au moins|mehr als"
    r"|weniger als)\b[^\d]*$"
)
_OPEN_ENDED = re.compile(
    r"\b(?:or|and)\s(?:more|less|fewer|above|below|over|under|up|beyond|greater|larger|higher|lower"
    r"|smaller|so)\b|\band\s(?:change|counting|a bit|some)\b|^\s?May\b"
)
_CHANGED = re.compile(  # (negative), repeating, remainder 2
    r"^[\s(,;]*(?:(?:(?:is|are|in|its|the)\s)?(?:negative|repeating|recurring|periodic)\W*$"
    r"|(?:with\s|and\s)?(?:an?\s|the\s)?remainder\b|(?:minus|plus|versus|vs)\b)"
    r"|^[\s,;-]*(?:fold|ish)\b|^\(\s?a\s?\)|^\W*no(?:pe)?\W*$"
    r"|^\s(?:is|was)\s(?:much |far |a bit )?too\b",
    re.IGNORECASE,
)
_SECOND = re.compile(  # or six, minus one, out of eight
    r"^[\s,;(–—-]*(?:(or|and|minus|plus|times|to|out of|of|over|by|vs\.?|versus|with|through"
    r"|as well as|along with|besides|,)\s+"
    r"(?:(?:an?|the other|maybe|perhaps|possibly|even|about|only)\s+)?)?([A-Za-z]+)(?!-)",
    re.IGNORECASE,
)
_FIRST = re.compile(  # six or
    r"\b([A-Za-z]+)\s+(?:or|and|to|minus|plus|times|point|by|over|out of)\s+$", re.IGNORECASE
)
_OPERATED = re.compile(  # the square of 5
    r"\b(?:square|cube|negative|opposite|multiples?|logarithm|factorial) of\s*$"
    r"|\b(?:divisible by|plus|times)\s*$|(?:^|[\s(])!$",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?:[^\W\d_]|[°€£¥₹$¢])(?:[^\W\d_]|['’.])*")
_LONE_LETTER = re.compile(r"(?<![\w'])([A-Za-zµΑ-ω])(?![\w'])")
_DESCRIBED = re.compile(
    r"(?:the|an?|its|our|my|his|her|their|this|(?:half|an? \w+|one \w+) of)\s", re.IGNORECASE
)


def without_remarks(text: str) -> tuple[str, list[Remark]]:
    """A text without the remarks behind its first number and in brackets, and these."""
    remarks: list[Remark] = []

    def take(match: re.Match[str]) -> str:
        remark = _harmless(match[1])
        if remark is None:
            return match[0]
        remarks.append(remark)
        return " "

    if "(" in text:
        text = _ASIDE.sub(take, text)
    digit = _DIGIT.search(text)
    tail = _TAIL.search(text, 1 if digit is None else digit.end())
    if tail is not None:
        word = tail["not"] or tail["clause"] or tail["reason"]
        remarks.append(Remark(word, text[tail.end() :]))
        text = text[: tail.start()]
    return text, remarks


def _harmless(inside: str) -> Remark | None:
    """The remark that a bracket is; None where it is, or may be, a part of the number."""
    begun = _REMARK.match(inside)
    if begun is not None:
        return Remark(begun["not"] or begun["clause"], inside[begun.end() :])
    begins, _, rest = inside.partition(" ")  # (three rows of four)
    beside = rest if begins.lower() in vocabulary().cardinals else inside
    if len(inside.strip()) == 1 or _DIGIT.search(inside) or spoils(f" {beside}", first=False):
        is_number = read_words(inside) is not None
        is_described = _DESCRIBED.match(inside) is not None and not _is_denied(inside)
        return Remark("", inside) if is_number or is_described else None
    return Remark("", inside)


def _is_denied(inside: str) -> bool:
    """Whether a bracket that describes the number says more than what it is: (the wrong one)"""
    words = vocabulary()
    names = {word.lower() for word in _WORDS.findall(inside)}
    return bool(
        _DIGIT.search(inside)
        or _APART.search(inside)
        or names & words.negating
        or names & {"negative", "opposite", "reciprocal", "inverse"}
        or any(words.magnitudes.get(name, 0) > 1 for name in names)
    )


def contradicts(remark: Remark, number: Number, read: Callable[[str], Number | None]) -> bool:
    """Whether a remark denies the number or states another one; `read` reads what it says."""
    word, said = remark
    kind = next((kind for kind, form in _KINDS if form.fullmatch(word)), "")
    if _OTHER_VALUE.search(said):
        return True
    if kind == "not":
        return _NOT_RIGHT.match(said) is not None or re.search(r"\bbut\s+\S?\d", said) is not None
    if kind == "reason" or word.lower().startswith(("by ", "check", "double", "verified")):
        return False
    if kind == "result":
        return _states_another(said, number)
    if kind == "condition":
        return _is_one_case(word.lower(), said) or _is_another_total(said, number)
    if word == "":
        same = read_words(said)
        return same is not None and not same_number(same, number)
    if word.lower() == "which" and _DENIES.search(said[:60]):
        return True
    if _IS.match(said) is not None:
        if "=" in said:
            return _states_another(said, number)
        if _COMPARED.search(said) is None and _differs(read(said), number):
            return True
    return _is_another_total(said, number)


def _differs(other: Number | None, number: Number) -> bool:
    return other is not None and not same_number(other, number)


def _states_another(said: str, number: Number) -> bool:
    """Whether the last number of a conclusion is another one: `so the total is 10`."""
    written = _NUMBERS.findall(said)
    if written:
        digits = written[-1].replace(",", "").replace("$", "").replace(" ", "")
        try:
            value = Fraction(digits.rstrip("%"))
        except ZeroDivisionError:
            return True
        return not same_number(Number(value, percent=digits.endswith("%")), Number(number.value))
    cardinals = vocabulary().cardinals
    named = [cardinals.get(word.lower(), 1) for word in _WORDS.findall(said)]
    return any(value > 1 and value != number.value for value in named)


def _is_one_case(word: str, said: str) -> bool:
    """Whether a condition leaves room for another value, or is one of several."""
    if word == "depending" or _RELATION.search(said):
        return True
    if word == "unless" and _DOUBT.match(said) is None:
        return True
    if word == "with" and (_LEFT_OVER.search(said) or _UNNAMED.search(said)):
        return True
    return _OTHER_CASE.search(said) is not None


def _is_another_total(said: str, number: Number) -> bool:
    return _TOTAL.search(said) is not None and _states_another(said, number)


def spoils(part: str, *, first: bool) -> bool:
    """Whether what stands beside the number says that the number is not the answer.

    Args:
        part: all in front of the first number, or between two, or behind the last.
        first: whether it is in front.
    """
    part = _WORDS_OVER.sub(" ", _ABOUT.sub("", part) if first else part)
    if _APART.search(part) or _OPERATOR.search(part) or _CJK_QUALIFIED.search(part):
        return True
    if not part.isascii() and _has_sign(part, first=first):
        return True
    if _QUALIFIED.search(part) if first else _OPEN_ENDED.search(part) or _CHANGED.search(part):
        return True
    words = vocabulary()
    names = [word.rstrip(".'’").lower() for word in _WORD.findall(part)]
    if any(name in words.spoiling or name in words.magnitudes for name in names):
        return True
    if first:
        if _OPERATED.search(part):
            return True
        number = _FIRST.search(part)
        return number is not None and number[1].lower() in words.cardinals
    return _names_a_second(part) or any(
        letter not in "aAI" for letter in _LONE_LETTER.findall(part)
    )


def _names_a_second(part: str) -> bool:
    """Whether another number in words is joined to it: `or six`, `out of eight`."""
    second = _SECOND.match(part)
    if second is None or second[2].lower() not in vocabulary().cardinals:
        return False
    return second[2].lower() != "one" or (second[1] or "").lower() not in ("of", "by", "with")


def _has_sign(part: str, *, first: bool) -> bool:
    """Whether a sign of mathematics, a letter or a mark right behind the number is part of it."""
    if not first:
        category = unicodedata.category(part[0])
        if category.startswith("M") and part[0] not in "\ufe0e\ufe0f\u20e3":
            return True  # struck out
        word = _WORD.match(part)
        if word is not None and part[0] > "\x7f" and category in ("Ll", "Lu", "Lt"):
            return len(word[0]) == 1 or "\u0370" <= part[0] <= "\u03ff"
    return any(character > "\x7f" and _is_sign(character) for character in part)


@lru_cache(maxsize=4096)
def _is_sign(character: str) -> bool:
    """Signs of mathematics and technology, crosses; no emoji, check marks, bullets, currency."""
    category = unicodedata.category(character)
    if character in "❌❎✖✗✘🚫👎⛔" or category == "Sm":
        return True
    harmless = character in "°©®™№¦" or character >= "\U0001f000" or "■" <= character <= "➿"
    return category == "So" and not harmless and not "⬀" <= character <= "⯿"
