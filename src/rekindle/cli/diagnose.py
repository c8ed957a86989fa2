"""`rekindle diagnose`: which learning signal is missing, on your model and data, or in a log.

The table and what follows from it are printed; the numbers and the study of a remedy are written
where that is asked for, and their files are checked before anything is measured.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli.diagnose_log import (
    Columns,
    Estimator,
    Format,
    Json,
    LogOptions,
    Logs,
    VerifierColumn,
    diagnose_logs,
    refuse_beside,
)
from rekindle.cli.options import Levels, Set, named_paths, split_names
from rekindle.errors import ConfigError, DataError
from rekindle.files import explained_io
from rekindle.outputs import OutputFile

if TYPE_CHECKING:
    from rekindle.signals.diagnosis import Diagnosis
    from rekindle.signals.findings import Advice, Finding
    from rekindle.signals.remedies import Subject

LEAST_DEV = 20  # dev problems of a study: four seeds find a difference of about 0.1 with as many


Model = Annotated[str | None, typer.Option(help="testbed/<name>, a directory, or a hub id.")]
TaskName = Annotated[
    str | None,
    typer.Option(help="A task, see `rekindle tasks`, or its data; only pairs need none."),
]
Weak = Annotated[
    str | None, typer.Option(help="A weaker model: mix in its logits, use its answers as labels.")
]
GroupSize = Annotated[
    int | None, typer.Option(help="Answers per training group; default: as in --run, or 8.")
]
Check = Annotated[
    str | None,
    typer.Option(help="A stronger check: exact, numeric, math, code (a task from a file; --log)."),
]
Signals = Annotated[
    str | None, typer.Option(help="Comma-separated: sft,groups,verifier,reward,pairs,agreement.")
]
Out = Annotated[
    Path | None, typer.Option(help="Also write the numbers, as JSON; of --log a page, .html.")
]
Write = Annotated[
    Path | None,
    typer.Option(
        help="Write a study of the remedy that fits; of --log the change, .py (TRL), .sh (verl)."
    ),
]


def diagnose(
    model: Model = None,
    task: TaskName = None,
    weak: Weak = None,
    problems: Annotated[int, typer.Option(help="Per level, of train (sft: and dev).")] = 200,
    samples: Annotated[int, typer.Option(help="Answers per problem.")] = 8,
    group_size: GroupSize = None,
    levels: Levels = None,
    check: Check = None,
    run: Annotated[Path | None, typer.Option(help="A baseline run's directory.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="File of prompt, chosen, rejected.")] = None,
    signals: Signals = None,
    out: Out = None,
    write: Write = None,
    overwrite: Annotated[bool, typer.Option(help="Replace --out and --write.")] = False,
    sets: Set = None,
    log: Logs = None,
    log_format: Format = None,
    columns: Columns = None,
    verifier_column: VerifierColumn = None,
    estimator: Estimator = None,
    as_json: Json = False,
) -> None:
    """Say which learning signal is missing, on a model or in a run's log, and what would help."""
    of_log = LogOptions(log_format, columns, verifier_column, estimator, as_json)
    if log:
        of_model = {
            "--model": model, "--task": task, "--weak": weak, "--levels": levels, "--run": run,
            "--pairs": pairs, "--signals": signals, "--set": sets, "--group-size": group_size,
        }  # fmt: skip
        refuse_beside(of_model, "--log", "a log is read as it is, without a model")
        diagnose_logs(log, of_log, check=check, out=out, write=write, overwrite=overwrite)
        return
    refuse_beside(of_log.named(), "--model", "only a log has columns of its own")
    read = named_paths(pairs, task, _named(model), weak, run, sets=sets)
    files = check_targets(out, write, read, overwrite)
    from rekindle.signals.diagnose import diagnose

    diagnosis = diagnose(
        _named(model),
        task,
        weak=weak,
        problems=problems,
        samples=samples,
        group_size=group_size,
        levels=_split("levels", levels, "levels of the task"),
        check=check,
        run=run,
        pairs=pairs,
        signals=_split("signals", signals, "names of signals"),
        overrides=sets or (),
        for_study=write is not None,
    )
    _tell(diagnosis, files, write, check, overwrite)


