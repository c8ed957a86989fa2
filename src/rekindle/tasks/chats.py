"""Turns of chats, as the field writes them: role and content, or ShareGPT's from and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rekindle.errors import DataError
from rekindle.tasks.text_files import loads

Turns = tuple[tuple[str, str], ...]
_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
}


def read_turns(value: object, where: str, field: str) -> Turns:
    """The (role, content) of each message of a chat; content in parts is joined if all are text.

    Raises:
        DataError: it is no list of messages; `where` and `field` name the place.
    """
    value = as_list(value)
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(_turn(item, value, where, field) for item in items)


def is_chat(value: object) -> bool:
    """Whether a value is meant as a list of messages, or as one written as JSON."""
    value = as_list(value)
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(isinstance(item, Mapping) and item.keys() & {"role", "from"} for item in value)
    )


def as_list(value: object) -> object:
    """A list of messages that a cell holds as JSON, as CSV files do; other values as they are."""
    if not isinstance(value, str) or not value.lstrip().startswith('[{"'):
        return value
    try:
        read = loads(value)
    except (ValueError, RecursionError):
        return value
    is_turns = isinstance(read, list) and all(
        isinstance(item, dict) and item.keys() & {"role", "from"} for item in read
    )
    return read if is_turns else value


def _turn(item: object, whole: object, where: str, field: str) -> tuple[str, str]:
    turn: Mapping[str, object] = item if isinstance(item, Mapping) else {}
    role, content = turn.get("role"), _content(turn.get("content"), where, field)
    if role is None and isinstance(name := turn.get("from"), str):
        role, content = _ROLES.get(name), _content(turn.get("value"), where, field)
        if role is None:
            raise DataError(
                f"{where}: '{field}' has a turn from '{name}'",
                got=whole,
                wanted=f"turns from {', '.join(_ROLES)}",
                why="calls of tools and what they return are not trained on",
                fix="leave such conversations out",
            )
    if not isinstance(role, str) or content is None:
        raise DataError(
            f"{where} has no usable '{field}': '{field}' is not a chat",
            got=whole,
            wanted='a list of {"role": ..., "content": ...}',
            fix="a list in a cell must be JSON: write it with json.dumps, not str"
            if isinstance(whole, str)
            else None,
        )
    return role, sound_text(content, where, field)


def sound_text(text: str, where: str, field: str) -> str:
    """The text, which must have no half of a surrogate pair: no tokenizer reads one.

    Raises:
        DataError: it has one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: '{field}' has half of a character at {error.start}",
            got=repr(text[error.start]),
            wanted="whole characters: a pair of \\u escapes for those beyond \\uffff",
            fix="mend or remove that row: a text was cut in the middle of a character",
        ) from error
    return text


def _content(value: object, where: str, field: str) -> str | None:
    if value is None or isinstance(value, str) or not isinstance(value, Sequence):
        return value if isinstance(value, str) else None
    texts = []
    for part in value:
        fields: Mapping[str, object] = part if isinstance(part, Mapping) else {}
        text = fields.get("text")
        if fields.get("type", "text") != "text" or not isinstance(text, str):
            raise DataError(
                f"{where}: '{field}' has a message that is not text alone",
                got=part,
                wanted='texts, or parts {"type": "text", "text": ...}',
                why="only language models are trained",
                fix="leave such rows out",
            )
        texts.append(text)
    return "".join(texts)
