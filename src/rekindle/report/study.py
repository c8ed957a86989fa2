"""A study directory as a page: one averaged run for each arm, and the claims of study.json.

Curves are means over the runs of an arm. The band of an evaluation is the 95 % t-interval over
those runs: how far trainings differ, not what the verdict rests on. The verdict's intervals are
those of study.json, over base models, seeds and problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from rekindle.errors import DataError
from rekindle.report.load import Evaluation, Metric, RunData, load_run
from rekindle.report.samples import number
from rekindle.report.tables import Table
from rekindle.report.verdict import VerdictRow
from rekindle.report.words import UNDEFINED, count, listed, percent, plural, points
from rekindle.study.cost import told
from rekindle.study.places import read_results

ROLLOUT_RUNS = 1  # of each arm, whose rollouts can be browsed


@dataclass(frozen=True)
class StudyPage:
    """What the page shows of a study beside its arms' averaged runs."""

    title: str
    summary: Sequence[str]
    caution: str
    claims: Sequence[VerdictRow]
    arms: Sequence[RunData]
    tables: Sequence[Table]
    notes: Sequence[str]


def load_study_page(place: Path) -> StudyPage:
    """Everything that the page of a study shows.

    Raises:
        DataError: study.json is missing, broken or of another version, or no run is finished.
        RunDirectoryError: a run that study.json names is gone.
    """
    found = read_results(place)
    arms = [
        averaged(arm, [load_run(_at(place, run["out"])) for run in block["runs"]])
        for arm, block in found["arms"].items()
        if block["runs"]
    ]
    if not arms:
        raise DataError(
            f"no run of {place} is finished",
            why="there is nothing to show yet",
            fix="rekindle study ... --resume",
        )
    claims = [_claim(row) for row in found["comparisons"]]
    return StudyPage(
        title=f"Study: {found['study']}",
        summary=_summary(found, claims),
        caution=_caution(found),
        claims=claims,
        arms=arms,
        tables=[_comparison_table(found), *_gap_tables(found), _budget_table(found)],
        notes=_notes(found),
    )


def averaged(name: str, runs: Sequence[RunData]) -> RunData:
    """One run that stands for several of the same recipe: means at each step that all reached."""
    first = runs[0]
    return replace(
        first,
        name=name,
        rows=_mean_rows([run.rows for run in runs]),
        rounds=_mean_rows([run.rounds for run in runs], over="round"),
        evaluations=_mean_evaluations([run.evaluations for run in runs]),
        samples=[sample for run in runs[:ROLLOUT_RUNS] for sample in run.samples],
        notes=[f"{run.path.name}: {note}" for run in runs for note in run.notes],
    )


def _at(place: Path, out: str) -> Path:
    # study.json names runs as the command did; the directory may have been moved since.
    return place.joinpath("runs", *Path(out).parts[-3:])


def _mean_rows(
    tables: Sequence[Sequence[Mapping[str, Any]]], *, over: str = "step"
) -> list[dict[str, Any]]:
    steps = set.intersection(*({row[over] for row in rows} for rows in tables))
    by_step: dict[int, list[Mapping[str, Any]]] = {step: [] for step in sorted(steps)}
    for rows in tables:
        for row in rows:
            if row[over] in by_step:
                by_step[row[over]].append(row)
    out = []
    for step, rows in by_step.items():
        mean: dict[str, Any] = {over: step}
        for key in dict.fromkeys(key for row in rows for key in row if key != over):
            known = [value for row in rows if (value := number(row.get(key))) is not None]
            mean[key] = fmean(known) if known else None
        out.append(mean)
    return out


def _mean_evaluations(tables: Sequence[Sequence[Evaluation]]) -> list[Evaluation]:
    steps = set.intersection(*({e.step for e in found} for found in tables))
    out = []
    for step in sorted(steps):
        here = [e for found in tables for e in found if e.step == step]
        first = here[0]
        levels = {
            level: _mean_metrics([e.levels[level] for e in here if level in e.levels])
            for level in first.levels
        }
        out.append(
            replace(first, raw={}, metrics=_mean_metrics([e.metrics for e in here]), levels=levels)
        )
    return out


