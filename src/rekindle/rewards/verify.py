"""Answer checks: what a text states (`rewards.reading`), compared with the gold.

    exact    the same text: white space, case, edges, quotes, an option's brackets aside
    numeric  the same rational number (`rewards.numbers`); a gold that is no number is a text
    math     equal as mathematics (`rewards.math_answers`, extra `[math]`)

`exact` and `numeric` evaluate nothing that a model wrote but powers and factorials of small
integers. `math` evaluates and may take long: it runs in `rewards.workers`, which can be killed. A
gold may itself be a worked answer that ends in a box or in `#### x`, as GSM8K's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from rekindle.records import Score
from rekindle.rewards import verify_v1
from rekindle.rewards.latex_text import plain_text
from rekindle.rewards.number_words import same_number
from rekindle.rewards.numbers import LONGEST, read_number
from rekindle.rewards.reading import Reading, read_answer

VERSION = 2  # of all three; manifests name it, since a run is graded again by its own
# What verifiers and scorers of other packages raise on texts that they cannot read.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
_QUOTES = "\"'`“”‘’«»*_$ \t"
_OPTION = re.compile(
    r"(?:option|choice|answer|letter)?\s{0,3}\(?(?P<letter>[a-z])(?:\s?\)|[.:]|\s[-–:])?(?P<rest>\s.{0,300})?",
    re.DOTALL,
)
_LABELLED = re.compile(r"\(?(?P<letter>[a-z])\s?[).:]\s{0,3}(?P<rest>\S.{0,300})", re.DOTALL)
_SINGLE = re.compile(r"\(?\s?([a-z])\s?[).]?")
_LETTERS = re.compile(r"\(?[a-z]\)?(?:(?:\s?,\s?(?:and\s)?|\sand\s|\s?&\s?)\(?[a-z]\)?)+")
_PREFIX = re.compile(r"(?:the )?(?:final |correct )?answer(?: is|\s?:)\s?:?\s?(?=\S)")
_ARTICLE = re.compile(r"(?:the|an|a)\s+(?=\S)")
_NOT = re.compile(
    r"\s?[,;(]\s{0,3}(?:and |but )?not\b.*|\s(?:and not|but not|rather than|instead of)\b.*"
    r"|[\s,;(]\s{0,3}(?:because|since)\b.*",
    re.DOTALL,
)
_PROSE = re.compile(
    r"[A-Za-z]{3,}|\b(?:[sS]o|[iI]t|[iI]s|[wW]e|[aA]s|[tT]o|[oO]f|[iI]n|[iI]f|[bB]y|[bB]e)\b"
)
_HEADING = re.compile(
    r"(?:step|solution|analysis|conclusion|part|case|final|explanation|summary|result)\b",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[\W\d]*[^\W\d_](?:[^\W\d_]|[\s'().-])*|.*π.*")
_PLAIN_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+|[-+]?\d+(?:\.\d+)?e[-+]?\d{1,3}"
)


class Settings(NamedTuple):
    """How a verifier reads: what `task.read` and the run say."""

    cut: bool = False  # the text ended at the token limit
    thought_open: bool = False  # the prompt's template had opened a thought
    marked: bool = False  # without a mark there is no answer
    evaluate: bool = True  # math: 10 for a gold of \binom{5}{2}, and the other way round
    version: int = VERSION


AS_READ = Settings()


@dataclass(frozen=True)
class Verdict:
    """What a text states, and the score of it."""

    reading: Reading
    score: Score


def judge_answer(
    verifier: str, gold: str | None, text: str, settings: Settings = AS_READ
) -> Verdict:
    """The answer that a text states, and its score; missing where there is no gold.

    Raises:
        MissingExtraError: `math` without math-verify.
    """
    reading = stated_answer(verifier, gold, text, settings)
    if gold is None:
        return Verdict(reading, Score.missing("no gold answer"))
    if not reading.answer or len(reading.answer) > LONGEST:
        return Verdict(reading, Score(0.0))
    return Verdict(reading, CHECKS[verifier].compare(gold_answer(gold), reading.answer, settings))


def stated_answer(
    verifier: str, gold: str | None, text: str, settings: Settings = AS_READ
) -> Reading:
    """The answer that a text states; the gold says whether a text or a number is looked for."""
    check = CHECKS[verifier]
    textual = gold is not None and check.is_textual(gold_answer(gold))
    return read_answer(
        text,
        _is_either(check.is_value) if textual else check.is_value,
        cut=settings.cut,
        thought_open=settings.thought_open,
        marked=settings.marked,
    )


def exact(gold: str, text: str, settings: Settings = AS_READ) -> Score:
    """1 when the stated answer is the gold text, else 0."""
    if settings.version == 1:
        return verify_v1.exact(gold, text)
    return judge_answer("exact", gold, text, settings).score


def numeric(gold: str, text: str, settings: Settings = AS_READ) -> Score:
    """1 when the stated answer is the gold number (exact rationals), else 0.

    A gold that is no number is compared as text.
    """
    if settings.version == 1:
        return verify_v1.numeric(gold, text)
    return judge_answer("numeric", gold, text, settings).score


def math(gold: str, text: str, settings: Settings = AS_READ) -> Score:
    """1 when the stated answer equals the gold, else 0; missing when the gold cannot be read.

    Raises:
        MissingExtraError: math-verify is not installed.
    """
    if settings.version == 1:
        return verify_v1.math(gold, text)
    return judge_answer("math", gold, text, settings).score


def gold_answer(gold: str) -> str:
    """The answer of a gold: itself, or what a worked solution ends in (a box, `#### x`)."""
    if "\\boxed" not in gold and "\\fbox" not in gold and "####" not in gold:
        return gold.strip()
    return read_answer(gold, _never).answer or gold.strip()


def _never(_: str) -> bool:
    return False


def canonical(text: str, verifier: str) -> str | None:
    """The stated answer in one form, for majority votes; None when there is none.

    Texts with the same form get the same score, as long as a numeric gold is a number.
    """
    answer = read_answer(text, CHECKS[verifier].is_value).answer
    if verifier == "numeric":
        number = read_number(answer)
        if number is not None:
            return f"{number.value}{'%' if number.percent else ''}"
    return normal_text(answer) or None


def as_number(text: str) -> Fraction | None:
    """The exact rational that a whole text is, a per cent sign left out: 40 for 40 %; None when it
    is no number."""
    number = read_number(text)
    return None if number is None else number.value


def normal_text(text: str) -> str:
    """White space folded, LaTeX's setting, quotes and edges removed, lower case."""
    folded = " ".join(plain_text(text).split())
    return (folded.strip(_QUOTES).rstrip(".。!").strip(_QUOTES) or folded).lower()


