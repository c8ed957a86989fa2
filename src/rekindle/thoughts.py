"""Where a model thinks before it answers: what opens a thought, what closes it.

    <think> </think> and kin    Qwen, DeepSeek, ...; <reasoning>, <scratchpad> of prompts
    [THINK] [/THINK]            Magistral
    <|channel|>analysis ... <|channel|>final<|message|>    gpt-oss; without its special tokens
                                "assistantfinal" is left of it

A close without an open was opened by the prompt's template: all before it was a thought. Time is
linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_NAMES = "think|thinking|thought|thoughts|reasoning|reason|scratchpad|reflection|seed:think"
# The first character stands in front, so that a search skips all others.
_OPEN = (
    rf"(?<=<)(?:{_NAMES})>"
    r"|(?<=\[)THINK\]"
    r"|(?<=◁)think▷"
    r"|(?<=<)\|(?:begin_of_thought|think|START_THINKING)\|>"
    r"|(?<=<)\|channel\|>\s{0,3}(?:analysis|commentary)\b"
    r"|(?<=<)\|channel>\s{0,3}thought\b"
    r"|(?<=<)unused94>\s{0,3}thought\b"
)
_CLOSE = (
    rf"(?<=<)/(?:{_NAMES})>"
    r"|(?<=\[)/THINK\]"
    r"|(?<=◁)/think▷"
    r"|(?<=<)\|(?:end_of_thought|/think|END_THINKING)\|>"
    r"|(?<=<)(?:channel\|>|unused95>)"
    r"|(?<=<)\|channel\|>\s{0,3}final\s{0,3}<\|message\|>"
    r"|(?<=\b[aA])ssistantfinal"
)
_THOUGHTS = re.compile(rf"[<\[◁aA](?i:(?P<open>{_OPEN})|(?P<close>{_CLOSE}))")
_THOUGHT_SIGNS = ("<", "[THINK]", "[/THINK]", "think▷", "assistantfinal")
_CLOSES = {
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
    "<unused94>thought": "<unused95>",
}
# Tokens that end a turn, left in by servers that do not skip special tokens.
_TURN_ENDS = re.compile(r"<(?:\|[a-z_]{1,20}\|>|/s>|eos>|end_of_turn>)")


def without_thoughts(text: str, *, thought_open: bool = False) -> str:
    """The text with blanks in place of thoughts and of tokens that end a turn: positions stay.

    Args:
        text: what a model wrote.
        thought_open: the prompt's template had opened a thought before it.
    """
    if not thought_open and not any(sign in text for sign in _THOUGHT_SIGNS):
        return text
    shown = _blanked_but(text, _outside_thoughts(text, thought_open=thought_open))
    return _TURN_ENDS.sub(lambda token: " " * len(token[0]), shown)


def leaves_thought_open(text: str) -> bool:
    """Whether a text ends inside a thought, as the end of some chat templates does."""
    tags = find_tags(text)
    return bool(tags) and tags[-1].opens


def _outside_thoughts(text: str, *, thought_open: bool) -> list[tuple[int, int]]:
    """(start, end) of what is no thought, in order."""
    spans: list[tuple[int, int]] = []
    at = 0
    opened = 0 if thought_open else None
    for tag in _THOUGHTS.finditer(text):
        if tag["open"] is not None:
            opened = tag.start() if opened is None else opened
            continue
        if opened is None:  # it was opened before the text: all of it was a thought
            spans.clear()
        else:
            spans.append((at, opened))
        at, opened = tag.end(), None
    spans.append((at, len(text) if opened is None else opened))
    return spans


def _blanked_but(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with blanks outside the spans."""
    pieces, at = [], 0
    for start, end in spans:
        pieces += [" " * (start - at), text[start:end]]
        at = end
    pieces.append(" " * (len(text) - at))
    return "".join(pieces)


class Tag(NamedTuple):
    """What opens or closes a thought in a text."""

    start: int
    end: int
    opens: bool


def find_tags(text: str) -> list[Tag]:
    """All that opens or closes thoughts in a text, in order."""
    return [Tag(m.start(), m.end(), m["open"] is not None) for m in _THOUGHTS.finditer(text)]


def without_tags(text: str) -> str:
    """The text without what opens and closes thoughts; the thoughts stay."""
    return _THOUGHTS.sub("", text)


def closing_of(opening: str) -> str | None:
    """What closes a thought that was opened so; None where it is more than a tag."""
    if opening in _CLOSES:
        return _CLOSES[opening]
    named = re.fullmatch(r"([<\[◁]\|?)([\w:]+)(\|?[>\]▷])", opening)
    return None if named is None else f"{named[1]}/{named[2]}{named[3]}"
