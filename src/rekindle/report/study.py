"""A study directory as a page: one averaged run for each arm, and the claims of study.json.

The verdicts, intervals and costs are those of study.json; nothing is concluded anew here. Curves
are means over the runs that are still there, and the page says which are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rekindle.engine.manifest import STATE_FORMAT
from rekindle.errors import RunDirectoryError
from rekindle.report.averages import TEXT_RUNS, averaged
from rekindle.report.load import Evaluation, Metric, RunData, load_run
from rekindle.report.reading import read_object
from rekindle.report.rerun import Rerun, rerun_of
from rekindle.report.study_file import Claim, Declared, StudyFile, read_declared, read_study
from rekindle.report.study_tables import budget_table, comparison_table, gap_tables
from rekindle.report.study_words import cautions, summary
from rekindle.report.tables import Table
from rekindle.report.verdict import VerdictRow
from rekindle.report.words import listed, plural
from rekindle.study.store.cost import cost_line
from rekindle.study.store.layout import MANIFEST, counted


@dataclass(frozen=True)
class Family:
    """Comparisons in one metric on one level, as a block of the verdict table."""

    title: str
    rows: Sequence[tuple[Claim, VerdictRow]]


@dataclass(frozen=True)
class StudyPage:
    """What the page shows of a study beside its arms' averaged runs."""

    title: str
    summary: Sequence[str]
    caution: str
    claims: Sequence[VerdictRow]
    families: Sequence[Family]
    arms: Sequence[RunData]
    names: Sequence[str]  # of all arms, also of those without a run
    tables: Sequence[Table]
    costs: Table
    spent: Mapping[str, Mapping[str, float]]
    rerun: Rerun
    notes: Sequence[str] = field(default_factory=tuple)
    metric: str = ""  # the declared one
    declared: bool = True  # before the first run
    when: str = ""  # it was declared, in words
    curves_note: str = ""
    texts_note: str = ""
    times_note: str = ""


def load_study_page(place: Path, *, packed: bool = False) -> StudyPage:
    """Everything that the page of a study shows.

    Args:
        place: the study's directory.
        packed: the reader has an archive, which no run can be begun from alone.

    Raises:
        DataError: study.json is missing, broken, or of another version.
    """
    found = read_study(place)
    declared = read_declared(place, found)
    notes: list[str] = []
    runs = _runs(place, found, notes)
    arms = [averaged(arm, these) for arm, these in runs.items() if these]
    claims = [_claim(row) for row in found.comparisons]
    return StudyPage(
        title=f"Study: {found.study}",
        summary=summary(found),
        caution=cautions(found),
        claims=claims,
        families=_families(found, claims),
        arms=arms,
        names=list(found.arms),
        tables=[comparison_table(found), *gap_tables(found)],
        costs=budget_table(found),
        spent={
            arm: {name: value for name, value in block.spent if value is not None}
            for arm, block in found.arms.items()
        },
        rerun=rerun_of(place, found, declared, runs, notes, packed=packed),
        notes=[*_notes(found, declared), *_other_versions(place, runs), *notes],
        metric=found.primary.metric,
        declared=found.primary.declared,
        when="declared before the first run" if found.primary.declared else found.primary.when,
        curves_note=_curves_note(found, runs),
        texts_note=_texts_note(runs),
        times_note=_times_note(runs),
    )


# --- the runs


