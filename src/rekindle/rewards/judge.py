"""Judging by a language model: what it is asked, what is read out of its reply, and who it is.

A `Format` turns a problem and an answer into the judge's prompt and its reply into a mark.

    additive   five points, each earned on its own, reasons first and `Score: <points>` last; the
               criteria are those of Self-Rewarding Language Models (Yuan et al., fig. 2)
    marker     for models that read no English: prompt, answer and `?`; the reply is the judge's
               own result of each step with Y or N, and one digit, 0 to 5: `12Y9Y17N3`

`Score.missing(reason)` is what an unreadable reply gives, never 0. An answer's score is the mean of
the marks that could be read.
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

LOWEST, HIGHEST = 0.0, 5.0

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_MARKS = r"[ \t*_`\"'“”‘’]*"  # emphasis and quotes
_SUM = r"(?:\d(?:[ \t]*\+[ \t]*\d){1,9}[ \t]*=[ \t]*)?"  # 1 + 1 + 1 = 3: the points, added up
_SCORE = re.compile(
    rf"\bscore\b{_MARKS}(?:\([^()\n]{{0,20}}\))?{_MARKS}(?::|：|=|\bis\b){_MARKS}\s*{_MARKS}[<\[(]?"
    rf"{_SUM}(?P<value>{_NUMBER})[>\])]?"
    rf"(?:{_MARKS}(?:/|out of){_MARKS}(?P<scale>{_NUMBER}))?"
    rf"(?P<more>{_MARKS}(?:[-–+]|to\b|or\b|,)?{_MARKS}\d|[.,]?\w|[ \t]*%)?",
    re.IGNORECASE | re.ASCII,
)
_MARKER = re.compile(r"(?:\d*[YN])*(\d+)\s*", re.ASCII)
_PAGE = re.compile(r"\s*<(!doctype|html|head|body|div|p|h\d|table|title|center)\b", re.IGNORECASE)
_THOUGHT, _THINKS = "</think>", "<think>"
_OPEN_END = " \t./,-–+"  # behind a number, what it may have gone on with


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

    def mark(self, reply: str, *, cut: bool) -> Score:
        """The mark in a reply; `cut`: it ended at the limit of tokens.

        A number at the very end of a reply that was cut off may have gone on (4 as 4.5, 4/10 or
        4-5), so it does not count.
        """
        mark = self.read(reply)
        if cut and mark.reason == _ABSENT:
            return Score.missing("cut off before the score")
        if cut and mark.value is not None and reply.rstrip(_OPEN_END)[-1:].isdigit():
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
    """The number after `Score:`, 0 to 5; `4/5`, `1 + 1 = 2` and marks of emphasis are allowed.

    A reasoning model's thoughts are not read: up to `</think>`, and from a `<think>` that is left
    open. Missing: no score, two that differ, a range or an unfinished sum, one out of 0 to 5 or on
    another scale, an HTML page.
    """
    verdict = reply.rsplit(_THOUGHT, 1)[-1].split(_THINKS, 1)[0]
    if _PAGE.match(verdict):
        return Score.missing("an HTML page")
    marks = [_value(match) for match in _SCORE.finditer(verdict)]
    if not marks:
        return Score.missing(_ABSENT)
    unusable = [score for score in marks if score.value is None]
    if unusable:
        return unusable[-1]
    if len({score.value for score in marks}) > 1:
        return Score.missing("two scores")
    return marks[-1]


def _value(match: re.Match[str]) -> Score:
    value = float(match["value"])
    if match["more"] is not None:
        return Score.missing("not one number")
    if match["scale"] is not None and float(match["scale"]) != HIGHEST:
        return Score.missing("a score on another scale")
    if not LOWEST <= value <= HIGHEST:
        return Score.missing("a score out of range")
    return Score(value)


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
