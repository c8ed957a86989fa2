"""A study directory as a page: one averaged run for each arm, and the claims of study.json.

The verdicts, intervals and costs are those of study.json; nothing is concluded anew here. Curves
are means over the runs that are still there, and the page says which are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rekindle.engine.manifest import STATE_FORMAT
from rekindle.errors import DataError, RunDirectoryError
from rekindle.report.averages import TEXT_RUNS, averaged
from rekindle.report.formatting import grouped, level_title, listed, plural
from rekindle.report.load import RunData, load_run
from rekindle.report.reading import read_model
from rekindle.report.run_files import Evaluation, Manifest, Metric
from rekindle.report.study_sentences import cautions, summary
from rekindle.report.study_tables import (
    Rerun,
    StudyText,
    budget_table,
    comparison_table,
    gap_tables,
    read_study_text,
    rerun_of,
    run_name,
    when_declared,
)
from rekindle.report.tables import Table
from rekindle.report.verdict import VerdictRow
from rekindle.study.schema import ComparisonResult, StudyResults
from rekindle.study.store.cost import cost_line
from rekindle.study.store.layout import MANIFEST, RESULTS, counted, read_results

Family = tuple[str, Sequence[tuple[ComparisonResult, VerdictRow]]]  # title, rows


@dataclass(frozen=True)
class StudyPage:
    """What the page shows of a study beside its arms' averaged runs; a family is the comparisons in
    one metric on one level."""

    results: StudyResults
    summary: Sequence[str]
    caution: str
    claims: Sequence[VerdictRow]
    families: Sequence[Family]
    arms: Sequence[RunData]
    tables: Sequence[Table]
    costs: Table
    rerun: Rerun
    notes: Sequence[str]
    when: str  # the primary comparison was declared, in words
    curves_note: str
    texts_note: str
    times_note: str


def load_study_page(directory: Path, *, packed: bool = False) -> StudyPage:
    """Everything that the page of a study shows.

    Args:
        directory: the study's.
        packed: the reader has an archive, which no run can be begun from alone.

    Raises:
        DataError: study.json is missing, broken, or of another version.
    """
    results = _read_study(directory)
    declared = read_study_text(directory, results)
    notes: list[str] = []
    runs = _runs(directory, results, notes)
    arms = [averaged(arm, these) for arm, these in runs.items() if these]
    claims = [_claim(row) for row in results.comparisons]
    return StudyPage(
        results=results,
        summary=summary(results),
        caution=cautions(results),
        claims=claims,
        families=_families(results, claims),
        arms=arms,
        tables=[comparison_table(results), *gap_tables(results)],
        costs=budget_table(results),
        rerun=rerun_of(directory, results, declared, runs, notes, packed=packed),
        notes=[*_notes(results, declared), *_other_versions(directory, runs), *notes],
        when="declared before the first run"
        if results.primary.declared
        else when_declared(results.primary),
        curves_note=_curves_note(results, runs),
        texts_note=_texts_note(runs),
        times_note=_times_note(runs),
    )


def _read_study(directory: Path) -> StudyResults:
    if not (directory / RESULTS).exists():
        raise DataError(
            f"{directory} has no {RESULTS}",
            why="no run of it has been finished and summed up yet",
            fix=f"rekindle study STUDY.yaml --out {directory} --resume",
        )
    return read_results(directory)


# --- the runs


def _runs(directory: Path, results: StudyResults, notes: list[str]) -> dict[str, list[RunData]]:
    """The runs of each arm that are still there, on the same problems as the others.

    The runs whose texts are shown come first: of the base and seed that most arms have.
    """
    shown = _most_shared(results)
    out: dict[str, list[RunData]] = {}
    gone: list[str] = []
    for arm, block in results.arms.items():
        out[arm] = []
        for row in sorted(block.runs, key=lambda run: (run.base, run.seed) != shown):
            name = run_name(arm, row)
            texts = len(out[arm]) < TEXT_RUNS
            try:
                # The command named them so; the directory may have been moved since.
                place = directory.joinpath("runs", *Path(row.out).parts[-3:])
                run = load_run(place, texts=texts)
            except RunDirectoryError:
                gone.append(name)
                continue
            out[arm].append(replace(run, name=name))
    if gone:
        more = f" and {len(gone) - 6} more" if len(gone) > 6 else ""
        finished = sum(block.finished for block in results.arms.values())
        notes.append(
            f"Not here: {len(gone)} of {plural(finished, 'run directory')} "
            f"({'; '.join(gone[:6])}{more}). Verdicts and costs come from study.json, which was "
            "written while they existed. Curves, telemetry and texts are without them."
        )
    return _same_problems(results, out, notes)


def _most_shared(results: StudyResults) -> tuple[str, int] | None:
    keys = [(run.base, run.seed) for block in results.arms.values() for run in block.runs]
    return max(dict.fromkeys(keys), key=keys.count, default=None)


def _same_problems(
    results: StudyResults, runs: Mapping[str, Sequence[RunData]], notes: list[str]
) -> dict[str, list[RunData]]:
    """Evaluations on other problems than the baseline's are left out: their means would differ for
    another reason than the method."""
    first = results.comparisons[0].baseline if results.comparisons else next(iter(results.arms))
    order = [*runs.get(first, ()), *(run for these in runs.values() for run in these)]
    named = [e for run in order for e in run.evaluations if e.problems]
    problems = {(e.task, e.split): e.problems for e in reversed(named)}  # the first one counts

    def fits(evaluation: Evaluation) -> bool:
        return evaluation.problems in ("", problems.get((evaluation.task, evaluation.split), ""))

    out: dict[str, list[RunData]] = {}
    for arm, these in runs.items():
        out[arm] = []
        for run in these:
            kept = [e for e in run.evaluations if fits(e)]
            if len(kept) < len(run.evaluations):
                left_out = plural(len(run.evaluations) - len(kept), "evaluation")
                notes.append(
                    f"{run.name}: {left_out} on other problems than those of {first}. Curves and "
                    "tables leave them out, because a difference would not come from the method."
                )
            out[arm].append(replace(run, evaluations=kept))
    return out


# --- claims


def _claim(row: ComparisonResult) -> VerdictRow:
    defined = row.delta is not None
    n = row.n_problems
    return VerdictRow(
        subject=f"{row.method} against {row.baseline}",
        where=level_title(row.level),
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


def _families(results: StudyResults, claims: Sequence[VerdictRow]) -> Sequence[Family]:
    pairs = zip(results.comparisons, claims, strict=True)
    families = grouped(pairs, lambda pair: (pair[1].metric, pair[1].where))
    out = []
    for (metric, where), rows in families.items():
        split = next((row.split for row, _ in rows if row.split), "")
        samples = next((row.n_samples for row, _ in rows if row.n_samples), 0)
        title = f"{metric}, {where}" + (f", {split} split" if split else "")
        sampled = samples and not metric.startswith("greedy")
        title += f", {plural(samples, 'sample')} a problem" if sampled else ""
        out.append((title, rows))
    return out


# --- what is missing, and how to get it again


def _notes(results: StudyResults, declared: StudyText) -> list[str]:
    notes = [f"Failed: {failure.name}: {failure.why}" for failure in results.failed]
    left = results.unfinished - sum(not failure.preparation for failure in results.failed)
    if left > 0:
        short = [f"{arm} {b.finished} of {b.planned}" for arm, b in results.arms.items()
                 if b.finished < b.planned]  # fmt: skip
        notes.append(
            f"{plural(left, 'run')} not finished ({'; '.join(short)}). Their pairs are left out."
        )
    ratios = [f"{arm} {ratio:.2f} times" for arm, ratio in results.budget.unequal.items()]
    if ratios:
        unit = counted(results.budget.unit)
        notes.append(f"Unequal budget: {listed(ratios)} the {unit} that an arm should have.")
    if results.cost is not None:
        notes.append(f"The study took {cost_line(results.cost)}.")
    for change in results.changes:
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
            "The study.yaml beside these results is not the one that was declared: its hash is not "
            f"{declared.last[:12]}."
        )
    return notes


def _other_versions(directory: Path, runs: Mapping[str, Sequence[RunData]]) -> list[str]:
    """That numbers were written by a version whose numbers could mean something else."""
    manifests = {"the study": read_model(directory / MANIFEST, Manifest, []) or Manifest()}
    manifests |= {run.name: run.manifest for these in runs.values() for run in these}
    formats = {name: manifest.state_format for name, manifest in manifests.items()}
    others = [name for name, version in formats.items() if version not in ("", str(STATE_FORMAT))]
    if not others:
        return []
    return [
        f"Another version of rekindle wrote {listed(others, most=3)} (state format "
        f"{listed(sorted({formats[name] for name in others}))}; this one writes {STATE_FORMAT}). "
        "Their numbers could mean something else."
    ]


def _curves_note(results: StudyResults, runs: Mapping[str, Sequence[RunData]]) -> str:
    sizes = {arm: len(these) for arm, these in runs.items() if these}
    if not sizes:
        return ""
    text = (
        "Lines are means over the runs of an arm. Bands are 95 % t-intervals over those runs: they "
        "show how far trainings differ, and the verdict does not rest on them."
    )
    if len(set(sizes.values())) == 1 and sizes.keys() == results.arms.keys():
        return f"{text} {plural(next(iter(sizes.values())), 'run')} per arm."
    each = listed([f"{arm} {size}" for arm, size in sizes.items()])
    return f"{text} The arms do not have the same runs, so their lines are not paired: {each}."


def _texts_note(runs: Mapping[str, Sequence[RunData]]) -> str:
    first = {these[0].name.split(", ", 1)[1] for these in runs.values() if these}
    return f"From one run of each arm: {' or '.join(sorted(first))}." if first else ""


def _times_note(runs: Mapping[str, Sequence[RunData]]) -> str:
    without = [arm for arm, these in runs.items() if any(run.times is None for run in these)]
    if not without:
        return ""
    whose = "" if len(without) == len(runs) else f" of {listed(without)}"
    return (
        f"The parts of the time{whose} are not known: these runs come from an archive that kept "
        "some rows of each log without the sums of all rows. The seconds above are of whole runs."
    )
