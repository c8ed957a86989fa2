"""Tables of the page: which runs, accuracy in numbers, time and tokens, settings, environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rekindle.report.load import RunData
from rekindle.report.samples import number
from rekindle.report.words import UNDEFINED, count, duration, estimate, percent, plural
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
        planned = run.steps_planned
        task = run.section("task")
        levels = task.get("levels")
        on = str(task.get("name") or "not recorded")
        if isinstance(levels, list) and levels:
            on += f" (level {', '.join(map(str, levels))})"
        parts = time_parts(run) or {}
        rows.append(
            (
                run.name,
                run.method,
                str(run.section("model").get("name") or "not recorded"),
                on,
                run.seed,
                f"{run.steps_done:,}" + ("" if planned is None else f" of {planned:,}"),
                duration(sum(parts.values())) if parts and run.rows else UNDEFINED,
                code_version(run.manifest),
            )
        )
    head = ("run", "method", "model", "task", "seed", "steps", "time", "code")
    return Table("The runs on this page", head, rows, numeric=(4, 5, 6))


def code_version(manifest: Mapping[str, Any]) -> str:
    """`0.1.0, commit 1a2b3c4d5e, changed`, as far as it was recorded."""
    parts = []
    if manifest.get("rekindle"):
        parts.append(str(manifest["rekindle"]))
    commit = manifest.get("commit")
    if commit:
        changed = ", changed" if manifest.get("dirty") else ""
        parts.append(f"commit {str(commit)[:10]}{changed}")
    return ", ".join(parts) or "not recorded"


def accuracy(runs: Sequence[RunData]) -> list[Table]:
    """For each run: metric x level, before and after, each with interval and n."""
    tables = []
    for run in runs:
        sides = [(when, e) for when, e in (("before", run.before), ("after", run.after)) if e]
        if not sides:
            continue
        names = list(dict.fromkeys(name for _, e in sides for name in e.metrics))
        levels = list(dict.fromkeys(level for _, e in sides for level in e.levels))
        rows = []
        for level in [None, *levels]:
            for when, evaluation in sides:
                cells = evaluation.at(level)
                where = "all levels" if level is None else f"level {level}"
                shown = [estimate(cells.get(name), name=name) for name in names]
                rows.append((where, f"{when} (step {evaluation.step:,})", *shown))
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
    made = sum(stage.seconds for stage in run.stages)
    return {**run.times, "sample": run.times["sample"] + made}


def tokens(run: RunData) -> dict[str, float]:
    """Tokens generated and trained on over the whole run; absent when never logged.

    Of an arm: means over those of its runs that logged them.
    """
    found: dict[str, float] = {}
    if run.members:
        each = [tokens(member) for member in run.members]
        for kind in ("generated", "trained"):
            amounts = [made[kind] for made in each if kind in made]
            if amounts:
                found[kind] = sum(amounts) / len(amounts)
        return found
    if run.spent:
        known = {kind: number(run.spent.get(kind)) for kind in ("generated", "trained")}
        return {kind: value for kind, value in known.items() if value}
    for kind in ("generated", "trained"):
        logged = [number(row.get(f"tokens/{kind}")) for row in run.rows]
        if any(value is not None for value in logged):
            found[kind] = sum(value or 0.0 for value in logged)
    made = sum(stage.generated for stage in run.stages)
    if made:
        found["generated"] = found.get("generated", 0.0) + made
    return found


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
        made, sampling = tokens(run), (time_parts(run) or {}).get("sample")
        generated, trained = made.get("generated"), made.get("trained")
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
    flat = [flatten(run.config) for run in runs]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    rows = [
        (key, *(settings.get(key, "–") for settings in flat))
        for key in keys
        if len({settings.get(key) for settings in flat}) > 1
    ]
    head = ("setting", *(run.name for run in runs))
    return Table("Settings in which the runs differ", head, rows) if rows else None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `section.key` -> value, as YAML would write it on one line."""
    out: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = _setting(value)
    return out


def _setting(value: object) -> str:
    if isinstance(value, list | dict):
        return yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def environment(name: str, manifest: Mapping[str, Any], *, seed: str) -> Table:
    """Where and how a run or a study was made, as its manifest says."""
    sessions = manifest.get("sessions")
    packages = manifest.get("packages")
    rows = [
        ("code", code_version(manifest)),
        ("seed", seed),
        ("Python", _plain(manifest.get("python"))),
        ("platform", _plain(manifest.get("platform"))),
        ("processes", _plain(manifest.get("processes"))),
        ("started", _plain(manifest.get("started"))),
        ("finished", _plain(manifest.get("finished"))),
        ("sessions", str(len(sessions)) if isinstance(sessions, list) else "not recorded"),
    ]
    if isinstance(packages, Mapping):
        rows.append(("packages", ", ".join(f"{k} {v}" for k, v in packages.items())))
    prints = manifest.get("fingerprints")
    if isinstance(prints, Mapping):
        rows += [(f"hash of {key}", _plain(value)) for key, value in prints.items()]
    if manifest.get("diff_sha"):
        rows.append(("hash of uncommitted changes", _plain(manifest["diff_sha"])))
    return Table(f"{name}: environment", ("what", "value"), rows)


def _plain(value: object) -> str:
    if value is None:
        return "not recorded"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
