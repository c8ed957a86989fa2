"""What a reasoning-gym dataset's own scorer says of a text, and how far it can be trusted.

    a score            in [0, 1], partial credit included; one that a rounding step has put outside
                       is clipped, one further out is an error that names the dataset
    the scorer raises  the text is wrong, 0, and counted as unreadable; where the scorer raises on
                       the entry's own answer too, the score is missing
    code               where the scorer would run it: 0, and counted as unreadable

A scorer that pays for any text teaches nothing. So it is shown junk at load: a dataset that pays
at least half of what it pays for its own answers is refused; less is its floor, which is told and
never subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from time import perf_counter
from typing import NamedTuple, Protocol

from rekindle.errors import ConfigError, RewardFunctionError
from rekindle.records import Score
from rekindle.tasks.gym_generator import Caught, Entry
from rekindle.tasks.gym_guard import Reader, dangerous, reader_of

ROUNDING = 1e-6  # outside [0, 1]; spell_backward adds up shares to 1.0000000000000002
ENTRIES = 4  # on which junk is scored
REFUSED = 0.5  # of what a dataset pays for its own answers; junk that earns as much
PATIENCE = 5.0  # seconds, after which no further entry is scored
UNREADABLE = "unreadable"  # part of a score: 1 for a text on which the scorer raised
JUNK = (
    "",
    "I do not know.",
    "zqxj vwk",
    "-88888888.8",
    '[["zqxj"]]',
    '{"zqxj": "vwk"}',
    "zqxj vwk, for all that can be said of it here. " * 5,
)


class Dataset(Protocol):
    """A dataset of reasoning-gym."""

    def score_answer(self, answer: str | None, entry: Entry) -> float:
        """How right an answer is."""


Datasets = Mapping[str, tuple[type[Dataset], object]]  # class and class of settings, by name


class Trust(NamedTuple):
    """How a scorer did on junk and on its own answers, over a few entries.

    `junk` is what `text` earned, the most by the median: credit by chance on one entry is no
    floor. `gold` is the mean, 1 for entries without an answer of their own. `failing` of `entries`
    have an answer on which the scorer raises `error`.
    """

    dataset: str
    junk: float
    gold: float
    text: str
    entries: int
    failing: int
    error: str

    def remarks(self) -> Iterator[str]:
        """What the user of the dataset should know."""
        if self.junk > 0:
            yield (
                f"reasoning-gym dataset '{self.dataset}' pays for any text: its floor is about "
                f"{self.junk:.2g}, earned by {self.text[:40]!r} (its own answers: "
                f"{self.gold:.2g}); it is not subtracted"
            )
        if self.failing:
            yield (
                f"reasoning-gym dataset '{self.dataset}': its scorer raises on {self.failing} of "
                f"{self.entries} of its own answers ({self.error}); texts on which it raises have "
                "no score there"
            )


@dataclass(frozen=True)
class Scorer:
    """The scorer of a dataset, whose entries `datasets` tell apart where it is a composite."""

    name: str
    dataset: Dataset
    datasets: Datasets = field(repr=False)

    def score(self, answer: str, entry: Entry) -> Score:
        """The dataset's score of an answer.

        Raises:
            RewardFunctionError: it is not in [0, 1].
        """
        reader = self._reader(entry)
        if reader is not None and answer != entry["answer"] and dangerous(answer, reader):
            return Score(0.0, parts={UNREADABLE: 1.0})
        value, error = self._ask(answer, entry)
        if not error:
            return Score(self._within(value, entry), parts={UNREADABLE: 0.0})
        gold = entry["answer"]
        if gold is not None and self._ask(gold, entry)[1]:
            return Score.missing(f"the dataset's scorer fails on its own answer: {error}")
        return Score(0.0, parts={UNREADABLE: 1.0})

    def trust(self, entries: Iterable[Entry]) -> Trust:
        """How it does on junk, and on the entries' own answers; on fewer where it is slow."""
        began = perf_counter()
        golds, failures, junk = list[float](), list[str](), {text: list[float]() for text in JUNK}
        for entry in entries:
            gold = entry["answer"]
            value, error = (1.0, "") if gold is None else self._ask(gold, entry)
            if error:
                failures.append(error)
            else:
                golds.append(self._within(value, entry))
                for text, scores in junk.items():
                    scores.append(self.score(text, entry).value or 0.0)
            if perf_counter() - began > PATIENCE:
                break
        usual = {text: median(scores) if scores else 0.0 for text, scores in junk.items()}
        best = max(usual, key=usual.__getitem__)
        return Trust(
            dataset=self.name,
            junk=usual[best],
            gold=fmean(golds) if golds else 1.0,
            text=best,
            entries=len(golds) + len(failures),
            failing=len(failures),
            error=failures[0] if failures else "",
        )

    def _ask(self, answer: str, entry: Entry) -> tuple[float, str]:
        """The score, or the name of what it raised."""
        value = math.nan
        caught = Caught()
        with caught:
            value = float(self.dataset.score_answer(answer, entry))
        return value, "" if caught.error is None else type(caught.error).__name__

    def _within(self, value: float, entry: Entry) -> float:
        if -ROUNDING <= value <= 1 + ROUNDING:
            return min(max(value, 0.0), 1.0)
        source = _source(entry, self.name)
        raise RewardFunctionError(
            f"reasoning-gym dataset '{source}' gave a score outside 0 to 1",
            got=value,
            wanted="a score from 0 to 1",
            why="what such a score means for a group's mean, or for pass@k, is not defined",
            fix="use another dataset, or a reward of your own (task.verifier: module:function)",
        )

    def _reader(self, entry: Entry) -> Reader | None:
        # A composite hands each entry to the dataset that it came from.
        known = self.datasets.get(_source(entry, self.name))
        return reader_of((type(self.dataset) if known is None else known[0]).score_answer)


def refuse_junk(trust: Trust) -> None:
    """Refuse a dataset that pays for any text.

    Raises:
        ConfigError: junk earns at least half of what the dataset's own answers do.
    """
    usual = trust.gold or 1.0  # datasets without answers, or whose own score nothing
    if trust.junk < REFUSED * usual:
        return
    raise ConfigError(
        f"reasoning-gym dataset '{trust.dataset}' pays for any text",
        got=f"{trust.junk:.3g} for {trust.text[:40]!r}, {trust.gold:.3g} for its own answers "
        f"({trust.entries} problems)",
        wanted=f"less than {REFUSED:g} of what its own answers earn",
        why="training on it would reward any answer, and its evaluation would measure nothing",
        fix="use another dataset, or a reward of your own on it (task.verifier: module:function)",
    )


def _source(entry: Entry, otherwise: str) -> str:
    return str(entry["metadata"].get("source_dataset", otherwise))
