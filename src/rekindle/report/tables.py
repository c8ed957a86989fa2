"""Tables of the page: which runs, accuracy in numbers, time and tokens, settings, environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rekindle.report.formatting import (
    UNDEFINED,
    count,
    duration,
    estimate,
    level_title,
    percent,
    plural,
)
from rekindle.report.load import RunData
from rekindle.report.run_files import Manifest
from rekindle.study.analyse.run_times import PARTS


@dataclass(frozen=True)
class Table:
    """Plain cells under headings; the first column is text, `numeric` ones are set as figures."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()


def overview(runs: Sequence[RunData]) -> Table:
    """One row a run: what it is and how far it came."""
    rows = []
    for run in runs:
        settings, parts = run.settings, time_parts(run) or {}
        levels = f" (level {', '.join(settings.levels)})" if settings.levels else ""
        planned = "" if settings.steps is None else f" of {settings.steps:,}"
        rows.append(
            (
                run.name,
                run.method,
                settings.model or "not recorded",
                (settings.task or "not recorded") + levels,
                run.seed,
                f"{run.steps_done:,}{planned}",
                duration(sum(parts.values())) if parts and run.rows else UNDEFINED,
                run.manifest.code,
            )
        )
    head = ("run", "method", "model", "task", "seed", "steps", "time", "code")
    return Table("The runs on this page", head, rows, numeric=(4, 5, 6))


def accuracy(runs: Sequence[RunData]) -> list[Table]:
    """For each run: metric x level, before and after, each with interval and n."""
    tables = []
    for run in runs:
        sides = run.sides
        if not sides:
            continue
        names = list(dict.fromkeys(name for _, e in sides for name in e.metrics))
        levels = list(dict.fromkeys(level for _, e in sides for level in e.levels))
        rows = []
        for level in [None, *levels]:
            for when, evaluation in sides:
                cells = evaluation.at(level)
                shown = [estimate(cells.get(name), name=name) for name in names]
                rows.append((level_title(level), f"{when} (step {evaluation.step:,})", *shown))
        last = sides[-1][1]
        caption = f"{run.name}, {last.split} split, {last.n_samples} samples a problem"
        if last.n_runs > 1:
            problems = plural(last.n_problems, "problem")
            caption += f", {problems}: mean of {last.n_runs} runs with its t-interval over runs"
        numeric = tuple(range(2, 2 + len(names)))
        tables.append(Table(caption, ("level", "when", *names), rows, numeric))
    return tables


def time_parts(run: RunData) -> dict[str, float] | None:
    """Seconds of each part over the whole run, stages among them; of an arm, means over its runs.

    `sample` holds the stages that make answers and judgements too. None where a run came from an
    archive without its times: the rows that it kept do not add up to them.
    """
    if run.members:
        each = [parts for member in run.members if (parts := time_parts(member)) is not None]
        if len(each) < len(run.members):
            return None
        return {part: sum(parts[part] for parts in each) / len(each) for part in PARTS}
    if run.times is None:
        return None
    in_stages = sum(stage.seconds for stage in run.stages)
    return {**run.times, "sample": run.times["sample"] + in_stages}


def tokens(run: RunData) -> dict[str, float]:
    """Tokens generated and trained on over the whole run; absent when never logged.

    Of an arm: means over those of its runs that logged them.
    """
    kinds = ("generated", "trained")
    if run.members:
        each = [tokens(member) for member in run.members]
        amounts = {kind: [spent[kind] for spent in each if kind in spent] for kind in kinds}
        return {kind: sum(these) / len(these) for kind, these in amounts.items() if these}
    if run.spent:
        return {kind: value for kind in kinds if (value := run.spent.get(kind))}
    total: dict[str, float] = {}
    for kind in kinds:
        logged = [row.values.get(f"tokens/{kind}") for row in run.rows]
        if any(value is not None for value in logged):
            total[kind] = sum(value or 0.0 for value in logged)
    in_stages = sum(stage.generated for stage in run.stages)
    if in_stages:
        total["generated"] = total.get("generated", 0.0) + in_stages
    return total


def time_table(runs: Sequence[RunData]) -> Table:
    """Where the time of each run went."""
    rows = []
    for run in runs:
        parts = time_parts(run) or {}
        total = sum(parts.values())
        if total:
            shown = [f"{duration(s)} ({percent(s / total)})" if s else "–" for s in parts.values()]
            rows.append((run.name, duration(total), *shown))
    head = ("run", "total", *PARTS)
    return Table("Time over the whole run, with its share", head, rows, tuple(range(1, len(head))))


def token_table(runs: Sequence[RunData]) -> Table:
    """How many tokens each run generated and trained on."""
    rows = []
    for run in runs:
        spent, sampling = tokens(run), (time_parts(run) or {}).get("sample")
        generated, trained = spent.get("generated"), spent.get("trained")
        if generated is None and trained is None:
            continue
        share = percent(trained / generated) if trained is not None and generated else "–"
        speed = f"{count(generated / sampling)} / s" if generated and sampling else "–"
        shown = ["–" if amount is None else count(amount) for amount in (generated, trained)]
        rows.append((run.name, *shown, share, speed))
    head = ("run", "generated", "trained on", "share trained on", "sampling speed")
    return Table("Tokens over the whole run", head, rows, tuple(range(1, len(head))))


def differences(runs: Sequence[RunData]) -> Table | None:
    """The settings in which the runs differ; None for one run, or when all are alike."""
    if len(runs) < 2:
        return None
    flat = [run.settings.flat for run in runs]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    rows = [
        (key, *(settings.get(key, "–") for settings in flat))
        for key in keys
        if len({settings.get(key) for settings in flat}) > 1
    ]
    head = ("setting", *(run.name for run in runs))
    return Table("Settings in which the runs differ", head, rows) if rows else None


def environment(name: str, manifest: Manifest, *, seed: str) -> Table:
    """Where and how a run or a study was made, as its manifest says."""
    rows = [
        ("code", manifest.code),
        ("seed", seed),
        ("Python", manifest.python),
        ("platform", manifest.platform),
        ("processes", manifest.processes),
        ("started", manifest.started),
        ("finished", manifest.finished),
        ("sessions", "" if manifest.sessions is None else str(manifest.sessions)),
    ]
    if manifest.packages:
        rows.append(("packages", ", ".join(f"{k} {v}" for k, v in manifest.packages.items())))
    rows += [(f"hash of {key}", value) for key, value in manifest.fingerprints.items()]
    if manifest.diff_sha:
        rows.append(("hash of uncommitted changes", manifest.diff_sha))
    cells = [(what, value or "not recorded") for what, value in rows]
    return Table(f"{name}: environment", ("what", "value"), cells)
