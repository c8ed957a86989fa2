"""Tables of a log's page: what it is, shares, findings, remedies, credits, prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rekindle.evals.intervals import wilson
from rekindle.report.formatting import MINUS, UNDEFINED, grouped, percent, plural
from rekindle.report.tables import Table
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis
from rekindle.signals.run_diagnosis.log_finding import Estimate, LogFinding
from rekindle.signals.run_diagnosis.shares import SHOWN, PromptRow

MOST_PROMPTS = 200  # in the table
CHARS = 160  # of a prompt in the table
KINDS = {
    "never": "never solved",
    "went": "solved at first, not at last",
    "came": "solved at last, not at first",
    "mixed": "solved in part",
    "always": "always solved",
}
SUBJECTS = {
    "coverage": "How much of the run was seen",
    "share": "Groups",
    "accuracy": "Answers",
    "prompts": "Prompts",
    "compute": "What was spent",
    "spread": "Where the spread of the reward comes from",
    "rewards": "The rewards",
    "texts": "Texts",
    "drift": "What changed over the run",
    "confidence": "Log-probs",
    "estimators": "Advantages",
    "check": "The verifier, checked by ours",
}


def facts(path: str, diagnosis: LogDiagnosis) -> Table:
    """What the log is."""
    log, taken = diagnosis.log, diagnosis.steps_seen
    repeated, evaluation = int(log.repeated_N.sum()), int(log.evaluation_N.sum())
    size, count = diagnosis.table.usual_size, len(diagnosis.table)
    version = "" if log.about.version is None else f", {log.about.version}"
    of = "" if taken is None else f" of {taken:,}"
    rows = [
        ("read from", path),
        ("written by", f"{log.about.format}{version}"),
        ("rows on disk", f"{len(log):,}, in {plural(len(log.about.files), 'file')}"),
        ("rows that are data", f"{int(log.data_N.sum()):,}"),
        ("left out", f"{repeated:,} written before, {evaluation:,} of evaluations"),
        ("groups", f"{count:,} of {size}, by {log.grouped_by}"),
        ("prompts", f"{len(diagnosis.prompts):,} with a verdict"),
        ("steps on disk", f"{diagnosis.steps_logged:,}{of}"),
        ("right or wrong", diagnosis.verdicts.sentence),
    ]
    return Table("What the log is", ("what", "value"), rows)


def shares(diagnosis: LogDiagnosis) -> Table:
    """Each class: its share, what accuracy and size imply, how it moved."""
    by_name = {finding.name: finding for finding in diagnosis.findings}
    rows = []
    for name in SHOWN:
        expected = by_name.get(f"share/{name}/expected")
        change = by_name.get(f"share/{name}/change")
        rows.append(
            (
                name.replace("_", " "),
                share(diagnosis.share[name]),
                "" if expected is None else percent(expected.value),
                "" if change is None else _points(change),
            )
        )
    head = ("groups", "share, 95 %", "if all prompts were as hard", "last third of steps, points")
    caption = (
        f"{len(diagnosis.table):,} groups; intervals over {diagnosis.share['mixed'].n} prompts"
    )
    return Table(caption, head, rows, numeric=(1, 2, 3))


def share(estimate: Estimate) -> str:
    """`41.2 % [38.0, 44.6]`."""
    if math.isnan(estimate.value) or math.isnan(estimate.ci_low):
        return percent(estimate.value)
    ends = ", ".join(percent(end, unit=False) for end in (estimate.ci_low, estimate.ci_high))
    return f"{percent(estimate.value)} [{ends}]"


def _points(found: LogFinding) -> str:
    if math.isnan(found.value):
        return UNDEFINED
    ends = "" if math.isnan(found.ci_low) else (
        f" [{100 * found.ci_low:+.1f}, {100 * found.ci_high:+.1f}]"
    )  # fmt: skip
    return f"{100 * found.value:+.1f}{ends}".replace("-", MINUS)


def remedies(diagnosis: LogDiagnosis) -> Table:
    """What would help, those that fit first."""
    rows = [(one.method, "fits" if one.fits else "does not fit", one.why)
            for one in diagnosis.remedies]  # fmt: skip
    return Table("What would bring the signal back, by the log's own numbers",
                 ("change", "by this log", "why"), rows)  # fmt: skip


def credits(diagnosis: LogDiagnosis) -> Table | None:
    """What methods would have put on these rows; None where none was computed."""
    if not diagnosis.credits:
        return None
    rows = [
        (
            one.method,
            f"{one.groups:,}",
            percent(one.with_signal),
            percent(one.dead_with_signal),
            UNDEFINED if math.isnan(one.size) else f"{one.size:.2g} times",
            percent(one.top),
        )
        for one in diagnosis.credits
    ]
    head = (
        "method", "groups", "groups with a signal", "all-wrong ones with a signal",
        "size in all-wrong against mixed", "held by a tenth of the rows",
    )  # fmt: skip
    return Table(
        "What each method would have put on these very rows: the training step's own functions",
        head, rows, numeric=(1, 2, 3, 4, 5),
    )  # fmt: skip


# --- findings


@dataclass(frozen=True)
class FindingRow:
    """A finding as it is written; `why`: the rollouts behind it, among those of `log_rollouts`."""

    name: str
    value: str
    interval: str
    n: str
    says: str
    rests_on: str
    null: str
    why: str
    is_cause: bool


@dataclass(frozen=True)
class Subject:
    """Findings of one subject; open where the cause rests on one."""

    title: str
    rows: Sequence[FindingRow]

    @property
    def is_open(self) -> bool:
        """Whether the cause rests on one of them."""
        return any(row.is_cause for row in self.rows)


def subjects(diagnosis: LogDiagnosis, shown: Sequence[str]) -> list[Subject]:
    """The findings by subject; `shown`: what rollouts are on the page for."""
    cause = () if diagnosis.cause is None else diagnosis.cause.rests_on
    by_subject = grouped(diagnosis.findings, lambda one: _subject(one.name))
    return [
        Subject(title, [_row(one, shown, is_cause=one.name in cause) for one in found])
        for title, found in by_subject.items()
    ]


def _subject(name: str) -> str:
    first = name.split("/")[0]
    return SUBJECTS.get(first, first.replace("_", " ").capitalize())


def _row(found: LogFinding, shown: Sequence[str], *, is_cause: bool) -> FindingRow:
    null = [found.null or "", "" if found.p is None else f"p {found.p:.2g}"]
    why = behind(found.name)
    return FindingRow(
        name=found.name,
        value=_figure(found.value),
        interval=_interval(found),
        n=f"{found.n:,}",
        says=found.says,
        rests_on=found.rests_on,
        null="; ".join(filter(None, null)),
        why=why if why in shown else "",
        is_cause=is_cause,
    )


def _interval(found: LogFinding) -> str:
    """An interval with both ends, a lower bound, or none."""
    if math.isnan(found.ci_low):
        return "none"
    if math.isnan(found.ci_high):
        return f"at least {_figure(found.ci_low)}"
    return f"[{_figure(found.ci_low)}, {_figure(found.ci_high)}]"


def _figure(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.3g}".replace("-", MINUS)


_BEHIND = (  # parts of a finding's name -> what its rollouts are shown for; the first counts
    ("check/false_accepts", "false_accepts"), ("check/false_rejects", "false_rejects"),
    ("spread/", "spread"), ("cut", "cut"), ("duplicates", "same_text"),
    ("one_answer", "same_text"), ("repeated", "repeated"), ("evaluation", "evaluation"),
    ("filtered", "filtered"), ("unscored", "unscored"), ("never", "never"), ("always", "always"),
    ("came", "came"), ("went", "went"), ("all_wrong", "all_wrong"), ("all_right", "all_right"),
    ("share/mixed", "mixed"), ("share/tied", "tied"),
)  # fmt: skip


def behind(name: str) -> str:
    """What the rollouts behind a finding are shown for; empty: none in particular."""
    return next((why for part, why in _BEHIND if part in name), "")


# --- prompts


@dataclass(frozen=True)
class PromptLine:
    """A prompt in the table; numbers beside their texts, for sorting."""

    text: str
    kind: str
    groups: int
    answers: int
    right: int
    rate: float
    interval: str


def prompt_kinds(rows: Sequence[PromptRow]) -> Table:
    """How many prompts of each kind, and how many answers went into them."""
    counts = Counter(row.kind for row in rows)
    answers = Counter[str]()
    for row in rows:
        answers[row.kind] += row.answers
    total = sum(answers.values())
    cells = [
        (title, f"{counts[kind]:,}", percent(counts[kind] / len(rows)),
         percent(answers[kind] / total) if total else UNDEFINED)
        for kind, title in KINDS.items() if counts[kind]
    ]  # fmt: skip
    caption = f"What became of {plural(len(rows), 'prompt')}"
    return Table(caption, ("prompts", "how many", "of the prompts", "of the answers"), cells,
                 numeric=(1, 2, 3))  # fmt: skip


def prompt_lines(diagnosis: LogDiagnosis) -> tuple[list[PromptLine], str]:
    """At most `MOST_PROMPTS` rows, of each kind those with most answers; and what is left out."""
    by_kind = grouped(diagnosis.prompts, lambda row: row.kind)
    kept = list[PromptRow]()
    left = dict[str, int]()
    kinds = [kind for kind in KINDS if kind in by_kind]
    for place, kind in enumerate(sorted(kinds, key=lambda one: len(by_kind[one]))):
        room = (MOST_PROMPTS - len(kept)) // (len(kinds) - place)
        rows = sorted(by_kind[kind], key=lambda row: -row.answers)
        kept += rows[:room]
        if len(rows) > room:
            left[kind] = len(rows) - room
    kept.sort(key=lambda row: (list(KINDS).index(row.kind), -row.answers, row.prompt))
    named = ", ".join(f"{left[kind]:,} {KINDS[kind]}" for kind in KINDS if kind in left)
    note = (
        f"{len(kept):,} of {len(diagnosis.prompts):,} prompts are here, of each kind those with "
        f"most answers; left out: {named}."
        if left
        else ""
    )
    return [_line(diagnosis, row) for row in kept], note


def _line(diagnosis: LogDiagnosis, row: PromptRow) -> PromptLine:
    text = " ".join(diagnosis.log.prompts[row.prompt].split())
    rate = wilson(row.right, row.answers)
    return PromptLine(
        text=text if len(text) <= CHARS else f"{text[:CHARS]} …",
        kind=KINDS[row.kind],
        groups=row.groups,
        answers=row.answers,
        right=row.right,
        rate=rate.value,
        interval=share(Estimate(rate.value, rate.ci_low, rate.ci_high, row.answers)),
    )
