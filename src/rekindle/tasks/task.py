"""The Task protocol, and what generated tasks share: stable hashes, disjoint splits, seeded lists.

A generated problem has a key (what makes it this problem, whatever the order it is written in).
The key's hash decides its split, so that train, dev and test are disjoint by construction.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.records import Problem, Response, Score, Split

_FRUITLESS = 20_000  # tries in a row that make nothing new, before a level counts as exhausted


@runtime_checkable
class Task(Protocol):
    """Problems, disjoint splits, and how an answer is checked."""

    @property
    def name(self) -> str:
        """As recipes call it."""

    @property
    def levels(self) -> tuple[str, ...]:
        """Difficulties, the easiest first; one "" where there are none."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens that an answer needs at most."""

    def problems(
        self, split: Split, *, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """`count` distinct problems per level; the same arguments give the same list."""

    def draw(
        self, *, step: int, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """The training problems of one step: a pure function of its arguments."""

    def grade(self, problem: Problem, text: str) -> Score:
        """1.0, 0.0, a partial score, or missing with a reason."""

    def answer_of(self, problem: Problem, text: str) -> str | None:
        """The canonical answer in a text, for majority votes; None when there is none."""

    def fingerprint(self) -> str:
        """Hash of what defines the data; a resumed run must find the same."""


@runtime_checkable
class Grader(Protocol):
    """Anything that checks an answer."""

    def grade(self, problem: Problem, text: str) -> Score:
        """1.0, 0.0, a partial score, or missing with a reason."""


@runtime_checkable
class BatchGrader(Protocol):
    """A grader that is quicker with many answers at once."""

    def grade_many(self, answers: Sequence[tuple[Problem, str]]) -> list[Score]:
        """A score for each answer, in order."""


@runtime_checkable
class ResponseGrader(Protocol):
    """A grader to which it matters whether a text was cut, or began inside a thought."""

    def grade_responses(self, responses: Sequence[Response]) -> list[Score]:
        """A score for each response, in order."""


def grade_all(
    grader: Grader, answers: Sequence[tuple[Problem, str]] | Sequence[Response]
) -> list[Score]:
    """A score for each answer, in order; all at once where the grader can."""
    responses = [Response(*answer) for answer in answers]
    if isinstance(grader, ResponseGrader):
        return grader.grade_responses(responses)
    pairs = [(response.problem, response.text) for response in responses]
    if isinstance(grader, BatchGrader):
        return grader.grade_many(pairs)
    return [grader.grade(problem, text) for problem, text in pairs]


class GeneratedProblem(NamedTuple):
    """A generator's problem: the key decides the split, the rest becomes a Problem."""

    key: str
    prompt: str
    answer: str
    solution: str


def stable_hash(*parts: object) -> int:
    """64 bits that are the same in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def split_of(key: str) -> Split:
    """6 of 10 keys are train, two dev, two test."""
    bucket = stable_hash("split", key) % 10
    return "train" if bucket < 6 else "dev" if bucket < 8 else "test"


def pick_levels(task: str, known: Sequence[str], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The wanted levels, each once; all when None.

    Raises:
        ConfigError: a level that the task does not have.
    """
    names = [str(level) for level in wanted or ()]
    for level in names:
        if level not in known:
            if tuple(known) == ("",):
                raise ConfigError(
                    f"task '{task}' has no levels", got=level, fix="remove task.levels"
                )
            raise ConfigError(
                f"task '{task}' has no level '{level}'",
                got=", ".join(names),
                wanted=f"some of {', '.join(known)}",
                why="a level is a difficulty that the task can make, or that its rows name",
                fix=did_you_mean(level, known),
            )
    return tuple(dict.fromkeys(names)) if names else tuple(known)


def refuse_unknown(
    task: str, settings: Iterable[str], known: Sequence[str], where: str = "task.args"
) -> None:
    """Refuse a setting that the task does not have."""
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"task '{task}' takes no setting '{where}.{key}'",
                fix=did_you_mean(str(key), known) if known else "remove it: it takes none",
            )


@dataclass(frozen=True)
class Generated:
    """A Task around a generator."""

    name: str
    levels: tuple[str, ...]
    max_new_tokens: int
    make: Callable[[str, random.Random], GeneratedProblem]  # a problem of that level
    answer: Callable[[str], str | None]  # the canonical one in a text
    check: Callable[[Problem, str], Score] | None = None  # None: 1 for the problem's answer, else 0
    mix: Mapping[str, float] = field(default_factory=dict)  # level -> weight in draws, else 0
    stop: tuple[str, ...] = ()
    version: int = 1  # part of the fingerprint; raised when the generator changes what it makes

    def problems(
        self, split: Split, *, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """`count` problems per level, no key twice.

        Raises:
            ConfigError: unknown level.
            DataError: a level has too few distinct problems; says how many there are.
        """
        listed: list[Problem] = []
        for level in pick_levels(self.name, self.levels, levels):
            rng = random.Random(stable_hash(self.name, "list", split, seed, level))
            distinct: dict[str, Problem] = {}
            fruitless = 0
            while len(distinct) < count:
                problem = self.make(level, rng)
                if split_of(problem.key) == split and problem.key not in distinct:
                    distinct[problem.key] = self._problem(level, problem)
                    fruitless = 0
                    continue
                fruitless += 1
                if fruitless == _FRUITLESS:
                    raise DataError(
                        f"task '{self.name}' level {level} has too few {split} problems",
                        got=f"{count} requested",
                        wanted=f"at most {len(distinct)} (or very few more: rare ones may exist)",
                        why="problems of one list are distinct, and no split shares any",
                        fix="ask for fewer problems, or a harder level",
                    )
            listed.extend(distinct.values())
        return listed

    def draw(
        self, *, step: int, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """Training problems of one step; levels by `mix`, evenly when there is none.

        Raises:
            ConfigError: unknown level, or none of the levels has weight in the mix.
        """
        rng = random.Random(stable_hash(self.name, "draw", seed, step))
        names = pick_levels(self.name, self.levels, levels)
        weights = [self.mix.get(name, 0.0) if self.mix else 1.0 for name in names]
        if sum(weights) <= 0:
            raise ConfigError(
                f"task '{self.name}' has nothing to draw from",
                got=f"levels {', '.join(names)} with task.args.mix {dict(self.mix)}",
                wanted="at least one of the levels with weight above 0 in the mix",
                fix="name these levels in task.args.mix, or drop the mix",
            )
        drawn: list[Problem] = []
        while len(drawn) < count:
            level = rng.choices(names, weights)[0]
            problem = self.make(level, rng)
            if split_of(problem.key) == "train":
                drawn.append(self._problem(level, problem))
        return drawn

    def grade(self, problem: Problem, text: str) -> Score:
        if self.check is None:
            return Score(float(self.answer(text) == problem.answer))
        return self.check(problem, text)

    def answer_of(self, problem: Problem, text: str) -> str | None:
        return self.answer(text)

    def fingerprint(self) -> str:
        return f"{stable_hash(self.name, self.version, sorted(self.mix.items())):016x}"

    def _problem(self, level: str, problem: GeneratedProblem) -> Problem:
        return Problem(
            id=f"{self.name}-{level}-{stable_hash(problem.key):016x}",
            prompt=problem.prompt,
            answer=problem.answer,
            task=self.name,
            level=level,
            solution=problem.solution,
        )