def _tell(
    diagnosis: Diagnosis,
    files: Sequence[OutputFile],
    write: Path | None,
    check: str | None,
    overwrite: bool,
) -> None:
    """Print the diagnosis, and write what was asked for."""
    _print(diagnosis)
    if files and files[0].option == "--out":
        _write_numbers(files[0], diagnosis)
    if write is not None and (about := diagnosis.subject) is not None:
        write_studies(write, diagnosis.findings, about, check, overwrite=overwrite)


def _named(model: str | None) -> str:
    if model is None:
        raise ConfigError(
            "nothing to diagnose",
            wanted="--model MODEL with --task TASK, or --log DIR of a run that any trainer made",
            fix="rekindle diagnose --help",
        )
    return model


def _split(option: str, text: str | None, wanted: str) -> tuple[str, ...] | None:
    """The names between commas, of which none may be empty."""
    names = split_names(text)
    if names is None or all(names):
        return names
    from rekindle.signals.texts import refusal

    raise refusal(ConfigError, "empty-name", repr(text), option=option, wanted=wanted)


def _print(diagnosis: Diagnosis) -> None:
    rows = [row for finding in diagnosis.findings for row in finding.rows]
    wide = max((len(row.name) for row in rows), default=0)
    for finding in diagnosis.findings:
        typer.echo(finding.signal)
        for row in finding.rows:
            interval = "" if math.isnan(row.ci_low) else f"[{row.ci_low:.4g}, {row.ci_high:.4g}]"
            value = f"{row.value:>9.4g}  {interval:<22}  n {row.n:<5}"
            typer.echo(f"  {row.name:<{wide}}  {value}  {row.meaning}")
    typer.echo("\n".join(["", *diagnosis.states, "", *diagnosis.conclusion]))


def _write_numbers(out: OutputFile, diagnosis: Diagnosis) -> None:
    by_name = {finding.signal: finding.as_dict() for finding in diagnosis.findings}
    sft = by_name.get("sft", {})  # at the top too, where it was before there were other signals
    numbers = {
        "model": diagnosis.model,
        "task": diagnosis.task,
        "weak": diagnosis.weak,
        **{key: sft[key] for key in ("signal", "state", "verdict", "rows") if sft},
        "signals": by_name,
        "not_measured": diagnosis.not_measured,
        "conclusion": diagnosis.conclusion,
    }
    out.write_json(numbers)
    typer.echo(f"written: {out.path}")


# --- the files that are written


def check_targets(
    out: Path | None, write: Path | None, reads: tuple[Path, ...], overwrite: bool
) -> list[OutputFile]:
    """Refuse files that are there, that are one and the same, or that cannot be written.

    Args:
        out: the numbers.
        write: the study; those of further remedies go beside it.
        reads: what the command reads, which it never replaces.

    Returns:
        The files of `out` and of `write`, as far as they are given.

    Raises:
        ConfigError: two of them are one file.
        RunDirectoryError: one must not be replaced, or its directory cannot be written to.
    """
    from rekindle.signals.remedies import studies
    from rekindle.signals.texts import refusal

    beside = [] if write is None else [sibling(write, remedy) for remedy in studies()]
    named = [("--out", out), ("--write", write)]
    files = [
        OutputFile(path, option=option, reads=reads, overwrite=overwrite)
        for option, path in named
        if path is not None
    ]
    all_files = [*files, *(replace(files[-1], path=path) for path in beside)]
    others = dict[Path, str]()
    for file in all_files:
        option, path, other = file.option, file.path, others.get(file.target)
        if other is not None:
            raise refusal(ConfigError, "one-file", str(path), option=option, path=path, other=other)
        others[file.target] = f"the file of {option}"
        file.check()
    for directory in {file.target.parent for file in all_files}:
        with explained_io(directory, "writing in"):
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
    return files


