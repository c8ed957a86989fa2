"""Logs made of columns, for what is told of them."""

from pathlib import Path

import numpy as np

from rekindle.signals.logs.lines import Damage
from rekindle.signals.logs.record import LogAbout, LoggedRow, Place
from rekindle.signals.logs.run_log import MARKS, RunLog


class Rows:
    """A reader of rows that are there."""

    def __init__(self, about, rows):
        self.about, self.damage, self._rows = about, Damage(), rows

    def rows(self):
        yield from self._rows


def make_log(
    score, group, *, prompt=None, texts=None, parts=None, history=(), kept=True, **columns
):
    """A log of rows: `score` and `group` by row, each prompt one group unless it is given."""
    score, group = np.asarray(score, dtype=float), np.asarray(group)
    count = len(score)
    prompt = group if prompt is None else np.asarray(prompt)
    texts = [f"answer {row}" for row in range(count)] if texts is None else list(texts)
    about = LogAbout("planted", None, (Path("planted.jsonl"),), history=tuple(history))
    unknown = np.full(count, np.nan)

    def column(name):
        return np.asarray(columns.pop(name), dtype=float) if name in columns else unknown

    golds = columns.pop("golds", [None] * (int(prompt.max(initial=-1)) + 1))
    flags = {
        name: np.asarray(columns.pop(name, np.zeros(count)), dtype=bool)
        for name in ("repeated_N", "evaluation_N")
    }
    step = np.asarray(columns.pop("step", np.ones(count)), dtype=np.int64)
    log = RunLog(
        about=about,
        reader=Rows(
            about,
            [
                LoggedRow(Place(0, row + 1), int(step[row]), "", text, score[row])
                for row, text in enumerate(texts)
            ],
        ),
        step_N=step,
        group_N=group.astype(np.int64),
        prompt_N=prompt.astype(np.int64),
        score_N=score,
        parts={name: np.asarray(part, dtype=float) for name, part in (parts or {}).items()},
        advantage_N=column("advantage"),
        tokens_N=column("tokens"),
        cut_N=column("cut"),
        logprob_N=column("logprob"),
        sampler_logprob_N=column("sampler_logprob"),
        gap_N=column("gap"),
        trained_N=column("trained"),
        chars_N=np.array([len(text) for text in texts]),
        text_N=np.array([hash(text) for text in texts]),
        marks={mark: np.array([mark in text for text in texts]) for mark in MARKS},
        file_N=np.zeros(count, dtype=np.int64),
        row_N=np.arange(1, count + 1),
        prompts=[f"prompt {number}" for number in range(int(prompt.max(initial=-1)) + 1)],
        golds=golds,
        texts=texts if kept else None,
        grouped_by="the test",
        **flags,
    )
    assert not columns, columns
    return log


def by_name(findings):
    """Findings by their name, each name once."""
    found = {one.name: one for one in findings}
    assert len(found) == len(findings)
    return found
