"""`rekindle inspect-data`: how data was read, and the tokens that a model would be trained on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli.options import Set, check_split
from rekindle.errors import ConfigError

if TYPE_CHECKING:
    from rekindle.training.data_view import DataView, PairView, RowView, TurnView

_SHOWN = 400  # characters of a message


def inspect_data(
    task: Annotated[
        str | None,
        typer.Option(help="A task, a file of data, a directory, or a hub id."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Or a file of pairs: prompt, chosen, rejected.")
    ] = None,
    model: Annotated[str, typer.Option(help="Whose tokenizer to use.")] = "testbed/countdown-s0",
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    count: Annotated[int, typer.Option(help="Problems or pairs to show.", min=1)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    sets: Set = None,
) -> None:
    """Show how data is read, what is left out, and which tokens carry loss."""
    listed = check_split(split)
    if (task is None) == (pairs is None):
        raise ConfigError(
            "inspect-data needs --task or --pairs",
            got="both" if task else "neither",
            fix="rekindle inspect-data --task data.parquet --model MODEL",
        )
    from rekindle.engine.policy import Policy
    from rekindle.engine.prompt_limit import PromptLimit, keep_task
    from rekindle.training.data_view import view_pairs, view_task
    from rekindle.training.evaluation import EvalSettings, settings_of
    from rekindle.training.parts import open_task, sampling

    settings = settings_of(EvalSettings, model, task or "countdown", sets or [])
    loaded = None if task is None else open_task(settings.task, settings.model)
    policy = Policy.load(settings.model)
    sample = settings.sample if loaded is None else sampling(settings.sample, loaded)
    limit = PromptLimit.of(policy, settings.task, sample)
    if loaded is not None:
        levels, kept = settings.task.levels, keep_task(limit, loaded).task
        view = view_task(kept, policy, split=listed, count=count, levels=levels)
    else:
        view = view_pairs(Path(str(pairs)), policy, count=count, limit=limit)
    if as_json:
        typer.echo(json.dumps(asdict(view), ensure_ascii=False, indent=2))
        return
    tokenizer = policy.tokenizer
    typer.echo(
        f"bos {tokenizer.bos_token!r}, eos {tokenizer.eos_token!r}, pad {tokenizer.pad_token!r}, "
        f"chat template: {'yes' if tokenizer.chat_template is not None else 'no'}, "
        f"context {policy.context}"
    )
    _print_source(view, split)
    for row in view.rows:
        _print_row(row)
    for pair in view.pairs:
        _print_pair(pair)


def _print_source(view: DataView, split: str) -> None:
    for note in view.notes:
        typer.echo(f"data: {note}")
    if view.splits:
        typer.echo("rows: " + ", ".join(f"{name} {n:,}" for name, n in view.splits.items()))
    if view.golds is not None:
        answers = f"{split}: {view.with_answer:,} with an answer, {view.with_solution:,} with a "
        typer.echo(f"{answers}solution; {view.golds.checked:,} different golds checked")
        if view.golds.unmatched:
            typer.echo(f"golds: {view.golds.sentence()}")
    for reason, n in view.left_out.items():
        typer.echo(f"left out: {n:,}: {reason}")


def _print_row(row: RowView) -> None:
    typer.echo(f"\n{row.id} (level {row.level or '-'}), answer {row.answer!r}")
    _print_turns(row.turns)
    typer.echo("  prompt   " + " ".join(row.prompt_tokens))
    if row.completion_tokens is None:
        typer.echo("  solution none: usable for evaluation and reinforcement learning, not SFT")
        return
    typer.echo("  solution " + " ".join(f"[{token}]" for token in row.completion_tokens))
    typer.echo(f"  {len(row.prompt_tokens)} prompt tokens, {len(row.completion_tokens)} with loss")


def _print_pair(pair: PairView) -> None:
    typer.echo(f"\npair {pair.id}{': both sides are the same tokens' if pair.same else ''}")
    _print_turns(pair.turns)
    typer.echo("  prompt   " + " ".join(pair.prompt_tokens))
    for side, tokens in (("chosen", pair.chosen_tokens), ("rejected", pair.rejected_tokens)):
        typer.echo(f"  {side:<8} " + " ".join(f"[{token}]" for token in tokens))
    typer.echo(
        f"  {len(pair.prompt_tokens)} prompt tokens, {len(pair.chosen_tokens)} and "
        f"{len(pair.rejected_tokens)} with loss"
    )


def _print_turns(turns: tuple[TurnView, ...]) -> None:
    """The messages of a conversation; a single prompt is seen in its tokens."""
    if len(turns) < 2 + turns[-1].loss:
        return
    for turn in turns:
        text = turn.content if len(turn.content) <= _SHOWN else f"{turn.content[:_SHOWN]}…"
        typer.echo(f"  {turn.role}{' (loss)' if turn.loss else ''}: {text}")
