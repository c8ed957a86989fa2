"""The rollouts on a log's page: a few groups behind each number, with file and row of each answer.

Groups are spread evenly over the log. Texts are read again from disk where the log is too large to
keep them, so only chosen rows are asked for. A text stays data: the page's script writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rekindle.report.log_tables import behind
from rekindle.report.reading import Json
from rekindle.report.samples import rounded, shorten
from rekindle.signals.logs.collect import PREVIEW
from rekindle.signals.logs.run_log import Bools, Ints, RunLog
from rekindle.signals.run_diagnosis.groups import ALL_RIGHT, ALL_WRONG, CLASSES
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis

EACH = 3  # groups that are shown for a reason
ANSWERS = 12  # of a group
WHY = {
    "all_wrong": "all-wrong groups",
    "tied": "tied groups",
    "mixed": "mixed groups",
    "all_right": "all-right groups",
    "missing": "groups without a verdict",
    "false_accepts": "accepted, our check refuses",
    "false_rejects": "refused, our check accepts",
    "spread": "scores differ, verdicts do not",
    "cut": "cut by the token limit",
    "same_text": "one answer twice in a group",
    "never": "prompts never solved",
    "always": "prompts always solved",
    "came": "prompts that came",
    "went": "prompts that went",
    "unscored": "answers without a score",
    "filtered": "filtered before the update",
    "repeated": "written before, no data",
    "evaluation": "of evaluations, no data",
}


class Shown(NamedTuple):
    """A group on the page: why it is there, its rows, and how many it has."""

    why: Sequence[str]
    group: int
    rows: Sequence[int]
    size: int


class Rollouts(NamedTuple):
    """The groups of a log as the page's script reads them, what they are shown for, and a note."""

    groups: Sequence[Mapping[str, Json]]
    why: Sequence[str]
    note: str


def rollouts(name: str, root: Path, diagnosis: LogDiagnosis, budget: int) -> Rollouts:
    """A few groups for each reason, in at most about `budget` bytes.

    Args:
        name: of the log, on the page.
        root: its directory, which the files are named from.
    """
    chosen = choose(diagnosis)
    texts = diagnosis.log.texts_of(sorted({row for one in chosen for row in one.rows}))
    kept, shown, spent = list[Mapping[str, Json]](), set[str](), 0
    for one in chosen:
        group = _group(name, root, diagnosis, one, texts)
        size = len(json.dumps(group, ensure_ascii=False))
        if spent + size > budget and kept:
            continue
        spent += size
        kept.append(group)
        shown.update(one.why)
    groups = len(np.unique(diagnosis.log.group_N))
    note = f"{name}: {len(kept):,} of {groups:,} groups are on this page, a few for each number."
    return Rollouts(kept, [why for why in WHY if why in shown], note)


def choose(diagnosis: LogDiagnosis) -> list[Shown]:
    """The groups to show: the first of each reason, then the second; none twice, but for two
    reasons where it has both."""
    log = diagnosis.log
    order = np.argsort(log.group_N, kind="stable")
    starts = np.searchsorted(log.group_N[order], np.arange(int(log.group_N.max(initial=-1)) + 2))
    by_reason = [
        [(why, group, rows_N) for group in _spread_out(np.unique(log.group_N[rows_N]))]
        for why, rows_N in _reasons(diagnosis)
    ]
    reasons, named = dict[int, list[str]](), dict[int, list[Bools]]()
    for why, group, rows_N in filter(None, chain.from_iterable(zip_longest(*by_reason))):
        reasons.setdefault(group, []).append(why)
        named.setdefault(group, []).append(rows_N)
    chosen = list[Shown]()
    for group, whys in reasons.items():
        rows = order[starts[group] : starts[group + 1]]
        times = sum(rows_N[rows].astype(np.int64) for rows_N in named[group])
        most = rows[np.argsort(-times, kind="stable")][:ANSWERS]  # those named most often
        chosen.append(Shown(whys, group, np.sort(most).tolist(), len(rows)))
    return chosen


