"""A run while it goes on: groups are classed as they come, and what a log tells is there at once.

watch = Watch()
for step in range(...):
    ...
    told = watch.observe(step, groups, scores, texts=texts, prompts=prompts)
    if told.word:
        print(told.word)
watch.diagnosis()   # as `diagnose_log` of the rows that are kept

A call holds the whole groups of one batch of training. Rows of evaluations stay out, and so does a
batch that is trained on a second time. What is kept is bounded: the rows of the last `keep`
batches, fewer where their texts are longer than 48 million characters, and five counts a batch.

Axes: N rows of a batch, P its groups.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rekindle.errors import ConfigError, did_you_mean
from rekindle.signals.logs.collect import KEPT_CHARS, collect
from rekindle.signals.logs.lines import Damage
from rekindle.signals.logs.record import LogAbout, LoggedRow, Place
from rekindle.signals.logs.run_log import Floats, Ints
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_rows
from rekindle.signals.run_diagnosis.early_word import ALPHA, FLOOR, EarlyWord, Turn
from rekindle.signals.run_diagnosis.groups import (
    ALL_RIGHT,
    ALL_WRONG,
    CLASSES,
    MISSING,
    MIXED,
    TIED,
    class_groups,
    is_named_as_verdict,
    read_verdicts,
)
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis
from rekindle.signals.run_diagnosis.log_finding import percent

KEEP = 50  # batches whose rows are kept
COUNTED = 10_000  # batches whose counts are kept, for what a word says of before and after
SCORE = "score"


class StepSignal(NamedTuple):
    """What one batch showed.

    The shares are of its groups with a verdict, nan where none has one. `e_value` is the evidence
    so far that the signal is out (`early_word`); `word` is a sentence at the step where that turns.
    """

    step: int
    groups: int
    all_wrong: float
    mixed: float
    all_right: float
    tied: float
    e_value: float
    turn: Turn | None
    word: str | None


class _Batch(NamedTuple):
    """The rows of one call."""

    step: int
    rows: list[LoggedRow]
    chars: int


class Watch:
    """The signal of a run, batch by batch.

    Args:
        verifier: the part of the reward that says right or wrong; None: the one whose name says so,
            else the score. It is chosen at the first batch.
        p0: a signal is going out where fewer of a step's groups than this are mixed.
        alpha: the probability that a word is a false one.
        keep: batches whose rows are kept for `diagnosis`.

    Attributes:
        column: what says right or wrong; None before the first batch.
        count_C: [5] groups so far in each class, as `groups.CLASSES` has them.
        batches: how many were observed.

    Raises:
        ConfigError: p0 or alpha is not inside 0 and 1, or keep below 1.
    """

    def __init__(
        self,
        *,
        verifier: str | None = None,
        p0: float = FLOOR,
        alpha: float = ALPHA,
        keep: int = KEEP,
    ) -> None:
        if keep < 1:
            raise ConfigError("keep is below 1", got=keep, wanted="batches to keep, 1 or more")
        self.early = EarlyWord(p0, alpha)
        self.alpha, self.keep = alpha, keep
        self.column: str | None = None
        self.count_C: Ints = np.zeros(len(CLASSES), dtype=np.int64)
        self.batches = 0
        self._verifier = verifier
        self._values: list[float] = []  # that the column has had, up to three
        self._kept: deque[_Batch] = deque()
        self._chars = 0
        self._history: deque[tuple[int, Ints]] = deque(maxlen=COUNTED)

    def observe(
        self,
        step: int,
        groups: Sequence[Hashable],
        scores: Sequence[float | None],
        *,
        logprobs: Sequence[float | None] | None = None,
        texts: Sequence[str] | None = None,
        tokens: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        parts: Mapping[str, Sequence[float | None]] | None = None,
        advantages: Sequence[float] | None = None,
        cut: Sequence[bool] | None = None,
    ) -> StepSignal:
        """Take in a batch: lists, arrays or tensors of a CPU with one entry a row.

        Args:
            step: as the trainer counts.
            groups: the group of each row, by any name that is its own in this batch.
            scores: the rewards that training uses; None or nan is missing.
            logprobs: of the whole answers, in nats.
            texts: the answers.
            tokens: how many each answer has.
            prompts: what was asked; without them each group counts as a prompt of its own.
            parts: each reward by its name, where `scores` is made of several.
            advantages: as training uses them.
            cut: whether the answer was ended by the token limit.

        Raises:
            ConfigError: the columns differ in length or type, there is no such verifier, or no
                group of the first batch has two rows.
        """
        names = _keys(groups)
        numbers = {"scores": scores, "logprobs": logprobs, "tokens": tokens, "cut": cut}
        numbers |= {"advantages": advantages, **{f"part {k}": v for k, v in (parts or {}).items()}}
        column = {k: _column(k, v, len(names)) for k, v in numbers.items() if v is not None}
        for what, given in (("texts", texts), ("prompts", prompts)):
            _check_length(what, given, len(names))
        number_of: dict[Hashable, int] = {}
        number_N = np.array(
            [number_of.setdefault(k, len(number_of)) for k in names], dtype=np.int64
        )
        if not self.batches and names and len(number_of) == len(names):
            raise _no_groups(len(names))
        part_N = {name: column[f"part {name}"] for name in parts or ()}
        count_C = self._classes(column["scores"], part_N, number_N, len(number_of))
        self._keep_rows(step, _rows(step, self.batches, number_N, column, part_N, texts, prompts))
        return self._told(step, count_C)

    def diagnosis(self, since: int | None = None) -> LogDiagnosis:
        """The findings, the cause and the remedies of the rows that are kept.

        Args:
            since: leave out what came before this step.

        Raises:
            DataError: no row is kept.
        """
        batches = [one for one in self._kept if since is None or one.step >= since]
        note = f"rows of the last {len(batches)} of {self.batches} batches: the run goes on"
        log = collect(_KeptRows(batches, note))
        return diagnose_rows(log, verifier_column=None if self.column == SCORE else self.column)

    def _classes(
        self, score_N: Floats, part_N: Mapping[str, Floats], number_N: Ints, count: int
    ) -> Ints:
        """How many groups of a batch are in each class."""
        columns = {SCORE: score_N, **part_N}
        if self.column is None:
            self.column = _choose(self._verifier, columns)
        value_N = columns.get(self.column, np.full_like(score_N, np.nan))
        if len(self._values) < 3:
            seen = np.unique(value_N[~np.isnan(value_N)])
            self._values = sorted({*self._values, *seen[:3].tolist()})[:3]
        classes = class_groups(read_verdicts(value_N, self._values), score_N, number_N, count)
        return np.bincount(classes.class_P, minlength=len(CLASSES))

    def _keep_rows(self, step: int, rows: list[LoggedRow]) -> None:
        chars = sum(len(row.text) for row in rows)
        self._kept.append(_Batch(step, rows, chars))
        self._chars += chars
        self.batches += 1
        while len(self._kept) > self.keep or (self._chars > KEPT_CHARS and len(self._kept) > 1):
            self._chars -= self._kept.popleft().chars

    def _told(self, step: int, count_C: Ints) -> StepSignal:
        self.count_C = self.count_C + count_C
        self._history.append((step, count_C))
        known = int(count_C.sum() - count_C[MISSING])
        share_C = count_C / known if known else np.full(len(CLASSES), math.nan)
        turn = self.early.observe(step, float(share_C[MIXED]))
        return StepSignal(
            step=step,
            groups=int(count_C.sum()),
            all_wrong=float(share_C[ALL_WRONG]),
            mixed=float(share_C[MIXED]),
            all_right=float(share_C[ALL_RIGHT]),
            tied=float(share_C[TIED]),
            e_value=self.early.e_value,
            turn=turn,
            word=None if turn is None else self._word(step, turn),
        )

    def _word(self, step: int, turn: Turn) -> str:
        """The sentence at the step where the signal goes out, or comes back."""
        spell = self.early.below if turn == "out" else self.early.above
        since = step if spell.start is None else spell.start
        after, before = (
            _shares([count_C for at, count_C in self._history if (at >= since) == late])
            for late in (True, False)
        )
        floor, when = percent(self.early.floor), f"step {step}: the signal"
        if turn == "back":
            return f"{when} is back: since step {since} {after}"
        return (
            f"{when} went out: since step {since} {after}; before, {before}. A run that keeps "
            f"{floor} mixed is told this with probability {percent(self.alpha)} at most"
        )


class _KeptRows:
    """The rows that are kept, as a log."""

    def __init__(self, batches: Sequence[_Batch], note: str) -> None:
        self.about = LogAbout("live", None, (Path("live"),), notes=(note,))
        self.damage = Damage()
        self._batches = batches

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in the order of training."""
        for batch in self._batches:
            yield from batch.rows


