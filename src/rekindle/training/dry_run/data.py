"""How long prompts and answers are: measured on the recipe's data, or assumed and said so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rekindle.engine.batch import Batch, count, pack
from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.engine.prompt_limit import PromptLimit, keep_task
from rekindle.errors import RekindleError
from rekindle.loops.pair_step import fitting_pairs, pair_problem
from rekindle.tasks.pairs import pairs_of_file
from rekindle.tasks.task import Task
from rekindle.training.dry_run.architecture import Architecture
from rekindle.training.dry_run.tracing import without_data
from rekindle.training.parts import open_task, sampling
from rekindle.training.recipe import Recipe

PROMPT_TOKENS = 256  # where no data is at hand
_MEASURED = 64  # problems or pairs


class Row(NamedTuple):
    """A sequence, by its lengths; rows of one problem have one prompt."""

    prompt: int
    answer: int
    problem: int


@dataclass(frozen=True)
class Lengths:
    """Tokens of the recipe's texts.

    Attributes:
        prompts: of some problems.
        solutions: of the same ones; empty where there are none.
        pairs: prompt, chosen and rejected of some pairs; empty where there are none.
        sample: how answers are drawn, with the task's limits.
        levels: of the task; each is evaluated.
        assumed: what could not be measured, a sentence each.
    """

    prompts: list[int]
    solutions: list[int]
    pairs: list[tuple[int, int, int]]
    sample: SampleConfig
    levels: int
    assumed: list[str] = field(default_factory=list)

    @property
    def mean_solved(self) -> int:
        """Tokens of a solved problem, on average."""
        rows = self.solved(len(self.prompts))
        return sum(row.prompt + row.answer for row in rows) // len(rows)

    def solved(self, rows: int) -> list[Row]:
        """Solved problems, as SFT learns from them."""
        answers = self.solutions or [self.sample.max_new_tokens] * len(self.prompts)
        pool = list(zip(self.prompts, answers, strict=True))
        return [Row(*pool[i % len(pool)], problem=i) for i in range(rows)]

    def groups(self, problems: int, samples: int) -> list[Row]:
        """Answers of the length allowed, several to each problem."""
        longest = self.sample.max_new_tokens
        return [
            Row(self.prompts[p % len(self.prompts)], longest, p)
            for p in range(problems)
            for _ in range(samples)
        ]

    def sides(self, pairs: int) -> list[Row]:
        """Chosen answers, then rejected ones; as long as allowed where they will be sampled."""
        longest = self.sample.max_new_tokens
        pool = self.pairs or [(prompt, longest, longest) for prompt in self.prompts]
        drawn = [pool[i % len(pool)] for i in range(pairs)]
        return [
            Row(pair[0], pair[side], problem)
            for side in (1, 2)
            for problem, pair in enumerate(drawn)
        ]


def measure_lengths(
    recipe: Recipe, model: Architecture, *, prompt_tokens: int | None, pairs: str | None
) -> Lengths:
    """The lengths of the recipe's texts in the model's tokens.

    Args:
        prompt_tokens: of every prompt, instead of what the data has.
        pairs: a file of pairs that is trained on.
    """
    shared, assumed = recipe.shared, list[str]()
    try:
        task = open_task(shared.task, shared.model if model.tokenizer is not None else None)
    except RekindleError as error:
        task = None
        assumed.append(f"the data was not read ({str(error).splitlines()[0]})")
    sample = shared.sample if task is None else sampling(shared.sample, task)
    levels = shared.eval.levels or shared.task.levels or (task.levels if task else ("",))
    prompts, solutions, sides = list[int](), list[int](), list[tuple[int, int, int]]()
    if model.tokenizer is None:
        assumed.append("there is no tokenizer beside the config")
    elif task is not None:
        with without_data():
            policy = model.policy(1)
        limit = PromptLimit.of(policy, shared.task, sample)
        task, left_out = keep_task(limit, task, least=shared.optim.problems)
        assumed += left_out
        prompts, solutions = _of_problems(policy, recipe, task)
        sides = _of_pairs(policy, limit, pairs)
    if prompt_tokens is not None:
        solutions = solutions or [sample.max_new_tokens] * max(len(prompts), 1)
        prompts = [prompt_tokens] * len(solutions)
        sides = [(prompt_tokens, chosen, rejected) for _, chosen, rejected in sides]
    elif not prompts:
        own = shared.task.max_prompt_tokens
        prompts = [own or PROMPT_TOKENS]
        source = "--prompt-tokens" if own is None else "task.max_prompt_tokens"
        assumed.append(f"prompts are taken to have {prompts[0]} tokens ({source})")
    return Lengths(prompts, solutions, sides, sample, len(levels), assumed)


def _of_problems(policy: Policy, recipe: Recipe, task: Task) -> tuple[list[int], list[int]]:
    shared = recipe.shared
    problems = task.draw(step=0, count=_MEASURED, seed=shared.seed, levels=shared.task.levels)
    prompts = [len(policy.encode_prompt(problem)) for problem in problems]
    solutions = [
        len(policy.encode_completion(problem, problem.solution))
        for problem in problems
        if problem.solution is not None
    ]
    return prompts, solutions if len(solutions) == len(prompts) else []


def _of_pairs(
    policy: Policy, limit: PromptLimit | None, path: str | None
) -> list[tuple[int, int, int]]:
    lengths = []
    pairs, _ = fitting_pairs(limit, pairs_of_file(path) if path is not None else [])
    for pair in pairs[:_MEASURED]:
        problem = pair_problem(pair)
        sides = [len(policy.encode_completion(problem, pair[s])) for s in ("chosen", "rejected")]
        lengths.append((len(policy.encode_prompt(problem)), sides[0], sides[1]))
    return lengths


def batch_of(rows: list[Row]) -> Batch:
    """Rows of these lengths; what their tokens are does not matter."""
    prompts = [(1,) * (row.prompt - 1) + (row.problem % 64,) for row in rows]
    completions = [(1,) * row.answer for row in rows]
    return pack(prompts, completions, reduction="token", total=count(completions))
