"""The quickstart's page: five methods, each beside its baseline, for a reader who is new here.

The verdict comes first and says that one seed decides nothing; what the committed studies say comes
second. Every pair links to its own page with all curves, rollouts and settings.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

import rekindle
from rekindle.files import read_json, write_atomic
from rekindle.report.charts import metric_curve
from rekindle.report.load import RunData, load_run
from rekindle.report.page import (
    build_report,
    content_policy,
    environment,
    figures_island,
    javascript,
    text_of,
    vega_bundle,
)
from rekindle.report.samples import number
from rekindle.report.spec import Figure, Style, run_styles
from rekindle.report.tables import Table
from rekindle.report.tables import environment as environment_of
from rekindle.report.tour_words import GAPS, Gap, metric_words
from rekindle.report.whiskers import Whisker
from rekindle.report.words import (
    UNDEFINED,
    count,
    nice_step,
    percent,
    plural,
    points,
)
from rekindle.study.evidence import FEWEST_BASES, FEWEST_SEEDS, EvidenceRow
from rekindle.study.tour import ONE_SEED, Toured, TourPair

ELSEWHERE = (
    "A verdict is about the named baseline alone: whether something plainer does as much, and what "
    "a gain is made of, stands"
)
_HALF = 84  # of the interval drawings: units from the middle to the end
_SIGNAL = "the signal"
_WORDS = {"helps": "helps", "does not": "does-not"}
_REPOSITORY = Path(rekindle.__file__).parents[2]


@dataclass(frozen=True)
class Part:
    """What the page shows of a pair."""

    name: str
    short: str
    method: str
    baseline: str
    gap: Gap
    defined: bool
    reason: str
    start: str
    before: str
    after: str
    change: str
    whisker: Whisker | None
    lines: Sequence[str]
    styles: Sequence[Style]
    figures: Sequence[Figure]
    page: str
    command: str


def build_tour(
    toured: Sequence[Toured],
    rows: Sequence[TourPair],
    evidence: Mapping[str, EvidenceRow],
    out: Path,
    *,
    command: str,
    cost: str,
) -> Path:
    """Write the page, and a page of its own for each pair, below the directory of `out`.

    Args:
        toured: the pairs; their directories are beside `out`.
        rows: `study.tour.tour_pair` of each.
        evidence: `study.evidence.shipped`, of the same methods.
        out: the HTML file; it is replaced when it exists.
        command, cost: what made this, and what it cost, in words.
    """
    parts = [_part(one, row, rows, out.parent) for one, row in zip(toured, rows, strict=True)]
    figures = [figure for part in parts for figure in part.figures]
    scripts = [javascript("theme.js"), javascript("page.js")]
    bundle = vega_bundle() if figures else ""
    begun = [run.out for one in toured for run in one.runs if (run.out / "config.yaml").exists()]
    html = environment().get_template("tour.html.j2").render(
        title=f"{_number(len(parts))}, each beside its baseline",
        policy=content_policy([*scripts, bundle]),
        style=Markup("".join(text_of(name) for name in ("style.css", "parts.css", "tour.css"))),
        theme=Markup(scripts[0]),
        scripts=[Markup(script) for script in (bundle, scripts[1]) if script],
        parts=parts,
        one_seed=ONE_SEED,
        metric_note=metric_note(rows),
        training=" ".join(training_sentence(row) for row in rows if _is_grpo(row)),
        studies=[_study(name, row, out.parent) for name, row in evidence.items()],
        metrics=[
            line
            for metric in dict.fromkeys(row.metric for row in evidence.values())
            if (line := metric_words(metric))
        ],
        looks=any(row.is_a_look for row in evidence.values()),
        fewest_bases=FEWEST_BASES,
        fewest_seeds=FEWEST_SEEDS,
        elsewhere=ELSEWHERE,
        evidence_link=_link(_REPOSITORY / "docs" / "evidence.md", out.parent),
        spent=_spent(rows),
        spent_notes=[
            f"{arm} spent {ratio:.2f} times the updates of its baseline."
            for row in rows
            for arm, ratio in row.unequal.items()
        ],
        environment=_made_by(begun[0]) if begun else None,
        command=command,
        took=cost,
        figures_json=figures_island(figures),
        version=rekindle.__version__,
    )  # fmt: skip
    write_atomic(out, html.encode("utf-8", "replace"))
    return out


def metric_note(rows: Sequence[TourPair]) -> str:
    """What the numbers are and what they are measured on."""
    measured = [row for row in rows if row.n_problems] or rows
    problems, answers = (
        " or ".join(map(str, sorted(counts)))
        for counts in ({row.n_problems for row in measured}, {row.n_samples for row in measured})
    )
    sizes = f"{problems} problems, {answers} answers each"
    split = next((row.split for row in rows if "split" in row.model_fields_set), "test")
    return f"pass@1, the share of sampled answers that are right, on the {split} split: {sizes}."


def training_sentence(row: TourPair) -> str:
    """What the baseline's own training did, from its first evaluation to its last."""
    gain, spent = row.training, row.spent[row.baseline]
    assert gain is not None
    low, high = gain.ci_low or 0.0, gain.ci_high or 0.0
    word = "better" if low > 0 else "worse" if high < 0 else "cannot tell"
    return (
        f"Plain {row.baseline.upper()}, the baseline of {row.method.upper()}, took "
        f"{row.metric} from {percent(row.start)} to {percent(row.before)} in "
        f"{count(spent.updates)} updates: {points(gain.delta)} points (95 % interval "
        f"{points(gain.ci_low)} to {points(gain.ci_high)}, over problems), {word}."
    )


