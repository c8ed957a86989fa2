"""Judging by a language model: what it is asked, what is read out of its reply, and who it is.

A `Format` turns a problem and an answer into the judge's prompt and its reply into a mark.

    additive   five points, each earned on its own, reasons first and `Score: <points>` last; the
               criteria are those of Self-Rewarding Language Models (Yuan et al., fig. 2)
    marker     for models that read no English: prompt, answer and `?`; the reply is the judge's
               own result of each step with Y or N, and one digit, 0 to 5: `12Y9Y17N3`

`Score.missing(reason)` is what an unreadable reply gives, never 0. An answer's score is the mean of
the marks that could be read. What the additive format reads:

    Score: 4   **Score:** 4   {"score": 4}     4
    Score: 4/5   4 out of five   4 (80%)       4: of the scale that was asked for, as Score (0-5): 4
    Score: 1 + 1 + 1 + 1 = 4                   4: the points, added up
    Score: 4/10   8 out of ten   4 (out of 10) missing: points of another rubric are not the five
      Score (1-10): 4   {"score": 4, "max": 10}  that were asked for, so they are not rescaled
      on a scale of 1 to 10 ... Score: 4
    Score (1-5): 4                             missing: another scale, whose lowest is 1
    Score: 80%   3-4   3 or 4   4½   2 x 2     missing: not one number
    Score: 2 ... Score: 4                      missing: which of them counts is not said
    Score: 7   Score: -1                       missing: not 0 to 5
    Score: high   <think>Score: 4              missing: none, or one within a thought
    Score: 4 (cut off)                         missing: could have become 4.5 or 4/10
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple, Protocol, runtime_checkable

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.records import Problem, Score
from rekindle.rewards.reward_model import Answered, Scorer
from rekindle.thoughts import without_thoughts

LOWEST, HIGHEST = 0.0, 5.0

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_MARKS = r"[ \t*_`\"'“”‘’]*"  # emphasis and quotes
_SUM = r"(?:\d(?:[ \t]*\+[ \t]*\d){1,9}[ \t]*=[ \t]*)?"  # 1 + 1 + 1 = 3: the points, added up
_SCORE = re.compile(
    rf"(?<![^\W_])(?<!\w_)score\b{_MARKS}(?:\((?P<label>[^()\n]{{0,40}})\))?{_MARKS}"
    rf"(?::|：|=|\bis\b){_MARKS}\s*{_MARKS}[<\[(]?{_SUM}(?P<value>{_NUMBER})[>\])]?",
    re.IGNORECASE | re.ASCII,
)
_COUNTS = {"zero": 0, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_COUNTS |= {"nine": 9, "ten": 10, "twenty": 20, "hundred": 100}
_COUNT = rf"(?:{_NUMBER}|\b(?:{'|'.join(_COUNTS)})\b)"
_RANGE = rf"{_COUNT}(?:\s{{0,3}}(?:-|–|—|to|and)\s{{0,3}}{_COUNT})?"
_POINTS = rf"{_MARKS}(?:(?:points?|pts?|stars?|marks?)\b\.?)?{_MARKS}"
# Behind a number, what makes it another one, or a part of something.
_MORE = re.compile(
    rf"{_MARKS}(?:[-–—−+~→×x÷&,]|\.\.+|…|\b(?:to|or|and|through)\b)?{_MARKS}\d"
    rf"|[.,]?[^\W_]|[ \t]*%",
    re.IGNORECASE | re.ASCII,
)
# What says of which scale it is: behind it, in brackets behind it, elsewhere.
_OUT_OF = re.compile(
    rf"{_POINTS}(?:\\?/{_MARKS}(?P<over>{_COUNT})"
    rf"|\b(?:out[ \t]+of|of|over|on|from)\b[^\d\n.,;()]{{0,40}}?(?P<of>{_RANGE}))",
    re.IGNORECASE,
)
_BRACKETS = re.compile(
    rf"{_POINTS}\s*[(\[]\s*(?:(?P<again>{_NUMBER})\s*(?=/|out|of))?"
    rf"(?P<inside>(?:/|(?:a|of|out|max|maximum|scale|range|from|on)\b)[^()\[\]\n]{{0,60}}"
    rf"|{_COUNT}\s*(?:-|–|—|to|max|maximum|possible|points)[^()\[\]\n]{{0,60}})"
    rf"|{_POINTS}\s*[(\[]\s*(?P<percent>{_NUMBER})\s?%",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    rf"\bscale\s+(?:of|from|is)\s+({_RANGE})|({_COUNT})[- ]points?\s+scale"
    rf"|({_COUNT})\s+(?:is|being|means)\s+(?:the\s+)?(?:best|highest|perfect|maximum|top)\b"
    rf"|\"(?:max|max_?score|out_?of|maximum|scale|range)\"\s*:\s*\"?([^,}}\n]{{0,30}})",
    re.IGNORECASE,
)
_MARKER = re.compile(r"(?:\d*[YN])*(\d+)\s*", re.ASCII)
_PAGE = re.compile(r"\s*<(!doctype|html|head|body|div|p|h\d|table|title|center)\b", re.IGNORECASE)
# How a reply that was cut off behind a number may have gone on.
_GOES_ON = ("0", "5", "/10", "-5", " 10", *(" out of 10"[i:] for i in range(8)))


class Judgement(NamedTuple):
    """What a judge said of one answer.

    `score` is the mean of the readable `marks`; `replies` are the texts they were read from (none
    where the judge writes no text), `tokens` what was generated for them.
    """

    score: Score
    marks: tuple[Score, ...] = ()
    replies: tuple[str, ...] = ()
    tokens: int = 0


@runtime_checkable
class Judge(Protocol):
    """Anything that judges answers."""

    def judge(self, answers: Sequence[Answered], *, seed: int) -> list[Judgement]:
        """A judgement of each answer, in order; missing with a reason where there is none.

        Raises:
            ServerUnavailableError: the judge cannot be reached; what it said before is kept.
        """

    def fingerprint(self) -> str:
        """Hash of what decides the judgements."""


# --- what is asked, and what is read


@dataclass(frozen=True)
class Format:
    """How a judge is asked and how its reply is read.

    Attributes:
        ask: (problem, answer) -> the judge's prompt.
        read: reply -> mark, 0 to 5, or missing with a reason.
        room: tokens that a reply may take.
    """

    name: str
    ask: Callable[[Problem, str], str]
    read: Callable[[str], Score]
    room: int

    def mark(self, reply: str, *, cut: bool, thought_open: bool = False) -> Score:
        """The mark in a reply, thoughts left out.

        A number that may have gone on (4 as 4.5, 4/10 or 4-5) does not count.

        Args:
            cut: the reply ended at the limit of tokens.
            thought_open: its prompt had opened a thought.
        """
        shown = without_thoughts(reply, thought_open=thought_open)
        shown = reply if shown == reply else shown.lstrip()
        mark = self.read(shown)
        if cut and mark.reason == _ABSENT:
            return Score.missing("cut off before the score")
        on_line = cut and not shown.endswith("\n")
        if on_line and any(self.read(shown + more) != mark for more in _GOES_ON):
            return Score.missing("cut off in the score")
        return mark


_ABSENT = "no score"


def ask_additive(problem: Problem, text: str) -> str:
    """The additive prompt; an answer cannot close the tag that holds it."""
    shown = text.replace("</response>", "< /response>")
    return additive_prompt().format(prompt=question_text(problem), text=shown)


@cache
def additive_prompt() -> str:
    """The additive format's prompt, with places for `prompt` and `text`."""
    return (files("rekindle.rewards") / "additive.txt").read_text(encoding="utf-8").rstrip("\n")


