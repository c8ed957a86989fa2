"""`rekindle probe`: what a reward accepts and loses.

Exit code 0: clean; 1: a false accept, more than 5 % of the right answers lost, or a reward that
does not tell right from wrong; 2: one that cannot be loaded or called.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli.options import ThoughtOpen
from rekindle.errors import ConfigError

if TYPE_CHECKING:
    from rekindle.rewards.probing.probe_report import AnswersCount, ProbeReport

_SHOWN = 110  # characters of an example in the table


def probe(
    target: Annotated[
        str,
        typer.Argument(
            help="exact, numeric, math, package.module:function or path/to/file.py:function."
        ),
    ],
    answers: Annotated[
        str | None,
        typer.Option(help="numeric, math, exact or all; default: what the reward can tell apart."),
    ] = None,
    thought_open: ThoughtOpen = False,
    text_column: Annotated[
        str | None, typer.Option(help="The parameter that takes the model's text.")
    ] = None,
    gold_column: Annotated[
        str | None, typer.Option(help="The parameter or column that takes the right answer.")
    ] = None,
    question_column: Annotated[
        str | None, typer.Option(help="The parameter or column that takes the question.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds allowed per text.", min=0.01)] = 5.0,
    limit: Annotated[
        int | None, typer.Option(help="Rows at most, evenly chosen; default: all.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a reward accepts and loses, on answers whose worth is known."""
    from rekindle.rewards.probing.degenerate import ANSWERS
    from rekindle.rewards.probing.probe import probe as run
    from rekindle.rewards.probing.signatures import Names

    if answers not in (None, "all", *ANSWERS):
        raise ConfigError("--answers is unknown", got=answers, wanted="numeric, math, exact or all")
    report = run(
        target,
        answers=None if answers is None else ANSWERS if answers == "all" else (answers,),
        names=Names(text_column, gold_column, question_column),
        thought_open=thought_open,
        timeout=timeout,
        limit=limit,
    )
    typer.echo(json.dumps(asdict(report), ensure_ascii=False) if as_json else table(report))
    if not report.is_clean:
        raise typer.Exit(1)


def table(report: ProbeReport) -> str:
    """The report as lines of text."""
    lines = [f"reward     {report.reward}", f"signature  {report.signature}"]
    if report.blind:
        return "\n".join([*lines, "", _BLIND])
    lines += [
        f"accepted   a score above {report.accepted_above:g}, the middle of plainly right and "
        f"plainly wrong answers (form: {report.plain_form})",
        "",
        f"{'kind':<22} {'n':>5} {'false accepts':>14} {'lost':>5}  row that shows it",
    ]
    for count in report.kinds:
        row = f"{count.kind:<22} {count.n:>5} {count.false_accepts:>14} {count.lost:>5}"
        lines.append(row if count.example is None else f"{row}  {_shown(count.example.fault)}")
        if count.example is not None:
            score = "none" if count.example.score is None else f"{count.example.score:g}"
            text = _shown(count.example.text)
            lines.append(f"    gold {_shown(count.example.gold)}, score {score}: {text}")
    lines.append("")
    lines += [_total(f"all {part.answers} answers", part) for part in report.answers]
    return "\n".join([*lines, "", *_notes(report), _verdict(report)])


_BLIND = (
    "blind: it scores plainly right and plainly wrong answers alike, so it rewards nothing that is "
    "in the answers. If it needs another form of gold or text, name its parameters."
)


def _total(name: str, part: AnswersCount) -> str:
    return f"{name:<22} {part.n:>5} {part.false_accepts:>14} {part.lost:>5}"


def _notes(report: ProbeReport) -> list[str]:
    """What is not in the table."""
    notes = []
    if report.echoes.n:
        notes.append(
            f"worked out, equal to the gold (3+4 for 7; not counted): {report.echoes.accepted} of "
            f"{report.echoes.n} accepted"
        )
    for number, what in (
        (report.raised, "raised an error"),
        (report.timeouts, "took too long"),
        (report.missing, "got no score"),
        (report.not_asked, "were not asked, after too many that took too long"),
    ):
        if number:
            notes.append(f"{number} texts {what}")
    return notes


def _verdict(report: ProbeReport) -> str:
    wrong = report.n - report.right
    share = report.lost / report.right if report.right else 0.0
    return (
        f"{'clean' if report.is_clean else 'not clean'}: it accepts {report.false_accepts} of "
        f"{wrong} wrong answers, and loses {report.lost} of {report.right} right ones ({share:.1%})"
    )


def _shown(text: str) -> str:
    line = " ".join(text.split()) or "(empty)"
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
