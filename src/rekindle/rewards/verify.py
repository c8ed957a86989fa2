"""Exact and numeric answer checks, without evaluating anything that a model wrote.

    exact    the extracted answers are the same text, white space and case of the edges aside
    numeric  both are numbers and the same rational number; otherwise as exact

The answer is taken from a text in this order: the last `\\boxed{...}`, what follows the last
`####`, what follows the last "answer is" or "answer:", the last number (numeric) or the last line
(exact).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from rekindle.records import Score

LONGEST = 2_000  # characters of an answer that are looked at; longer ones have no number in them
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?|[-+]?\.\d+")
_WHOLE = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?P<part>\.\d+)?(?:\s*/\s*(?P<under>\d+))?"
    r"(?P<percent>\s*\\?%)?"
)
_CUES = re.compile(r"answer(?:\s+is|\s*:)", re.IGNORECASE)
_DIGITS = 400  # numbers with more digits are compared as text


def exact(gold: str, text: str) -> Score:
    """1 when the extracted answer is the gold text, else 0."""
    found = _marked(text)
    answer = found if found is not None else _last_line(text)
    return Score(float(tidy(answer) == tidy(gold)))


def numeric(gold: str, text: str) -> Score:
    """1 when the extracted answer is the gold number (exact rationals), else 0.

    A gold that is no number is compared as text.
    """
    wanted = as_number(gold)
    if wanted is None:
        return exact(gold, text)
    answer = numeric_answer(text)
    return Score(float(answer is not None and as_number(answer) == wanted))


VERIFIERS: dict[str, Callable[[str, str], Score]] = {"exact": exact, "numeric": numeric}


def numeric_answer(text: str) -> str | None:
    """The number that a text gives as its answer, as it is written."""
    found = _marked(text)
    if found is not None and as_number(found) is not None:
        return found
    numbers = _NUMBER.findall(text[-LONGEST:] if found is None else found[:LONGEST])
    if not numbers:
        return None
    # After "the answer is" the first number is meant; in a text without a mark, the last.
    return str(numbers[0] if found is not None else numbers[-1])


def canonical(text: str, verifier: str) -> str | None:
    """The answer in one form, for majority votes; None when there is none."""
    if verifier == "numeric":
        answer = numeric_answer(text)
        number = as_number(answer) if answer is not None else None
        if number is not None:
            return str(number)
    found = _marked(text)
    answer = tidy(found if found is not None else _last_line(text))
    return answer or None


def as_number(text: str) -> Fraction | None:
    """An exact rational: integers, decimals, fractions, thousands separators, per cent."""
    stripped = text.strip().strip("$").strip().rstrip(".")
    if len(stripped) > _DIGITS:
        return None
    found = _WHOLE.fullmatch(stripped)
    if found is None or not (found["whole"] or found["part"]):
        return None
    if not stripped.isascii():
        return None
    value = Fraction((found["whole"].replace(",", "") or "0") + (found["part"] or ""))
    if found["under"] is not None:
        if int(found["under"]) == 0:
            return None
        value /= int(found["under"])
    if found["percent"]:
        value /= 100
    return -value if found["sign"] == "-" else value


def tidy(text: str) -> str:
    """White space folded, edges and a closing full stop removed, lower case."""
    return " ".join(text.split()).strip().rstrip(".").lower()


def _marked(text: str) -> str | None:
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    if "####" in text:
        return text.rsplit("####", 1)[1].strip().split("\n")[0]
    cues = list(_CUES.finditer(text[-LONGEST:]))
    if cues:
        rest = text[-LONGEST:][cues[-1].end() :].strip().split("\n")[0]
        return rest or None
    return None


def _last_boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for at in range(begin, min(len(text), begin + LONGEST)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            if depth == 0:
                return text[begin:at]
            depth -= 1
    return None


def _last_line(text: str) -> str:
    lines = [line for line in text[-LONGEST:].split("\n") if line.strip()]
    return lines[-1] if lines else ""