def same_text(gold: str, answer: str) -> bool:
    """Whether an answer is the gold text, as the user of a short-answer task expects."""
    wanted, stated = normal_text(gold), _PREFIX.sub("", normal_text(answer), count=1)
    if not wanted:
        return False
    if wanted == stated or _ARTICLE.sub("", wanted, count=1) == _ARTICLE.sub("", stated, count=1):
        return True
    if _PLAIN_NUMBER.fullmatch(wanted):
        return bool(_PLAIN_NUMBER.fullmatch(stated)) and _plain(wanted) == _plain(stated)
    if " not " not in f" {wanted} ":
        shorter = _NOT.sub("", stated)
        if shorter != stated and shorter:
            return same_text(wanted, shorter)
    single = _SINGLE.fullmatch(wanted)
    if single is not None:
        return _option(stated) == single[1]
    if _LETTERS.fullmatch(wanted) and _LETTERS.fullmatch(stated):
        return sorted(re.findall(r"\b[a-z]\b", wanted)) == sorted(re.findall(r"\b[a-z]\b", stated))
    return _without_label(stated) in (wanted, _without_label(wanted)) or _label_alone(
        wanted, stated
    )


def _plain(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def _option(stated: str) -> str | None:
    """The letter of `(b)`, `b.`, `b) paris`, `option b`; None of `a dog`."""
    match = _OPTION.fullmatch(stated)
    if match is None:
        return None
    if (
        match["rest"] is not None
        and _LABELLED.fullmatch(stated) is None
        and not re.match(r"(?:option|choice)?\s?\(?[a-z](?:\)|[.:]|\s[-–:])", stated)
    ):
        return None
    return match["letter"]


def _without_label(stated: str) -> str:
    match = _LABELLED.fullmatch(stated)
    return stated if match is None else match["rest"].strip(_QUOTES)


def _label_alone(wanted: str, stated: str) -> bool:
    """A gold of `(b) paris` answered by `b`."""
    gold, answer = _LABELLED.fullmatch(wanted), _SINGLE.fullmatch(stated)
    return gold is not None and answer is not None and gold["letter"] == answer[1]


def _compare_exact(gold: str, answer: str, settings: Settings) -> Score:
    return Score(float(same_text(gold, answer)))


def _compare_numeric(gold: str, answer: str, settings: Settings) -> Score:
    wanted = read_number(gold)
    if wanted is None:
        return _compare_exact(gold, answer, settings)
    stated = read_number(answer)
    return Score(float(stated is not None and same_number(stated, wanted)))


def _compare_math(gold: str, answer: str, settings: Settings) -> Score:
    from rekindle.rewards.math_answers import compare  # sympy, math-verify

    return compare(gold, answer, evaluate=settings.evaluate)


def _is_text(answer: str) -> bool:
    words = _NOT.sub("", answer).split()
    return 0 < len(words) <= 3 and _HEADING.match(answer) is None and "?" not in answer


def _is_either(is_value: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda answer: is_value(answer) or _is_text(answer)


def _is_number(answer: str) -> bool:
    return read_number(answer) is not None


def _is_formula(answer: str) -> bool:
    """A number, or a formula without prose: no words but those of LaTeX and of units."""
    if read_number(answer) is not None:
        return True
    answer = _NOT.sub("", answer)
    if not re.search(r"[\d\\=+*/^()]|^\W*[A-Za-z]\W*$|^\$[^$]+\$\.?$", answer) or "?" in answer:
        return False
    bare = re.sub(r"\\(?:text|mathrm|textbf|operatorname)\s?\{[^{}]*\}|\\[a-zA-Z]+", " ", answer)
    return _PROSE.search(bare) is None and not re.search(r"[.:!]\s", bare)


@dataclass(frozen=True)
class Check:
    """How one verifier sees answers: what a value is, and when two are the same."""

    is_value: Callable[[str], bool]
    is_textual: Callable[[str], bool]  # whether a gold is a text, and a short text a value
    compare: Callable[[str, str, Settings], Score]


CHECKS = {
    "exact": Check(_is_text, _never, _compare_exact),
    "numeric": Check(_is_number, lambda gold: read_number(gold) is None, _compare_numeric),
    "math": Check(_is_formula, lambda gold: _WORDS.fullmatch(gold) is not None, _compare_math),
}
VERIFIERS = {"exact": exact, "numeric": numeric}  # those that evaluate nothing
