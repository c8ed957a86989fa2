"""`rekindle quickstart`: SFT and GRPO on several testbed bases, and one page about it.

Each run is a process of one thread, two at a time. The runs are ordinary: the shipped recipes
with a few settings changed, which the report shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rekindle.errors import RunDirectoryError, TrainingError
from rekindle.evals.compare import compare_many
from rekindle.files import read_json, write_json
from rekindle.methods.recipe import load_recipe

BASES = (0, 1, 2)
ARMS = {
    # arm -> recipe, task, level that the verdict is about
    "grpo": ("grpo_countdown_testbed.yaml", "countdown", "4"),
    "sft": ("sft_addition_testbed.yaml", "addition", "5"),
}
# On the test split: nothing here is chosen by it, the recipes were settled on dev problems.
SETTINGS = ("eval.split=test", "eval.problems=200", "checkpoint.every=50")


@dataclass
class Job:
    """One training run of the quickstart."""

    arm: str
    base: int
    out: Path
    steps: int
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def finished_steps(self) -> int:
        """Rows of its metrics so far."""
        log = self.out / "metrics.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0


def run_quickstart(out: Path, *, mode: str, overrides: Sequence[str], quiet: bool) -> None:
    """Run the arms on all bases, build the report, print the verdicts and the path of the page."""
    began = time.monotonic()
    if out.exists() and any(out.iterdir()) and mode == "new":
        raise RunDirectoryError(
            f"{out} exists", fix="--resume goes on with it, --overwrite replaces it"
        )
    jobs = [_job(arm, base, out, mode, overrides) for base in BASES for arm in ARMS]
    _run_all(jobs, quiet=quiet)
    summary = [_verdict(arm, [job.out for job in jobs if job.arm == arm]) for arm in ARMS]
    from rekindle.report.page import build_report

    page = build_report([job.out for job in jobs], out / "report.html", title="Rekindle quickstart")
    seconds = time.monotonic() - began
    write_json(out / "summary.json", {"verdicts": summary, "seconds": seconds})
    for row in summary:
        typer.echo(row["text"])
    typer.echo(f"{seconds:.0f} s\nreport: {page.resolve()}")


def _job(arm: str, base: int, out: Path, mode: str, overrides: Sequence[str]) -> Job:
    name, task, _ = ARMS[arm]
    recipe = Path(str(files("rekindle") / "recipes" / name))
    sets = [f"model.name=testbed/{task}-s{base}", f"seed={base}", *SETTINGS, *overrides]
    steps = load_recipe(recipe, sets).shared.optim.steps
    place = out / f"{arm}-{task}-s{base}"
    state = {"resume": ["--resume"] if place.exists() else [], "overwrite": ["--overwrite"]}
    command = [
        sys.executable,
        "-m",
        "rekindle",
        "train",
        str(recipe),
        "--out",
        str(place),
        "--quiet",
        *state.get(mode, []),
    ]
    for item in sets:
        command += ["--set", item]
    return Job(arm=arm, base=base, out=place, steps=steps, command=command)


def _run_all(jobs: Sequence[Job], *, quiet: bool) -> None:
    at_once = max(1, min(2, os.cpu_count() or 1))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    waiting, running = list(jobs), list[Job]()
    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        bars = {
            job.out: progress.add_task(job.out.name, total=job.steps, note="waits", start=False)
            for job in jobs
        }
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    job.process = subprocess.Popen(
                        job.command,
                        env=environment,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                    )
                    running.append(job)
                    progress.start_task(bars[job.out])
                    if not console.is_terminal:
                        console.print(f"{job.out.name}: {job.steps} steps")
                time.sleep(0.2)
                for job in list(running):
                    done = job.finished_steps()
                    progress.update(bars[job.out], completed=done, note=f"{done}/{job.steps}")
                    if job.process is not None and job.process.poll() is not None:
                        running.remove(job)
                        _refuse_failure(job)
        finally:
            for job in running:
                if job.process is not None:
                    job.process.terminate()
                    job.process.wait()


def _refuse_failure(job: Job) -> None:
    assert job.process is not None
    if job.process.returncode == 0:
        return
    said = job.process.stderr.read().decode(errors="replace") if job.process.stderr else ""
    raise TrainingError(
        f"the run {job.out} stopped with exit code {job.process.returncode}",
        got=said.strip()[-2000:],
        fix="mend the cause, then `rekindle quickstart --resume`",
    )


def _verdict(arm: str, places: Sequence[Path]) -> dict[str, Any]:
    _, task, level = ARMS[arm]
    pairs = []
    for place in places:
        evals = sorted((place / "eval").glob("step-*.json"))
        pairs.append((read_json(evals[0]), read_json(evals[-1])))
    found = compare_many(pairs, metric="pass@1", level=level)
    text = (
        f"{arm} on {task} level {level}: pass@1 {found.before:.3f} -> {found.after:.3f}, "
        f"difference {found.value:+.3f} (95 % interval {found.ci_low:+.3f} to "
        f"{found.ci_high:+.3f}; {len(pairs)} base models, {found.n_problems} test problems)"
    )
    return {
        "arm": arm,
        "task": task,
        "level": level,
        "before": found.before,
        "after": found.after,
        "difference": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n_bases": len(pairs),
        "n_problems": found.n_problems,
        "text": text,
    }
