"""Answer checks: what a text states (`rewards.verifiers.reading`), compared with the gold.

    exact    the same text: white space, case, edges, quotes, an option's brackets aside
    numeric  the same rational number (`numbers`); a gold that is no number is a text
    math     equal as mathematics (`math_answers`, extra `[math]`)

`exact` and `numeric` evaluate nothing that a model wrote but powers and factorials of small
integers. `math` evaluates and may take long: it runs in `rewards.workers`, which can be killed. A
gold may itself be a worked answer that ends in a box or in `#### x`, as GSM8K's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rekindle.records import Score
from rekindle.rewards.verifiers import verify_v1
from rekindle.rewards.verifiers.number_words import same_number
from rekindle.rewards.verifiers.numbers import LONGEST, read_number
from rekindle.rewards.verifiers.reading import Reading, read_answer
from rekindle.rewards.verifiers.texts import normal_text, same_text, without_tail

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
# Words that a formula has none of.
_PROSE = re.compile(
    r"[A-Za-z]{3,}|\b(?:[sS]o|[iI]t|[iI]s|[wW]e|[aA]s|[tT]o|[oO]f|[iI]n|[iI]f|[bB]y|[bB]e)\b"
)
# A digit, a sign or a command of mathematics, one letter, or dollars around it all.
_FORMULA = re.compile(r"[\d\\=+*/^()]|^\W*[A-Za-z]\W*$|^\$[^$]+\$\.?$")
_COMMANDS = re.compile(r"\\(?:text|mathrm|textbf|operatorname)\s?\{[^{}]*\}|\\[a-zA-Z]+")
_SENTENCES = re.compile(r"[.:!]\s")
_HEADING = re.compile(
    r"(?:step|solution|analysis|conclusion|part|case|final|explanation|summary|result)\b",
    re.IGNORECASE,
)
# A gold of `math` that is a text: words, or words with pi
_WORDS = re.compile(r"[\W\d]*[^\W\d_](?:[^\W\d_]|[\s'().-])*|.*π.*")
_MOST_WORDS = 3  # of a text that stands as a value on a line of its own


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
    whole = not (settings.cut or settings.thought_open or settings.marked)
    if verifier == "exact" and gold is not None and text == gold and whole:  # of any length
        return Verdict(Reading("last_line", 0, len(text), text), Score(float(bool(text.strip()))))
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


def _compare_exact(gold: str, answer: str, settings: Settings) -> Score:
    return Score(float(same_text(gold, answer)))


def _compare_numeric(gold: str, answer: str, settings: Settings) -> Score:
    wanted = read_number(gold)
    if wanted is None:
        return _compare_exact(gold, answer, settings)
    stated = read_number(answer)
    return Score(float(stated is not None and same_number(stated, wanted)))


def _compare_math(gold: str, answer: str, settings: Settings) -> Score:
    from rekindle.rewards.verifiers.math_answers import compare  # sympy, math-verify

    return compare(gold, answer, evaluate=settings.evaluate)


def _is_text(answer: str) -> bool:
    words = without_tail(answer).split()
    is_short = 0 < len(words) <= _MOST_WORDS
    return is_short and _HEADING.match(answer) is None and "?" not in answer


def _is_either(is_value: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda answer: is_value(answer) or _is_text(answer)


def _is_number(answer: str) -> bool:
    return read_number(answer) is not None


def _is_no_number(gold: str) -> bool:
    return read_number(gold) is None


def _is_formula(answer: str) -> bool:
    """A number, or a formula without prose: no words but those of LaTeX and of units."""
    if read_number(answer) is not None:
        return True
    answer = without_tail(answer)
    if _FORMULA.search(answer) is None or "?" in answer:
        return False
    bare = _COMMANDS.sub(" ", answer)
    return _PROSE.search(bare) is None and _SENTENCES.search(bare) is None


def _is_words(gold: str) -> bool:
    return _WORDS.fullmatch(gold) is not None


@dataclass(frozen=True)
class Check:
    """How one verifier sees answers: what a value is, and when two are the same."""

    is_value: Callable[[str], bool]
    is_textual: Callable[[str], bool]  # whether a gold is a text, and a short text a value
    compare: Callable[[str, str, Settings], Score]


CHECKS = {
    "exact": Check(_is_text, _never, _compare_exact),
    "numeric": Check(_is_number, _is_no_number, _compare_numeric),
    "math": Check(_is_formula, _is_words, _compare_math),
}
VERIFIERS = {"exact": exact, "numeric": numeric}  # those that evaluate nothing
