"""A judge behind an OpenAI-compatible address: asked in parallel, retried, and never asked twice.

    POST url/chat/completions {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}

Each reply is written to an append-only cache as it comes, before it is read, so that a run that
stops for whatever reason goes on with what it has paid for. 408, 425, 429, 5xx, timeouts, lost
connections and answers that are no chat completion are tried again, after exponential backoff with
jitter or what Retry-After says. What remains is `RewardUnavailableError`: no answer counts as 0.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rekindle.errors import ConfigError, RewardUnavailableError, missing_extra
from rekindle.files import AppendLog, cut_torn_line
from rekindle.records import Problem, Score
from rekindle.rewards.judge import Format, Judgement, averaged
from rekindle.rewards.reward_model import Answered
from rekindle.rewards.reward_server import (
    RETRIED,
    PassingError,
    check_address,
    pause,
    retry_after,
)

if TYPE_CHECKING:
    import httpx

SYSTEM = "You judge answers helpfully, precisely and without regard to who wrote them."
_JSON = "application/json"
_THIS_ONE = (400, 413, 422)  # may be due to one text, e.g. one that is too long


class Reply(NamedTuple):
    """What the endpoint said to one call."""

    text: str
    cut: bool  # ended at the limit of tokens
    tokens: int  # generated, as the endpoint counts; 0 where it does not


class _RefusedError(Exception):
    """The endpoint takes this call for a wrong one."""


class ReplyCache:
    """Replies by the hash of their call: a JSONL file that only grows.

    A line torn by a kill is cut off when the file is opened; lines that cannot be read are asked
    again, never trusted. Safe to use from threads of one process.
    """

    def __init__(self, path: Path) -> None:
        self._log, self._lock = AppendLog(path), threading.Lock()
        cut_torn_line(path)
        self._known: dict[str, Reply] = {}
        for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                reply = Reply(str(row["text"]), bool(row["cut"]), int(row["tokens"]))
                self._known[str(row["key"])] = reply

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Reply | None:
        """The reply to a call that was made before."""
        return self._known.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Write a reply down, in one write, before anything else is done with it."""
        with self._lock:
            self._log.append([{"key": key, **reply._asdict()}])
            self._known[key] = reply


