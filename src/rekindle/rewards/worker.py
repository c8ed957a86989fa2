"""The other end of `rewards.workers`: a template process, and the workers that it forks.

    python -m rekindle.rewards.worker VERIFIER MEMORY_MIB        (standard input: a socket)

The template forks and kills on request (`rewards.workers.Nursery`). A worker verifies answers until
it is told to stop: one JSON object a line each way. Whatever a verifier prints goes nowhere.
Nothing is imported that is not needed: no torch, no transformers.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import cast

from rekindle.records import Score
from rekindle.rewards.python_reward import is_place, load_reward
from rekindle.rewards.verifiers.verify import AS_READ, UNREADABLE, VERIFIERS, Settings, math

Verify = Callable[[str, str, Settings], Score]


def verdict(verify: Verify, gold: str, text: str, settings: Settings) -> Score:
    """A verdict; what cannot be read or held is missing, with the reason."""
    try:
        return verify(gold, text, settings)
    except RecursionError:
        return Score.missing("parse: too deeply nested")
    except MemoryError:
        return Score.missing("memory")
    except UNREADABLE as error:  # anything else ends the process, which the pool sees
        return Score.missing(f"error: {type(error).__name__}")


def _verifier(name: str) -> Verify:
    if is_place(name):
        return cast(Verify, load_reward(name).function)
    return math if name == "math" else VERIFIERS[name]


def die_with_parent() -> None:
    """Let this process end when the one that started it does, even while it hangs and does not read
    the end of its input. Linux only; elsewhere it goes on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def work(verify: Verify, connection: socket.socket, *, memory: int, parent: int) -> None:
    """A worker's life, after the fork: an answer to each line until the connection closes."""
    die_with_parent()
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with connection.makefile("rw", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            request = json.loads(line)
            settings = Settings(*request["settings"])
            score = verdict(verify, request["gold"], request["text"], settings)
            lines.write(json.dumps({"value": score.value, "reason": score.reason}) + "\n")
            lines.flush()


def main() -> None:
    """Import, then fork and kill as asked, until whoever asks is gone."""
    name, memory = sys.argv[1], int(sys.argv[2]) * 2**20
    control = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    die_with_parent()
    verify = _verifier(name)
    # This builds the parser's tables, which all workers then share.
    verdict(verify, "2", r"\boxed{\sqrt{4}}", AS_READ)
    gc.freeze()
    template = os.getpid()
    while True:
        request, handles, _, _ = socket.recv_fds(control, 64, 1)
        if not request:
            return
        if handles:
            connection = socket.socket(fileno=handles[0])
            pid = os.fork()
            if pid == 0:
                control.close()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the other name of the control socket
                work(verify, connection, memory=memory, parent=template)
                os._exit(0)
            connection.close()
        else:
            pid = json.loads(request)["end"]
            os.kill(pid, signal.SIGKILL)  # ours, and not waited for: no other process has its id
            os.waitpid(pid, 0)
        control.send(str(pid).encode())


if __name__ == "__main__":
    main()