def sibling(path: Path, remedy: str) -> Path:
    """Where the study of a further remedy goes."""
    return path.with_name(f"{path.stem}_{remedy}{path.suffix}")


def write_studies(
    path: Path,
    findings: Sequence[Finding],
    subject: Subject,
    check: str | None,
    *,
    overwrite: bool = False,
) -> None:
    """A study of each remedy that fits: the first as `path`, others beside it under their names."""
    from rekindle.signals.remedies import studies, too_little

    fits = [(f.signal, f.remedy) for f in findings if f.remedy is not None]
    fits = [(signal, advice) for signal, advice in fits if advice.what in studies()]
    if not fits:
        typer.echo(f"{path} was not written: no remedy with a study fits")
        return
    sized, few_dev = _fit_to_dev(subject)
    done = set[str]()
    for signal, advice in fits:
        if advice.what in done:
            continue
        few = too_little(advice.what, subject) or few_dev or _no_check(advice.what, check)
        if few is not None:
            typer.echo(f"no study of {advice.what} was written: {few}")
            continue
        place = sibling(path, advice.what) if done else path
        file = OutputFile(place, option="--write", overwrite=overwrite)
        _write_study(file, signal, advice, sized)
        done.add(advice.what)


def _no_check(remedy: str, check: str | None) -> str | None:
    """A recipe has one verifier for training and evaluation; with --check that is the bad one."""
    if remedy != "hero" or check is None:
        return None
    return (
        f"its evaluation would be by task.verifier, the one that {check} has found to reject right "
        f"answers. Train with --set task.verifier={check}, which is worth most"
    )


def _fit_to_dev(subject: Subject) -> tuple[Subject, str | None]:
    """The subject with as many problems a level as dev has; why they are too few for a study.

    Prints a line where there are fewer than were wanted.
    """
    levels, wanted = subject.settings.task.levels, subject.problems
    try:
        dev = subject.task.problems("dev", count=wanted, seed=0, levels=levels)
    except DataError as error:
        limit = f" (wanted: {error.wanted}); give a smaller --problems" if error.wanted else ""
        return subject, f"a study is evaluated on dev problems: {error.what}{limit}"
    by_level = Counter(problem.level for problem in dev)
    lacking = len(dev) < wanted * len(by_level)
    if len(dev) < LEAST_DEV:
        fix = "give a dev.jsonl of 100 rows or more" if lacking else "give --problems 100 or more"
        return subject, f"a study on {len(dev)} dev problems could not tell; {fix}"
    if lacking:
        typer.echo(
            f"there are {len(dev)} dev problems, fewer than asked for (--problems {wanted}): "
            "studies are evaluated on these; more would tell smaller differences"
        )
    return subject._replace(problems=max(by_level.values())), None


def _write_study(file: OutputFile, signal: str, remedy: Advice, subject: Subject) -> None:
    """Write the study of a remedy, and check that it can be planned."""
    path = file.path
    import yaml

    from rekindle.signals.remedies import study_tree
    from rekindle.study.plan.planning import load_study, plan

    tree = json.loads(json.dumps(study_tree(remedy.what, subject)))  # parts that arms share: copied
    text = yaml.safe_dump(tree, sort_keys=False, width=100)
    head = (
        f"# Written by rekindle diagnose; {signal}: {remedy.what} fits.\n"
        f"# {remedy.why}.\n"
        "# Settle the baseline's rate on dev problems first, then:\n"
        f"#   rekindle study {path} --out runs/{path.stem}\n"
    )
    file.write(head + text)
    plan(load_study(path), Path("runs") / path.stem)
    typer.echo(f"written: {path}, a study of {remedy.what}")
