"""Answer checks. Exact and numeric ones evaluate nothing that a model wrote.

    exact    the extracted answers are the same text, white space, case and edges aside
    numeric  both are the same rational number; a gold that is no number is compared as text
    math     math-verify (extra `[math]`): LaTeX, sets, intervals, expressions

The answer is taken from a text in this order: the last `\\boxed{...}`, what follows the last
`####`, what follows the last "answer is" or "answer:", the last number (numeric) or the last line
(exact). A gold may itself be a worked answer that ends in `\\boxed{...}` or `#### x`, as GSM8K's.

Numbers are integers, decimals, fractions (`\\frac` too), powers of ten (1e6), with thousands
separators, currency or per cent. A per cent sign on one side only may stand for itself or for a
hundredth: 40 % is 40 and is 0.4, but 0.4 % is not 40 %.

math-verify evaluates what models write and may take for ever: `math` runs in `rewards.workers`,
which can be killed. Its own time limits are off; they work by signals, in the main thread, and not
always.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from rekindle.records import Score
from rekindle.rewards.verifiers.math_formulas import math_verify

LONGEST = 2_000  # characters of an answer that are looked at; longer ones have no number in them
_DIGITS = 400  # numbers with more digits are compared as text
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-+])?\\?\$?"  # 10-3 holds no -3
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}(?!\w))?"
    r"(?:\s*/\s*\d+)?(?:\s*\\?%)?",
    re.ASCII,
)
_WHOLE = re.compile(
    r"(?P<sign>[-+]?)\\?\$?(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?P<part>\.\d+)?"
    r"(?P<power>[eE][-+]?\d{1,3})?(?:\s*/\s*(?P<under>\d+))?(?P<percent>\s*\\?%)?",
    re.ASCII,
)
_CUES = re.compile(r"answer(?:\s+is|\s*:)", re.IGNORECASE)
_CLAUSE_END = re.compile(r"[.,;](?=\s|$)")
# Beside a number these say that it is not the whole answer; 5/hour and 12-year are fine.
_FORMULA = re.compile(r"[+*^_<>|\\]|[-/](?![a-z]{2})|\d[a-cinp-rt-z](?![a-z])", re.IGNORECASE)
_FRACTION = re.compile(
    r"(\d{1,50})?\s{0,9}\\[dt]?frac\s*(?:\{\s*([-+]?\d{1,50})\s*\}|(\d))\s*"
    r"(?:\{\s*(\d{1,50})\s*\}|(\d))",
    re.ASCII,
)
_LATEX = (
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\ |~"), " "),
    (re.compile(r"\\[,!;:]|\\left|\\right|\^\{?\\circ\}?"), ""),
)


class _Read(NamedTuple):
    value: Fraction  # as written: 40 for 40 %
    percent: bool


def exact(gold: str, text: str) -> Score:
    """1 when the extracted answer is the gold text, else 0."""
    return Score(float(_stated(text) == tidy(_gold(gold))))


def numeric(gold: str, text: str) -> Score:
    """1 when the extracted answer is the gold number (exact rationals), else 0.

    A gold that is no number is compared as text.
    """
    wanted = _read(_gold(gold))
    if wanted is None:
        return exact(gold, text)
    answer = numeric_answer(text)
    stated = None if answer is None else _read(answer)
    return Score(float(stated is not None and _same(wanted, stated)))


VERIFIERS: dict[str, Callable[[str, str], Score]] = {"exact": exact, "numeric": numeric}


def numeric_answer(text: str) -> str | None:
    """The number that a text gives as its answer, as it is written; None when it gives none."""
    formal = _formal(text)
    if formal is not None:
        return _only_number(formal)
    cue = _after_cue(text)
    if cue is not None:
        # In "the answer is 56, not 57" the first number is meant.
        clause = _CLAUSE_END.split(_plain(cue[:LONGEST]), maxsplit=1)[0].rsplit("=", 1)[-1]
        number = _NUMBER.search(clause)
        if number is not None:
            return number[0]
    numbers = _NUMBER.findall(_plain(text[-LONGEST:]))
    return str(numbers[-1]) if numbers else None


def canonical(text: str, verifier: str) -> str | None:
    """The answer in one form, for majority votes; None when there is none.

    Texts with the same form get the same score, as long as a numeric gold is a number.
    """
    if verifier == "numeric":
        answer = numeric_answer(text)
        number = _read(answer) if answer is not None else None
        if number is not None:
            return f"{number.value}{'%' if number.percent else ''}"
    return _stated(text) or None


def as_number(text: str) -> Fraction | None:
    """The exact rational that a whole text is, a per cent sign left out: 40 for 40 %; None when it
    is no number."""
    number = _read(text)
    return None if number is None else number.value


def tidy(text: str) -> str:
    """White space folded, edges (`$`, `*`, a closing full stop) removed, lower case."""
    folded = " ".join(_plain(text).split())
    return (folded.strip("$* ").rstrip(".").strip("$* ") or folded).lower()


def boxed(text: str) -> str | None:
    """What the last closed `\\boxed{...}` holds, None when there is none."""
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


def _read(text: str) -> _Read | None:
    stripped = _plain(text).strip().strip("$").strip().rstrip(".")
    if len(stripped) > _DIGITS:
        return None
    match = _WHOLE.fullmatch(stripped)
    if match is None or not (match["whole"] or match["part"]):
        return None
    value = Fraction(
        (match["whole"].replace(",", "") or "0") + (match["part"] or "") + (match["power"] or "")
    )
    if match["under"] is not None:
        if int(match["under"]) == 0:
            return None
        value /= int(match["under"])
    return _Read(-value if match["sign"] == "-" else value, match["percent"] is not None)


def _same(one: _Read, other: _Read) -> bool:
    if one.value == other.value:
        return True
    if one.percent == other.percent:
        return False
    percent, plain = (one, other) if one.percent else (other, one)
    return percent.value / 100 == plain.value


def _only_number(formal: str) -> str | None:
    """The number in `x = 5`, `18 dollars` or `45^\\circ`; None in `2\\sqrt{3}`, `x + 5`, `3, 5`."""
    stated = _plain(formal[:LONGEST]).replace("**", " ").rsplit("=", 1)[-1]
    numbers = list(_NUMBER.finditer(stated))
    if len(numbers) != 1:
        return None
    number = numbers[0]
    around = stated[: number.start()] + " 0" + stated[number.end() :]
    return None if _FORMULA.search(around) else number[0]


def _stated(text: str) -> str:
    for answer in (_formal(text), _after_cue(text)):
        if answer is not None:
            return tidy(answer)
    lines = [line for line in text[-LONGEST:].split("\n") if line.strip()]
    return tidy(lines[-1]) if lines else ""


def _gold(gold: str) -> str:
    formal = _formal(gold)
    return gold if formal is None else formal


def _formal(text: str) -> str | None:
    """What a text marks as its answer by `\\boxed{...}` or `####`."""
    inside = boxed(text)
    if inside is not None or "####" not in text:
        return inside
    return text.rsplit("####", 1)[1].strip().split("\n")[0]


def _after_cue(text: str) -> str | None:
    cues = list(_CUES.finditer(text[-LONGEST:]))
    if not cues:
        return None
    return text[-LONGEST:][cues[-1].end() :].strip().split("\n")[0] or None


def _plain(text: str) -> str:
    """LaTeX's ways to write a number, and the typographic minus, as plain ASCII."""
    text = text.replace("\u2212", "-")
    if "\\" not in text and "{" not in text:
        return text
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return _FRACTION.sub(_fraction, text)


def _fraction(match: re.Match[str]) -> str:
    whole, over, under = match[1], match[2] or match[3], match[4] or match[5]
    if whole is None:
        return f"{over}/{under}"
    return f"{int(whole) * int(under) + int(over)}/{under}"  # a mixed number


# --- math-verify


def math(gold: str, text: str) -> Score:
    """1 when the answer equals the gold, else 0; missing when the gold cannot be read.

    The answer is the last `\\boxed{...}`, else the last expression or number at the end of the
    text. What is longer than `LONGEST` characters is no answer.

    Raises:
        MissingExtraError: math-verify is not installed.
    """
    library = math_verify()
    marked = "\\boxed" in gold or "$" in gold
    wanted = library.parse(gold if marked else f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not wanted:
        return Score.missing("parse: the gold answer cannot be read")
    answer = boxed(text)
    if answer is not None and len(answer) > LONGEST:
        return Score(0.0)
    text = text[-LONGEST:] if answer is None else f"\\boxed{{{answer}}}"
    stated = library.parse(text, parsing_timeout=None)
    return Score(float(bool(stated) and bool(library.verify(wanted, stated, timeout_seconds=None))))