def _spread_out(groups: Ints) -> list[int]:
    """At most `EACH` of them."""
    places = np.linspace(0, len(groups) - 1, min(EACH, len(groups))).astype(np.int64)
    return [int(group) for group in groups[places]]


def _reasons(diagnosis: LogDiagnosis) -> Iterator[tuple[str, Bools]]:
    """What groups are shown for, the rarer first, and the rows that have it."""
    log, table = diagnosis.log, diagnosis.table
    data = log.data_N
    class_N = np.where(data, table.class_P[table.row_N], -1)
    spread_N = np.where(data, table.spread_P[table.row_N], False)
    for finding, rows in diagnosis.named_rows.items():
        named_N = np.zeros(len(log), dtype=np.bool_)
        named_N[rows] = True
        yield behind(finding), named_N
    yield "spread", spread_N & np.isin(class_N, (ALL_WRONG, ALL_RIGHT))
    yield "cut", data & (log.cut_N == 1)
    yield "same_text", data & _same_text(log)
    yield "unscored", data & np.isnan(log.score_N)
    yield "filtered", log.trained_N == 0
    yield "repeated", log.repeated_N
    yield "evaluation", log.evaluation_N & ~log.repeated_N
    for kind in ("never", "always", "came", "went"):
        prompts = [row.prompt for row in diagnosis.prompts if row.kind == kind]
        yield kind, data & np.isin(log.prompt_N, prompts)
    for code, name in enumerate(CLASSES):
        yield name, class_N == code


def _same_text(log: RunLog) -> Bools:
    """Whether another answer of the group is the same."""
    pairs = np.stack([log.group_N, log.text_N], axis=1)
    _, number, count = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[number.ravel()] > 1)


# --- as the page's script reads them


def _group(
    name: str, root: Path, diagnosis: LogDiagnosis, shown: Shown, texts: Mapping[int, str]
) -> Mapping[str, Json]:
    log, first = diagnosis.log, shown.rows[0]
    place = diagnosis.table.row_N[first]
    prompt = log.prompts[log.prompt_N[first]]
    step, gold = int(log.step_N[first]), log.golds[log.prompt_N[first]]
    return {
        "log": name,
        "why": shown.why,
        "class": CLASSES[diagnosis.table.class_P[place]] if place >= 0 else "",
        "step": step if step >= 0 else None,
        "group": shown.group,
        "size": shown.size,
        "prompt": prompt,
        "more": len(prompt) >= PREVIEW,
        "gold": gold and shorten(gold, "the log has them"),
        "answers": [_answer(root, diagnosis, row, texts.get(row, "")) for row in shown.rows],
    }


def _answer(root: Path, diagnosis: LogDiagnosis, row: int, text: str) -> Mapping[str, Json]:
    log = diagnosis.log
    place = f"{_named(root, log.about.files[log.file_N[row]])}, row {int(log.row_N[row])}"
    numbers = {
        "score": log.score_N, **log.parts, "advantage": log.advantage_N, "tokens": log.tokens_N,
        "log-prob": log.logprob_N, "log-prob of the sampler": log.sampler_logprob_N,
    }  # fmt: skip
    known = {key: rounded(float(column[row])) for key, column in numbers.items()}
    ours = {behind(name) for name, rows in diagnosis.named_rows.items() if row in rows}
    flags = {
        **{WHY[why]: True for why in ours},
        "cut by the token limit": log.cut_N[row] == 1,
        "filtered before the update": log.trained_N[row] == 0,
        "written before": bool(log.repeated_N[row]),
        "of an evaluation": bool(log.evaluation_N[row]),
    }
    return {
        "verdict": rounded(float(diagnosis.verdicts.value_N[row])),
        "text": shorten(text, "the log has them"),
        "numbers": {key: value for key, value in known.items() if value is not None},
        "flags": [flag for flag, is_so in flags.items() if is_so],
        "place": place,
    }


def _named(root: Path, file: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else file.name