def _keys(groups: Sequence[Hashable]) -> list[Hashable]:
    """The names of groups as Python values: an entry of an array or a tensor is an object alone."""
    try:
        return list(groups) if isinstance(groups, list | tuple) else np.asarray(groups).tolist()
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unreadable("groups", error) from None


def _column(name: str, values: Sequence[float | None], count: int) -> Floats:
    _check_length(name, values, count)
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unreadable(name, error) from None
    if array.ndim != 1:
        raise _unreadable(name, f"{array.ndim} axes")
    return array


def _unreadable(name: str, error: object) -> ConfigError:
    return ConfigError(
        f"observe: {name} cannot be read as one value a row",
        got=str(error)[:120],
        wanted="a list, an array or a tensor of a CPU, with one axis",
        why="rows are kept as plain numbers",
        fix=f"{name}.tolist(), for a tensor of a GPU",
    )


def _check_length(name: str, values: Sequence[object] | None, count: int) -> None:
    if values is not None and len(values) != count:
        raise ConfigError(
            f"observe: {name} and groups differ in length",
            got=f"{len(values)} {name}, {count} groups",
            wanted="one entry a row in each",
            why="rows are read by their place",
            fix="repeat what belongs to a prompt for each of its answers",
        )


def _no_groups(count: int) -> ConfigError:
    return ConfigError(
        "observe: every row is a group of its own",
        got=f"{count} rows with {count} different names of groups",
        wanted="the same name for all answers to one prompt",
        why="a group without a second answer has nothing to compare",
        fix="groups=[i // num_generations for i in range(rows)] where rows keep their order",
    )


