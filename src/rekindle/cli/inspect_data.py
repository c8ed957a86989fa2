"""`rekindle inspect-data`: the tokens that a model would be trained on."""

from __future__ import annotations

from typing import Annotated

import typer

from rekindle.cli.options import Set, check_split


def inspect_data(
    task: Annotated[str, typer.Option(help="A task, or a .jsonl file.")],
    model: Annotated[str, typer.Option(help="Whose tokenizer to use.")] = "testbed/countdown-s0",
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    count: Annotated[int, typer.Option(help="Problems to show.")] = 3,
    sets: Set = None,
) -> None:
    """Show what the model would see: tokens, and which of them carry loss."""
    listed = check_split(split)
    from rekindle.engine.policy import Policy
    from rekindle.training.evaluation import EvalSettings, settings_of
    from rekindle.training.parts import open_task

    settings = settings_of(EvalSettings, model, task, sets or [])
    loaded = open_task(settings.task, settings.model)
    policy = Policy.load(settings.model)
    tokenizer = policy.tokenizer
    typer.echo(
        f"bos {tokenizer.bos_token!r}, eos {tokenizer.eos_token!r}, pad {tokenizer.pad_token!r}, "
        f"chat template: {'yes' if tokenizer.chat_template is not None else 'no'}, "
        f"context {policy.context}"
    )
    levels = settings.task.levels
    for problem in loaded.problems(listed, count=count, seed=0, levels=levels)[:count]:
        prompt = policy.encode_prompt(problem)
        typer.echo(f"\n{problem.id} (level {problem.level or '-'}), answer {problem.answer!r}")
        typer.echo("  prompt   " + " ".join(tokenizer.convert_ids_to_tokens(prompt)))
        if problem.solution is None:
            typer.echo("  solution none: usable for evaluation and reinforcement learning, not SFT")
            continue
        completion = policy.encode_completion(problem, problem.solution)
        shown = tokenizer.convert_ids_to_tokens(completion)
        typer.echo("  solution " + " ".join(f"[{token}]" for token in shown))
        typer.echo(f"  {len(prompt)} prompt tokens, {len(completion)} with loss")
