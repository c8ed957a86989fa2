"""`rekindle grade`: a verifier on rows of a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from rekindle.cli.options import Overwrite, ThoughtOpen
from rekindle.cli.rows import SourceRow, read_rows, rows_file, write_columns
from rekindle.errors import ConfigError
from rekindle.rewards.verifiers.verify import AS_READ, VERSION


def grade(
    verifier: Annotated[str, typer.Option(help="exact, numeric, or math (extra [math]).")],
    input: Annotated[
        Path,
        typer.Option(
            help='JSONL rows: {"gold": ..., "text": ...}; "finish": "length" or "cut": true marks '
            "a text that ended at the token limit."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The rows with score and reason.")],
    timeout: Annotated[float, typer.Option(help="Seconds allowed per answer.", min=0.01)] = 5.0,
    workers: Annotated[int | None, typer.Option(help="Number of processes.", min=1)] = None,
    memory: Annotated[int, typer.Option(help="Memory limit of a process, MiB.", min=256)] = 2048,
    thought_open: ThoughtOpen = False,
    marked: Annotated[bool, typer.Option(help="Without a mark there is no answer.")] = False,
    verifier_version: Annotated[
        int, typer.Option(help="Of exact, numeric and math; 1: before 0.2.", min=1, max=VERSION)
    ] = VERSION,
    overwrite: Overwrite = False,
) -> None:
    """Check answers in processes that can be killed: 1, 0, or null with the reason."""
    from rekindle.rewards.workers import VerifierPool
    from rekindle.tasks.rows import check_verifier

    if verifier == "code":
        raise ConfigError(
            "programs are graded as a task, by test cases", fix="rekindle eval with a .jsonl task"
        )
    check_verifier(verifier)
    out = rows_file(output, input, overwrite=overwrite)
    rows = read_rows(input)
    answers = [(row.text("gold"), row.text("text")) for row in rows]
    pool = VerifierPool(verifier, timeout=timeout, workers=workers, memory=memory)
    how = AS_READ._replace(thought_open=thought_open, marked=marked, version=verifier_version)
    scores = pool.grade(answers, [how._replace(cut=_is_cut(row)) for row in rows])
    pool.close()
    values = [None if s.value is None else _without_fraction(s.value) for s in scores]
    write_columns(out, rows, {"score": values, "reason": [s.reason for s in scores]})
    counted = Counter("missing" if s.value is None else f"{s.value:g}" for s in scores)
    reasons = Counter(score.reason for score in scores if score.reason is not None)
    typer.echo(
        f"{len(rows)} answers: "
        + ", ".join(f"{count} {name}" for name, count in sorted(counted.items()))
        + (f" ({', '.join(f'{n} {why}' for why, n in reasons.most_common(5))})" if reasons else ""),
        err=True,
    )


def _is_cut(row: SourceRow) -> bool:
    return row.columns.get("cut") is True or row.columns.get("finish") == "length"


def _without_fraction(value: float) -> float:
    return int(value) if value in (0.0, 1.0) else value
