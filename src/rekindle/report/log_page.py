"""The page of a log's diagnosis, or of several side by side: the verdict first, then its numbers.

It is one file that loads nothing. What comes from the log is data: it is escaped, and its texts
stand in a JSON island that the page's script writes as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rekindle.report.formatting import MINUS, listed, percent, plural
from rekindle.report.intervals import Whisker, whisker
from rekindle.report.log_figures import CLASSES, class_figures, over_logs
from rekindle.report.log_rollouts import WHY, Rollouts, rollouts
from rekindle.report.log_tables import (
    PromptLine,
    Subject,
    credits,
    facts,
    prompt_kinds,
    prompt_lines,
    remedies,
    shares,
    subjects,
)
from rekindle.report.page import figures_island, fill_page, island
from rekindle.report.spec import Figure, Style, run_styles
from rekindle.report.tables import Table
from rekindle.signals.run_diagnosis.compare import LogPair, points
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis, verdict
from rekindle.signals.run_diagnosis.log_finding import Estimate

ROLLOUT_BYTES = 1_800_000  # of all logs together
_PLAIN = frozenset({"rollouts", "completions", "logs", "train"})  # directories of many runs
MOST_SHARED = 20  # prompts of two logs that differ most


@dataclass(frozen=True)
class LogView:
    """What the page shows of one log."""

    name: str
    verdict: str
    is_sick: bool
    next: str
    facts: Table
    shares: Table
    figures: Sequence[Figure]
    subjects: Sequence[Subject]
    remedies: Table
    credits: Table | None
    prompt_kinds: Table
    prompts: Sequence[PromptLine]
    prompts_note: str
    rollouts: Rollouts
    not_told: Sequence[str]


@dataclass(frozen=True)
class PairView:
    """What the page shows of two logs: rows are what differs, how, and drawn."""

    title: str
    note: str
    rows: Sequence[tuple[str, str, Whisker | None, str]]
    prompts: Table | None


def render_logs(
    paths: Sequence[Path], diagnoses: Sequence[LogDiagnosis], pairs: Sequence[LogPair]
) -> str:
    """The page as one string.

    Args:
        paths: of each log, as it was named.
        pairs: each further log against the first (`compare.pair_logs`).
    """
    names = log_names(paths)
    styles = run_styles([[name] for name in names])
    each = zip(names, paths, diagnoses, strict=True)
    views = [
        _view(number, name, path, diagnosis, ROLLOUT_BYTES // len(paths))
        for number, (name, path, diagnosis) in enumerate(each)
    ]
    over = _over(names, diagnoses, styles)
    drawn = [*over, *(figure for view in views for figure in view.figures)]
    return fill_page(
        "log.html.j2",
        figures_island(drawn),
        css=("style.css", "parts.css", "log.css"),
        js=("theme.js", "page.js", "cards.js", "log.js"),
        maker="diagnose",
        sections=_sections(views, pairs),
        title=f"Where the signal went: {listed(names)}",
        views=views,
        pairs=[_pair_view(pair, names) for pair in pairs],
        styles=styles,
        over=over,
        classes=CLASSES,
        groups=island([group for view in views for group in view.rollouts.groups]),
        whys=island(WHY),
    )


def log_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each log: the end of its path that no other has, and that says something."""
    for most in range(1, max(len(path.parts) for path in paths) + 1):
        ends = [path.parts[-most - (path.name in _PLAIN) :] for path in paths]
        names = ["/".join(end) for end in ends]
        if len(set(names)) == len(names):
            return [name or str(path) for name, path in zip(names, paths, strict=True)]
    return [f"{path} ({number})" for number, path in enumerate(paths, 1)]


def _sections(views: Sequence[LogView], pairs: Sequence[LogPair]) -> list[tuple[str, str]]:
    found = [("verdict", "Verdict"), ("shares", "Groups"), ("findings", "Findings"),
             ("prompts", "Prompts"), ("rollouts", "Rollouts"), ("missing", "Not told")]  # fmt: skip
    if any(view.credits for view in views):
        found.insert(3, ("credit", "Methods"))
    if pairs:
        found.insert(1, ("compared", "Side by side"))
    return found


def _view(number: int, name: str, path: Path, diagnosis: LogDiagnosis, budget: int) -> LogView:
    """One log; `number`: its place among those on the page."""
    fits = [remedy for remedy in diagnosis.remedies if remedy.fits]
    shown = rollouts(name, path, diagnosis, budget)
    lines, note = prompt_lines(diagnosis)
    return LogView(
        name=name,
        verdict=verdict(diagnosis),
        is_sick=diagnosis.cause is not None,
        next=f"{fits[0].method}: {fits[0].why}." if fits else "nothing that the log supports.",
        facts=facts(str(path), diagnosis),
        shares=shares(diagnosis),
        figures=class_figures(number, name, diagnosis.steps),
        subjects=subjects(diagnosis, shown.why),
        remedies=remedies(diagnosis),
        credits=credits(diagnosis),
        prompt_kinds=prompt_kinds(diagnosis.prompts),
        prompts=lines,
        prompts_note=note,
        rollouts=shown,
        not_told=diagnosis.not_told,
    )


def _over(
    names: Sequence[str], diagnoses: Sequence[LogDiagnosis], styles: Sequence[Style]
) -> list[Figure]:
    """Accuracy over steps, and of several logs their mixed groups."""
    logs = list(zip(names, diagnoses, strict=True))
    accuracy = over_logs(
        "accuracy", "Accuracy", "mean verdict",
        {name: [(row, row.accuracy) for row in one.steps] for name, one in logs}, styles,
    )  # fmt: skip
    mixed = over_logs(
        "mixed", "Mixed groups", "share of groups",
        {name: [(row, row.share["mixed"]) for row in one.steps] for name, one in logs}, styles,
    ) if len(logs) > 1 else None  # fmt: skip
    return [figure for figure in (mixed, accuracy) if figure is not None]


def _pair_view(pair: LogPair, names: Sequence[str]) -> PairView:
    one, other = names[pair.first], names[pair.second]
    ends = [(d.ci_low, d.value, d.ci_high) for d in pair.differences.values() if d.n > 1]
    rows = [
        (
            "accuracy" if name == "accuracy" else f"{name.replace('_', ' ')} groups",
            points(difference).replace("-", MINUS),
            whisker((difference.ci_low, difference.value, difference.ci_high), ends)
            if difference.n > 1
            else None,
            _word(difference),
        )
        for name, difference in pair.differences.items()
    ]
    note = (
        f"{plural(pair.shared, 'prompt')} in both, character by character; {pair.only_first:,} in "
        f"{one} alone, {pair.only_second:,} in {other} alone. A prompt counts once, by its mean "
        "over the whole of each log: the logs may have asked it at different steps."
    )
    most = pair.prompts[:MOST_SHARED]
    cells = [
        (" ".join(row.prompt.split())[:160], percent(row.first), percent(row.second))
        for row in most
    ]
    table = Table(f"The {len(most)} shared prompts that differ most, by accuracy",
                  ("prompt", one, other), cells, numeric=(1, 2)) if most else None  # fmt: skip
    return PairView(f"{other} against {one}", note, rows, table)


def _word(difference: Estimate) -> str:
    """Whether the interval leaves 0 out; what is better or worse is not said of groups."""
    if not (difference.ci_low > 0 or difference.ci_high < 0):
        return "cannot tell"
    return "higher" if difference.value > 0 else "lower"