@dataclass
class EndpointJudge:
    """A `Judge` at an OpenAI-compatible address.

    `samples` calls are made for each answer, `parallel` at a time. `retries` tries follow the first
    of each call; before the k-th of them `backoff * 2**(k-1)` seconds, times a factor drawn from
    0.5 to 1.5 so that many clients do not come back together. The key is read from the environment
    variable `key_env` and written nowhere.
    """

    url: str
    model: str
    format: Format
    cache: ReplyCache
    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    parallel: int = 8
    timeout: float = 60.0
    retries: int = 6
    backoff: float = 1.0
    key_env: str | None = None
    sleep: Callable[[float], None] = time.sleep
    # Jitter only: apart from the sources that a run saves, so that waiting changes no result.
    jitter: random.Random = field(default_factory=lambda: random.Random(time.time_ns()))

    def __post_init__(self) -> None:
        check_address("the judge's url", self.url)
        if importlib.util.find_spec("httpx") is None:
            raise missing_extra("httpx", extra="judge", needed_for="a judge at an endpoint")
        if self.key_env is not None and not os.environ.get(self.key_env):
            raise ConfigError(
                f"the environment variable {self.key_env} is not set",
                wanted="the endpoint's key, as judge.key_env names it",
                fix=f"export {self.key_env}=..., or leave judge.key_env out",
            )

    def judge(self, answers: Sequence[Answered], *, seed: int) -> list[Judgement]:
        """A judgement of each answer; missing where no reply of it could be read.

        The k-th call about an answer carries `seed` and k: the same call is made once, also in a
        run that is resumed. When one call fails for good the others under way are waited for, and
        what they said is kept.

        Raises:
            RewardUnavailableError: a call got no answer after all tries, or a refusal.
        """
        import httpx

        calls = [
            self._call_of(problem, text, seed * 1_000_003 + k)
            for problem, text in answers
            for k in range(self.samples)
        ]
        keys = [key for key, _ in calls]
        new = {key: body for key, body in calls if not self.cache.get(key)}
        stop = threading.Event()
        limits = httpx.Limits(max_connections=self.parallel)
        with (
            httpx.Client(timeout=self.timeout, limits=limits, headers=self._headers()) as client,
            ThreadPoolExecutor(self.parallel) as pool,
        ):
            pending = dict[str, Future[None]]()
            try:
                for key, body in new.items():
                    pending[key] = pool.submit(self._send, client, key, body, stop)
                    pending[key].add_done_callback(lambda call: _stop_on_failure(call, stop))
                refused = _wait_for(pending)
            finally:
                stop.set()  # Ctrl-C too: no call begins that nobody would read
        if refused and not any(self.cache.get(key) for key in keys):
            raise self._refusal(next(iter(refused.values())))
        return [
            self._judgement(keys[i * self.samples : (i + 1) * self.samples], refused)
            for i in range(len(answers))
        ]

    def _judgement(self, keys: Sequence[str], refused: Mapping[str, str]) -> Judgement:
        marks, texts, tokens = [], [], 0
        for key in keys:
            reply = self.cache.get(key)
            if reply is None:
                marks.append(Score.missing(f"the endpoint refused: {refused[key][:80]}"))
                continue
            marks.append(self.format.mark(reply.text, cut=reply.cut))
            texts.append(reply.text)
            tokens += reply.tokens
        return Judgement(averaged(marks), tuple(marks), tuple(texts), tokens)

    def fingerprint(self) -> str:
        """Hash of address, model, format and decoding: what the server does is not seen."""
        parts = [self.url, self.model, self.format.name, self.samples, self.temperature, self.top_p]
        return hashlib.sha256(json.dumps([*parts, self.max_tokens]).encode()).hexdigest()

    def _refusal(self, refusal: str) -> RewardUnavailableError:
        return RewardUnavailableError(
            f"the judge at {self.url} refuses the request",
            got=refusal,
            why="a retry would not help",
            fix="check judge.url, judge.model and judge.key_env, then --resume",
        )

    def _headers(self) -> dict[str, str]:
        if self.key_env is None:
            return {}
        return {"Authorization": f"Bearer {os.environ[self.key_env]}"}

    def _call_of(self, problem: Problem, text: str, seed: int) -> tuple[str, bytes]:
        """The key of its reply, a hash of the address and the body; and the body."""
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": self.format.ask(problem, text)},
            ],
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens or self.format.room,
            "seed": seed,
        }
        address = json.dumps([self.url, body], sort_keys=True).encode()
        return hashlib.sha256(address).hexdigest(), json.dumps(body).encode()

    def _send(self, client: httpx.Client, key: str, body: bytes, stop: threading.Event) -> None:
        tries = self.retries + 1
        for attempt in range(1, tries + 1):
            if stop.is_set():
                return
            try:
                self.cache.put(key, self._post(client, body))
                return
            except PassingError as error:
                if attempt == tries:
                    raise RewardUnavailableError(
                        f"the judge at {self.url} returns no judgement",
                        got=f"{error} (tried {tries} times)",
                        why=f"the {len(self.cache)} replies that came are kept",
                        fix="restart the server, then continue with --resume",
                    ) from error
                self.sleep(pause(attempt, error, backoff=self.backoff, jitter=self.jitter))

    def _post(self, client: httpx.Client, body: bytes) -> Reply:
        import httpx

        try:
            address = f"{self.url.rstrip('/')}/chat/completions"
            answer = client.post(address, content=body, headers={"Content-Type": _JSON})
        except httpx.HTTPError as error:  # timeouts and lost connections
            raise PassingError(f"{type(error).__name__}: {error}") from error
        if answer.status_code in RETRIED or answer.status_code >= 500:
            wait = retry_after(answer.headers.get("Retry-After"))
            raise PassingError(f"HTTP {answer.status_code}: {answer.text[:200]}", wait)
        status = f"HTTP {answer.status_code}: {answer.text[:200]}"
        if answer.status_code in _THIS_ONE:
            raise _RefusedError(status)
        if answer.status_code != 200:
            raise self._refusal(status)
        try:
            tree = answer.json()
            choice = tree["choices"][0]
            text = choice["message"]["content"] or ""
            tokens = (tree.get("usage") or {}).get("completion_tokens") or 0
            return Reply(str(text), choice.get("finish_reason") == "length", int(tokens))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise PassingError(f"no chat completion: {answer.text[:200]}") from error


def _stop_on_failure(call: Future[None], stop: threading.Event) -> None:
    # Runs in the call's own thread, before that thread begins another one.
    error = call.exception()
    if error is not None and not isinstance(error, _RefusedError):
        stop.set()


def _wait_for(calls: Mapping[str, Future[None]]) -> dict[str, str]:
    """Until all have ended: key -> why, of those refused."""
    failure: RewardUnavailableError | None = None
    refused = {}
    for key, call in calls.items():
        try:
            call.result()
        except _RefusedError as error:
            refused[key] = str(error)
        except RewardUnavailableError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return refused
