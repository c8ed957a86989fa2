"""The other end of `rewards.workers`: a process that verifies answers until it is told to stop.

    python -m rekindle.rewards.worker VERIFIER MEMORY_MIB

One JSON object a line each way. Whatever a verifier prints goes to standard error. It imports
nothing that it does not need: no torch, no transformers.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable

from rekindle.records import Score
from rekindle.rewards.verify import VERIFIERS

# What verifiers raise on texts that they cannot read; anything else ends the process, which the
# pool sees.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def verifier_of(name: str) -> Callable[[str, str], Score]:
    """The function behind a verifier's name; `math` loads math-verify."""
    if name == "math":
        from rekindle.rewards.math import math

        return math
    return VERIFIERS[name]


def answer(verify: Callable[[str, str], Score], gold: str, text: str) -> dict[str, object]:
    """A verdict as plain data; what cannot be read or held is missing, with the reason."""
    try:
        score = verify(gold, text)
    except RecursionError:
        return {"value": None, "reason": "parse: too deeply nested"}
    except MemoryError:
        return {"value": None, "reason": "memory"}
    except _UNREADABLE as error:
        return {"value": None, "reason": f"error: {type(error).__name__}"}
    return {"value": score.value, "reason": score.reason}


def _die_with_parent() -> None:
    # A worker that hangs does not read the end of its input. Linux only; elsewhere it goes on.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Say that it is ready, then answer each line with a line."""
    name, memory = sys.argv[1], int(sys.argv[2]) * 2**20
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _die_with_parent()
    verify = verifier_of(name)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    replies.write("{}\n")
    replies.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        replies.write(json.dumps(answer(verify, asked["gold"], asked["text"])) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