def _choose(verifier: str | None, columns: Mapping[str, Floats]) -> str:
    """What says right or wrong."""
    if verifier is None:
        return next((name for name in columns if is_named_as_verdict(name)), SCORE)
    if verifier not in columns:
        raise ConfigError(
            f"verifier={verifier!r}: the rows have no such reward",
            got=", ".join(columns),
            wanted="the name of one of them",
            why="groups are classed by what says right or wrong",
            fix=did_you_mean(verifier, columns),
        )
    return verifier


def _rows(
    step: int,
    batch: int,
    number_N: Ints,
    column: Mapping[str, Floats],
    part_N: Mapping[str, Floats],
    texts: Sequence[str] | None,
    prompts: Sequence[str] | None,
) -> list[LoggedRow]:
    """The rows of a batch as a reader gives them."""
    number = {name: values.tolist() for name, values in column.items()}
    nothing = [None] * len(number_N)
    tokens = [None if math.isnan(n) else int(n) for n in number.get("tokens", ())] or nothing
    cut = [None if math.isnan(flag) else bool(flag) for flag in number.get("cut", ())] or nothing
    parts = [
        dict(zip(part_N, row, strict=True))
        for row in zip(*(values.tolist() for values in part_N.values()), strict=True)
    ] or [{}] * len(number_N)
    return [
        LoggedRow(
            place=Place(0, i + 1),
            step=step,
            prompt=prompts[i] if prompts is not None else f"batch {batch + 1}, group {group + 1}",
            text=texts[i] if texts is not None else "",
            score=number["scores"][i],
            parts=parts[i],
            group=(batch, group),
            advantage=number.get("advantages", nothing)[i],
            tokens=tokens[i],
            cut=cut[i],
            logprob=number.get("logprobs", nothing)[i],
            split="train",
        )
        for i, group in enumerate(number_N.tolist())
    ]


def _shares(counts: Sequence[Ints]) -> str:
    """`3 % of 200 groups mixed (95 % all wrong, 2 % all right)`."""
    count_C = np.sum(counts, axis=0) if counts else np.zeros(len(CLASSES), dtype=np.int64)
    known = int(count_C.sum() - count_C[MISSING])
    if not known:
        return "there is no group with a verdict"
    wrong, right, mixed = (percent(count_C[code] / known) for code in (ALL_WRONG, ALL_RIGHT, MIXED))
    return f"{mixed} of {known} groups are mixed ({wrong} all wrong, {right} all right)"
