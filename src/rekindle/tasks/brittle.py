"""A verifier that rejects right answers, made from a task's own: what a reward model could mend.

For a share of the problems only the reference solution, character by character, counts as right;
the others are checked as the task does. Which problems is decided by a hash of what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rekindle.errors import DataError
from rekindle.records import Problem, Response, Score
from rekindle.tasks.task import Task, grade_all, stable_hash


@dataclass(frozen=True)
class BrittleVerifier:
    """`grade` of a task, made brittle on a share of its problems.

    `parts` of each score: `true`, the task's own verdict, and `brittle`, whether this problem is
    one of those that want the reference text.
    """

    task: Task
    share: float

    def is_brittle(self, problem: Problem) -> bool:
        """Whether only the reference text counts; the same in every run."""
        digest = stable_hash("brittle", problem.prompt, *(problem.messages or ()))
        return digest / 2**64 < self.share

    def grade(self, problem: Problem, text: str) -> Score:
        """1 or 0; missing where the task's verdict is.

        Raises:
            DataError: a brittle problem has no reference solution.
        """
        return self.grade_responses([Response(problem, text)])[0]

    def grade_responses(self, responses: Sequence[Response]) -> list[Score]:
        """The same for many, with how each began and ended."""
        verdicts = grade_all(self.task, responses)
        return [
            self._brittle(response.problem, response.text, true)
            for response, true in zip(responses, verdicts, strict=True)
        ]

    def _brittle(self, problem: Problem, text: str, true: Score) -> Score:
        if true.value is None:
            return true
        brittle = self.is_brittle(problem)
        value = true.value
        if brittle:
            if problem.solution is None:
                raise DataError(
                    f"problem '{problem.id}' has no reference solution",
                    wanted="a solution for every problem",
                    why="with task.brittle the verifier compares with it",
                    fix="--set task.brittle=0, or a task with solutions",
                )
            value = float(text.strip() == problem.solution.strip())
        return Score(value, parts={**true.parts, "true": true.value, "brittle": float(brittle)})