def evidence_words(row: EvidenceRow) -> tuple[str, str, str, str]:
    """A committed study in a line: what was compared, the difference, on what, the verdict."""
    level = f" on level {row.level}" if row.level is not None else ""
    change = "undefined"
    if row.delta is not None:
        change = f"{row.delta:+.3f}"
        if row.ci_low is not None:
            change += f" [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
    asked = plural(row.n_problems, f"{row.split} problem")
    rests = f"{plural(row.n_bases, 'base')} × {plural(row.n_seeds, 'seed')}, {asked}"
    verdict = row.verdict + (f" ({row.why})" if row.why else "")
    verdict += ", a look" if row.is_a_look else ""
    method = row.method + (" (oracle reward model)" if row.oracle else "")
    compared = f"{row.metric}{level}: {method} against {row.baseline}"
    return compared, change, rests, verdict


def _part(toured: Toured, row: TourPair, rows: Sequence[TourPair], place: Path) -> Part:
    gap, defined = GAPS[toured.name], row.delta is not None
    data = {
        run.arm: replace(load_run(run.out), name=run.arm)
        for run in toured.runs
        if (run.out / "config.yaml").exists()
    }
    styles = run_styles([[arm] for arm in data])
    page = ""
    if defined:
        build_report([place / toured.name], place / toured.name / "report.html")
        page = f"{toured.name}/report.html"
    return Part(
        name=toured.name,
        short=toured.name.replace("_", "-"),
        method=row.method,
        baseline=row.baseline,
        gap=gap,
        defined=defined,
        reason="; ".join(f"{one.arm}: {one.why}" for one in row.failed) or "not finished yet",
        start=percent(row.start),
        before=percent(row.before),
        after=percent(row.after),
        change=_change(row.delta, row.ci_low, row.ci_high) if defined else "",
        whisker=_whisker(row, rows),
        lines=_lines(toured, data) if defined else [],
        styles=styles,
        figures=_signal_figure(toured.name, gap, list(data.values()), styles),
        page=page,
        command=shlex.join(
            ["rekindle", "study", f"{place / toured.name / 'study.yaml'}", "--out",
             f"runs/{toured.name}", "--set", "seeds=[0,1,2,3,4,5,6,7]"]
        ),
    )  # fmt: skip


