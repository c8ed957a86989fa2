"""Evaluation within training: when, on which problems, and with whose answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rekindle.engine.config import EvalConfig
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import Sampler
from rekindle.records import Problem
from rekindle.tasks import Task

# The same problems and draws whatever the run's seed, so that runs compare in pairs.
EVALUATION_SEED = 0

When = Literal["always", "after", "never"]  # after: not before the first step


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated in the course of a run, and when.

    Attributes:
        config: the recipe's section.
        when: always, `after` (not before the first step) or never.
        policy: whose answers are evaluated; None: those of the policy that is trained.
        around: puts something around the sampler, such as demos in front of each problem.
    """

    config: EvalConfig
    when: When = "always"
    policy: Policy | None = None
    around: Callable[[Sampler], Sampler] = lambda sampler: sampler

    def due(self, step: int, *, last: bool) -> bool:
        """Whether to evaluate after this step (0: before the first)."""
        if self.when == "never":
            return False
        if step == 0:
            return self.when == "always"
        return last or bool(self.config.every and step % self.config.every == 0)

    def problems(self, task: Task, levels: tuple[str, ...] | None) -> list[Problem]:
        """The held-out problems, the same at each evaluation; `levels` are the run's."""
        return task.problems(
            self.config.split,
            count=self.config.problems,
            seed=EVALUATION_SEED,
            levels=self.config.levels or levels,
        )