def _runs(place: Path, found: StudyFile, notes: list[str]) -> dict[str, list[RunData]]:
    """The runs of each arm that are still there, on the same problems as the others.

    The runs whose texts are shown come first: of the base and seed that most arms have.
    """
    shown = _most_shared(found)
    out: dict[str, list[RunData]] = {}
    gone: list[str] = []
    for arm, block in found.arms.items():
        out[arm] = []
        for row in sorted(block.runs, key=lambda run: (run.base, run.seed) != shown):
            name = f"{arm}, {row.base}, seed {row.seed}"
            texts = len(out[arm]) < TEXT_RUNS
            try:
                run = load_run(_at(place, row.out), texts=texts, outcomes=False)
            except RunDirectoryError:
                gone.append(name)
                continue
            out[arm].append(replace(run, name=name))
    if gone:
        more = f" and {len(gone) - 6} more" if len(gone) > 6 else ""
        finished = sum(block.finished for block in found.arms.values())
        notes.append(
            f"Not here: {len(gone)} of {plural(finished, 'run directory')} "
            f"({'; '.join(gone[:6])}{more}). Verdicts and costs are those of study.json, which was "
            "written when they were there; curves, telemetry and texts are without them."
        )
    return _same_problems(found, out, notes)


def _most_shared(found: StudyFile) -> tuple[str, int] | None:
    keys = [(run.base, run.seed) for block in found.arms.values() for run in block.runs]
    return max(dict.fromkeys(keys), key=keys.count, default=None)


def _at(place: Path, out: str) -> Path:
    # study.json names runs as the command did; the directory may have been moved since.
    return place.joinpath("runs", *Path(out).parts[-3:])


def _same_problems(
    found: StudyFile, runs: Mapping[str, Sequence[RunData]], notes: list[str]
) -> dict[str, list[RunData]]:
    """Evaluations on other problems than the baseline's are left out: their means would differ for
    another reason than the method."""
    first = found.comparisons[0].baseline if found.comparisons else next(iter(found.arms))
    order = [*runs.get(first, ()), *(run for these in runs.values() for run in these)]
    asked: dict[tuple[str, str], str] = {}
    for evaluation in (e for run in order for e in run.evaluations):
        if evaluation.asked:
            asked.setdefault((evaluation.task, evaluation.split), evaluation.asked)

    def fits(evaluation: Evaluation) -> bool:
        return evaluation.asked in ("", asked.get((evaluation.task, evaluation.split), ""))

    out: dict[str, list[RunData]] = {}
    for arm, these in runs.items():
        out[arm] = []
        for run in these:
            kept = [e for e in run.evaluations if fits(e)]
            if len(kept) < len(run.evaluations):
                left_out = plural(len(run.evaluations) - len(kept), "evaluation")
                notes.append(
                    f"{run.name}: {left_out} on other problems than those of {first}, left out of "
                    "curves and tables: a difference would not be the method's."
                )
            out[arm].append(replace(run, evaluations=kept))
    return out


# --- claims


def _claim(row: Claim) -> VerdictRow:
    defined = row.delta is not None
    n = row.n_problems
    return VerdictRow(
        subject=f"{row.method} against {row.baseline}",
        where="all levels" if row.level is None else f"level {row.level}",
        metric=row.metric + (" (lower is better)" if row.lower_is_better else ""),
        split=row.split,
        before=Metric(row.before, None, None, n) if defined else None,
        after=Metric(row.after, None, None, n) if defined else None,
        change=Metric(row.delta, row.ci_low, row.ci_high, n) if defined else None,
        n_problems=n,
        n_samples=row.n_samples,
        n_runs=row.n_pairs,
        reason=row.why or ("" if defined else "not measured"),
        main=row.primary,
        word=row.verdict,
    )


def _families(found: StudyFile, claims: Sequence[VerdictRow]) -> list[Family]:
    grouped: dict[tuple[str, str], list[tuple[Claim, VerdictRow]]] = {}
    for row, claim in zip(found.comparisons, claims, strict=True):
        grouped.setdefault((claim.metric, claim.where), []).append((row, claim))
    out = []
    for (metric, where), rows in grouped.items():
        split = next((row.split for row, _ in rows if row.split), "")
        samples = next((row.n_samples for row, _ in rows if row.n_samples), 0)
        title = f"{metric}, {where}" + (f", {split} split" if split else "")
        sampled = samples and not metric.startswith("greedy")
        title += f", {plural(samples, 'sample')} a problem" if sampled else ""
        out.append(Family(title, rows))
    return out


