"""A judge behind an OpenAI-compatible address: asked in parallel, retried, and never asked twice.

    POST url/chat/completions {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}

Each reply is written to an append-only cache as it comes, before it is read, so that a run that
stops for whatever reason goes on with what it has paid for. Tries, deadlines and refusals are those
of `servers.client`; an answer that is no chat completion is asked for again. None counts as 0.

    finish_reason: stop, end_turn, ...                  complete
        length, max_tokens, MAX_TOKENS, model_length    cut off: a score that may go on is none
        content_filter, SAFETY, refusal, tool_calls     no judgement, with the reason
        any other                                       as cut off
    content: a text, or parts, of which texts are joined; `reasoning_content` is never read
        null                                            asked again; after the last try missing
    refusal: a text                                     no judgement, with the reason
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rekindle.files import AppendLog, cut_torn_line
from rekindle.records import Problem, Score
from rekindle.rewards.judge import Format, Judgement, averaged
from rekindle.rewards.reward_model import Answered
from rekindle.servers.client import Role, Server
from rekindle.servers.replies import EmptyReplyError, UnreadableError

JUDGE = Role(
    subject="the judge",
    product="judgement",
    section="judge",
    settings="judge.url, judge.model and judge.key_env",
)
# What servers call the end of a reply, in small letters without marks: complete, or none at all.
_COMPLETE = {"stop", "eos", "eostoken", "end", "endturn", "stopsequence", "stoptoken"}
_COMPLETE |= {"complete", "completed", "finished", "done", "none", ""}
_REFUSED = {"contentfilter", "contentfiltered", "safety", "imagesafety", "recitation", "blocklist"}
_REFUSED |= {"prohibitedcontent", "spii", "language", "refusal", "guardrailintervened"}
_REFUSED |= {"toolcalls", "toolcall", "tooluse", "functioncall", "malformedfunctioncall"}

MaxTokensField = Literal["max_tokens", "max_completion_tokens", "none"]
SystemRole = Literal["system", "developer", "user"]
SYSTEM = "You judge answers helpfully, precisely and without regard to who wrote them."


class Reply(NamedTuple):
    """What the endpoint said to one call."""

    text: str
    cut: bool  # ended at the limit of tokens
    tokens: int  # generated, as the endpoint counts; 0 where it does not
    unusable: str = ""  # why it is no judgement, whatever the text


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
                known = (str(row["text"]), bool(row["cut"]), int(row["tokens"]))
                reply = Reply(*known, str(row.get("unusable", "")))
                self._known[str(row["key"])] = reply

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Reply | None:
        """The reply to a call that was made before."""
        return self._known.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Write a reply down, in one write, before anything else is done with it."""
        with self._lock:
            row = reply._asdict()
            if not reply.unusable:
                del row["unusable"]
            self._log.append([{"key": key, **row}])
            self._known[key] = reply


