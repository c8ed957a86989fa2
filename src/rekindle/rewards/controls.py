"""Two reward models that are no models: one that knows nothing, and one that cannot be gamed.

They bracket what a reward model can do for a method. What is gained with `RandomScores` is not due
to scores; what is gained with `OracleScores`, and not with a trained reward model of the same AUC,
is lost because a policy finds the trained one's mistakes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from rekindle.records import Problem, Score
from rekindle.rewards.reward_model import Answered, text_key


@dataclass(frozen=True)
class RandomScores:
    """N(0, 1) by the hash of the text: the control that knows nothing."""

    seed: int = 0

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """The same text has the same score in every run of this seed."""
        return [Score(normal(self.seed, text_key(problem, text))) for problem, text in answers]

    def fingerprint(self) -> str:
        """The seed."""
        return f"random-{self.seed}"


@dataclass(frozen=True)
class OracleScores:
    """The task's true check plus N(0, noise^2) by the hash of the text.

    Its mistakes are accidents of single texts, which a policy cannot learn to make: an upper bound
    on what a reward model of that AUC is worth. It leaks the truth, so it is a control and nothing
    to train by. The AUC is Phi(1 / (noise sqrt 2)): 0.84 at 0.7.
    """

    grade: Callable[[Problem, str], Score]  # the true check
    truth: str  # the fingerprint of the task whose check it is
    noise: float  # standard deviation, in units of the check's 0 to 1
    seed: int = 0

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """A verdict that is missing stays missing."""
        scores = []
        for problem, text in answers:
            score = self.grade(problem, text)
            if score.value is not None:
                noise = self.noise * normal(self.seed, text_key(problem, text))
                score = Score(score.value + noise)
            scores.append(score)
        return scores

    def fingerprint(self) -> str:
        """The task, the noise and the seed."""
        return f"oracle-{self.truth}-{self.noise}-{self.seed}"


def normal(seed: int, key: str) -> float:
    """A draw from N(0, 1) that is a function of its arguments."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return NormalDist().inv_cdf((int.from_bytes(digest, "big") + 0.5) / 2**64)
