"""Tables of a study's page: what comparisons rest on, what arms cost, what was declared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rekindle.report.load import RunData
from rekindle.report.study_file import ArmOf, Claim, Declared, Primary, StudyFile
from rekindle.report.study_words import matters
from rekindle.report.tables import Table, code_version
from rekindle.report.words import UNDEFINED, count, duration, listed, plural

_COSTS = ("generated", "trained", "updates", "seconds")


def comparison_table(found: StudyFile) -> Table:
    """What each comparison rests on, and its p-values."""
    rows = []
    for row in found.comparisons:
        rows.append(
            (
                f"{row.method} against {row.baseline}",
                row.metric + (f", level {row.level}" if row.level is not None else ""),
                _declared(found.primary, row),
                f"{row.n_bases} × {row.n_seeds}",
                str(row.n_pairs),
                str(row.missing_pairs or ""),
                _p(row.p_value),
                _p(row.p_holm),
                listed(row.unequal_budget) if row.unequal_budget else "",
            )
        )
    head = (
        "comparison", "metric", "declared", "bases × seeds", "pairs", "missing", "p", "p (Holm)",
        "unequal budget",
    )  # fmt: skip
    title = (
        "Comparisons: what they rest on. p flips the signs of runs, and so speaks of these base "
        "models and problems only; verdicts rest on the intervals"
    )
    return Table(title, head, rows, numeric=(3, 4, 5, 6, 7))


def _declared(primary: Primary, row: Claim) -> str:
    first = primary.first
    if row.primary:
        return primary.when
    if first is None or (row.method, row.baseline) != (first.arm, first.baseline):
        return ""
    return "at first" if (row.metric, row.level) == (first.metric, first.level) else ""


def gap_tables(found: StudyFile) -> list[Table]:
    """The performance gap recovered, where the study names the two ends of the gap."""
    rows = []
    for row in found.pgr or []:
        low, high = row.ci_low, row.ci_high
        rows.append(
            (
                row.method,
                row.metric + (f", level {row.level}" if row.level is not None else ""),
                UNDEFINED if row.pgr is None else f"{row.pgr:.2f}",
                "none" if low is None or high is None else f"{low:.2f} to {high:.2f}",
                str(row.n_pairs),
                row.why,
            )
        )
    head = ("arm", "metric", "PGR", "95 % interval", "runs", "to know")
    title = "Performance gap recovered: 0 is the weak model, 1 the ceiling"
    return [Table(title, head, rows, numeric=(2, 3, 4))] if rows else []


def budget_table(found: StudyFile) -> Table:
    """What a run of each arm cost on average, and the least and most among its runs."""
    in_rounds = any(block.rounds for block in found.arms.values())
    rows = [
        (
            arm,
            f"{block.finished} of {block.planned}",
            *(_cost(block, name) for name in _COSTS),
            *(_last_round(block) if in_rounds else ()),
        )
        for arm, block in found.arms.items()
    ]
    limit, unit = found.budget.at_most, found.budget.unit
    unequal = "not equal for all arms" if found.budget.unequal else "equal for all arms"
    budget = f"{unit}, at most {count(limit)} a run" if limit else f"{unit}, {unequal}"
    head = [
        "arm", "finished", "tokens generated", "tokens trained on", "updates",
        "time, without evaluation", *(("DPO runs", "updates that were kept") if in_rounds else ()),
    ]  # fmt: skip
    title = f"Cost, mean of a run (least to most; budget: {budget})"
    return Table(title, head, rows, numeric=tuple(range(1, len(head))))


def declared_table(found: StudyFile, declared: Declared) -> Table:
    """What was fixed before the first run, by which hash, and what was changed since."""
    primary = found.primary
    against = next((c.baseline for c in found.comparisons if c.primary), primary.baseline or "?")
    level = "all levels" if primary.level is None else f"level {primary.level}"
    limit = f", at most {count(found.budget.at_most)} a run" if found.budget.at_most else ""
    rows = [
        ("primary metric", f"{primary.metric} on {level}"),
        ("primary comparison", f"{primary.arm} against {against}"),
        ("smallest difference that would matter", matters(found)),
        (
            "budget, not held equal" if found.budget.unequal else "held equal",
            f"{found.budget.unit}{limit}",
        ),
        ("base models", listed(found.bases)),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("hash of the study file before the first run (SHA-256)", found.declared),
    ]
    for change in found.changes:
        after = plural(change.finished_runs, "finished run")
        after += f", {change.left_out} of them left out" if change.left_out else ""
        rows.append((f"changed on {change.when}, after {after}", "; ".join(change.changes)))
        rows.append(("hash since then", change.declared or "not recorded"))
    fits = "yes" if declared.fits else "no: it is another file"
    rows.append(("study.yaml still has that hash", fits if declared.text else "it is not there"))
    return Table("Declared", ("what", "value"), rows)


def runs_table(found: StudyFile, runs: Mapping[str, Sequence[RunData]]) -> Table:
    """Every finished run: what it cost, where it is, which code made it."""
    there = {run.name: run for these in runs.values() for run in these}
    rows = []
    for arm, block in found.arms.items():
        for row in block.runs:
            run = there.get(f"{arm}, {row.base}, seed {row.seed}")
            costs = (row.generated, row.trained, row.updates)
            code = "the directory is gone" if run is None else code_version(run.manifest)
            shown = [count(value) for value in costs]
            rows.append((arm, row.base, str(row.seed), *shown, duration(row.seconds), code))
    head = ("arm", "base", "seed", "generated", "trained on", "updates", "time", "code")
    return Table("Every finished run", head, rows, numeric=(2, 3, 4, 5, 6))


def _cost(block: ArmOf, name: str) -> str:
    shown = duration if name == "seconds" else count
    mean = dict(block.spent)[name]
    each = [value for run in block.runs if (value := dict(run)[name]) is not None]
    if mean is None or not each or min(each) == max(each):
        return shown(mean)
    return f"{shown(mean)} ({shown(min(each))} to {shown(max(each))})"


def _last_round(block: ArmOf) -> tuple[str, str]:
    last = block.rounds[-1] if block.rounds else {}
    cells = (last.get(name) for name in ("spent/dpo_runs", "spent/updates"))
    dpo, kept = ("" if value is None else count(value) for value in cells)
    return dpo, kept


def _p(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
