"""`rekindle diagnose --log`: where the signal of a run went, from what its trainer left on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from rekindle.errors import ConfigError

if TYPE_CHECKING:
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
    from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log

    columns = parse_map(options.columns)
    diagnoses = [
        diagnose_log(
            path,
            format=options.format,
            columns=columns,
            verifier_column=options.verifier_column,
            check=check,
            estimator=options.estimator,
        )
        for path in paths
    ]
    if options.as_json:
        typer.echo(json.dumps(_plain(paths, diagnoses), indent=1, ensure_ascii=False))
    else:
        for path, diagnosis in zip(paths, diagnoses, strict=True):
            typer.echo(f"== {path}\n{diagnosis!r}" if len(paths) > 1 else repr(diagnosis))


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


def _plain(paths: Sequence[Path], diagnoses: Sequence[LogDiagnosis]) -> dict[str, object]:
    if len(diagnoses) == 1:
        return diagnoses[0].as_dict()
    logs = zip(paths, diagnoses, strict=True)
    return {"logs": [{"path": str(path), **diagnosis.as_dict()} for path, diagnosis in logs]}
