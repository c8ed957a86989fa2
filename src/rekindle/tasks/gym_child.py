"""The process in which reasoning-gym's entries are generated; see `tasks.gym_generator`.

    python -m rekindle.tasks.gym_child

In: pickles of (dataset, seed, size, settings). Out: for each one a pickle of (entries, None), or of
(None, what it raised). It ends with its input. What a dataset prints goes nowhere.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys

from rekindle.tasks.gym_generator import entries_of


def main() -> None:
    """Answer requests until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        while True:
            try:
                request = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            pickle.dump(entries_of(*request), replies)
            replies.flush()


if __name__ == "__main__":
    main()
