"""A judge behind an OpenAI-compatible address: asked in parallel, retried, and never asked twice.

    POST url/chat/completions {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}

Each reply is written to an append-only cache as it comes, before it is read, so that a run that
stops for whatever reason goes on with what it has paid for. Tries, deadlines and refusals are those
of `servers.client`; an answer that is no chat completion is asked for again. None counts as 0.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rekindle.files import AppendLog, cut_torn_line
from rekindle.records import Problem, Score
from rekindle.rewards.judge import Format, Judgement, averaged
from rekindle.rewards.reward_model import Answered
from rekindle.servers.client import Role, Server
from rekindle.servers.replies import UnreadableError

JUDGE = Role(
    subject="the judge",
    product="judgement",
    section="judge",
    settings="judge.url, judge.model and judge.key_env",
)
SYSTEM = "You judge answers helpfully, precisely and without regard to who wrote them."


class Reply(NamedTuple):
    """What the endpoint said to one call."""

    text: str
    cut: bool  # ended at the limit of tokens
    tokens: int  # generated, as the endpoint counts; 0 where it does not


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
    """A `Judge` at an OpenAI-compatible address: a server of role `JUDGE`.

    `samples` calls are made for each answer.
    """

    server: Server
    model: str
    format: Format
    cache: ReplyCache
    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None

    def judge(self, answers: Sequence[Answered], *, seed: int) -> list[Judgement]:
        """A judgement of each answer; missing where no reply of it could be read.

        The k-th call about an answer carries `seed` and k: the same call is made once, also in a
        run that is resumed. When one call fails for good the others under way are waited for, and
        what they said is kept.

        Raises:
            ServerUnavailableError: a call got no answer after all tries.
            ServerRefusedError: no retry can mend it, or all calls were refused.
        """
        calls = [
            self._call_of(problem, text, seed * 1_000_003 + k)
            for problem, text in answers
            for k in range(self.samples)
        ]
        keys = [key for key, _ in calls]
        new = {key: body for key, body in calls if not self.cache.get(key)}
        asked, refused = list(new), dict[str, str]()
        self.server.post_all(
            list(new.values()),
            path="/chat/completions",
            read=lambda i, tree: self.cache.put(asked[i], _read(tree)),
            refuse=lambda i, why: refused.update({asked[i]: why}),
            kept=lambda: f"the {len(self.cache)} replies that came are kept",
        )
        if refused and not any(self.cache.get(key) for key in keys):
            raise self.server.refusal(next(iter(refused.values())))
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
        parts = [self.server.url, self.model, self.format.name, self.samples, self.temperature]
        return hashlib.sha256(
            json.dumps([*parts, self.top_p, self.max_tokens]).encode()
        ).hexdigest()

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
        address = json.dumps([self.server.url, body], sort_keys=True).encode()
        return hashlib.sha256(address).hexdigest(), json.dumps(body).encode()


def _read(tree: Any) -> Reply:
    try:
        choice = tree["choices"][0]
        text = choice["message"]["content"] or ""
        tokens = (tree.get("usage") or {}).get("completion_tokens") or 0
        return Reply(str(text), choice.get("finish_reason") == "length", int(tokens))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        raise UnreadableError("no chat completion") from None
