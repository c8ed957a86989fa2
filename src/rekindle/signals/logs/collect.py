"""Reading a log into columns: rows are appended, then groups, repeats and evaluations found."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import nan

import numpy as np
from scipy import special

from rekindle.signals.logs.not_data import find_evaluation, find_repeats
from rekindle.signals.logs.record import LoggedRow, LogReader
from rekindle.signals.logs.run_log import MARKS, Bools, Ints, RunLog, prompt_key

KEPT_CHARS = 48_000_000  # texts of a small log stay in memory
CHUNK = 2_000  # rows that are objects at a time
SAMPLE = 4_000  # of a large log so many answers and up to twice as many, evenly spread
ODD = 1e-4  # of runs of so many groups of one prompt
PREVIEW = 400  # characters of a prompt that are kept
_NUMBERS = ("score", "advantage", "tokens", "cut", "logprob", "sampler_logprob", "gap", "trained")


_SPLITS = {None: 0, "train": 1, "eval": 2}


class _Columns:
    """Columns that grow by some thousand rows at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.numbers = {name: array("d") for name in _NUMBERS}
        self.integers = {
            name: array("q") for name in ("step", "prompt", "chars", "text", "file", "row", "block")
        }
        self.marks = {mark: bytearray() for mark in MARKS}
        self.parts: dict[str, array[float]] = {}
        self.splits = bytearray()  # 0 unsaid, 1 train, 2 eval
        self.keys: list[Hashable] = []
        self.prompt_of: dict[int, int] = {}
        self.prompts: list[str] = []
        self.prompt_keys: list[str] = []
        self.golds: list[str | None] = []
        self.texts: list[str] | None = []
        self.sample: dict[int, str] = {}
        self.stride = 1
        self.kept = 0
        self.block = -1
        self.last: tuple[int, int | None] | None = None

    def add(self, rows: Sequence[LoggedRow]) -> None:
        """Append rows."""
        by_field = dict(zip(LoggedRow._fields, zip(*rows, strict=True), strict=True))
        for name, numbers in self.numbers.items():
            numbers.frombytes(np.array(by_field[name], dtype=np.float64).tobytes())
        self._add_parts([row.parts for row in rows])
        texts = [row.text for row in rows]
        integers = self.integers
        integers["step"].extend([-1 if row.step is None else row.step for row in rows])
        integers["chars"].extend(map(len, texts))
        integers["text"].extend(map(hash, texts))
        integers["file"].extend([row.place.file for row in rows])
        integers["row"].extend([row.place.row for row in rows])
        integers["prompt"].extend([self._prompt(row) for row in rows])
        integers["block"].extend([self._block((row.place.file, row.step)) for row in rows])
        for mark, seen in self.marks.items():
            seen.extend([mark in text for text in texts])
        self.splits.extend([_SPLITS[row.split] for row in rows])
        self.keys.extend([row.group for row in rows])
        self.count += len(rows)
        self._keep(texts)

    def _add_parts(self, parts: Sequence[Mapping[str, float | None]]) -> None:
        for name in {name for row in parts for name in row} - self.parts.keys():
            self.parts[name] = array("d", [nan]) * self.count
        for name, column in self.parts.items():
            values = [row.get(name) for row in parts]
            column.frombytes(np.array(values, dtype=np.float64).tobytes())

    def _block(self, here: tuple[int, int | None]) -> int:
        if here != self.last:
            self.block, self.last = self.block + 1, here
        return self.block

    def _prompt(self, row: LoggedRow) -> int:
        key = hash(row.prompt) if row.prompt else hash((row.group, row.gold))
        number = self.prompt_of.get(key)
        if number is None:
            number = self.prompt_of[key] = len(self.prompts)
            self.prompts.append(row.prompt[:PREVIEW])
            self.prompt_keys.append(prompt_key(row.prompt) if row.prompt else "")
            self.golds.append(row.gold)
        return number

    def prompt_a_group(self, group_N: Ints) -> Ints:
        """Where nothing says which groups are of one prompt, each is its own."""
        count = int(group_N.max(initial=-1)) + 1
        self.prompts, self.prompt_keys = [""] * count, [""] * count
        self.golds = self.golds * count
        return group_N

    def _keep(self, texts: Sequence[str]) -> None:
        """Keep the texts of the last rows, or one in `stride` of them once they are many."""
        first = self.count - len(texts)
        if self.texts is not None:
            self.texts.extend(texts)
            self.kept += sum(map(len, texts))
            if self.kept <= KEPT_CHARS:
                return
            self.sample, self.texts = dict(enumerate(self.texts)), None
        else:
            start = -first % self.stride
            mine = range(first + start, self.count, self.stride)
            self.sample.update(zip(mine, texts[start :: self.stride], strict=True))
        while len(self.sample) > 2 * SAMPLE or (
            len(self.sample) > 1 and sum(map(len, self.sample.values())) > KEPT_CHARS
        ):
            self.stride *= 2
            self.sample = {row: t for row, t in self.sample.items() if row % self.stride == 0}


