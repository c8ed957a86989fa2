"""NeMo-RL's `train_data_step<N>.jsonl`, written by default into the run's log directory.

Read from its source (7ea279abf). A row holds slices of a batch of one: `rewards: [1.0]`, `content:
[[user text, assistant text]]` (texts in the order of turns, without roles), `token_ids: [[...]]`;
only `idx` is bare. How it misleads:

* There is no name of a group or prompt: a group is a run of rows whose first texts are equal.
* Tensors are padded: what counts is where `token_loss_mask` is 1.
* With dynamic sampling a row's `content` is of a kept answer, its `filtered_rewards` is that
  answer's reward, and its `rewards` is the reward of another: of the row of the same number among
  all that were generated. Groups without spread are gone from the texts, and can be counted in
  `rewards`, which are in the order in which they were generated.
* `prev_logprobs` are the trainer's and `generation_logprobs` the sampler's.
* Validation rows hold messages with roles in place of texts.
* The synchronous trainer writes `content` behind the token lists, or not at all.
* A system prompt is a text of its own, the first of every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import simdjson

from rekindle.signals.logs.lines import HUGE, Damage, Extract, Row, floats, number, plain
from rekindle.signals.logs.mapped import LARGEST, as_number, as_text, natural
from rekindle.signals.logs.record import LogAbout, LoggedRow, LogSplit, Place
from rekindle.signals.logs.tables import column_names, each_row

NAME = "nemo_rl"
NEEDED = {"rewards", "idx"}
KEPT = "filtered_rewards"
SEEN = 256  # rows by which the layout of a prompt is known
TOKEN_ROWS = 10_000  # of a large log; the log-probs of the others are not read
_DYNAMIC = (
    "dynamic sampling: only groups with spread are in the log, and its shares are of these; the "
    "column `rewards` is of other answers than the texts beside it: metrics/... count in it what "
    "was generated, but for batches without any spread"
)
_NO_TEXT = "the rows hold no texts: token numbers stand for prompts and answers"
_FILES = ("train_data_step*.jsonl", "val_data_step*.jsonl")


@dataclass(frozen=True)
class NemoReader:
    """The rows of `train_data_step<N>.jsonl`.

    Attributes:
        by_token: files of which the token lists are read.
        score: the column of the reward of a row's own answer.
        until: the first column of the token lists; None: other columns stand behind them.
        lead: texts of a row that are its prompt.
    """

    about: LogAbout
    by_token: frozenset[int]
    score: str
    until: bytes | None
    lead: int
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every row, in order."""
        for file, path in enumerate(self.about.files):
            step = _step_of(path)
            split: LogSplit = "eval" if path.name.startswith("val") else "train"
            by_token = file in self.by_token
            extract = self._row_maker(file, step, split, by_token)
            until = None if by_token or split == "eval" else self.until
            yield from each_row(path, extract, self.damage, until=until)

    def _row_maker(
        self, file: int, step: int, split: LogSplit, by_token: bool
    ) -> Extract[LoggedRow]:
        score, lead = "rewards" if split == "eval" else self.score, self.lead

        def make(row: Row, line: int) -> LoggedRow:
            advantage = None
            tokens = logprob = sampled = gap = mask_T = None
            if by_token and (mask_T := _first(row, "token_loss_mask")) is not None:
                kept_T = mask_T > 0
                tokens = int(kept_T.sum())
                advantage = _mean(_first(row, "advantages"), kept_T)
                logprob, sampled, gap = _log_probs(row, kept_T)
            turns = _turns(row) or _ids(row, mask_T)
            return LoggedRow(
                Place(file, line),
                step,
                turns[0] if lead == 1 else "\n".join(turns[:lead]),
                turns[lead] if len(turns) == lead + 1 else "\n".join(turns[lead:]),
                _score(row.get(score)),
                advantage=advantage,
                tokens=tokens,
                logprob=logprob,
                sampler_logprob=sampled,
                gap=gap,
                split=split,
            )

        return make


def is_nemo(path: Path) -> bool:
    """Whether a directory holds NeMo-RL's files."""
    files = _dumps(path)
    return bool(files) and set(column_names(_written(files))) >= NEEDED


def open_nemo(path: Path) -> NemoReader:
    """The log of a NeMo-RL run.

    Raises:
        DataError: its files cannot be read.
    """
    files = _dumps(path)
    names = column_names(_written(files))
    by_token = _evenly_spread(files) if "content" in names else frozenset(range(len(files)))
    notes = [
        note
        for note, holds in (
            (_part(len(by_token), len(files)), len(by_token) < len(files)),
            (_DYNAMIC, KEPT in names),
            (_NO_TEXT, "content" not in names),
        )
        if holds
    ]
    behind = "content" in names and names.index("content") > names.index("rewards")
    return NemoReader(
        LogAbout(
            NAME,
            None,
            tuple(files),
            notes=tuple(notes),
            history=_generated(files, by_token) if KEPT in names else (),
        ),
        by_token,
        score=KEPT if KEPT in names else "rewards",
        until=None if behind else b"input_lengths",
        lead=_lead(_written(files)),
    )


