"""Seconds until `import rekindle` is done and `rekindle --help` has answered; best of several.

Targets: 0.3 s and 0.5 s. `--quick` is the same: it takes seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from _machine import describe

LIMITS = {"import": 0.3, "help": 0.5}
COMMANDS = {"import": ["-c", "import rekindle"], "help": ["-m", "rekindle", "--help"]}


def best(words: list[str], times: int = 5) -> float:
    """Fastest of several starts: the others waited for the machine."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    """Print a line each and the JSON object."""
    seconds = {name: best(words) for name, words in COMMANDS.items()}
    for name, value in seconds.items():
        print(f"{name:<8} {value:.3f} s (at most {LIMITS[name]})")
    ratios = {f"ratio_{name}": LIMITS[name] / value for name, value in seconds.items()}
    print(json.dumps({"benchmark": "startup", **ratios, "seconds": seconds, "machine": describe()}))


if __name__ == "__main__":
    main()
