"""How long a prompt may be, in tokens of the policy, and what is done with longer ones.

    most = min(task.max_prompt_tokens, context - sample.max_new_tokens)

so that a whole answer fits behind every prompt. Tokens are counted behind the chat template, with
special tokens. Without `task.max_prompt_tokens` and `task.long_prompts: drop` there is no limit
but that of `Policy.encode_prompt`: a prompt that fills the context is refused where it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from rekindle.engine.config import SampleConfig, TaskConfig
from rekindle.engine.loading import NO_LIMIT
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError, PromptTooLongError
from rekindle.records import Problem, Split
from rekindle.tasks.own import Rewarded
from rekindle.tasks.rows import Listed
from rekindle.tasks.task import BatchGrader, ResponseGrader, Task

T = TypeVar("T")


class Kept(NamedTuple):
    """A task without prompts that are too long, and a sentence on each split that lost some."""

    task: Task
    left_out: tuple[str, ...] = ()


class Scope(NamedTuple):
    """Which problems of its task a run has: of these levels, None for all, and within a limit."""

    levels: tuple[str, ...] | None
    limit: PromptLimit | None = None


@dataclass(frozen=True)
class PromptLimit:
    """The longest prompt.

    Attributes:
        policy: whose tokens count.
        most: how many.
        source: what says so.
        drops: longer ones are left out; else they are refused.
    """

    policy: Policy
    most: int
    source: str
    drops: bool

    @classmethod
    def of(cls, policy: Policy, task: TaskConfig, sample: SampleConfig) -> PromptLimit | None:
        """The limit of a recipe or command, whose `sample` has the task's own limits; None: none.

        Raises:
            ConfigError: answers may be as long as the context.
        """
        own, drops = task.max_prompt_tokens, task.long_prompts == "drop"
        if own is None and not drops:
            return None
        room = policy.context - sample.max_new_tokens
        if room < 1:
            raise ConfigError(
                "sample.max_new_tokens leaves no room for a prompt",
                got=f"{sample.max_new_tokens}, of a context of {policy.context}",
                wanted=f"less than {policy.context}",
                why="the limit of prompts leaves room for a whole answer",
                fix="--set sample.max_new_tokens=N, or use a model with a longer context",
            )
        wide = replace(policy, context=NO_LIMIT)  # what is too long is measured all the same
        if own is not None and own <= room:
            return cls(wide, own, "task.max_prompt_tokens", drops)
        source = f"the context of {policy.context} less sample.max_new_tokens"
        return cls(wide, room, source, drops)

    def is_kept(self, problem: Problem) -> bool:
        """Whether the prompt is short enough.

        Raises:
            PromptTooLongError: it is not, and is not to be left out.
        """
        length = len(self.policy.encode_prompt(problem))
        if length <= self.most or self.drops:
            return length <= self.most
        raise PromptTooLongError(
            f"{problem.place or 'a prompt'}: the prompt of problem '{problem.id}' is too long",
            got=f"{length:,} tokens",
            wanted=f"at most {self.most:,} ({self.source})",
            fix="--set task.long_prompts=drop leaves such rows out; or shorten it, or raise "
            "task.max_prompt_tokens as far as the context allows",
        )

    def keep(
        self, items: Sequence[T], problem: Callable[[T], Problem], *, what: str, least: int = 1
    ) -> tuple[list[T], tuple[str, ...]]:
        """The items whose prompts are short enough, and a sentence where some are left out.

        Args:
            what: they are, in the sentence.
            least: as many must stay, where there were as many.

        Raises:
            PromptTooLongError: as `is_kept`.
            DataError: too few are left.
        """
        kept = [item for item in items if self.is_kept(problem(item))]
        if len(kept) == len(items):
            return kept, ()
        lost = (
            f"{what}: {len(items) - len(kept):,} of {len(items):,} left out, with prompts of more "
            f"than {self.most:,} tokens ({self.source})"
        )
        if not kept or len(kept) < least <= len(items):
            raise DataError(
                f"too few {what} are left",
                got=lost,
                wanted=f"at least {max(least, 1)}" + (", a step's worth" if least > 1 else ""),
                fix="raise task.max_prompt_tokens as far as the context allows, or give shorter "
                "prompts",
            )
        return kept, (lost,)

    def keep_task(
        self, task: Task, *, splits: Collection[Split] | None = None, least: int = 1
    ) -> Kept:
        """A task without the prompts that are too long.

        Problems that are generated are looked at as they are drawn: a long one is refused, whether
        or not long ones are left out of lists.

        Args:
            splits: that are looked at; None: all.
            least: training problems that must stay, as `keep` has it.

        Raises:
            PromptTooLongError, DataError: as `keep`.
        """
        if isinstance(task, Rewarded):
            inner, left_out = self.keep_task(task.task, splits=splits, least=least)
            return Kept(Rewarded(inner, task.reward), left_out)
        if not isinstance(task, Listed):
            return Kept(_Generated(task, replace(self, drops=False)))
        kept, told = dict(task.splits), list[str]()
        for split in [name for name in task.splits if splits is None or name in splits]:
            kept[split], lost = self.keep(
                task.splits[split],
                lambda row: row,
                what=f"{split} problems",
                least=least if split == "train" else 1,
            )
            told += lost
        return Kept(replace(task, splits=kept, notes=(*task.notes, *told)), tuple(told))


class _Generated:
    """A task whose prompts are looked at as they are drawn; all else is the task's."""

    def __init__(self, task: Task, limit: PromptLimit) -> None:
        self.task, self.limit = task, limit
        self.name, self.levels, self.stop = task.name, task.levels, task.stop
        self.max_new_tokens, self.fingerprint = task.max_new_tokens, task.fingerprint
        self.grade, self.answer_of = task.grade, task.answer_of
        if isinstance(task, BatchGrader):
            self.grade_many = task.grade_many
        if isinstance(task, ResponseGrader):
            self.grade_responses = task.grade_responses

    def problems(
        self, split: Split, *, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """The task's, none too long."""
        return self._checked(self.task.problems(split, count=count, seed=seed, levels=levels))

    def draw(
        self, *, step: int, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """The task's, none too long."""
        return self._checked(self.task.draw(step=step, count=count, seed=seed, levels=levels))

    def _checked(self, problems: list[Problem]) -> list[Problem]:
        return [problem for problem in problems if self.limit.is_kept(problem)]


def keep_task(
    limit: PromptLimit | None,
    task: Task,
    *,
    splits: Collection[Split] | None = None,
    least: int = 1,
) -> Kept:
    """`PromptLimit.keep_task`, where there is a limit."""
    return Kept(task) if limit is None else limit.keep_task(task, splits=splits, least=least)
