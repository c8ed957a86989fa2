"""A reward model behind HTTP: one POST of JSON a batch, retried, and never a silent 0.

    openrlhf   {"query": [prompt + answer], "prompts": [prompt]}        -> {"rewards": [number]}
    classify   {"model", "input": [prompt + answer], "use_activation": false}
                                                        -> {"data": [{"index", "probs": [number]}]}
    score      {"model", "text_1": [prompt], "text_2": [answer]} -> {"data": [{"index", "score"}]}

`openrlhf` is what OpenRLHF's remote reward models speak and the easiest to write; `classify` and
`score` are vLLM's. `url` is the full address, path included.

A null, a string or a number that is not finite makes its own answer missing. Tries, deadlines and
refusals are those of `servers.client`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from rekindle.records import Problem, Score
from rekindle.rewards.reward_model import Answered
from rekindle.servers.client import Role, Server
from rekindle.servers.replies import UnreadableError

Protocol = Literal["openrlhf", "classify", "score"]
REWARD = Role(
    subject="the reward server",
    product="scores",
    section="reward",
    settings="reward.url, reward.key_env, reward.protocol and reward.served",
)


@dataclass
class RewardServer:
    """A `Scorer` at an address: a server of role `REWARD`."""

    server: Server
    protocol: Protocol = "openrlhf"
    served: str | None = None
    batch: int = 64

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """Scores in order; missing where the server gave no finite number.

        Raises:
            ServerUnavailableError: no usable answer after all tries.
            ServerRefusedError: no retry can mend it.
        """
        parts = [answers[i : i + self.batch] for i in range(0, len(answers), self.batch)]
        values = self.server.post_all(
            [_body(part, self.protocol, self.served) for part in parts],
            read=lambda i, tree: _read(tree, self.protocol, len(parts[i])),
            refuse=self._refuse,
        )
        return [_score(value) for part in values for value in part]

    def fingerprint(self) -> str:
        """Address, protocol and name: what the server does behind them is not seen."""
        return f"{self.protocol} {self.server.url} {self.served or ''}".strip()

    def _refuse(self, _: int, why: str) -> NoReturn:
        raise self.server.refusal(why)


def _body(part: Sequence[Answered], protocol: Protocol, served: str | None) -> bytes:
    prompts = [_prompt(problem) for problem, _ in part]
    texts = [text for _, text in part]
    whole = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
    if protocol == "openrlhf":
        return json.dumps({"query": whole, "prompts": prompts}).encode()
    model = {} if served is None else {"model": served}
    if protocol == "classify":
        return json.dumps({**model, "input": whole, "use_activation": False}).encode()
    return json.dumps({**model, "text_1": prompts, "text_2": texts}).encode()


def _prompt(problem: Problem) -> str:
    if problem.messages is None:
        return problem.prompt
    return "\n".join(content for _, content in problem.messages) + "\n"


def _read(tree: Any, protocol: Protocol, count: int) -> list[object]:
    """The `count` values of a reply, of whatever type."""
    try:
        if protocol == "openrlhf":
            values = tree["rewards"]
        else:
            key = "score" if protocol == "score" else "probs"
            rows = {int(row["index"]): row[key] for row in tree["data"]}
            values = [rows[i] for i in range(len(tree["data"]))]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):
        values = None
    if not isinstance(values, list):
        raise UnreadableError(f"an answer that is not of protocol '{protocol}'")
    if len(values) != count:
        raise UnreadableError(f"{len(values)} scores for {count} answers")
    return values


def _score(value: object) -> Score:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = "null" if value is None else f"a {type(value).__name__} for a number"
        return Score.missing(f"the reward server gave {kind}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return Score.missing("the reward server gave a number that is not finite")
    return Score(number)