def read_additive(reply: str) -> Score:
    """The number after `Score:`, 0 to 5, outside thoughts; the module has what counts as one.

    Missing: no score, two that differ, a range or an unfinished sum, one out of 0 to 5 or on
    another scale, an HTML page.
    """
    verdict = without_thoughts(reply)
    if _PAGE.match(verdict):
        return Score.missing("an HTML page")
    marks = [_value(match, verdict) for match in _SCORE.finditer(verdict)]
    if not marks:
        return Score.missing(_ABSENT)
    unusable = [score for score in marks if score.value is None]
    if unusable:
        return unusable[-1]
    if len({score.value for score in marks}) > 1:
        return Score.missing("two scores")
    scales = [text for match in _ANNOUNCED.finditer(verdict) for text in match.groups("")]
    return marks[-1] if _fits_scale("; ".join(scales)) else Score.missing(_OTHER_SCALE)


_OTHER_SCALE = "a score on another scale"


def _value(match: re.Match[str], verdict: str) -> Score:
    value, rest = float(match["value"]), verdict[match.end() : match.end() + 120]
    if _MORE.match(rest) or rest[:1].isnumeric():
        return Score.missing("not one number")
    out_of = _OUT_OF.match(rest)
    scale = [match["label"] or "", *(out_of.groups("") if out_of else ())]
    brackets = _BRACKETS.match(rest)
    if brackets is not None and brackets["percent"] is not None:
        scale.append("" if float(brackets["percent"]) == 100 * value / HIGHEST else "100%")
    elif brackets is not None:
        scale.append(brackets["inside"])
    if not _fits_scale("; ".join(scale)):
        return Score.missing(_OTHER_SCALE)
    if not LOWEST <= value <= HIGHEST:
        return Score.missing("a score out of range")
    return Score(value)


