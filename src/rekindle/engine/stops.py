"""Strings that end a completion.

The string is looked for in the decoded text, so it may lie across tokens, and the last token may
run past it. The tokens stay as they were generated; the text is cut before the string.
"""

from collections.abc import Sequence

import torch

from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError


class StopStrings:
    """Finds stop strings; `closes_V` marks the tokens with which one may become complete.

    Raises:
        ConfigError: a stop string is empty, or is a special token, which text never contains.
    """

    def __init__(self, stop: Sequence[str], policy: Policy) -> None:
        for text in stop:
            if not text:
                raise ConfigError("sample.stop has an empty string", why="it would stop at once")
            if text in policy.tokenizer.all_special_tokens:
                raise ConfigError(
                    "sample.stop has a special token",
                    got=text,
                    wanted="plain text",
                    why="special tokens are left out of the decoded text, so it is never found",
                    fix=f"--set model.eos_token={text!r} ends completions with that token",
                )
        self.stop = tuple(stop)
        self._policy = policy
        rows = policy.model.get_input_embeddings().weight.shape[0]
        last = {text[-1] for text in stop}
        # a token decoded alone may lose its space: where one comes last, every token is suspect
        every = any(character.isspace() for character in last)
        suspects = last | {"\ufffd"}  # part of a character that only its neighbours complete
        self.closes_V = torch.tensor(
            [every or not suspects.isdisjoint(policy.decode([token])) for token in range(rows)]
        )

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether the text of these tokens contains a stop string."""
        text = self._policy.decode(tokens)
        return any(stop in text for stop in self.stop)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        starts = [text.find(stop) for stop in self.stop if stop in text]
        return text[: min(starts)] if starts else text
