"""What a model sees of data: how rows were read, which tokens carry loss, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rekindle.engine.policy import Policy
from rekindle.engine.prompt_limit import PromptLimit
from rekindle.loops.pair_step import fitting_pairs, pair_problem, same_sides
from rekindle.records import Problem, Split
from rekindle.tasks import Task
from rekindle.tasks.checks import GoldCheck, check_golds
from rekindle.tasks.own import Rewarded, notes_of
from rekindle.tasks.pairs import PairRow, read_pairs
from rekindle.tasks.rows import Listed


@dataclass(frozen=True)
class TurnView:
    """A message, and whether its tokens carry loss: of a conversation only the last answer's do."""

    role: str
    content: str
    loss: bool


@dataclass(frozen=True)
class RowView:
    """A problem as it is trained on; `completion_tokens` carry the loss, None: no solution."""

    id: str
    level: str
    answer: str | None
    turns: tuple[TurnView, ...]
    prompt_tokens: tuple[str, ...]
    completion_tokens: tuple[str, ...] | None


@dataclass(frozen=True)
class PairView:
    """A pair as it is trained on; the tokens of both answers carry loss."""

    id: str
    turns: tuple[TurnView, ...]
    prompt_tokens: tuple[str, ...]
    chosen_tokens: tuple[str, ...]
    rejected_tokens: tuple[str, ...]
    same: bool  # the sides are equal for the model


@dataclass(frozen=True)
class DataView:
    """A task's or a file's data.

    `splits`: rows of each; `with_answer`, `with_solution`: of the split that is shown; `left_out`:
    reason -> rows that are never trained on; `golds`: those that the verifier accepts in no form.
    """

    source: str
    notes: tuple[str, ...]
    splits: Mapping[str, int] = field(default_factory=dict)
    with_answer: int = 0
    with_solution: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    golds: GoldCheck | None = None
    rows: tuple[RowView, ...] = ()
    pairs: tuple[PairView, ...] = ()


def view_task(
    task: Task, policy: Policy, *, split: Split, count: int, levels: Sequence[str] | None
) -> DataView:
    """The first problems of a split, and what is known of all.

    Raises:
        DataError: the split has no problems, or one does not fit the model.
    """
    shown = task.problems(split, count=count, seed=0, levels=levels)[:count]
    rows = tuple(_row_view(policy, problem) for problem in shown)
    inner = task.task if isinstance(task, Rewarded) else task
    if not isinstance(inner, Listed):
        return DataView(task.name, (), rows=rows)
    listed = inner.splits.get(split, ())
    return DataView(
        source=task.name,
        notes=notes_of(task),
        splits={name: len(problems) for name, problems in inner.splits.items()},
        with_answer=sum(problem.answer is not None for problem in listed),
        with_solution=sum(problem.solution is not None for problem in listed),
        golds=check_golds(task),
        rows=rows,
    )


def view_pairs(
    path: Path, policy: Policy, *, count: int, limit: PromptLimit | None = None
) -> DataView:
    """The first pairs of a file, and what is left out of all.

    Raises:
        DataError: a row cannot be read, or no pair is left.
    """
    read, skipped, notes = read_pairs(path)
    pairs, _ = fitting_pairs(limit, read)
    same = same_sides(policy, pairs)
    left_out = dict(skipped)
    if len(pairs) < len(read):
        left_out["the prompt is too long"] = len(read) - len(pairs)
    if any(same):
        equal = [pair["id"] for pair, is_same in zip(pairs, same, strict=True) if is_same]
        reason = (
            f"chosen is rejected after the chat template and tokenizer ({', '.join(equal[:3])})"
        )
        left_out[reason] = len(equal)
    views = [_pair_view(policy, *one) for one in zip(pairs[:count], same[:count], strict=True)]
    return DataView(str(path), notes, {"pairs": len(read)}, left_out=left_out, pairs=tuple(views))


def _row_view(policy: Policy, problem: Problem) -> RowView:
    prompt = policy.encode_prompt(problem)
    solution, turns = problem.solution, _turns(problem)
    completion = None
    if solution is not None:
        turns = (*turns, TurnView("assistant", solution, loss=True))
        completion = _tokens(policy, policy.encode_completion(problem, solution))
    tokens = _tokens(policy, prompt)
    return RowView(problem.id, problem.level, problem.answer, turns, tokens, completion)


def _pair_view(policy: Policy, pair: PairRow, same: bool) -> PairView:
    problem = pair_problem(pair)
    sides = (pair["chosen"], pair["rejected"])
    chosen, rejected = (_tokens(policy, policy.encode_completion(problem, one)) for one in sides)
    prompt = _tokens(policy, policy.encode_prompt(problem))
    return PairView(pair["id"], _turns(problem), prompt, chosen, rejected, same)


def _turns(problem: Problem) -> tuple[TurnView, ...]:
    turns = problem.messages or (("user", problem.prompt),)
    return tuple(TurnView(role, content, loss=False) for role, content in turns)


def _tokens(policy: Policy, tokens: Sequence[int]) -> tuple[str, ...]:
    return tuple(policy.tokenizer.convert_ids_to_tokens(list(tokens)))
