"""The other end of `reward_process`: a process that loads a user's reward and calls it.

    python -m rekindle.rewards.probing.reward_child PLACE NAMES        (standard input: a socket)

It says first in which ways the reward may be called, or why it cannot be; then it scores one text
at a time. Both are JSON objects, one a line. What the reward prints goes nowhere. It has no other
limits: it is the user's own code.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from inspect import isawaitable
from typing import NamedTuple

from rekindle.errors import ConfigError, RekindleError, RewardFunctionError
from rekindle.rewards.probing.signatures import Asked, Call, Names, calls_of
from rekindle.rewards.python_reward import Explained, load_callable
from rekindle.rewards.worker import die_with_parent


class Reply(NamedTuple):
    """What a call gave: a score, None without one, or what was raised."""

    value: float | None
    raised: str | None = None


def call_reward(
    function: Callable[..., object], call: Call, asked: Asked, loop: asyncio.AbstractEventLoop
) -> Reply:
    """One score; what the reward raises, or returns that is no score, is said."""
    try:
        with Explained(lambda error: RewardFunctionError(f"{type(error).__name__}: {error}")):
            arguments, keywords = call.arguments(asked)
            returned = function(*arguments, **keywords)
            if isawaitable(returned):
                returned = loop.run_until_complete(_awaited(returned))
            return Reply(call.score(returned))
    except RekindleError as error:
        return Reply(None, raised=str(error)[:300])


async def _awaited(value: object) -> object:
    return await value if isawaitable(value) else value


def _refusal(error: ConfigError) -> dict[str, object]:
    got = None if error.got is None else str(error.got)
    return {
        "what": error.what, "got": got, "wanted": error.wanted, "why": error.why, "fix": error.fix
    }  # fmt: skip


def main() -> None:
    """Load, say how it may be called, and score until whoever asks is gone."""
    place, names = sys.argv[1], Names(*json.loads(sys.argv[2]))
    connection = socket.socket(fileno=os.dup(0))
    connection.set_inheritable(False)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    die_with_parent()
    loop = asyncio.new_event_loop()
    with connection.makefile("rw", encoding="utf-8", newline="\n") as lines:

        def tell(reply: dict[str, object]) -> None:
            lines.write(json.dumps(reply) + "\n")
            lines.flush()

        name = place.rpartition(":")[2].rpartition(".")[2]
        try:
            function = load_callable(place)
            calls = calls_of(function, name, names)
        except ConfigError as error:
            tell({"refused": _refusal(error)})
            return
        described = [{"shown": call.describe(name), "assumed": call.assumed} for call in calls]
        tell({"calls": described})
        for line in lines:
            request = json.loads(line)
            asked = Asked(*request["asked"])
            tell(call_reward(function, calls[request["call"]], asked, loop)._asdict())


if __name__ == "__main__":
    main()