@dataclass
class EndpointJudge:
    """A `Judge` at an OpenAI-compatible address: a server of role `JUDGE`.

    `samples` calls are made for each answer. For servers that refuse a part of the request,
    `max_tokens_field` names the limit's field ("none": no limit is sent), `send_seed` False leaves
    the seed out, and `system_role` "user" puts the system message in front of the user's.
    """

    server: Server
    model: str
    format: Format
    cache: ReplyCache
    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    max_tokens_field: MaxTokensField = "max_tokens"
    send_seed: bool = True
    system_role: SystemRole = "system"

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
            give_up=lambda i, why: self.cache.put(asked[i], Reply("", False, 0, why)),
            kept=lambda: f"the {len(self.cache)} replies that came are kept",
        )
        if refused and not any(self.cache.get(key) for key in keys):
            why = next(iter(refused.values()))
            raise self.server.refusal(why, self._remedy(why))
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
            if reply.unusable:
                marks.append(Score.missing(reply.unusable))
            else:
                marks.append(self.format.mark(reply.text, cut=reply.cut))
            texts.append(reply.text)
            tokens += reply.tokens
        return Judgement(averaged(marks), tuple(marks), tuple(texts), tokens)

    def fingerprint(self) -> str:
        """Hash of address, model, format and decoding: what the server does is not seen."""
        parts = [self.server.url, self.model, self.format.name, self.samples, self.temperature]
        return hashlib.sha256(
            json.dumps([*parts, self.top_p, self.max_tokens, *self._changed()]).encode()
        ).hexdigest()

    def _changed(self) -> list[object]:
        """What is not sent as by default; nothing, where it is."""
        how = [self.max_tokens_field, self.send_seed, self.system_role]
        return [] if how == ["max_tokens", True, "system"] else [how]

    def _call_of(self, problem: Problem, text: str, seed: int) -> tuple[str, bytes]:
        """The key of its reply, a hash of the address, the body and the seed; and the body."""
        asked = self.format.ask(problem, text)
        messages = [
            {"role": self.system_role, "content": SYSTEM},
            {"role": "user", "content": asked},
        ]
        if self.system_role == "user":  # two turns of one role are refused as well
            messages = [{"role": "user", "content": f"{SYSTEM}\n\n{asked}"}]
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        if self.max_tokens_field != "none":
            body[self.max_tokens_field] = self.max_tokens or self.format.room
        seeded = {**body, "seed": seed}
        address = json.dumps([self.server.url, seeded], sort_keys=True).encode()
        sent = seeded if self.send_seed else body
        return hashlib.sha256(address).hexdigest(), json.dumps(sent).encode()

    def _remedy(self, why: str) -> str:
        """The setting to change, where a refusal names what it does not take."""
        words, field = why.lower(), self.max_tokens_field
        too_much = re.search(r"context|too (?:long|large)", words)
        if field != "none" and field in words and not too_much:
            other = "max_completion_tokens" if field == "max_tokens" else "max_tokens"
            return f"set judge.max_tokens_field: {other} (or none)"
        if self.send_seed and re.search(r"\bseed\b", words):
            return "set judge.send_seed: false"
        if self.system_role != "user" and re.search(r"\brole|system|developer", words):
            return "set judge.system_role: user (or developer)"
        return (
            f"check {self.server.role.settings}; where it takes no max_tokens, seed or system "
            "message, judge.max_tokens_field, judge.send_seed and judge.system_role"
        )


def _read(tree: Any) -> Reply:
    try:
        choice = tree["choices"][0]
        message, finish = choice["message"], str(choice.get("finish_reason") or "")
        text, refusal = _text_of(message.get("content"))
        refusal = message.get("refusal") or refusal
        tokens = int((tree.get("usage") or {}).get("completion_tokens") or 0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        raise UnreadableError("no chat completion") from None
    end = re.sub(r"[\W_]+", "", finish.lower()).removeprefix("finishreason")
    if refusal:
        return Reply(text or "", False, tokens, f"the judge refused: {str(refusal)[:80]}")
    if end in _REFUSED:
        return Reply(text or "", False, tokens, f"no judgement: finish_reason {finish[:40]}")
    cut = end not in _COMPLETE
    if text is None and not cut:
        raise EmptyReplyError("no score: the reply has no text")
    return Reply(text or "", cut, tokens)


def _text_of(content: Any) -> tuple[str | None, str]:
    """The text of a message, None where it has none, and a refusal.

    Of parts the texts are joined; thoughts, pictures and calls are no part of the judgement.
    """
    if content is None or isinstance(content, str):
        return content, ""
    texts, refusals = list[str](), list[str]()
    for part in [content] if isinstance(content, dict) else content:
        kind = "text" if isinstance(part, str) else part.get("type", "text")
        if kind in ("text", "output_text"):
            texts.append(part if isinstance(part, str) else part["text"])
        elif kind == "refusal":
            refusals.append(part["refusal"])
    return "".join(texts) if texts else None, "".join(refusals)
