"""`rekindle diagnose --log`: where the signal of a run went, from what its trainer left on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from rekindle.errors import ConfigError
from rekindle.files import explained_io
from rekindle.outputs import DIAGNOSIS_MARK, OutputFile

LARGE = 50e6  # bytes of a log that is said to be read

if TYPE_CHECKING:
    from rekindle.signals.logs.record import LogAbout
    from rekindle.signals.run_diagnosis.compare import LogPair
    from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis

Logs = Annotated[
    list[Path] | None,
    typer.Option("--log", help="A run's directory, or a file of rollouts; two are compared."),
]
Format = Annotated[
    str | None, typer.Option("--format", help="Of --log; default: found by its files.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="KEY=COLUMN,...",
        help="Which column of --log holds what: score=, text=, group=, step=, ...",
    ),
]
VerifierColumn = Annotated[
    str | None, typer.Option(help="The reward of --log that says right or wrong.")
]
Estimator = Annotated[
    str | None, typer.Option(help="Of the advantages in --log; default: the trainer's own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; with --log.")]


class LogOptions(NamedTuple):
    """What only `--log` has."""

    format: str | None
    columns: Sequence[str] | None
    verifier_column: str | None
    estimator: str | None
    as_json: bool

    def named(self) -> dict[str, object]:
        """The options by name, for a refusal."""
        return {
            "--format": self.format,
            "--map": self.columns,
            "--verifier-column": self.verifier_column,
            "--estimator": self.estimator,
            "--json": self.as_json or None,
        }


def refuse_beside(options: Mapping[str, object], other: str, why: str) -> None:
    """Refuse options that are of no use beside another.

    Raises:
        ConfigError: one was given.
    """
    given = [name for name, value in options.items() if value is not None and value != []]
    if given:
        raise ConfigError(
            f"{given[0]} does not go with {other}", why=why, fix=f"leave {', '.join(given)} out"
        )


def diagnose_logs(
    paths: Sequence[Path],
    options: LogOptions,
    *,
    check: str | None,
    out: Path | None,
    write: Path | None,
    overwrite: bool,
) -> None:
    """Print what one log tells, or several side by side; write the page and the change.

    Raises:
        ConfigError: an option that names what is not there.
        DataError: a log that cannot be read.
    """
    from rekindle.signals.run_diagnosis.compare import pair_logs
    from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log

    columns = parse_map(options.columns)
    target = None if out is None else check_out(out, paths, overwrite=overwrite)
    if write is not None:
        check_write(write, paths, overwrite=overwrite)
    diagnoses = [
        diagnose_log(
            path,
            format=options.format,
            columns=columns,
            verifier_column=options.verifier_column,
            check=check,
            estimator=options.estimator,
            tell=None if options.as_json else tell_large,
        )
        for path in paths
    ]
    pairs = pair_logs(diagnoses)
    if options.as_json:
        found = as_dict(paths, diagnoses, pairs)
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        _print(paths, diagnoses, pairs)
    if target is not None:
        _write_out(target, paths, diagnoses, pairs)
        typer.echo(f"written: {target.path}", err=options.as_json)
    if write is not None:
        for line in write_change(write, paths[0], diagnoses[0], overwrite=overwrite):
            typer.echo(line, err=options.as_json)


def tell_large(about: LogAbout) -> None:
    """Say what is read where that takes more than a second."""
    size = sum(file.stat().st_size for file in about.files)
    if size > LARGE:
        count = len(about.files)
        files = f"{count} file{'s' * (count > 1)} of {about.format}, {size / 1e6:,.0f} MB"
        typer.echo(f"reading {files}", err=True)


def parse_map(given: Sequence[str] | None) -> dict[str, str] | None:
    """Columns by key, from `key=column,key=column`; None: not given.

    Raises:
        ConfigError: a part without "=", or a key twice.
    """
    if not given:
        return None
    columns: dict[str, str] = {}
    for part in ",".join(given).split(","):
        key, equals, column = (text.strip() for text in part.partition("="))
        if not (key and equals and column):
            raise ConfigError(
                "--map is not readable", got=part, wanted="key=column,key=column, e.g. score=reward"
            )
        if key in columns:
            raise ConfigError(f"--map has '{key}' twice", got=f"{columns[key]} and {column}")
        columns[key] = column
    return columns


def as_dict(
    paths: Sequence[Path], diagnoses: Sequence[LogDiagnosis], pairs: Sequence[LogPair]
) -> dict[str, object]:
    """One log as plain data; of several, each of them and what pairs them with the first."""
    if len(diagnoses) == 1:
        return diagnoses[0].as_dict()
    logs = zip(paths, diagnoses, strict=True)
    others = [{"path": str(paths[pair.second]), **pair.as_dict()} for pair in pairs]
    return {
        "logs": [{"path": str(path), **diagnosis.as_dict()} for path, diagnosis in logs],
        "paired": {"first": str(paths[0]), "others": others},
    }


def _print(
    paths: Sequence[Path], diagnoses: Sequence[LogDiagnosis], pairs: Sequence[LogPair]
) -> None:
    from rekindle.signals.run_diagnosis.compare import pair_lines

    for path, diagnosis in zip(paths, diagnoses, strict=True):
        typer.echo(f"== {path}\n{diagnosis!r}\n" if len(paths) > 1 else repr(diagnosis))
    for pair in pairs:
        typer.echo("\n".join(pair_lines(pair, [str(path) for path in paths])))


# --- the files that are written


def check_out(out: Path, paths: Sequence[Path], *, overwrite: bool) -> OutputFile:
    """The page or the numbers, before anything is read.

    Raises:
        ConfigError: it is neither, or a log that is read.
        RunDirectoryError: there is something else that is kept.
    """
    suffix = out.suffix.lower()
    if suffix not in (".html", ".json"):
        raise ConfigError(
            f"--out {out} has a suffix that --log does not write",
            got=out.suffix or "no suffix",
            wanted=".html: a page; .json: the numbers",
        )
    mark = DIAGNOSIS_MARK if suffix == ".html" else None
    file = OutputFile(out, reads=tuple(paths), mark=mark, overwrite=overwrite)
    file.check()
    with explained_io(out.parent, "writing in"):
        file.target.parent.mkdir(parents=True, exist_ok=True)
    return file


def _write_out(
    file: OutputFile,
    paths: Sequence[Path],
    diagnoses: Sequence[LogDiagnosis],
    pairs: Sequence[LogPair],
) -> None:
    if file.mark is None:
        file.write_json(as_dict(paths, diagnoses, pairs))
        return
    from rekindle.report.log_page import render_logs

    page = render_logs(paths, diagnoses, pairs)
    file.write(page.encode("utf-8", "replace"))  # a model may emit half a surrogate pair


def check_write(path: Path, paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse a change of several logs, of another suffix, or over a file that is kept.

    Raises:
        ConfigError: it is of several logs, or neither Python nor a shell script.
        RunDirectoryError: there is something else that is kept.
    """
    from rekindle.signals.run_diagnosis.change import SUFFIXES, beside

    if len(paths) > 1:
        raise ConfigError(
            "--write is the change of one run", got=f"{len(paths)} logs", fix="give one --log"
        )
    if path.suffix not in SUFFIXES.values():
        raise ConfigError(
            f"--write {path} has a suffix that --log does not write",
            got=path.suffix or "no suffix",
            wanted=", ".join(f"{suffix} for {name}" for name, suffix in SUFFIXES.items()),
        )
    for place in (path, *beside(path)):
        _change_file(place, paths, overwrite=overwrite).check()
    with explained_io(path.parent, "writing in"):
        path.parent.mkdir(parents=True, exist_ok=True)


def write_change(path: Path, log: Path, diagnosis: LogDiagnosis, *, overwrite: bool) -> list[str]:
    """Write what the log speaks for in its trainer's terms; what was done, in lines.

    Raises:
        ConfigError: its trainer has none, or another suffix.
    """
    from rekindle.signals.run_diagnosis.change import check_format, find_change
    from rekindle.signals.run_diagnosis.trl_change import note, trl_files
    from rekindle.signals.run_diagnosis.verl_change import verl_files

    check_format(path, diagnosis)
    change = find_change(log, diagnosis)
    if change is None:
        return [f"{path} was not written: the log speaks for no change"]
    files_of = {"trl": trl_files, "verl": verl_files}[diagnosis.log.about.format]
    files = files_of(path, change, diagnosis)
    for place, text in files.items():
        _change_file(place, [log], overwrite=overwrite).write(text)
    said = note(diagnosis, change) if diagnosis.log.about.format == "trl" else ""
    return [f"written: {', '.join(map(str, files))}", *([said] if said else [])]


def _change_file(path: Path, paths: Sequence[Path], *, overwrite: bool) -> OutputFile:
    return OutputFile(path, option="--write", reads=tuple(paths), overwrite=overwrite)
