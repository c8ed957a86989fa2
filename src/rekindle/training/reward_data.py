"""What a reward model learns from: answers of policies, references, and answers spoilt on purpose.

A reward model that has only seen a policy's own answers can be talked up by text that no policy
wrote yet. So wrong answers are also made: each of `CORRUPTIONS` spoils a text in one way. Whether a
made answer is wrong is decided by the task's check, as for all others.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rekindle.errors import DataError
from rekindle.records import Problem
from rekindle.tasks import Task
from rekindle.tasks.pairs import each_pair

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_TRIES = 8  # to spoil a text that stays right, or stays the same


class LabelledAnswer(NamedTuple):
    """An answer that a reward model may be trained on."""

    problem: int  # place in the list of problems
    text: str
    right: bool  # by the task's own check
    source: str  # the policy and temperature, "reference", or the corruption


class Contrast(NamedTuple):
    """A right and a wrong answer to one problem."""

    problem: Problem
    chosen: str
    rejected: str


# --- spoiling


def _split(text: str) -> tuple[str, list[str]]:
    """The separator of a text's steps, and the steps."""
    for mark in ("\n", ";", ". ", " "):
        if mark in text:
            return mark, text.split(mark)
    return "", list(text)


def _other_number(number: str, text: str, rng: random.Random) -> str:
    """Near, or one that stands in the text: wrong numbers that look right."""
    near = [str(abs(int(number) + shift)) for shift in (-10, -2, -1, 1, 2, 10)]
    others = {*near, *(match[0] for match in _NUMBER.finditer(text))} - {number}
    return rng.choice(sorted(others))


def _corrupted(how: str, text: str, rng: random.Random, answer: str) -> str:
    """The text, spoilt in one way; `answer` is what a right one ends in."""
    mark, steps = _split(text)
    numbers = list(_NUMBER.finditer(text))
    match how:
        case "random_token":
            index = rng.randrange(len(text))
            token = rng.choice(sorted(set(text) | set("0123456789")))
            return text[:index] + token + text[index + 1 :]
        case "truncated":
            return text[: rng.randrange(len(text))]
        case "forced_answer":
            start, end = numbers[-1].span() if numbers else (len(text), len(text))
            return text[:start] + answer + text[end:]
        case "altered_number" if len(numbers) > 1:
            at = rng.choice(numbers[:-1])  # the last one is the answer
            return text[: at.start()] + _other_number(at[0], text, rng) + text[at.end() :]
        case "altered_throughout" if numbers:
            old = rng.choice(numbers)[0]
            new = _other_number(old, text, rng)
            return _NUMBER.sub(lambda match: new if match[0] == old else str(match[0]), text)
        case "dropped_step":
            del steps[rng.randrange(len(steps))]
        case "doubled_step":
            index = rng.randrange(len(steps))
            steps.insert(index, steps[index])
        case "shuffled":
            rng.shuffle(steps)
        case "bare_answer":
            steps = [*steps[: rng.randrange(len(steps))], answer]
        case "repeats":
            steps += [steps[-1]] * rng.randint(1, 4)
        case "run_on":
            steps.append(rng.choice(steps)[: rng.randint(1, 12)])
    return mark.join(steps)


# How often each is made. Work that is wrong and yet ends in the wanted answer is what a policy
# under a reward model finds first, so it is made more often than what is visibly broken.
_WEIGHTS = {
    "altered_number": 3,
    "altered_throughout": 3,
    "bare_answer": 1,
    "doubled_step": 1,
    "dropped_step": 1,
    "forced_answer": 3,
    "random_token": 1,
    "repeats": 1,
    "run_on": 1,
    "shuffled": 1,
    "truncated": 1,
}
CORRUPTIONS = {name: partial(_corrupted, name) for name in _WEIGHTS}


def spoil(
    task: Task, problem: Problem, texts: Sequence[str], rng: random.Random
) -> LabelledAnswer | None:
    """One of `texts`, spoilt in one to two ways so that the task's check rejects it.

    None when chance does not make one; `problem` of the candidate is then for the caller to know.
    """
    sources = [text for text in texts if text]
    for _ in range(_TRIES if sources else 0):
        before = text = rng.choice(sources)
        names = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=rng.choice((1, 1, 1, 2)))
        for name in names:
            text = CORRUPTIONS[name](text, rng, problem.answer or "") if text else text
        if text != before and task.grade(problem, text).value == 0:
            return LabelledAnswer(-1, text, right=False, source="+".join(names))
    return None


# --- contrasts


@dataclass(frozen=True)
class Pool:
    """Candidates by problem, and the drawing of contrasts from them.

    Right and wrong stand in pairs of the same problem: how hard a problem is then says nothing, and
    the model has to look at the answer.
    """

    task: Task
    problems: Sequence[Problem]
    right: dict[int, list[str]]
    wrong: dict[int, list[str]]

    @classmethod
    def of(
        cls, task: Task, problems: Sequence[Problem], candidates: Sequence[LabelledAnswer]
    ) -> Pool:
        """Each text once a problem.

        Raises:
            DataError: no problem has a right answer, so nothing can be told apart.
        """
        kinds: tuple[dict[int, list[str]], dict[int, list[str]]] = ({}, {})
        for candidate in dict.fromkeys((c.problem, c.text, c.right) for c in candidates):
            index, text, right = candidate
            kinds[0 if right else 1].setdefault(index, []).append(text)
        if not kinds[0]:
            raise DataError(
                "none of the candidates is right",
                got=f"{len(candidates)} answers to {len(problems)} problems",
                why="a reward model learns from right against wrong",
                fix="easier levels (--levels), a better --policy, or a task with solutions",
            )
        return cls(task, problems, *kinds)

    def draw(self, count: int, *, corrupted: float, rng: random.Random) -> list[Contrast]:
        """`count` contrasts, of which about the share `corrupted` has a spoilt wrong answer."""
        answerable = sorted(self.right)
        out: list[Contrast] = []
        for _ in range(count * _TRIES):
            if len(out) == count:
                break
            index = rng.choice(answerable)
            problem, right = self.problems[index], self.right[index]
            wrong = self.wrong.get(index, [])
            if wrong and rng.random() >= corrupted:
                out.append(Contrast(problem, rng.choice(right), rng.choice(wrong)))
                continue
            # Half of them from right answers: as near to right as wrong can be.
            sources = right if rng.random() < 0.5 else [*right, *wrong]
            spoilt = spoil(self.task, problem, sources, rng)
            if spoilt is not None:
                out.append(Contrast(problem, rng.choice(right), spoilt.text))
        return out


def read_contrasts(path: Path | str) -> list[Contrast]:
    """Pairs of a file, with the columns and formats of `tasks.pairs`.

    Raises:
        DataError: a row that is none, or two answers that are the same; file and line are named.
    """
    out = []
    for where, pair in each_pair(Path(path), Counter()):
        if pair["chosen"] == pair["rejected"]:
            raise DataError(
                f"{where} has the same text as chosen and as rejected",
                got=pair["chosen"],
                fix="remove the row: it prefers nothing",
            )
        turns = pair.get("messages")
        messages = None if turns is None else tuple((role, content) for role, content in turns)
        problem = Problem(id=pair["id"], prompt=pair["prompt"], messages=messages)
        out.append(Contrast(problem, pair["chosen"], pair["rejected"]))
    return out
