"""The turns that a model is asked, by a chat template or without, and what their tokens must be."""

from typing import Any

from rekindle.chat import SYSTEM_ROLES, Message
from rekindle.engine.config import ModelConfig
from rekindle.engine.progress import say_once
from rekindle.errors import ConfigError, DataError, PromptTooLongError
from rekindle.records import Problem


def uses_template(problem: Problem, tokenizer: Any, config: ModelConfig) -> bool:
    """Whether the problem is asked through the tokenizer's chat template.

    Raises:
        ConfigError: it needs one, and none is there or none is to be used.
    """
    has_one = tokenizer.chat_template is not None
    if not has_one and (config.chat_template == "always" or problem.messages is not None):
        raise ConfigError(
            f"{named(problem)} needs a chat template, and the tokenizer of '{config.name}' has "
            "none",
            fix="use an instruct model, or give 'prompt' instead of 'messages'",
        )
    used = has_one and config.chat_template != "never"
    roles = [role for role, _ in problem.messages or ()]
    if not used and roles not in ([], ["user"]):
        raise ConfigError(
            f"{named(problem)} has several turns, and model.chat_template is never",
            got=f"roles: {', '.join(roles)}",
            wanted="one turn of the user",
            why="without a template only the text of the last turn would be left",
            fix="--set model.chat_template=auto, or give one 'prompt' instead of 'messages'",
        )
    if not used and config.system is not None:
        say_once(f"model.system has no effect: '{config.name}' is used without a chat template")
    return used


def messages_of(problem: Problem, config: ModelConfig) -> list[Message]:
    """The problem's turns; `model.system` in front where it has no system turn of its own."""
    turns = problem.messages if problem.messages is not None else (("user", problem.prompt),)
    if config.system is not None:
        if any(role in SYSTEM_ROLES for role, _ in turns):
            say_once("rows that have a system turn of their own keep it: not model.system")
        else:
            turns = (("system", config.system), *turns)
    return [{"role": role, "content": content} for role, content in turns]


def named(problem: Problem) -> str:
    """How an error names it."""
    return f"problem '{problem.id}'"


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