def _fits_scale(text: str) -> bool:
    """Whether the numbers in what a judge says of its scale are those of 0 to 5."""
    apart = re.sub(r"(?<=\d)\s*[-–—]\s*(?=\d)", " to ", text)
    found = [word.lower() for word in re.findall(rf"{_COUNT}%?", apart, re.IGNORECASE)]
    if any(word.endswith("%") for word in found):
        return False
    numbers = {float(_COUNTS[word]) if word in _COUNTS else float(word) for word in found}
    return numbers <= {LOWEST, HIGHEST}


def ask_marker(problem: Problem, text: str) -> str:
    """Prompt, answer and the marker that asks for a score."""
    return f"{question_text(problem)}{text}?"


def read_marker(reply: str) -> Score:
    """The number that the reply ends in, after results with Y or N alone."""
    if _PAGE.match(reply):
        return Score.missing("an HTML page")
    match = _MARKER.fullmatch(reply)
    if match is None:
        return Score.missing("two scores" if len(re.findall(r"\d+", reply)) > 1 else _ABSENT)
    value = float(match[1])
    return Score(value) if value <= HIGHEST else Score.missing("a score out of range")


FORMATS = {
    "additive": Format("additive", ask_additive, read_additive, room=512),
    "marker": Format("marker", ask_marker, read_marker, room=16),
}


def format_of(name: str) -> Format:
    """The format of this name.

    Raises:
        ConfigError: there is none; what exists is listed.
    """
    if name not in FORMATS:
        raise ConfigError(f"unknown judge format '{name}'", fix=did_you_mean(name, FORMATS))
    return FORMATS[name]


def question_text(problem: Problem) -> str:
    """What the user asked, as one text; of a chat, each turn under its role."""
    if problem.messages is None:
        return problem.prompt
    return "\n".join(f"{role}: {content}" for role, content in problem.messages)


def averaged(marks: Sequence[Score]) -> Score:
    """The mean of the marks that could be read; missing, with the first reason, when none could."""
    values = [mark.value for mark in marks if mark.value is not None]
    if not values:
        return Score.missing(str(marks[0].reason) if marks else "not judged")
    return Score(sum(values) / len(values))


# --- judges that write nothing


@dataclass(frozen=True)
class ScorerJudge:
    """A reward model as the judge: its score is the judgement, on its own scale."""

    scorer: Scorer

    def judge(self, answers: Sequence[Answered], *, seed: int) -> list[Judgement]:
        """Scores in order; `seed` has no say."""
        return [Judgement(score, (score,)) for score in self.scorer.score(answers)]

    def fingerprint(self) -> str:
        """The reward model's."""
        return self.scorer.fingerprint()


@dataclass(frozen=True)
class CallableJudge:
    """A function of your own as the judge; it is asked for all answers at once.

    Args:
        function: (problem, answer) pairs -> a number or None (no judgement) for each.
        name: what stands for the function in hashes: change it when the function changes.
    """

    function: Callable[[Sequence[Answered]], Sequence[float | None]]
    name: str

    def judge(self, answers: Sequence[Answered], *, seed: int) -> list[Judgement]:
        """The function's numbers.

        Raises:
            DataError: another count of them than of answers, or something else than numbers.
        """
        values = list(self.function(answers))
        if len(values) != len(answers):
            raise DataError(
                f"judge '{self.name}' returned the wrong number of scores",
                got=len(values),
                wanted=len(answers),
            )
        return [_judgement(value, self.name) for value in values]

    def fingerprint(self) -> str:
        """Hash of the name."""
        return hashlib.sha256(f"callable:{self.name}".encode()).hexdigest()


def _judgement(value: object, name: str) -> Judgement:
    if value is None:
        return Judgement(Score.missing("the judge gave none"))
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise DataError(
            f"judge '{name}' returned a value that is not a score",
            got=value,
            wanted="a finite number, or None for no judgement",
        )
    return Judgement(Score(float(value)), (Score(float(value)),))
