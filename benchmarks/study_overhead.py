"""What a study costs beyond its runs, and what the second core brings.

    python benchmarks/study_overhead.py           twelve minutes on two idle cores
    python benchmarks/study_overhead.py --quick
    python benchmarks/study_overhead.py --why     what two processes side by side contend for

The same study by `rekindle study`, with one worker and with two, alternating, median over the
rounds; its own account (study.json, `cost`) gives the figures.

    overhead     share of the workers' time, from the first run's start to the results, in which a
                 worker had no run, relative to the time in which it had one
    loading      seconds before the first run: torch and transformers, which `rekindle train` loads
                 for each run anew; `overhead_whole` counts them too
    throughput   wall time with one worker over that with two, both from the first run's start;
                 `throughput_whole` is of the whole commands

With two workers the last runs do not end together: what one waits for the other is counted.

`--why` runs small kernels in one process alone and in two, each on its core, and compares the
processor time that each took. A loop that lives in registers and first-level cache contends for
nothing but the core itself: if it is slower in company, two of these "cores" share one (hyper-
threads), or the host takes time away, and no setting of this library can help. If only `stream` is,
it is memory bandwidth; if only `cache`, the shared cache; if only `step`, something of ours.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from _machine import describe

STUDY = """
study: overhead
bases: [testbed/countdown-s0, testbed/countdown-s1]
seeds: [0, 1]
recipe:
  task: {name: countdown, levels: ["4"]}
  optim: {steps: STEPS, problems: 32}
  eval: {problems: 50, samples: 8}
arms:
  grpo: {method: grpo}
  slow: {method: grpo, optim: {lr: 1.0e-4}}
baseline: grpo
primary: {arm: slow}
"""


def study_once(file: Path, out: Path, workers: int) -> dict[str, float]:
    """One study from the command line; what it says of itself, and the command's own seconds."""
    words = [sys.executable, "-m", "rekindle", "study", str(file), "--out", str(out), "--quiet"]
    began = time.perf_counter()
    subprocess.run([*words, "--jobs", str(workers)], check=True, stdout=subprocess.DEVNULL)
    command = time.perf_counter() - began
    cost = json.loads((out / "study.json").read_text())["cost"]
    (session,) = cost["sessions"]
    wall, busy, loading = (
        session[k] for k in ("wall_seconds", "busy_seconds", "first_job_seconds")
    )
    return {
        "command": command,
        "wall": wall,
        "busy": busy,
        "loading": loading,
        "overhead": ((wall - loading) * workers - busy) / busy,
        "overhead_whole": (command * workers - busy) / busy,
    }


# --- what side by side costs


def registers() -> None:
    """Integer arithmetic of the interpreter: first-level cache."""
    total = 0
    for i in range(12_000_000):
        total = (total * 5 + i) & 0xFFFF


def floats() -> None:
    """Products of matrices that fit the second-level cache: the vector units."""
    a = np.random.default_rng(0).random((128, 128), dtype=np.float32)
    for _ in range(12_000):
        a @ a


def cache() -> None:
    """Random reads over 12 MB: two of them do not fit a shared cache of 16 MB."""
    rng = np.random.default_rng(0)
    table, places = rng.random(1_500_000), rng.integers(1_500_000, size=4_000_000)
    for _ in range(20):
        table[places].sum()


def stream() -> None:
    """Copies of 256 MB: memory bandwidth."""
    a = np.ones(32_000_000)
    b = np.empty_like(a)
    for _ in range(20):
        np.copyto(b, a)


def allocate() -> None:
    """Arrays that the allocator takes from the system and gives back: page faults."""
    for _ in range(1_500):
        np.ones(500_000)


def step() -> None:
    """Ten steps of GRPO on the testbed."""
    from rekindle.training.recipe import make_recipe
    from rekindle.training.train import train

    tree: dict[str, Any] = {
        "method": "grpo",
        "task": {"name": "countdown", "levels": ["4"]},
        "optim": {"steps": 10, "problems": 32},
        "eval": {"problems": 2, "samples": 1},
    }
    with tempfile.TemporaryDirectory() as scratch:
        train(make_recipe(tree), Path(scratch) / "run", quiet=True)


KERNELS: tuple[Callable[[], None], ...] = (registers, floats, cache, stream, allocate, step)


def _timed(name: str, core: int | None, pipe: Any) -> None:
    kernel = next(k for k in KERNELS if k.__name__ == name)
    if core is not None:
        os.sched_setaffinity(0, {core})
    kernel()  # loads what it needs
    pipe.send("ready")
    pipe.recv()
    began = time.process_time()
    kernel()
    pipe.send(time.process_time() - began)


def side_by_side(name: str, processes: int, *, pinned: bool) -> float:
    """Processor seconds of the kernel, mean over the processes that run it at once."""
    context = get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    pipes = []
    for i in range(processes):
        ours, theirs = context.Pipe()
        core = cores[i % len(cores)] if pinned else None
        context.Process(target=_timed, args=(name, core, theirs)).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    return statistics.fmean(pipe.recv() for pipe in pipes)


def why() -> None:
    """Print how much slower each kernel is in company, and the JSON object."""
    slower: dict[str, dict[str, float]] = {}
    for kernel in KERNELS:
        name = kernel.__name__
        slower[name] = {}
        for pinned in (False, True):
            ratios = [
                side_by_side(name, 2, pinned=pinned) / side_by_side(name, 1, pinned=pinned)
                for _ in range(3)
            ]
            slower[name]["pinned" if pinned else "free"] = statistics.median(ratios) - 1
        shown = ", ".join(f"{how} {share:+.1%}" for how, share in slower[name].items())
        print(f"{name:<10} processor time in company: {shown}", flush=True)
    print(json.dumps({"benchmark": "side_by_side", "slower": slower, "machine": describe()}))


def main() -> None:
    """Print the figures and the JSON object."""
    if "--why" in sys.argv:
        why()
        return
    steps, rounds = (5, 1) if "--quick" in sys.argv else (80, 3)
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "study.yaml").write_text(STUDY.replace("STEPS", str(steps)))
        for turn in range(rounds):
            for workers, rows in found.items():
                rows.append(study_once(place / "study.yaml", place / f"{turn}-{workers}", workers))
    both = list(zip(found[1], found[2], strict=True))
    overhead = statistics.median(row["overhead"] for row in found[1])
    throughput = statistics.median(
        (one["wall"] - one["loading"]) / (two["wall"] - two["loading"]) for one, two in both
    )
    whole = {
        "overhead_whole": statistics.median(row["overhead_whole"] for row in found[1]),
        "throughput_whole": statistics.median(one["command"] / two["command"] for one, two in both),
        "loading_seconds": statistics.median(row["loading"] for row in found[1]),
        "busy_side_by_side": statistics.median(two["busy"] / one["busy"] for one, two in both),
    }
    print(f"overhead   {overhead:.1%} with one worker (at most 3 %), {whole['overhead_whole']:.1%} "
          f"with {whole['loading_seconds']:.1f} s of loading")  # fmt: skip
    print(f"throughput {throughput:.2f} times with two workers (at least 1.9), "
          f"{whole['throughput_whole']:.2f} of the whole commands; each run took "
          f"{whole['busy_side_by_side'] - 1:+.0%} in company")  # fmt: skip
    ratios = {"ratio_overhead": 0.03 / max(overhead, 1e-9), "ratio_throughput": throughput / 1.9}
    facts = {**whole, "studies": found, "runs": 8, "machine": describe()}
    print(json.dumps({"benchmark": "study", **ratios, **facts}))


if __name__ == "__main__":
    main()