def _mean_metrics(tables: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    out = {}
    for name, cell in tables[0].items():
        values = [t[name].value for t in tables if name in t]
        known = [value for value in values if value is not None]
        low, high = _band(known)
        out[name] = Metric(fmean(known) if known else None, low, high, cell.n)
    return out


def _band(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % t-interval of the mean over runs, within 0..1; none for a single run."""
    n = len(values)
    if n < 2:
        return None, None
    half = float(stats.t.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n)
    mean = fmean(values)
    return max(0.0, mean - half), min(1.0, mean + half)


def _claim(row: Mapping[str, Any]) -> VerdictRow:
    n = int(row["n_problems"])
    defined = row["delta"] is not None
    return VerdictRow(
        subject=f"{row['method']} against {row['baseline']}",
        where="all levels" if row["level"] is None else f"level {row['level']}",
        metric=row["metric"] + (" (lower is better)" if row.get("lower_is_better") else ""),
        split=row.get("split", ""),
        before=Metric(row["before"], None, None, n) if defined else None,
        after=Metric(row["after"], None, None, n) if defined else None,
        change=Metric(row["delta"], row["ci_low"], row["ci_high"], n) if defined else None,
        n_problems=n,
        n_samples=int(row["n_samples"]),
        n_runs=int(row["n_pairs"]),
        reason=row["why"],
        main=bool(row["primary"]),
        word=row["verdict"],
    )


def _summary(found: Mapping[str, Any], claims: Sequence[VerdictRow]) -> list[str]:
    told = [found["claim"]] if found["claim"] else []
    runs = sum(block["finished"] for block in found["arms"].values())
    told.append(
        f"{plural(len(found['arms']), 'arm')}, {plural(len(found['bases']), 'base model')}, "
        f"{plural(len(found['seeds']), 'seed')}: {plural(runs, 'finished run')}."
    )
    for claim in claims:
        change = claim.change
        if claim.main and change is not None and change.value is not None:
            low, high = points(change.low), points(change.high)
            told.append(
                f"Declared before the first run: {claim.metric} on {claim.where} of "
                f"{claim.subject}. {percent(change_from(claim.before))} became "
                f"{percent(change_from(claim.after))}, a difference of {points(change.value)} "
                f"points (95 % interval {low} to {high}): {claim.word}."
            )
        elif claim.main:
            told.append(f"{claim.subject}: {claim.reason}.")
    return told


def change_from(metric: Metric | None) -> float | None:
    """The value of a side of a claim."""
    return None if metric is None else metric.value


def _caution(found: Mapping[str, Any]) -> str:
    text = (
        "“Helps” means that the whole 95 % interval lies above 0, “does not” that it lies below "
        f"{percent(found['meaningful'])} or below 0; else the data cannot tell yet."
    )
    if len(found["bases"]) < 3 or len(found["seeds"]) < 8:
        text += (
            f" With {plural(len(found['bases']), 'base model')} and "
            f"{plural(len(found['seeds']), 'seed')} this is a look at how the arms behave, not "
            "evidence for a method."
        )
    return text


def _comparison_table(found: Mapping[str, Any]) -> Table:
    rows = []
    for row in found["comparisons"]:
        rows.append(
            (
                f"{row['method']} against {row['baseline']}",
                row["metric"] + (f", level {row['level']}" if row["level"] is not None else ""),
                "yes" if row["primary"] else "",
                f"{row['n_bases']} × {row['n_seeds']}",
                str(row["missing_pairs"] or ""),
                _p(row["p_value"]),
                _p(row["p_holm"]),
                listed(row["unequal_budget"]) if row["unequal_budget"] else "",
            )
        )
    head = (
        "comparison", "metric", "declared", "bases × seeds", "pairs missing", "p", "p (Holm)",
        "unequal budget",
    )  # fmt: skip
    return Table("Comparisons: what they rest on", head, rows, numeric=(3, 4, 5, 6))


def _gap_tables(found: Mapping[str, Any]) -> list[Table]:
    """The performance gap recovered, where the study names the two ends of the gap."""
    rows = []
    for row in found.get("pgr") or []:
        low, high = row["ci_low"], row["ci_high"]
        rows.append(
            (
                row["method"],
                row["metric"] + (f", level {row['level']}" if row["level"] is not None else ""),
                UNDEFINED if row["pgr"] is None else f"{row['pgr']:.2f}",
                "" if low is None or high is None else f"{low:.2f} to {high:.2f}",
                str(row["n_pairs"]),
                row["why"],
            )
        )
    head = ("arm", "metric", "PGR", "95 % interval", "runs", "why not")
    title = "Performance gap recovered: 0 is the weak model, 1 the ceiling"
    return [Table(title, head, rows, numeric=(2, 3, 4))] if rows else []


def _budget_table(found: Mapping[str, Any]) -> Table:
    names = ("generated", "trained", "updates", "seconds")
    arms = found["arms"]
    in_rounds = any(block.get("rounds") for block in arms.values())
    rows = [
        (
            arm,
            f"{block['finished']} of {block['planned']}",
            *(count(block["spent"][name]) for name in names),
            *(_last_round(block) if in_rounds else ()),
        )
        for arm, block in arms.items()
    ]
    unit = found["budget"]["unit"]
    limit = found["budget"]["at_most"]
    enforced = f"{unit}, at most {count(limit)} a run" if limit else f"{unit}, equal for all arms"
    head = [
        "arm", "finished", "tokens generated", "tokens trained", "updates", "seconds",
        *(("DPO runs", "updates that were kept") if in_rounds else ()),
    ]  # fmt: skip
    numeric = tuple(range(1, len(head)))
    return Table(f"Cost, mean of a run (enforced: {enforced})", head, rows, numeric=numeric)


def _last_round(block: Mapping[str, Any]) -> tuple[str, str]:
    last = block["rounds"][-1] if block.get("rounds") else {}
    cells = (last.get(name) for name in ("spent/dpo_runs", "spent/updates"))
    dpo, kept = ("" if value is None else count(value) for value in cells)
    return dpo, kept


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = [
        f"Failed: {f['arm']}, {f['base']}, seed {f['seed']}: {f['why']}" for f in found["failed"]
    ]
    left = found["unfinished"] - len(found["failed"])
    if left > 0:
        notes.append(f"{plural(left, 'run')} not finished: the pairs are left out.")
    unit = found["budget"]["unit"]
    notes += [
        f"Unequal budget: {arm} spent {ratio:.2f} times the {unit} that it should have."
        for arm, ratio in found["budget"]["unequal"].items()
    ]
    if found.get("cost"):
        notes.append(f"The study took {told(found['cost'])}.")
    for change in found["changes"]:
        notes.append(
            f"The study file was changed on {change['when']}, after "
            f"{plural(change['finished_runs'], 'finished run')}: {_some(change['changes'])}."
        )
    return notes


def _some(lines: Iterable[str]) -> str:
    shown = list(lines)
    return "; ".join(shown[:6]) + (f"; and {len(shown) - 6} more" if len(shown) > 6 else "")


def _p(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