def collect(reader: LogReader) -> RunLog:
    """Read a log whole.

    Raises:
        DataError: a file cannot be read, or there is no row.
    """
    columns, rows = _Columns(), reader.rows()
    while chunk := list(islice(rows, CHUNK)):
        columns.add(chunk)
    numbers = {name: np.frombuffer(column) for name, column in columns.numbers.items()}
    integers = {
        name: np.frombuffer(column, dtype=np.int64) for name, column in columns.integers.items()
    }
    block_N = integers.pop("block")
    group_N, grouped_by = find_groups(
        columns.keys,
        block_N,
        integers["prompt"],
        reader.about.group_size,
        span=reader.about.groups_span,
    )
    if columns.prompts == [""]:
        integers["prompt"] = columns.prompt_a_group(group_N)
    split_N = np.frombuffer(bytes(columns.splits), dtype=np.uint8)
    log = RunLog(
        about=reader.about,
        reader=reader,
        group_N=group_N,
        parts={name: np.frombuffer(column) for name, column in columns.parts.items()},
        marks={
            mark: np.frombuffer(bytes(column), dtype=np.bool_)
            for mark, column in columns.marks.items()
        },
        repeated_N=np.zeros(len(group_N), dtype=np.bool_),
        evaluation_N=split_N == 2,
        said_evaluation=int((split_N == 2).sum()),
        prompts=columns.prompts,
        prompt_keys=columns.prompt_keys,
        golds=columns.golds,
        texts=columns.texts,
        sample=columns.sample,
        grouped_by=grouped_by,
        damage=tuple(reader.damage.sentences()),
        step_N=integers["step"],
        prompt_N=integers["prompt"],
        chars_N=integers["chars"],
        text_N=integers["text"],
        file_N=integers["file"],
        row_N=integers["row"],
        score_N=numbers["score"],
        advantage_N=numbers["advantage"],
        tokens_N=numbers["tokens"],
        cut_N=numbers["cut"],
        logprob_N=numbers["logprob"],
        sampler_logprob_N=numbers["sampler_logprob"],
        gap_N=numbers["gap"],
        trained_N=numbers["trained"],
    )
    log = replace(log, repeated_N=find_repeats(log, block_N))
    return replace(log, evaluation_N=find_evaluation(log, split_N > 0))


# --- groups


def find_groups(
    keys: Sequence[Hashable],
    block_N: Ints,
    prompt_N: Ints,
    size: int | None,
    *,
    span: bool = False,
) -> tuple[Ints, str]:
    """The group of each row, and by what it was found.

    Args:
        keys: the log's own names, None where it has none.
        block_N: rows of one step in one file, written together.
        prompt_N: the prompt of each row.
        size: answers of a group, where it is known.
        span: the names are unique over all blocks.
    """
    count = len(block_N)
    if count and all(key is not None for key in keys):
        numbers: dict[Hashable, int] = {}
        named = zip(([0] * count) if span else block_N.tolist(), keys, strict=True)
        return np.array([numbers.setdefault(key, len(numbers)) for key in named]), "its own names"
    starts = np.ones(count, dtype=np.bool_)
    starts[1:] = (block_N[1:] != block_N[:-1]) | (prompt_N[1:] != prompt_N[:-1])
    first = np.flatnonzero(starts)
    lengths = np.diff(np.append(first, count))
    by_order = "the order of the rows"
    fits = np.ones(len(lengths), dtype=np.bool_)
    if size is None:
        size = _usual(lengths)
        if size < 2 and _shuffled(lengths, block_N, prompt_N):
            pairs = np.stack([block_N, prompt_N], axis=1)
            _, index, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
            rank = np.argsort(np.argsort(index))
            return rank[inverse.ravel()].astype(np.int64), "the prompt within a step"
        size = size if size > 1 else 0
        fits = _of_size(lengths, size, len(np.unique(prompt_N))) if size else fits
    else:
        by_order += f", {size} to a group"
    run_N = np.cumsum(starts) - 1
    place_N = np.arange(count) - first[run_N] if count else run_N
    new_N = starts | (fits[run_N] & (place_N % size == 0)) if size else starts
    return np.cumsum(new_N) - 1, by_order


def _usual(lengths: Ints) -> int:
    """The most common length of a run, where most runs are multiples of it; 0 where they are not.

    Evaluations may have groups of another size; a prompt that is drawn twice in a row is a run of
    twice the length.
    """
    if not len(lengths):
        return 0
    sizes, counts = np.unique(lengths, return_counts=True)
    size = int(sizes[counts.argmax()])
    return size if 2 * int((lengths % size == 0).sum()) >= len(lengths) else 0


def _of_size(lengths: Ints, size: int, prompts: int) -> Bools:
    """Which runs are made of groups of a size: multiples of it, as often as a prompt may be drawn
    twice in a row, once in `prompts` draws. What comes more often (p < 1e-4) is a size of its own.
    """
    fits: Bools = lengths % size == 0
    for length in np.unique(lengths[fits]):
        count = int((lengths == length).sum())
        expected = len(lengths) * prompts ** (1 - length / size)
        if length > size and special.pdtrc(count - 1, expected) < ODD:
            fits &= lengths != length
    return np.asarray(fits)


def _shuffled(lengths: Ints, block_N: Ints, prompt_N: Ints) -> bool:
    """Whether prompts come back within a step, more often than neighbours share one."""
    seen = Counter(zip(block_N.tolist(), prompt_N.tolist(), strict=True))
    return len(seen) < 0.75 * len(lengths)
