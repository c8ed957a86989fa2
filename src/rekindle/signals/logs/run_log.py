"""A log as columns: which rows are data, which group and prompt each belongs to.

Three kinds of rows are no data of training, and are found here: a batch that was written before
(`repeated`), answers of an evaluation among the training rows (`evaluation`), and groups that were
filtered out before the update where the log has both (`trained` 0).

Groups that the log does not name are runs of rows: a trainer writes the answers to one prompt one
after the other. Their size is the log's own, else the most common length of a run: a prompt may be
drawn twice in a row, and evaluations may have another size. Where no two neighbours share a prompt
the rows were put in another order, and a group is what has one prompt in one step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rekindle.signals.logs.record import LogAbout, LogReader

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
MARKS = ("\\boxed{", "<answer>", "</think>", "####")  # of a format, looked for in answers


def prompt_key(prompt: str) -> str:
    """Sixteen hexadecimal digits that name a prompt in whatever log it stands."""
    return hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, eq=False)
class RunLog:
    """The rows of a log, by column. Arrays have one entry a row, [N], in the order of the files.

    Attributes:
        about: what was known before the rows were read.
        step_N: -1 where the log has none.
        group_N: number of the row's group, from 0 in order of appearance.
        prompt_N: number of its prompt in `prompts`.
        score_N, advantage_N, tokens_N, cut_N, logprob_N, sampler_logprob_N, gap_N, trained_N: see
            `LoggedRow`; nan is missing, cut and trained are 0 or 1.
        parts: each reward by its name, [N].
        chars_N: length of the answer.
        text_N: hash of the answer, the same for equal ones.
        marks: for each of `MARKS`, whether the answer has it, [N] bool.
        file_N, row_N: where the row stands.
        repeated_N: the batch was written before.
        evaluation_N: of an evaluation; of `said_evaluation` rows the log itself says so.
        prompts: the first characters of each prompt.
        prompt_keys: a hash of each prompt as it was written, the same in every log: `prompt_key`;
            "" where the log has none.
        golds: the reference answer of each prompt, where the log has it.
        texts: the answers; None where they are too many to keep, see `texts_of`.
        sample: answers of every k-th row by its number, where the texts are too many to keep.
        damage: sentences about lines that were left out.
    """

    about: LogAbout
    reader: LogReader
    step_N: Ints
    group_N: Ints
    prompt_N: Ints
    score_N: Floats
    parts: Mapping[str, Floats]
    advantage_N: Floats
    tokens_N: Floats
    cut_N: Floats
    logprob_N: Floats
    sampler_logprob_N: Floats
    gap_N: Floats
    trained_N: Floats
    chars_N: Ints
    text_N: Ints
    marks: Mapping[str, Bools]
    file_N: Ints
    row_N: Ints
    repeated_N: Bools
    evaluation_N: Bools
    prompts: Sequence[str]
    golds: Sequence[str | None]
    texts: Sequence[str] | None
    grouped_by: str
    sample: Mapping[int, str] = field(default_factory=dict)
    damage: tuple[str, ...] = ()
    said_evaluation: int = 0
    prompt_keys: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.step_N)

    @cached_property
    def data_N(self) -> Bools:
        """Rows of training, each once."""
        return ~(self.repeated_N | self.evaluation_N)

    def texts_of(self, rows: Sequence[int]) -> dict[int, str]:
        """The answers of rows by their number; read again from disk where they were not kept."""
        if self.texts is not None:
            return {row: self.texts[row] for row in rows}
        wanted = set(rows)
        last = max(wanted, default=-1)
        found = dict[int, str]()
        for row, logged in enumerate(self.reader.rows()):
            if row in wanted:
                found[row] = logged.text
            if row >= last:
                break
        return found

    def spread_sample(self, most: int) -> dict[int, str]:
        """The answers of at most so many rows of training, evenly spread, from memory."""
        if self.texts is None:
            rows = [row for row in self.sample if self.data_N[row]]
        else:
            rows = np.flatnonzero(self.data_N).tolist()
        stride = -(-len(rows) // most) if rows else 1
        kept = self.sample if self.texts is None else self.texts
        return {row: kept[row] for row in rows[::stride]}
