"""A reward model behind HTTP: one POST of JSON a batch, retried, and never a silent 0.

    openrlhf   {"query": [prompt + answer], "prompts": [prompt]}        -> {"rewards": [number]}
    classify   {"model", "input": [prompt + answer], "use_activation": false}
                                                        -> {"data": [{"index", "probs": [number]}]}
    score      {"model", "text_1": [prompt], "text_2": [answer]} -> {"data": [{"index", "score"}]}

`openrlhf` is what OpenRLHF's remote reward models speak and the easiest to write; `classify` and
`score` are vLLM's. `url` is the full address, path included.

A null, a string or a number that is not finite makes its own answer missing. 429, 5xx, timeouts and
lost connections are tried again, after exponential backoff with jitter or what Retry-After says.
What remains is `RewardUnavailableError`. The standard library's client is enough for one POST.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import math
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rekindle.errors import ConfigError, RewardUnavailableError
from rekindle.records import Problem, Score
from rekindle.rewards.reward_model import Answered

Protocol = Literal["openrlhf", "classify", "score"]
LONGEST_WAIT = 120.0  # seconds between two tries, whatever the server asks for
_LARGEST = 64 * 2**20  # bytes of an answer that are read
RETRIED = (408, 425, 429)  # HTTP statuses that may pass, beside 5xx


class PassingError(Exception):
    """One try failed in a way that may pass; `wait` is what the server asked for, seconds."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


def pause(attempt: int, error: PassingError, *, backoff: float, jitter: random.Random) -> float:
    """Seconds to wait after try `attempt` (from 1), or as long as the server asked for."""
    seconds = backoff * 2.0 ** (attempt - 1) * jitter.uniform(0.5, 1.5)
    return min(max(seconds, error.wait), LONGEST_WAIT)


def check_address(name: str, url: str) -> None:
    """Refuse what is no address of a server."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{name} is not an address", got=url, wanted="http://... or https://...")


@dataclass
class RewardServer:
    """A `Scorer` at an address.

    `retries` tries follow the first; before the k-th of them `backoff * 2**(k-1)` seconds, times a
    factor drawn from 0.5 to 1.5 so that many clients do not come back together.
    """

    url: str
    protocol: Protocol = "openrlhf"
    served: str | None = None
    batch: int = 64
    timeout: float = 60.0
    retries: int = 5
    backoff: float = 1.0
    sleep: Callable[[float], None] = time.sleep
    # Jitter only: apart from the sources that a run saves, so that waiting changes no result.
    jitter: random.Random = field(default_factory=lambda: random.Random(time.time_ns()))

    def __post_init__(self) -> None:
        check_address("reward.url", self.url)

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """Scores in order; missing where the server gave no finite number.

        Raises:
            RewardUnavailableError: no usable answer after all tries, or one that no retry can mend.
        """
        starts = range(0, len(answers), self.batch)
        parts = (answers[start : start + self.batch] for start in starts)
        return [_score(value) for part in parts for value in self._values(part)]

    def fingerprint(self) -> str:
        """Address, protocol and name: what the server does behind them is not seen."""
        return f"{self.protocol} {self.url} {self.served or ''}".strip()

    def _values(self, part: Sequence[Answered]) -> list[object]:
        body = _body(part, self.protocol, self.served)
        tries = self.retries + 1
        for attempt in range(1, tries + 1):
            try:
                return _read(self._post(body), self.protocol, len(part))
            except PassingError as error:
                if attempt == tries:
                    raise RewardUnavailableError(
                        f"the reward server at {self.url} returns no scores",
                        got=f"{error} (tried {tries} times)",
                        fix="restart the server, then continue with --resume",
                    ) from error
                self.sleep(pause(attempt, error, backoff=self.backoff, jitter=self.jitter))
        raise AssertionError("unreachable: the last try returns or raises")

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(
            self.url, data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return bytes(answer.read(_LARGEST))
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(300).decode("utf-8", "replace").strip()
            why = f"HTTP {error.code} {error.reason}: {text}"
            if error.code in RETRIED or error.code >= 500:
                raise PassingError(why, retry_after(error.headers.get("Retry-After"))) from error
            raise RewardUnavailableError(
                f"the reward server at {self.url} refuses the request",
                got=why,
                why="a retry would not help",
                fix="check reward.url, reward.protocol and reward.served, then --resume",
            ) from error
        except (OSError, http.client.HTTPException) as error:  # timeouts and URLError too
            raise PassingError(f"{type(error).__name__}: {error}") from error


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


def _read(answer: bytes, protocol: Protocol, count: int) -> list[object]:
    """The `count` values of an answer, of whatever type."""
    try:
        tree = json.loads(answer)
        if protocol == "openrlhf":
            values = list(tree["rewards"])
        else:
            key = "score" if protocol == "score" else "probs"
            rows = {int(row["index"]): row[key] for row in tree["data"]}
            values = [rows[i] for i in range(len(tree["data"]))]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        shown = answer[:200].decode("utf-8", "replace")
        raise PassingError(f"an answer that is not of protocol '{protocol}': {shown}") from error
    if len(values) != count:
        raise PassingError(f"{len(values)} scores for {count} answers")
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


def retry_after(text: str | None) -> float:
    """Seconds, given as a number or as a date; 0 where it says nothing usable."""
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
