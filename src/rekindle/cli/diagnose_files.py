"""The files that `rekindle diagnose` writes: checked before anything is measured."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import yaml

from rekindle.errors import ConfigError, DataError, RunDirectoryError
from rekindle.files import explained_io, write_atomic

if TYPE_CHECKING:
    from rekindle.signals.remedies import Place
    from rekindle.signals.table import Advice, Finding
    from rekindle.tasks import Task

LEAST_DEV = 20  # dev problems of a study: four seeds find a difference of about 0.1 with as many


def check_targets(
    out: Path | None, write: Path | None, read: Sequence[Path | None], overwrite: bool
) -> None:
    """Refuse files that are there, that are one and the same, or that cannot be written.

    Args:
        out: the numbers.
        write: the study; those of further remedies go beside it.
        read: files that the command reads, which it never replaces.

    Raises:
        ConfigError: two of them are one file.
        RunDirectoryError: one exists, is a directory, or its place cannot be written to.
    """
    from rekindle.signals.remedies import STUDIES

    beside = [] if write is None else [sibling(write, remedy) for remedy in STUDIES]
    targets = [("--out", out), ("--write", write), *[("--write", path) for path in beside]]
    given = [(option, path) for option, path in targets if path is not None]
    taken = {path.resolve(): "what the command reads" for path in read if path is not None}
    for option, path in given:
        place = path.resolve()
        if place in taken:
            raise ConfigError(
                f"{option} {path} is {taken[place]} as well",
                got=str(path),
                wanted="a file of its own for each",
                why="the one would replace the other",
                fix=f"give another {option}",
            )
        taken[place] = f"the file of {option}"
        if path.is_dir():
            raise RunDirectoryError(
                f"{path} is a directory", wanted="a file", fix=f"give {option} a file's name"
            )
        if path.exists() and not overwrite:
            raise RunDirectoryError(
                f"{path} exists",
                why="nothing is replaced that was not meant to be",
                fix=f"give another {option}, or --overwrite to replace it",
            )
    for place in {path.parent for _, path in given}:
        with explained_io(place, "writing in"):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass


def sibling(path: Path, remedy: str) -> Path:
    """Where the study of a further remedy goes."""
    return path.with_name(f"{path.stem}_{remedy}{path.suffix}")


def write_studies(
    path: Path, findings: Sequence[Finding], place: Place, task: Task, check: str | None
) -> None:
    """A study of each remedy that fits: the first as `path`, others beside it under their names."""
    from rekindle.signals.remedies import too_little, writable

    fits = [(f.signal, f.remedy) for f in findings if f.remedy is not None]
    fits = [(signal, advice) for signal, advice in fits if writable(advice.what)]
    if not fits:
        typer.echo(f"{path} was not written: no remedy with a study fits")
        return
    sized, few_dev = _evaluated(task, place)
    done = set[str]()
    for signal, advice in fits:
        if advice.what in done:
            continue
        few = too_little(advice.what, place) or few_dev or _no_check(advice.what, check)
        if few is not None:
            typer.echo(f"no study of {advice.what} was written: {few}")
            continue
        _write_study(sibling(path, advice.what) if done else path, signal, advice, sized)
        done.add(advice.what)


def _no_check(remedy: str, check: str | None) -> str | None:
    """A recipe has one verifier for training and evaluation; with --check that is the bad one."""
    if remedy != "hero" or check is None:
        return None
    return (
        f"its evaluation would be by task.verifier, the one that {check} has found to reject right "
        f"answers. Train with --set task.verifier={check}, which is worth most"
    )


def _evaluated(task: Task, place: Place) -> tuple[Place, str | None]:
    """The place with as many problems a level as dev has; why they are too few for a study.

    Says so where there are fewer than asked for.
    """
    levels, asked = (place.shared.get("task") or {}).get("levels"), place.problems
    try:
        dev = task.problems("dev", count=asked, seed=0, levels=levels)
    except DataError as error:
        limit = f" (wanted: {error.wanted}); give a smaller --problems" if error.wanted else ""
        return place, f"a study is evaluated on dev problems: {error.what}{limit}"
    by_level = Counter(problem.level for problem in dev)
    lacking = len(dev) < asked * len(by_level)
    if len(dev) < LEAST_DEV:
        fix = "give a dev.jsonl of 100 rows or more" if lacking else "give --problems 100 or more"
        return place, f"a study on {len(dev)} dev problems could not tell; {fix}"
    if lacking:
        typer.echo(
            f"there are {len(dev)} dev problems, fewer than asked for (--problems {asked}): "
            "studies are evaluated on these; more would tell smaller differences"
        )
    return place._replace(problems=max(by_level.values())), None


def _write_study(path: Path, signal: str, remedy: Advice, place: Place) -> None:
    """Write the study of a remedy, and check that it can be planned."""
    from rekindle.signals.remedies import study_tree
    from rekindle.study.plan.planning import load_study, plan

    tree = json.loads(json.dumps(study_tree(remedy.what, place)))  # parts that arms share: copied
    text = yaml.safe_dump(tree, sort_keys=False, width=100)
    head = (
        f"# Written by rekindle diagnose; {signal}: {remedy.what} fits.\n"
        f"# {remedy.why}.\n"
        "# Settle the baseline's rate on dev problems first, then:\n"
        f"#   rekindle study {path} --out runs/{path.stem}\n"
    )
    write_atomic(path, head + text)
    plan(load_study(path), Path("runs") / path.stem)
    typer.echo(f"written: {path}, a study of {remedy.what}")
