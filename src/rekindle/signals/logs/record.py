"""One logged rollout, and the log it stands in: what every reader gives, whoever wrote it.

Axes: N rows (rollouts on disk, in the order of the files). A value that the log does not have is
None here and nan in columns; it is never 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from rekindle.signals.logs.lines import Damage

LogSplit = Literal["train", "eval"]
NO_PARTS: Mapping[str, float | None] = {}


class Place(NamedTuple):
    """Where a row stands: its file, by number in `LogAbout.files`, and its line or row there, from
    1."""

    file: int
    row: int


class LoggedRow(NamedTuple):
    """One rollout as the trainer wrote it."""

    place: Place
    step: int | None  # of the optimizer or of the generation, as the trainer counts
    prompt: str  # as written; a chat as its JSON
    text: str  # the answer
    score: float | None  # the reward that was used, all parts together
    parts: Mapping[str, float | None] = NO_PARTS  # each reward by its name
    group: Hashable | None = None  # of its step; None: the log names no groups
    advantage: float | None = None
    tokens: int | None = None  # of the answer
    cut: bool | None = None  # ended by the token limit
    logprob: float | None = None  # of the whole answer, nats, by the trainer
    sampler_logprob: float | None = None
    gap: float | None = None  # mean |trainer - sampler| over the answer's tokens, nats
    split: LogSplit | None = None  # None: the log does not say
    trained: bool | None = None  # False: filtered out before the update
    gold: str | None = None  # the reference answer


@dataclass(frozen=True)
class LogAbout:
    """What is known of a log before its rows are read.

    Attributes:
        format: the reader's name.
        version: of the trainer or of its layout, as far as it is seen.
        files: those that are read, in order.
        group_size: answers of a group, where the log or its settings say so.
        steps_taken: by the trainer's own state; None: it left none.
        eval_steps: steps at which it evaluated, where its state says so.
        settings: what else its state says, by the trainer's names.
        notes: what the format cannot tell, one sentence each.
        groups_span: its names of groups are unique over all steps: answers to one prompt may come
            in at two steps.
        history: the metrics that it logged, one mapping a logged step, each with `step`.
    """

    format: str
    version: str | None
    files: tuple[Path, ...]
    group_size: int | None = None
    steps_taken: int | None = None
    eval_steps: frozenset[int] = frozenset()
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    groups_span: bool = False
    history: tuple[Mapping[str, float], ...] = ()


class LogReader(Protocol):
    """A trainer's log: what it is, and its rows as often as they are asked for."""

    @property
    def about(self) -> LogAbout:
        """What is known before the rows are read."""

    @property
    def damage(self) -> Damage:
        """What `rows` left out, once it has been read to its end."""

    def rows(self) -> Iterator[LoggedRow]:
        """Every row on disk, in order.

        Raises:
            DataError: a row that cannot be read; the file and the line are named. What a trainer
                was writing when it was looked at, a last line without its end, is left out.
        """


class ColumnMap(NamedTuple):
    """Which column holds what, from `--map`: the names of a `LoggedRow`'s fields, and `rm`."""

    columns: Mapping[str, str]

    def name(self, key: str) -> str | None:
        """The column of a field; None: not mapped."""
        return self.columns.get(key)
