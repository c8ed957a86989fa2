"""`rekindle diagnose --log DIR --json` against a loop of `json.loads` over the same lines.

    python benchmarks/logs.py            20,000, 60,000 and 200,000 rows: about 1 GB on disk
    python benchmarks/logs.py --quick    5,000 rows, nothing written to results/

The files are NeMo-RL's: token lists of about 5 KB a row, 2,000 rows a step, written into a
directory that is removed. Both are processes of their own: CPU seconds are those of all their
threads and children, and of the start of Python. A row has the log's text, tokens and log-probs of
one of 400 answers, so that what is compared is reading, not drawing.

Targets: at least 3 times as fast at 200,000 rows; peak memory below 600 MB at every size; of a run
of 100 files of 256 rows the whole answer within 2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from _machine import describe

RESULTS = Path(__file__).parents[1] / "results" / "bench_logs.json"
SIZES, QUICK = (20_000, 60_000, 200_000), (5_000,)
A_STEP, GROUP, PAD = 2_000, 8, 120
WORDS = ["the", "sum", "of", "we", "have", "so", "therefore", "x", "=", "7", "answer"]
LOOP = """
import json, sys
from pathlib import Path
for path in sorted(Path(sys.argv[1]).glob("*.jsonl")):
    with open(path, "rb") as file:
        for line in file:
            json.loads(line)
"""


class Cost(NamedTuple):
    """What a process took."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def answers(rng: random.Random) -> list[tuple[str, str]]:
    """An answer's text, and the token columns of its row, 400 times."""
    made = []
    for _ in range(400):
        asked, said = 30, rng.randint(40, 90)
        rest = PAD - asked - said
        logprobs = [-rng.expovariate(3) for _ in range(said)]
        columns = {
            "token_ids": [rng.randrange(150_000) for _ in range(asked + said)] + [0] * rest,
            "token_loss_mask": [0] * asked + [1] * said + [0] * rest,
            "advantages": [rng.choice((-0.61, 1.63))] * PAD,
            "generation_logprobs": [0.0] * asked + logprobs + [0.0] * rest,
            "prev_logprobs": [0.0] * asked
            + [value + rng.gauss(0, 0.01) for value in logprobs]
            + [0.0] * rest,
        }
        text = " ".join(rng.choice(WORDS) for _ in range(said)) + f" \\boxed{{{rng.randrange(50)}}}"
        body = ", ".join(f'"{name}": [{json.dumps(v)}]' for name, v in columns.items())
        made.append((text, f'"input_lengths": [{asked + said}], {body}, "sample_loss_mask": [1.0]'))
    return made


def write_log(directory: Path, rows: int, a_step: int = A_STEP) -> int:
    """A run's files, and how many bytes they have."""
    rng = random.Random(0)
    pool, size = answers(rng), 0
    for first in range(0, rows, a_step):
        path = directory / f"train_data_step{first // a_step + 1}.jsonl"
        with open(path, "w") as file:
            for row in range(first, min(first + a_step, rows)):
                text, columns = rng.choice(pool)
                prompt = f"Problem {row // GROUP}: what is it?"
                chance = (
                    0.02 + 0.9 * (row // GROUP % 10) / 10
                )  # prompts differ in how hard they are
                content = json.dumps([[prompt, text]])
                reward = float(rng.random() < chance)
                file.write(
                    f'{{"content": {content}, "rewards": [{reward}], {columns}, "idx": {row}}}\n'
                )
        size += path.stat().st_size
    return size


def cost(words: list[str]) -> Cost:
    """Run a command and say what it took; its output is not kept."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    wall = time.perf_counter() - began
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def measure(rows: int, a_step: int = A_STEP, times: int = 3) -> dict[str, object]:
    """One size: the cheapest of several runs of each, in turns."""
    with tempfile.TemporaryDirectory() as name:
        size = write_log(Path(name), rows, a_step)
        pairs = [
            (
                cost(["-m", "rekindle", "diagnose", "--log", name, "--json"]),
                cost(["-c", LOOP, name]),
            )
            for _ in range(times)
        ]
    ours, loop = (min(side) for side in zip(*pairs, strict=True))
    return {
        "benchmark": "logs",
        "rows": rows,
        "files": -(-rows // a_step),
        "megabytes": round(size / 1e6),
        "cpu_s": round(ours.cpu_s, 2),
        "json_loads_cpu_s": round(loop.cpu_s, 2),
        "ratio_json_loads": round(loop.cpu_s / ours.cpu_s, 2),
        "wall_s": round(min(pair[0].wall_s for pair in pairs), 2),
        "peak_mb": round(max(pair[0].peak_mb for pair in pairs)),
    }


def main() -> None:
    """Print a JSON row a size, and write them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    cases = [(rows, A_STEP) for rows in (QUICK if quick else SIZES)]
    cases.append((2_560, 256) if quick else (25_600, 256))
    rows = []
    for count, a_step in cases:
        rows.append(measure(count, a_step, times=1 if quick else 3))
        print(json.dumps(rows[-1]), flush=True)
    if not quick:
        RESULTS.write_text(json.dumps({"rows": rows, "machine": describe()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
