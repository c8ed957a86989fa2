"""Problems from rows of data: what a row must hold, and a Task around a list of them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, cast

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.records import Problem, Response, Score, Split
from rekindle.rewards.code import (
    Answer,
    Case,
    Limits,
    grade_programs,
    read_tests,
    require_sandbox,
)
from rekindle.rewards.verify import AS_READ, VERIFIERS, Settings, canonical
from rekindle.rewards.workers import POOLED, check_pooled, shared_pool
from rekindle.tasks.task import pick_levels, stable_hash

_FIELDS = ("id", "prompt", "messages", "answer", "solution", "level", "tests")
_SAMPLING = 512  # tokens of an answer, where the recipe does not say
_EPOCHS_KEPT = 4  # shuffled orders, which are as long as the data


def problem_of(
    row: Mapping[str, object], *, where: str, number: int, task: str, needs_answer: bool = True
) -> Problem:
    """A Problem from a row: `prompt` or `messages`, `answer`, optional `solution`, `id`, `level`.

    Messages that end with the assistant give the solution. Numbers are accepted as answers.
    Without `needs_answer` (a reward in Python grades) all other columns are in `meta`.

    Raises:
        DataError: a field is missing or of the wrong kind; `where` names the place.
    """
    chat = row.get("messages")
    messages = () if chat is None else read_turns(chat, where, "messages")
    solution = _text(row, "solution", where)
    if messages and messages[-1][0] == "assistant":
        solution = messages[-1][1] if solution is None else solution
        messages = messages[:-1]
    prompt = _text(row, "prompt", where)
    if prompt is not None and not prompt.strip() and not messages:
        raise DataError(f"{where} has an empty 'prompt'", got=dict(row), wanted="a text")
    if prompt is None and not messages:
        raise DataError(
            f"{where} has no 'prompt'",
            got=dict(row),
            wanted="a 'prompt' (text), or 'messages' (a list of role and content)",
            why="the prompt is the input of the model",
            fix=_prompt_fix(row),
        )
    answer = _text(row, "answer", where)
    tests = None if row.get("tests") is None else read_tests(row["tests"], where=where)
    if needs_answer and answer is None and solution is None and tests is None:
        raise DataError(
            f"{where} has no 'answer'",
            got=dict(row),
            wanted="an 'answer' to check against ('tests' for programs, a 'solution' for SFT)",
            why="without one of them there is nothing to check or to learn",
            fix=(
                "rename 'completion' to 'solution' (what SFT learns), or give 'messages'"
                if "completion" in row
                else "give a file of pairs as pairs (diagnose: --pairs FILE; training: dpo.pairs)"
                if "chosen" in row and "rejected" in row
                else "add an 'answer' to each row"
            ),
        )
    if answer is not None and not answer.strip():
        raise DataError(f"{where} has an empty 'answer'", got=dict(row), wanted="a text or number")
    name = row.get("id")
    others = {} if needs_answer else {k: v for k, v in row.items() if k not in _FIELDS}
    return Problem(
        id=str(name) if name is not None else f"{task}-{number}",
        prompt=prompt if prompt is not None else messages[-1][1],
        answer=answer,
        task=task,
        level="" if row.get("level") is None else str(row["level"]),
        solution=solution,
        messages=messages or None,
        meta=others if tests is None else {**others, "tests": tests},
    )


def _prompt_fix(row: Mapping[str, object]) -> str:
    for name in ("question", "problem", "instruction", "input", "query"):
        if name in row:
            return f"rename '{name}' to 'prompt'"
    return did_you_mean("prompt", row) if row else "add a 'prompt' to each row"


def _text(row: Mapping[str, object], field: str, where: str) -> str | None:
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where}: '{field}' is not a text", got=value, wanted="a text or number")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where}: '{field}' is not a number", got=value, wanted="a finite number")
    return str(value)


def read_turns(value: object, where: str, field: str) -> tuple[tuple[str, str], ...]:
    """The (role, content) of each message of a chat.

    Raises:
        DataError: it is no list of messages; `where` and `field` name the place.
    """
    turns = []
    for turn in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
        fields: Mapping[str, object] = turn if isinstance(turn, Mapping) else {}
        role, content = fields.get("role"), fields.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(
                f"{where} has no usable '{field}': '{field}' is not a chat",
                got=value,
                wanted='a list of {"role": ..., "content": ...}',
            )
        turns.append((role, content))
    return tuple(turns)


@dataclass(frozen=True)
class Listed:
    """A Task around listed problems.

    Where the data has no splits of its own, the prompt's hash decides: the same prompt is always in
    the same split.
    """

    name: str
    splits: Mapping[str, Sequence[Problem]]
    verifier: str
    source: str  # content hash
    max_new_tokens: int = _SAMPLING
    stop: tuple[str, ...] = ()
    timeout: float = 5.0  # seconds for an answer, where the verifier runs in workers
    workers: int | None = None
    reading: Settings = AS_READ
    cut: Literal["wrong", "missing"] = "wrong"  # an answer that the token limit cut off

    @cached_property
    def levels(self) -> tuple[str, ...]:
        """The levels that occur, in order of first appearance."""
        seen = (p.level for problems in self.splits.values() for p in problems)
        return tuple(dict.fromkeys(seen))

    def problems(
        self, split: Split, *, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """At most `count` problems of each level, chosen by the seed.

        Raises:
            ConfigError: unknown level.
            DataError: the split has no problems of these levels.
        """
        listed: list[Problem] = []
        names = pick_levels(self.name, self.levels, levels)
        for level in names:
            pool = list(self._pool(split, (level,)))
            random.Random(stable_hash("list", split, seed, level)).shuffle(pool)
            listed.extend(pool[:count])
        if not listed:
            raise self._nothing(split)
        return listed

    def draw(
        self, *, step: int, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """Rows `step * count` and on of the shuffled training data, shuffled anew each epoch.

        Raises:
            ConfigError: unknown level.
            DataError: there are no training problems of these levels.
        """
        pool = self._pool("train", pick_levels(self.name, self.levels, levels))
        if not pool:
            raise self._nothing("train")
        drawn: list[Problem] = []
        for position in range(step * count, (step + 1) * count):
            epoch, at = divmod(position, len(pool))
            drawn.append(pool[_order(len(pool), seed, epoch)[at]])
        return drawn

    def grade(self, problem: Problem, text: str) -> Score:
        """By the verifier; missing where the row has no answer."""
        return self.grade_many([(problem, text)])[0]

    def grade_many(self, answers: Sequence[tuple[Problem, str]]) -> list[Score]:
        """The same for many answers."""
        return self.grade_responses([Response(*answer) for answer in answers])

    def grade_responses(self, responses: Sequence[Response]) -> list[Score]:
        """The same for many: in killable processes where the verifier evaluates them, in a sandbox
        where it runs them."""
        code = self.verifier == "code"
        golds = [r.problem.meta.get("tests") if code else r.problem.answer for r in responses]
        known = [
            (gold, response)
            for gold, response in zip(golds, responses, strict=True)
            if gold is not None
        ]
        if code:
            programs = [
                Answer(r.text, cast(list[Case], tests), r.thought_open) for tests, r in known
            ]
            limits = Limits(seconds=self.timeout)
            scores = grade_programs(programs, limits=limits, workers=self.workers)
        else:
            scores = self._grade_texts([(str(gold), response) for gold, response in known])
        graded = iter(scores)
        unknown = Score.missing(f"no {'tests' if code else 'answer'} in the data")
        return [unknown if gold is None else next(graded) for gold in golds]

    def _grade_texts(self, known: Sequence[tuple[str, Response]]) -> list[Score]:
        read = [self.reading._replace(cut=r.cut, thought_open=r.thought_open) for _, r in known]
        pairs = [(gold, response.text) for gold, response in known]
        if self.verifier in POOLED:
            scores = shared_pool(self.verifier, self.timeout, self.workers).grade(pairs, read)
        else:
            verify = VERIFIERS[self.verifier]
            scores = [verify(*pair, how) for pair, how in zip(pairs, read, strict=True)]
        if self.cut == "wrong":
            return scores
        lost = Score.missing("cut at the token limit")
        return [
            lost if response.cut and score.value == 0.0 else score
            for score, (_, response) in zip(scores, known, strict=True)
        ]

    def answer_of(self, problem: Problem, text: str) -> str | None:
        """The answer in its canonical form; of formulas, as they are written; programs have none:
        whether two do the same cannot be seen."""
        if self.verifier == "code":
            return None
        return canonical(text, "numeric" if self.verifier in POOLED else self.verifier)

    def fingerprint(self) -> str:
        """Content and verifier, and its version but the first."""
        version = () if self.reading.version == 1 else (f"version {self.reading.version}",)
        return f"{stable_hash(self.source, self.verifier, *version):016x}"

    def _nothing(self, split: str) -> DataError:
        return DataError(
            f"task '{self.name}' has no {split} problems",
            got=", ".join(f"{name}: {len(rows)}" for name, rows in self.splits.items()),
            wanted=f"at least one {split} problem of these levels",
            fix="give that split some rows, or choose another split or level",
        )

    def _pool(self, split: str, levels: tuple[str, ...]) -> list[Problem]:
        return [row for row in self.splits.get(split, ()) if row.level in levels]


@lru_cache(_EPOCHS_KEPT)
def _order(size: int, seed: int, epoch: int) -> list[int]:
    order = list(range(size))
    random.Random(stable_hash("epoch", seed, epoch)).shuffle(order)
    return order


def split_of_row(problem: Problem) -> Split:
    """8 of 10 prompts are train, one dev, one test; the same prompt is always in the same split."""
    bucket = stable_hash("row", json.dumps([problem.prompt, problem.messages])) % 10
    return "train" if bucket < 8 else "dev" if bucket < 9 else "test"


def by_hash(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    """Splits by the prompt's hash: 80 % train, 10 % dev, 10 % test."""
    out: dict[str, list[Problem]] = {"train": [], "dev": [], "test": []}
    for problem in problems:
        out[split_of_row(problem)].append(problem)
    return out


def problems_of(
    rows: Iterable[tuple[int, Mapping[str, object]]],
    where: str,
    *,
    task: str,
    seen: dict[str, str],
    needs_answer: bool = True,
) -> list[Problem]:
    """A Problem of each numbered row; `seen` notes where an id occurs.

    Raises:
        DataError: a row cannot be used, or its id occurred before; both places are named.
    """
    problems = []
    for number, row in rows:
        here = f"{where}{number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{here} is no mapping", got=row, wanted="'prompt', 'answer', ...")
        problem = problem_of(row, where=here, number=number, task=task, needs_answer=needs_answer)
        if problem.id in seen:
            raise DataError(
                f"the id '{problem.id}' occurs twice",
                got=f"{seen[problem.id]} and {here}",
                why="results are matched by id",
                fix="give each row an id of its own, or none",
            )
        seen[problem.id] = here
        problems.append(problem)
    return problems


def check_verifier(name: str) -> str:
    """The name, if there is such a verifier."""
    names = [*VERIFIERS, *POOLED, "code"]
    if name not in names:
        raise ConfigError(f"unknown verifier '{name}'", fix=did_you_mean(name, names))
    check_pooled(name)
    if name == "code":
        require_sandbox()
    return name