def _generated(files: list[Path], chosen: frozenset[int]) -> tuple[Mapping[str, float], ...]:
    """Shares of the groups that were generated at some steps, before those without spread went."""
    steps = [_step_of(files[i]) for i in sorted(chosen) if files[i].name.startswith("train")]
    groups = [
        made
        for i in sorted(chosen)
        if files[i].name.startswith("train")
        for made in [_generated_groups(files[i])]
    ]
    values = np.unique(np.concatenate([made.ravel() for made in groups])) if groups else np.zeros(0)
    two = len(values) == 2
    history = []
    for step, score_PG in zip(steps, groups, strict=True):
        if not len(score_PG):
            continue
        equal_P = score_PG.max(axis=1) == score_PG.min(axis=1)
        row = {"step": float(step), "generated/no_spread": float(equal_P.mean())}
        if two:
            for name, value in zip(("all_wrong", "all_right"), values.tolist(), strict=True):
                row[f"generated/{name}"] = float((equal_P & (score_PG[:, 0] == value)).mean())
        history.append(row)
    return tuple(history)


def _generated_groups(path: Path) -> np.ndarray:
    """The rewards of the groups that were generated, [P, G]; empty where the size is not known."""
    pairs = list(
        each_row(
            path,
            lambda row, _: ((_turns(row) or [""])[0], _score(row.get("rewards"))),
            Damage(),
            until=b"input_lengths",
        )
    )
    starts = [i for i, pair in enumerate(pairs) if not i or pair[0] != pairs[i - 1][0]]
    size = int(np.gcd.reduce(np.diff([*starts, len(pairs)]))) if pairs else 0
    scores = np.array([score for _, score in pairs], dtype=np.float64)
    known = size > 1 and not np.isnan(scores).any()
    return scores.reshape(-1, size) if known else np.zeros((0, 0))


def _step_of(path: Path) -> int:
    return int("".join(c for c in path.stem if c.isdecimal()))


def _written(files: list[Path]) -> Path:
    """The first file that is not empty."""
    return next((file for file in files if file.stat().st_size), files[0])


def _lead(path: Path) -> int:
    """How many texts are the prompt: two where each row's first is the same and the second, of at
    least three, comes back from row to row."""
    rows = each_row(path, lambda row, _: _turns(row) or [""], Damage(), until=b"input_lengths")
    turns = list(islice(rows, SEEN))
    seconds = [row[1] for row in turns if len(row) > 2]
    same = len({row[0] for row in turns}) == 1
    return (
        2
        if same and len(seconds) == len(turns) > 1 and 2 * len(set(seconds)) <= len(seconds)
        else 1
    )


def _dumps(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted((file for kind in _FILES for file in path.rglob(kind)), key=natural)


def _part(read: int, of: int) -> str:
    return (
        f"log-probs and token counts are read of {read} of the {of} files, evenly spread: more "
        "would take longer and tell no more"
    )


def _evenly_spread(files: list[Path]) -> frozenset[int]:
    """As many files as hold about `TOKEN_ROWS` rows."""
    with open(files[0], "rb") as file:
        line = max(1, len(file.readline()))
    rows = sum(path.stat().st_size for path in files) / line
    count = min(len(files), max(1, round(len(files) * TOKEN_ROWS / max(rows, 1))))
    return frozenset(np.linspace(0, len(files) - 1, count).round().astype(int).tolist())


def _score(value: object) -> float | None:
    """A list of one reward, or the reward."""
    if isinstance(value, simdjson.Array) and len(value) == 1:
        value = value[0]
    return value if type(value) is float and -HUGE < value < HUGE else as_number(value)


def _turns(row: Row) -> list[str] | None:
    """The texts of a conversation; None: none is written."""
    content = plain(row.get("content"))
    turns = content[0] if isinstance(content, list) and content else None
    if isinstance(turns, list) and turns:
        if set(map(type, turns)) == {str}:
            return turns
        if all(isinstance(turn, dict) for turn in turns):
            return [as_text(turn.get("content")) for turn in turns]
    return None if content is None else ["", as_text(turns)]


def _ids(row: Row, mask_T: np.ndarray | None) -> list[str]:
    """The tokens of the prompt and of the answer by their numbers, where no text is written."""
    ids_T = _first(row, "token_ids")
    if ids_T is None or mask_T is None or len(ids_T) != len(mask_T) or not mask_T.any():
        return ["", ""]
    start = int(np.argmax(mask_T > 0))
    parts = ids_T[:start], ids_T[mask_T > 0]
    return [
        " ".join(map(str, np.clip(np.nan_to_num(part), 0, LARGEST).astype(int).tolist()))
        for part in parts
    ]


def _first(row: Row, key: str) -> np.ndarray | None:
    """The one list of a slice of a batch of one."""
    value = row.get(key)
    if isinstance(value, simdjson.Array):
        return floats(value[0]) if len(value) else None
    return floats(value[0]) if isinstance(value, list) and value else None


def _mean(value_T: np.ndarray | None, kept_T: np.ndarray) -> float | None:
    if value_T is None or len(value_T) != len(kept_T) or not kept_T.any():
        return None
    return number(float(value_T[kept_T].mean()))


def _log_probs(row: Row, kept_T: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Summed log-probs of the trainer and of the sampler, and their mean distance by token."""
    both = [_first(row, key) for key in ("prev_logprobs", "generation_logprobs")]
    kept = [
        values[kept_T] if values is not None and len(values) == len(kept_T) else None
        for values in both
    ]
    theirs, sampled = kept
    gap = None
    if theirs is not None and sampled is not None and len(theirs):
        gap = number(float(np.abs(theirs - sampled).mean()))
    return (
        None if theirs is None else number(float(theirs.sum())),
        None if sampled is None else number(float(sampled.sum())),
        gap,
    )
