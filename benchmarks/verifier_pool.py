"""The verifier pool against one process that checks one answer after the other.

    python benchmarks/verifier_pool.py

Loads: answers that hang until the wall clock (0.5 s), answers that each keep a core busy (no two
the same, since sympy remembers), one hanging answer in ten, and cheap ones. A single process is
the pool with one worker: without a process that can be killed, the first hanging answer would be
the last.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
import time
from pathlib import Path

from _machine import describe
from rekindle.records import Score
from rekindle.rewards.verifiers.verify import Settings, math
from rekindle.rewards.workers import VerifierPool

HANGS = "an answer that hangs"
VERIFIER = "verifier_pool:math_or_hang"
os.environ["PYTHONPATH"] = os.pathsep.join(  # where workers find this file
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
CHEAP = r"\boxed{4}"


def math_or_hang(gold: str, text: str, settings: Settings) -> Score:
    """`math`, and what no verifier should do to a worker."""
    if text == HANGS:
        time.sleep(3600)
    return math(gold, text, settings)


def busy(i: int) -> str:
    """An answer that takes a tenth of a second of a core, and is no other one's."""
    return r"\boxed{" + "+".join(f"\\sqrt{{{i}{n}}}" for n in range(2, 60)) + "}"


def seconds(pool: VerifierPool, asked: list[tuple[str, str]]) -> float:
    """Wall clock of one batch, the processes already there."""
    for _ in range(3):  # until all of them have started
        pool.grade([("4", r"\boxed{\sqrt{3}}")] * 64)
    began = time.perf_counter()
    pool.grade(asked)
    return time.perf_counter() - began


def main() -> None:
    """Print a line for each load and the JSON object."""
    few = 2 if "--quick" in sys.argv else 1
    loads = {
        "hang": [("4", HANGS)] * (12 // few),
        "busy": [("4", busy(i)) for i in range(48 // few)],
        "mixed": [("4", HANGS if i % 10 == 0 else CHEAP) for i in range(120 // few)],
        "cheap": [("4", CHEAP)] * (2000 // few),
    }
    found = {}
    for name, asked in loads.items():
        limit = 10.0 if name == "busy" else 0.5
        one = VerifierPool(VERIFIER, workers=1, timeout=limit)
        all_ = VerifierPool(VERIFIER, timeout=limit)
        alone, together = seconds(one, asked), seconds(all_, asked)
        one.close()
        all_.close()
        found[name] = {
            "answers": len(asked), "one": alone, "pool": together, "ratio": alone / together
        }  # fmt: skip
        each = 1e3 * together / len(asked)
        times = f"{alone / together:.2f} times, {each:.2f} ms each"
        print(f"{name:<6} {alone:6.2f} s -> {together:6.2f} s, {times}")
    ratios = {f"ratio_{name}": row["ratio"] for name, row in found.items()}
    print(
        json.dumps({"benchmark": "verifier_pool", **ratios, "loads": found, "machine": describe()})
    )


if __name__ == "__main__":
    main()
