"""The records that flow through the library: frozen, plain, one JSONL line each.

A `Problem` is asked, a `Rollout` is one sampled answer to it, a `Score` is what a grader said of
the answer: a value, or missing with a reason. A missing score is never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

Split = Literal["train", "dev", "test"]
Finish = Literal["eos", "stop", "length"]


@runtime_checkable
class Array(Protocol):
    """A numpy array or a tensor; torch is not loaded to ask."""

    @property
    def ndim(self) -> int:
        """How many axes."""

    def tolist(self) -> object:
        """Nested lists of numbers."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to ask a model, and what its answer is checked against.

    `prompt` is the plain text; `messages` (role, content pairs) replaces it where data is a chat.
    `level` names the difficulty ("" where a task has none); `solution` is a reference completion;
    `place` is where its row lies, for errors: equal problems may come from different places.
    """

    id: str
    prompt: str
    answer: str | None = None
    task: str = ""
    level: str = ""
    solution: str | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    meta: Mapping[str, object] = field(default_factory=dict)
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Score:
    """What a grader said: `value`, or None with the `reason` why it is missing.

    `parts` holds the components that make up the value (verifier, reward model, ...), for the
    rollout browser; they are not used for training.
    """

    value: float | None
    reason: str | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(
                "a Score is either a value or missing with a reason, got "
                f"value={self.value!r}, reason={self.reason!r}"
            )

    @staticmethod
    def missing(reason: str) -> Score:
        """No value, and why."""
        return Score(value=None, reason=reason)


class Response(NamedTuple):
    """A text as the answer to a problem, and how it began and ended."""

    problem: Problem
    text: str
    cut: bool = False  # it ended at the limit of tokens
    thought_open: bool = False  # the prompt's template had opened a thought before it


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion of one problem.

    `tokens` are the generated ids including the end-of-sequence token when there is one;
    `sampled_logprobs` are the sampler's own log-probs of them at the sampling temperature (the
    trainer recomputes its `old_logprobs`); `sample` counts 0..G-1 within the problem's group;
    `thought_open` says that the prompt ended inside a thought.
    """

    problem: Problem
    sample: int
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    sampled_logprobs: tuple[float, ...]
    text: str
    finish: Finish
    thought_open: bool = False

    @property
    def response(self) -> Response:
        """What a grader sees of it."""
        return Response(self.problem, self.text, self.finish == "length", self.thought_open)
