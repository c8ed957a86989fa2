"""A Task around listed problems, and the splits of data that brings none."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, cast

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.records import Problem, Response, Score, Split
from rekindle.rewards.code import Answer, Case, Limits, grade_programs, require_sandbox
from rekindle.rewards.verifiers.verify import AS_READ, VERIFIERS, Settings, canonical
from rekindle.rewards.workers import POOLED, check_pooled, shared_pool
from rekindle.tasks.task import pick_levels, stable_hash

_SAMPLING = 512  # tokens of an answer, where the recipe does not say
_EPOCHS_KEPT = 4  # shuffled orders, which are as long as the data


Cut = Literal["wrong", "missing"]


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
    cut: Cut = "wrong"  # an answer that the token limit cut off
    notes: tuple[str, ...] = ()  # how the data was read, and what was not

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

    @property
    def verifier_version(self) -> str:
        """The verifier and its version, for manifests: a run is graded again by its own."""
        version = "" if self.verifier == "code" else f" {self.reading.version}"
        return f"{self.verifier}{version}"

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


def check_verifier(name: str) -> str:
    """The name, if there is such a verifier."""
    names = [*VERIFIERS, *POOLED, "code"]
    if name not in names:
        raise ConfigError(f"unknown verifier '{name}'", fix=did_you_mean(name, names))
    check_pooled(name)
    if name == "code":
        require_sandbox()
    return name
