"""Every method on a real model: each runs end to end, in a process of its own, as a user runs it.

    rekindle testbed fetch smollm2-135m
    python benchmarks/real_methods.py                    writes results/real_methods.json
    python benchmarks/real_methods.py --quick            ends within 50 s: one run
    python benchmarks/real_methods.py --rows grpo,dpo    some runs, whose rows are renewed there
    python benchmarks/real_methods.py --work DIR         keeps recipes, data and logs there

A run is `rekindle train` with a short recipe on SmolLM2-135M-Instruct, then `rekindle report`. What
is looked at: its losses, a signal of the method's own, whether weights changed, and log-probs of
`final/` in plain transformers. A few updates say that a method runs on a real model, and nothing
about how good it is: that is what studies are for. A row is written when its run has ended, with
the commit that it ran at. `--list` names the runs; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rekindle.engine.threads import calm_threads

calm_threads()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from _machine import describe  # noqa: E402
from _real_cases import CASES, NEEDS_REWARD, REWARDS, SEED, Inputs, write_data, write_recipe  # noqa: E402
from _real_checks import Outcome, look_at, look_at_reward  # noqa: E402
from _real_common import SMOLLM, model_directory  # noqa: E402
from rekindle.errors import RekindleError  # noqa: E402
from rekindle.files import read_json, write_json  # noqa: E402

RESULT = Path("results/real_methods.json")
NAMES = (*REWARDS, *CASES)  # the reward model first, which others need
QUICK = ("grpo+lora",)
TELLS = (
    "Each method runs end to end on a real model: a few updates, one seed, one run. This is no "
    "evidence of quality: nothing here says that a method helps."
)


class FailedError(Exception):
    """A command that did not end well."""


def run_command(words: list[str], work: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and GiB at the peak of `rekindle WORDS`, run in `work`.

    Raises:
        FailedError: with the end of what it said.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rekindle", *words]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, cwd=work, stdout=said, stderr=said, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise FailedError(f"rekindle {words[0]} failed: {said.read()[-1000:].strip()}")
    cpu = usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, cpu, usage.ru_maxrss / 2**20


def measure(name: str, inputs: Inputs, work: Path, lookers: Executor) -> dict[str, object]:
    """Run one, look at it, and remove its weights; a row."""
    case = CASES.get(name)
    if case is None:
        words = REWARDS[name](inputs, Path(name))
    else:
        write_recipe(work / f"{name}.yaml", case, inputs)
        words = ["train", f"{name}.yaml", "--out", name]
    row: dict[str, object] = {
        "run": name,
        "method": name if case is None else case.method,
        "command": " ".join(["rekindle", *words]).replace(str(inputs.model), f"testbed/{SMOLLM}"),
    }
    try:
        row |= measured(words, name, inputs, work, lookers)
    except FailedError as failure:
        row["faults"] = [str(failure)]
    if name != "reward":
        remove_weights(work / name)
    print(line_of(row), flush=True)
    return row


def measured(
    words: list[str], name: str, inputs: Inputs, work: Path, lookers: Executor
) -> dict[str, object]:
    """What a row has beside the names.

    Models are loaded in other processes: a child's peak is at least what its parent holds when it
    starts it (Linux keeps the larger of both).
    """
    case = CASES.get(name)
    seconds, cpu, peak = run_command([*words, "--quiet"], work)
    if case is None:
        outcome = lookers.submit(look_at_reward, work / name, inputs.model).result()
    else:
        run_command(["report", name], work)
        outcome = lookers.submit(look_at, work / name, case, inputs.model).result()
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_gib": round(peak, 2),
        **told(outcome),
        "page": case is not None,
        "faults": outcome.faults(case),
    }


def told(outcome: Outcome) -> dict[str, object]:
    """What a row says of an outcome."""
    first, last = (outcome.losses[0], outcome.losses[-1]) if outcome.losses else (None, None)
    return {
        "updates": outcome.updates,
        "loss_first": first,
        "loss_last": last,
        "signal": dict(outcome.signal),
        "tensors_changed": round(outcome.changed, 4),
        "largest_change": outcome.largest_change,
        "transformers_apart": outcome.apart,
        "peft_apart": outcome.adapter_apart,
    }


def line_of(row: dict) -> str:
    """A row as it is printed."""
    if "updates" not in row:
        return f"{row['run']}: {row['faults'][0]}"
    word = "; ".join(row["faults"]) or "as promised"
    return (
        f"{row['run']}: {row['updates']} updates, {row['cpu_seconds']} CPU s, "
        f"{row['peak_gib']} GiB, signal {row['signal']}: {word}"
    )


def remove_weights(run: Path) -> None:
    """Keep what can be read of a run."""
    for path in [*run.rglob("*.safetensors"), *run.rglob("states.bin")]:
        path.unlink()
    shutil.rmtree(run / "checkpoints", ignore_errors=True)


class Table:
    """Rows by their run, and the file that gets each as it comes: other rows there stay."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.machine = path, describe()  # before the file is changed
        known = read_json(path)["rows"] if path is not None and path.exists() else []
        self.rows = {row["run"]: row for row in known}

    def add(self, row: dict) -> None:
        """Take a row in, with the commit that it ran at."""
        at = {name: self.machine[name] for name in ("commit", "dirty")}
        self.rows[row["run"]] = {**row, "n": 1, "seed": SEED, **at}
        if self.path is not None:
            write_json(self.path, self.result())

    def result(self) -> dict[str, object]:
        """The table as JSON has it."""
        known = [self.rows[name] for name in NAMES if name in self.rows]
        return {
            "benchmark": "real_methods",
            "command": "python benchmarks/real_methods.py",
            "model": SMOLLM,
            "tells": TELLS,
            "threads": 1,
            "rows": known,
            "left_out": [name for name in NAMES if name not in self.rows],
            "machine": self.machine,
        }


