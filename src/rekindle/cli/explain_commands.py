"""`rekindle explain ...`: what a formula makes of your own rows; the work is elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rekindle.cli.options import Set

explain_app = typer.Typer(no_args_is_help=True, help="Show what a formula makes of your rows.")


@explain_app.command("advantages")
def explain_advantages(
    method: Annotated[str, typer.Option(help="grpo, lens, hero, ngrpo, ...: `rekindle methods`.")],
    input: Annotated[Path, typer.Option(help="JSONL rows: group, correct, ...")],
    output: Annotated[Path, typer.Option(help="The same rows with reward and advantage.")],
    sets: Set = None,
) -> None:
    """Rewards, advantages, penalties and weights of your own rows, as training computes them."""
    from rekindle.cli.explain import run_explain_advantages

    run_explain_advantages(method, input, output, sets or [])


@explain_app.command("curriculum")
def explain_curriculum(
    input: Annotated[Path, typer.Option(help="JSONL rows: id, entropy_weak, entropy_strong.")],
    output: Annotated[Path, typer.Option(help="The same rows with weight and class.")],
    sets: Set = None,
) -> None:
    """WMSS's sampling weights of your own rows: --set mode=paper|code, alpha, beta, gamma."""
    from rekindle.cli.explain_curriculum import run_explain_curriculum

    run_explain_curriculum(input, output, sets or [])


@explain_app.command("pairs")
def explain_pairs(
    method: Annotated[str, typer.Option(help="weak_to_strong, self_rewarding or temporal.")],
    input: Annotated[Path, typer.Option(help="JSONL rows of answers, as the method reads them.")],
    output: Annotated[Path, typer.Option(help="The pairs.")],
    sets: Set = None,
) -> None:
    """The pairs that training would make of your own answers; what is skipped, and why."""
    from rekindle.cli.explain_pairs import run_explain_pairs

    run_explain_pairs(method, input, output, sets or [])
