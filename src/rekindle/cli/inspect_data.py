"""`rekindle inspect-data`: the tokens a model would be trained on."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from rekindle.cli.evaluate import settings_for
from rekindle.errors import ConfigError


def run_inspect(*, task: str, model: str, split: str, count: int, overrides: Sequence[str]) -> None:
    """Print prompts and solutions token by token; tokens that carry loss stand in brackets."""
    if split not in ("train", "dev", "test"):
        raise ConfigError("--split is unknown", got=split, wanted="train, dev or test")
    settings = settings_for(model, task, overrides)
    from rekindle.engine.policy import Policy
    from rekindle.training.parts import open_task

    wanted = settings.task
    loaded = open_task(wanted)
    policy = Policy.load(settings.model)
    tokenizer = policy.tokenizer
    typer.echo(
        f"bos {tokenizer.bos_token!r}, eos {tokenizer.eos_token!r}, pad {tokenizer.pad_token!r}, "
        f"chat template: {'yes' if tokenizer.chat_template is not None else 'no'}, "
        f"context {policy.context}"
    )
    for problem in loaded.problems(split, count=count, seed=0, levels=wanted.levels)[:count]:  # type: ignore[arg-type]
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
