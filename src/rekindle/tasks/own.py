"""A task that the caller brings: rows in memory or an object of theirs, under a reward of theirs.

train(recipe, out, task=[{"prompt": "2+2=", "answer": "4"}, ...])
train(recipe, out, task={"train": rows, "dev": more_rows}, reward=my_reward)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from rekindle.errors import ConfigError, DataError
from rekindle.records import Problem, Split
from rekindle.rewards.python_reward import PythonReward, is_place, load_reward
from rekindle.tasks.checks import tell_golds
from rekindle.tasks.problem_rows import RowReader, rows_table
from rekindle.tasks.rows import Listed, by_hash, check_verifier
from rekindle.tasks.task import Task, stable_hash

Rows = Iterable[Mapping[str, object]]
TaskSource = Task | Rows | Mapping[str, Rows]
_MEMBERS = [name for name in vars(Task) if not name.startswith("_")]
_SPLITS = ("train", "dev", "test")


class Rewarded:
    """A task whose answers are graded by a reward in Python, in training and evaluation.

    A score of exactly 1 counts as right in pass@k. All else is the task's, its fingerprint too:
    what identifies the reward is a fingerprint of its own.
    """

    def __init__(self, task: Task, reward: PythonReward) -> None:
        self.task, self.reward = task, reward
        self.name, self.levels, self.stop = task.name, task.levels, task.stop
        self.max_new_tokens, self.fingerprint = task.max_new_tokens, task.fingerprint
        self.problems, self.draw, self.answer_of = task.problems, task.draw, task.answer_of
        self.grade, self.grade_many = reward.grade, reward.grade_many


def notes_of(task: Task) -> tuple[str, ...]:
    """How the rows of a task were read, and what was not; none where they are generated."""
    inner = task.task if isinstance(task, Rewarded) else task
    return inner.notes if isinstance(inner, Listed) else ()


def own_task(source: TaskSource, *, verifier: str | None = None, needs_answer: bool = True) -> Task:
    """A task from rows in memory, whole or by split, or the task itself.

    Args:
        source: rows as in a JSONL file (`prompt` or `messages`, `answer`, ...); their split is
            decided by a hash of the prompt. A mapping names the splits itself.
        verifier: how an answer is compared, for rows: exact, numeric (default), math, code; for
            any task the place of a reward, `package.module:function`.
        needs_answer: rows must have something to check an answer against.

    Raises:
        ConfigError: it is neither rows nor a task; what a task lacks is listed.
        DataError: a row cannot be read, or an id occurs twice.
    """
    if verifier is not None and is_place(verifier):
        return Rewarded(own_task(source, needs_answer=False), load_reward(verifier))
    if isinstance(source, Task):
        if verifier is not None:
            raise ConfigError(
                "task.verifier has no effect with a task of your own",
                got=verifier,
                why="it grades answers itself",
                fix="remove it, or pass reward=...",
            )
        return source
    given: object = source
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        lacking = [name for name in _MEMBERS if name not in dir(given)]
        raise ConfigError(
            "this is no task",
            got=f"{type(given).__name__} without {', '.join(lacking)}",
            wanted="rows (mappings with 'prompt' and 'answer'), or an object with "
            + ", ".join(_MEMBERS),
            fix="load_task(name) opens one by its name",
        )
    parts = source if isinstance(source, Mapping) else {"": source}
    reader = RowReader({}, needs_answer, verifier or "numeric")
    read = {
        split: list(
            reader.problems(rows_table(rows, f"{split} row " if split else "row ", split or "rows"))
        )
        for split, rows in parts.items()
    }
    unknown = [split for split in read if split not in ("", *_SPLITS)]
    if unknown:
        raise ConfigError(
            f"'{unknown[0]}' is no split", wanted="train, dev, test", fix="rename it in `task`"
        )
    content = json.dumps([[p.prompt, p.answer] for rows in read.values() for p in rows])
    task = Listed(
        name="rows",
        splits=by_hash(read[""]) if "" in read else read,
        verifier=check_verifier(verifier or "numeric"),
        source=f"{stable_hash(content, sorted(read)):016x}",
        notes=reader.notes(),
    )
    tell_golds(task)
    return task


def check_ids(
    task: Task, *, split: Split, count: int, levels: Sequence[str] | None, seed: int
) -> None:
    """Refuse a task that gives two problems one id; looked at in what a run asks first.

    Raises:
        DataError: the id, and both prompts.
    """
    listed = task.problems(split, count=count, seed=seed, levels=levels)
    drawn = task.draw(step=0, count=count, seed=seed, levels=levels)
    seen: dict[str, Problem] = {}
    for place, problem in enumerate([*listed, *drawn]):
        before = seen.get(problem.id)
        seen[problem.id] = problem
        if before is None:
            continue
        equal = (before.prompt, before.messages) == (problem.prompt, problem.messages)
        if place < len(listed) or not equal:  # the same one may be drawn twice
            raise DataError(
                f"task '{task.name}' gives two problems the id '{problem.id}'",
                got=f"{before.prompt!r} and {problem.prompt!r}",
                wanted="an id of its own for each problem",
                why="results are matched by id, and answers get their random numbers by it",
                fix="make the ids of the task distinct",
            )