def _signal_figure(
    name: str, gap: Gap, runs: Sequence[RunData], styles: Sequence[Style]
) -> list[Figure]:
    """The quantity that the method says it revives, for the method and its baseline."""

    def seen(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, _SIGNAL: _first(row, gap.keys)} for row in rows]

    drawn = [replace(run, rows=seen(run.rows), rounds=seen(run.rounds)) for run in runs]
    over: Any = gap.over
    having = [
        run for run in drawn if any(row[_SIGNAL] is not None for row in (*run.rows, *run.rounds))
    ]
    if not having:
        return []
    here = [style for style in styles if style.run in {run.name for run in having}]
    return [metric_curve(f"signal-{name}", gap.signal, _SIGNAL, having, here, over=over)]


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    return next((found for key in keys if (found := number(row.get(key))) is not None), None)


def _lines(toured: Toured, data: Mapping[str, RunData]) -> list[str]:
    """What this run says of the signal, in words."""
    method = next(run for run in toured.runs if run.arm == toured.study.primary.arm)
    kept = list(method.out.glob("stages/*-kept-1/stage.json"))
    if kept:
        facts = read_json(kept[0])
        return [
            f"Of the weak model's answers {percent(facts['right_before'])} are right. The two "
            f"models agree on {percent(facts['kept_share'])} of the questions, and there "
            f"{percent(facts['right_kept'])} are right."
        ]
    baseline = data[toured.study.baseline]
    shares = [number(row.get("groups/all_wrong")) for row in baseline.rows]
    known = [share for share in shares if share is not None]
    if known:
        return [
            f"No answer was accepted in {percent(sum(known) / len(known))} of the groups that "
            f"{baseline.name} saw in training."
        ]
    sure = [number(row.get("tokens/above_099")) for row in baseline.rows][-1:]
    return [
        f"At the end {baseline.name} is sure (p > 0.99) of {percent(share)} of its tokens."
        for share in sure
        if share is not None
    ]


def _whisker(row: TourPair, rows: Sequence[TourPair]) -> Whisker | None:
    """An interval as a drawing, all rows on one scale."""
    if row.delta is None or row.ci_low is None or row.ci_high is None:
        return None
    ends = [end for pair in rows for end in (pair.ci_low, pair.ci_high) if end is not None]
    reach = nice_step(max(abs(end) for end in ends))
    low, value, high = (
        round(100 + _HALF * end / reach, 1) for end in (row.ci_low, row.delta, row.ci_high)
    )
    return Whisker(low, value, high)


def _change(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return UNDEFINED
    if low is None or high is None:
        return f"{points(value)} (no interval)"
    return f"{points(value)} [{points(low)}, {points(high)}]"


def _study(name: str, row: EvidenceRow, place: Path) -> dict[str, str]:
    compared, _, rests, verdict = evidence_words(row)
    return {
        "name": name,
        "compared": compared,
        "change": _change(row.delta, row.ci_low, row.ci_high),
        "rests": rests,
        "verdict": verdict,
        "word": _WORDS.get(row.verdict, "") if not row.is_a_look else "",
        "study": row.study,
        "link": _link(_REPOSITORY / "results" / "studies" / row.study / "study.json", place),
    }


def _link(target: Path, place: Path) -> str:
    """A relative link to a file of the repository; empty where there is none."""
    return Path(os.path.relpath(target, place.resolve())).as_posix() if target.exists() else ""


def _spent(rows: Sequence[TourPair]) -> Table:
    body = [
        (row.name, arm, *(count(value) for value in known))
        for row in rows
        for arm, spent in row.spent.items()
        if None not in (known := (spent.updates, spent.generated, spent.trained, spent.seconds))
    ]
    head = ("pair", "run", "updates", "tokens generated", "tokens trained", "seconds")
    return Table("One thread each, two runs at a time", head, body, numeric=(2, 3, 4, 5))


def _made_by(place: Path) -> Table:
    run = load_run(place)
    return environment_of(run.name, run.manifest, seed=run.seed)


def _is_grpo(row: TourPair) -> bool:
    return row.baseline == "grpo" and row.training is not None


def _number(n: int) -> str:
    words = ("", "One method", "Two methods", "Three methods", "Four methods", "Five methods")
    return words[n]
