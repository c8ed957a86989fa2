"""Weak-to-Strong's settings of models, data and budgets, its two halves, and its demos.

Questions of half 2 lose answer and solution before anything else is done with them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from pydantic import Field

from rekindle.engine.config import OptimConfig, SampleConfig, Section
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import Sampler
from rekindle.errors import DataError
from rekindle.loops.stages import GeneratedRow, disjoint_chunks
from rekindle.loops.world import World
from rekindle.methods.dpo import Config as DPOConfig
from rekindle.methods.orpo import Config as ORPOConfig
from rekindle.methods.weak_to_strong.pairs import Equality
from rekindle.records import Problem, Rollout
from rekindle.rewards.answers import canonical_answer
from rekindle.tasks.task import stable_hash


class UpdatesConfig(Section):
    """The length and rate of a training that is not `optim`'s; the rest is `optim`'s."""

    steps: int = Field(ge=1, description="updates")
    lr: float = Field(gt=0.0, description="learning rate")
    batch: int = Field(default=32, ge=1, description="samples or pairs a step")

    def optim(self, shared: OptimConfig) -> OptimConfig:
        """The optimizer of these updates."""
        own = {"steps": self.steps, "lr": self.lr, "problems": self.batch}
        budgets = {"max_generated": None, "max_trained": None}  # of the strong model's SFT
        return shared.model_copy(update={**own, **budgets})


class HalvesConfig(Section):
    """Models, data and budgets. `optim` is that of the strong model's SFT, in every baseline."""

    weak: str = Field(
        default="base", description="the weak base: a model's name, or base: the strong one's own"
    )
    half1: int = Field(default=256, ge=1, description="problems with gold, for the weak model")
    half2: int = Field(default=512, ge=1, description="questions without; the paper: as many")
    demos: int = Field(
        default=4, ge=0, description="weak answers shown to the strong model; 0: it is just asked"
    )
    separator: str = Field(
        default="\n\n", min_length=1, description="behind each demo, and ends an answer after them"
    )
    samples: int = Field(default=10, ge=1, description="of a question, for votes")
    iterations: Literal[1, 2] = Field(default=1, description="of stage I; 2 on GSM8K, 1 on MATH")
    equality: Equality = Field(
        default="canonical", description="of answers; strict: as they are written (released code)"
    )
    pad_to: int | None = Field(
        default=None,
        ge=1,
        description="fill up what is kept, as two of the paper's MATH files",
    )
    seed: int = Field(default=0, ge=0, description="of demos, subsets and pairs, beside the run's")
    weak_sft: UpdatesConfig = UpdatesConfig(steps=100, lr=3e-4, batch=64)
    stage2: UpdatesConfig = UpdatesConfig(steps=10, lr=2e-5)
    dpo: DPOConfig = DPOConfig()
    orpo: ORPOConfig = ORPOConfig()


# --- data


def hide_gold(problem: Problem) -> Problem:
    """The problem without anything that its answer could be read from."""
    return replace(problem, answer="", solution=None, meta={})


def split_halves(config: HalvesConfig, world: World) -> tuple[list[Problem], list[Problem]]:
    """Training problems in two halves, the second without gold; none is evaluated.

    Raises:
        DataError: the task has too few, or a question is in two of half 1, half 2 and what is
            evaluated.
    """
    labelled, second = draw_halves(config, world)
    questions = [hide_gold(problem) for problem in second]
    split = world.evaluation.config.split
    evaluated = world.evaluation.problems(world.task, world.scope.levels)
    refuse_overlap({"half 1": labelled, "half 2": questions, split: evaluated})
    return labelled, questions


def refuse_overlap(parts: Mapping[str, Sequence[Problem]]) -> None:
    """No question in two parts, white space and case aside.

    Raises:
        DataError: lists the prompts.
    """
    prompts = {name: {_text(problem) for problem in problems} for name, problems in parts.items()}
    for one, other in combinations(prompts, 2):
        shared = sorted(prompts[one] & prompts[other])
        if shared:
            raise DataError(
                f"{one} and {other} share {len(shared)} questions",
                got="; ".join(shared[:5]),
                wanted="no question in both",
                why="the weak model would have seen gold of what it labels, or a model of what "
                "it is asked",
                fix="leave each question once in the data, whatever its solutions",
            )


def _text(problem: Problem) -> str:
    turns = problem.messages or (("user", problem.prompt),)
    return _plain(" ".join(content for _, content in turns))


def _plain(text: str) -> str:
    return " ".join(text.split()).lower()


def draw_halves(config: HalvesConfig, world: World) -> list[list[Problem]]:
    """Both halves as the task has them; of the second only the ceiling may see the gold."""
    fix = "--set weak_to_strong.half1=... --set weak_to_strong.half2=..."
    return disjoint_chunks(world, [config.half1, config.half2], what="two halves", fix=fix)


# --- demos


@dataclass(frozen=True)
class Demos:
    """Answered questions that are put in front of another one, as they stand."""

    examples: tuple[tuple[str, str], ...]  # prompt, answer
    separator: str

    def include(self, problem: Problem) -> bool:
        """Whether one of them is this question: its answer would stand in the prompt."""
        return _plain(problem.prompt) in {_plain(prompt) for prompt, _ in self.examples}

    def before(self, problem: Problem) -> Problem:
        """The problem with the demos in front: turns of a chat, or one text."""
        if problem.messages is not None:
            turns = [t for p, a in self.examples for t in (("user", p), ("assistant", a))]
            system = [turn for turn in problem.messages if turn[0] == "system"]
            rest = [turn for turn in problem.messages if turn[0] != "system"]
            return replace(problem, messages=(*system, *turns, *rest))
        text = "".join(f"{p}{a}{self.separator}" for p, a in self.examples)
        return replace(problem, prompt=text + problem.prompt)

    def ending(self, config: SampleConfig) -> SampleConfig:
        """Decoding that also ends where the next demo would begin."""
        if not self.examples:
            return config
        return config.model_copy(update={"stop": (*config.stop, self.separator)})


@dataclass(frozen=True)
class DemoSampler:
    """A sampler whose problems come with demos; what it returns names the plain problems."""

    sampler: Sampler
    demos: Demos

    def sync(self, policy: Policy) -> None:
        """Of the sampler behind it."""
        self.sampler.sync(policy)

    def sample(
        self, problems: Sequence[Problem], *, samples: int, config: SampleConfig, seed: int
    ) -> list[Rollout]:
        """As the sampler would answer, had the demos been part of the prompts."""
        plain = {problem.id: problem for problem in problems}
        rollouts = self.sampler.sample(
            [self.demos.before(problem) for problem in problems],
            samples=samples,
            config=self.demos.ending(config),
            seed=seed,
        )
        return [replace(r, problem=plain[r.problem.id]) for r in rollouts]


def pick_demos(rows: Sequence[GeneratedRow], *, count: int, seed: int) -> list[GeneratedRow]:
    """Answers that can be read, drawn at random, right or wrong: nobody knows.

    Raises:
        DataError: too few answers can be read.
    """
    order = list(rows)
    random.Random(stable_hash("w2s demos", seed)).shuffle(order)
    picked = [row for row in order if canonical_answer(row["answer"]) is not None][:count]
    if len(picked) < count:
        raise DataError(
            "too few of the weak model's answers can be read",
            got=f"{len(picked)} of {len(rows)}",
            wanted=f"{count} demos",
            fix="train the weak model for longer, or lower demos",
        )
    return picked