def in_order(names: list[str]) -> list[str]:
    """The runs asked for, and the reward model where one needs it."""
    wanted = {*names, *(["reward"] if set(names) & set(NEEDS_REWARD) else [])}
    return [name for name in NAMES if name in wanted]


def measure_all(names: list[str], inputs: Inputs, work: Path, workers: int) -> Iterator[dict]:
    """Rows as they come; the reward model is made before the others begin."""
    write_data(work / inputs.data)
    spawning = get_context("spawn")
    with (
        ProcessPoolExecutor(workers, mp_context=spawning, initializer=be_calm) as lookers,
        ThreadPoolExecutor(workers) as pool,
    ):
        one = partial(measure, inputs=inputs, work=work, lookers=lookers)
        if "reward" in names:
            yield one("reward")
        begun = [pool.submit(one, name) for name in names if name != "reward"]
        yield from (row.result() for row in as_completed(begun))


def be_calm() -> None:
    """One thread, and no warnings of others."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def main() -> None:
    """The runs asked for, then one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(NAMES))
    parser.add_argument("--list", action="store_true", help="names of the runs")
    parser.add_argument("--models", type=Path, help="directory of the models; else the cache")
    parser.add_argument("--work", type=Path, help="a new directory to keep what is not weights")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.list:
        print("\n".join(NAMES))
        return
    if unknown := [name for name in options.rows if name not in NAMES]:
        parser.error(f"no run {unknown[0]!r}; --list names them")
    names, out = in_order(list(QUICK) if options.quick else options.rows), options.out
    table = Table(None if options.quick and out is None else out or RESULT)
    try:
        run_rows(names, options, table)
    except RekindleError as error:
        if not options.quick:
            raise SystemExit(str(error)) from error
        print(f"left out: {error}")
    print(json.dumps(table.result()))


def run_rows(names: list[str], options: argparse.Namespace, table: Table) -> None:
    """Measure in the directory asked for, or in one that is removed again."""
    model = model_directory(SMOLLM, options.models).resolve()
    inputs = Inputs(model, Path("data"), Path("reward/final"))
    place = nullcontext(options.work) if options.work else tempfile.TemporaryDirectory()
    with place as work:
        Path(work).mkdir(parents=True, exist_ok=True)
        for row in measure_all(names, inputs, Path(work).resolve(), options.workers):
            table.add(row)


if __name__ == "__main__":
    main()
