"""Where a model thinks before it answers: what opens a thought, what closes it.

    <think> </think> and kin    Qwen, DeepSeek, ...; <reasoning>, <scratchpad> of prompts
    [THINK] [/THINK]            Magistral
    <|channel|>analysis ... <|channel|>final<|message|>    gpt-oss; without its special tokens
                                "assistantfinal" is left of it

A close without an open was opened by the prompt's template: all before it was a thought.
"""

from __future__ import annotations

import re

# Names of thoughts: what opens one, what closes it.
_OPEN = (
    r"<(?:think|thinking|thought|thoughts|reasoning|reason|scratchpad|reflection|seed:think)>"
    r"|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>\s{0,3}(?:analysis|commentary)\b"
    r"|<\|channel>\s{0,3}thought\b|<unused94>\s{0,3}thought\b|<\|think\|>|<\|START_THINKING\|>"
)
_CLOSE = (
    r"</(?:think|thinking|thought|thoughts|reasoning|reason|scratchpad|reflection|seed:think)>"
    r"|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<channel\|>|<unused95>|<\|/think\|>|<\|END_THINKING\|>"
    r"|<\|channel\|>\s{0,3}final\s{0,3}<\|message\|>|\bassistantfinal"
)
_THOUGHTS = re.compile(rf"(?P<open>{_OPEN})|(?P<close>{_CLOSE})", re.IGNORECASE)
_THOUGHT_SIGNS = ("<", "[THINK]", "[/THINK]", "think▷", "assistantfinal")
_TURN_ENDS = re.compile(r"<\|[a-z_]{1,20}\|>|</s>|<eos>|<end_of_turn>")


def without_thoughts(text: str, *, thought_open: bool = False) -> str:
    """The text with blanks in place of thoughts and of tokens that end a turn: positions stay."""
    if not thought_open and not any(sign in text for sign in _THOUGHT_SIGNS):
        return text
    pieces: list[str] = []
    at, opened = 0, 0 if thought_open else None
    for tag in _THOUGHTS.finditer(text):
        if tag["open"] is not None:
            opened = tag.start() if opened is None else opened
            continue
        if opened is None:  # it was opened before the text: all of it was a thought
            pieces, opened, at = [], 0, 0
        pieces += [text[at:opened], " " * (tag.end() - opened)]
        at, opened = tag.end(), None
    end = len(text) if opened is None else opened
    pieces += [text[at:end], " " * (len(text) - end)]
    return _TURN_ENDS.sub(lambda token: " " * len(token[0]), "".join(pieces))


def leaves_thought_open(text: str) -> bool:
    """Whether a text ends inside a thought, as the end of some chat templates does."""
    last = None
    for last in _THOUGHTS.finditer(text):  # noqa: B007 - the last one
        pass
    return last is not None and last["open"] is not None
