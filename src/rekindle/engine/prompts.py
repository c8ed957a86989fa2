"""What the tokens of a prompt must be."""

from typing import Any

from rekindle.errors import DataError, PromptTooLongError
from rekindle.records import Problem


def check_prompt(tokens: list[int], problem: Problem, tokenizer: Any, context: int) -> None:
    """Refuse tokens that no completion can follow as in pretraining.

    Raises:
        DataError: there is none, or two BOS tokens begin them.
        PromptTooLongError: they fill the context.
    """
    if not tokens:
        raise DataError(
            f"problem '{problem.id}' has a prompt without tokens",
            got=problem.prompt,
            fix="give it a text; a tokenizer without a BOS token cannot start from nothing",
        )
    bos = tokenizer.bos_token_id
    if bos is not None and len(tokens) > 1 and tokens[0] == tokens[1] == bos:
        raise DataError(
            f"problem '{problem.id}' begins with two BOS tokens",
            got=tokenizer.decode(tokens[:12]),
            wanted="one BOS token",
            why="the tokenizer adds one, and the text already carries it; models are not "
            "trained on two and answer worse",
            fix=f"remove {tokenizer.bos_token!r} from the prompt text",
        )
    if len(tokens) >= context:
        raise PromptTooLongError(
            f"problem '{problem.id}' is longer than the model's context",
            got=f"{len(tokens)} prompt tokens",
            wanted=f"at most {context - 1} (context {context})",
            fix="shorten or drop the prompt, or use a model with a longer context",
        )