# --- what is missing, and how to get it again


def _notes(found: StudyFile, declared: Declared) -> list[str]:
    notes = [f"Failed: {failure.name}: {failure.why}" for failure in found.failed]
    left = found.unfinished - sum(not failure.preparation for failure in found.failed)
    if left > 0:
        short = [f"{arm} {b.finished} of {b.planned}" for arm, b in found.arms.items()
                 if b.finished < b.planned]  # fmt: skip
        notes.append(
            f"{plural(left, 'run')} not finished ({'; '.join(short)}): their pairs are left out."
        )
    ratios = [f"{arm} {ratio:.2f} times" for arm, ratio in found.budget.unequal.items()]
    if ratios:
        unit = counted(found.budget.unit)
        notes.append(f"Unequal budget, of the {unit} that an arm should have: {listed(ratios)}.")
    if found.cost is not None:
        notes.append(f"The study took {cost_line(found.cost)}.")
    for change in found.changes:
        shown, more = change.changes[:6], len(change.changes) - 6
        notes.append(
            f"The study file was changed on {change.when}, after "
            f"{plural(change.finished_runs, 'finished run')}"
            + (f" ({change.left_out} of them left out)" if change.left_out else "")
            + f": {'; '.join(shown)}"
            + (f"; and {more} more." if more > 0 else ".")
        )
    if declared.text and not declared.fits:
        notes.append(
            "The study.yaml beside these results is not the one that was declared: its hash is "
            f"another than {declared.last[:12]}."
        )
    return notes


def _other_versions(place: Path, runs: Mapping[str, Sequence[RunData]]) -> list[str]:
    """That numbers were written by a version whose numbers could mean something else."""
    manifests = {run.name: run.manifest for these in runs.values() for run in these}
    manifests = {"the study": read_object(place / MANIFEST, [], "")} | manifests
    known = {name: found.get("state_format", STATE_FORMAT) for name, found in manifests.items()}
    odd = [name for name, version in known.items() if version != STATE_FORMAT]
    if not odd:
        return []
    more = [f"{len(odd) - 3} more"] if len(odd) > 3 else []
    formats = listed(sorted({str(known[name]) for name in odd}))
    return [
        f"Of another version of rekindle: {listed([*odd[:3], *more])} (state format {formats}; "
        f"this one writes {STATE_FORMAT}): their numbers could mean something else."
    ]


def _curves_note(found: StudyFile, runs: Mapping[str, Sequence[RunData]]) -> str:
    sizes = {arm: len(these) for arm, these in runs.items() if these}
    if not sizes:
        return ""
    text = (
        "Lines are means over the runs of an arm; bands are 95 % t-intervals over those runs: how "
    )
    text += "far trainings differ, which is not what the verdict rests on."
    if len(set(sizes.values())) == 1 and sizes.keys() == found.arms.keys():
        return f"{text} {plural(next(iter(sizes.values())), 'run')} an arm."
    told = listed([f"{arm} {size}" for arm, size in sizes.items()])
    return f"{text} The arms do not have the same runs, so their lines are not paired: {told}."


def _texts_note(runs: Mapping[str, Sequence[RunData]]) -> str:
    first = {these[0].name.split(", ", 1)[1] for these in runs.values() if these}
    return f"Of one run of each arm: {' or '.join(sorted(first))}." if first else ""


def _times_note(runs: Mapping[str, Sequence[RunData]]) -> str:
    without = [arm for arm, these in runs.items() if any(run.times is None for run in these)]
    if not without:
        return ""
    whose = "" if len(without) == len(runs) else f" of {listed(without)}"
    return (
        f"Where the time{whose} went is not shown: these runs come from an archive that kept some "
        "rows of each log, and not the sums of all. The seconds above are of whole runs."
    )
