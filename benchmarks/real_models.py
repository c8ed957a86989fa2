"""Real models: our steps beside TRL's, our sampler beside `generate`, and peak memory.

    rekindle testbed fetch smollm2-135m; rekindle testbed fetch gemma3-270m
    python benchmarks/real_models.py                   full: writes results/bench_real_models.json
    python benchmarks/real_models.py --quick           ends within 50 s: the rows that fit
    python benchmarks/real_models.py --rows sft,dpo    some rows; --list names them
    python benchmarks/real_models.py --before DIR/src  with the row against another checkout

Ours and the peer alternate in one process (another checkout: in two); figures are medians of CPU
seconds on one thread. Where a row compares with TRL, loss and gradient of the first step must agree
to 1e-5. Rows of memory have a process each. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rekindle.engine.threads import calm_threads

calm_threads()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

import _real_grpo as grpo  # noqa: E402
import _real_memory as memory  # noqa: E402
import _real_sampling as sampling  # noqa: E402
import _real_tuning as tuning  # noqa: E402
from _machine import describe  # noqa: E402
from _real_common import GEMMA, SMOLLM, Row, model_directory  # noqa: E402
from rekindle.errors import RekindleError  # noqa: E402
from rekindle.files import write_json  # noqa: E402

QUICK_SECONDS = 44.0


@dataclass(frozen=True)
class Work:
    """A row that can be measured.

    Attributes:
        limit: what its ratio is to be at most; None: it is told, and no target.
        measure: (model directory, repetitions, the other checkout) to the row.
        model: of the testbed.
        n: repetitions of a full run; 0: there is one figure.
        quick: seconds of one repetition with all that comes before it; None: not in a quick run.
    """

    limit: float | None
    measure: Callable[..., Row]
    model: str = SMOLLM
    n: int = 0
    quick: float | None = None


def _sampler(limit: float, problems: int, samples: int, prompt: int) -> Work:
    how = partial(sampling.sampler, problems=problems, samples=samples, prompt=prompt)
    return Work(limit, how, n=5)


def _memory(limit: float, measure: Callable[..., Row], model: str) -> Work:
    return Work(limit, lambda source, n, *, limit: measure(source, limit=limit), model)


WORKS: dict[str, Work] = {
    "similarity": Work(
        0.1, lambda source, n, *, limit: sampling.similarity(n, limit=limit), n=9, quick=3
    ),
    "grpo": Work(0.70, partial(grpo.against_trl, all_wrong=False), n=5),
    "grpo_half_wrong": Work(0.45, partial(grpo.against_trl, all_wrong=True), n=5),
    "grpo_before": Work(0.68, grpo.against_before, n=3),
    "sft": Work(0.75, partial(tuning.sft, patched=False), n=5),
    "sft_small": Work(None, tuning.sft_small, n=5, quick=25),
    "sft_patched": Work(None, partial(tuning.sft, patched=True), n=5),
    "dpo": Work(0.75, partial(tuning.dpo, cached=False, patched=False), n=5),
    "dpo_patched": Work(None, partial(tuning.dpo, cached=False, patched=True), n=5),
    "dpo_cached": Work(None, partial(tuning.dpo, cached=True, patched=False), n=5),
    "sampler_one": _sampler(0.75, 1, 16, 53),
    "sampler_different": _sampler(0.90, 16, 1, 53),
    "sampler_long": _sampler(0.30, 1, 8, 512),
    "gemma_scoring": _memory(0.4, memory.scoring, GEMMA),
    "gemma_training": _memory(3.7, partial(memory.training, checkpointing=False), GEMMA),
    "gemma_checkpointing": _memory(1.2, partial(memory.training, checkpointing=True), GEMMA),
    "peak_grpo": _memory(1.6, partial(memory.run_peak, method="grpo"), SMOLLM),
    "peak_dpo": _memory(1.7, partial(memory.run_peak, method="dpo"), SMOLLM),
    "peak_wmss": _memory(1.9, partial(memory.run_peak, method="wmss"), SMOLLM),
    "lora_checkpoint": _memory(3.1, memory.lora_checkpoint, SMOLLM),
}


def measure_row(name: str, options: argparse.Namespace, n: int) -> Row:
    """One row, in this process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    work = WORKS[name]
    source = model_directory(work.model, options.models)
    extra = {"before": options.before} if name == "grpo_before" else {}
    return work.measure(source, n, limit=work.limit, **extra)


def in_a_process(name: str, options: argparse.Namespace, n: int) -> dict[str, object]:
    """One row, in a process of its own; without figures where it could not be measured."""
    command = [sys.executable, __file__, "--row", name, "--n", str(n)]
    for option in ("models", "before"):
        given = vars(options)[option]
        command += [] if given is None else [f"--{option}", str(given)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        row: dict[str, object] = json.loads(ran.stdout.strip().splitlines()[-1])
        return row
    reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
    empty = Row(name, "", None, None, None, WORKS[name].limit, 0, f"not measured: {reason}")
    return empty.as_dict()


def quick_rows(options: argparse.Namespace, names: list[str]) -> tuple[list[dict], list[str]]:
    """The rows that fit into a quick run, with the fewest repetitions; and those left out."""
    began, rows, left_out = time.monotonic(), [], []
    for name in names:
        seconds = WORKS[name].quick
        if seconds is None or time.monotonic() - began + seconds > QUICK_SECONDS:
            left_out.append(name)
            continue
        try:
            rows.append(show(measure_row(name, options, 1).as_dict()))
        except RekindleError as error:
            print(f"{name} is left out: {error}", flush=True)
            left_out.append(name)
    return rows, left_out


def show(row: dict) -> dict:
    """Print a row as it comes."""
    mark = {True: "met", False: "MISSED", None: "-"}[row["met"]]
    print(
        f"{row['work']}: ours {row['ours']}, peer {row['peer']} {row['unit']}, ratio "
        f"{row['ratio']}, at most {row['limit']}: {mark} (n {row['n']}) {row['note']}",
        flush=True,
    )
    return row


def main() -> None:
    """The rows asked for, then one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(WORKS))
    parser.add_argument("--list", action="store_true", help="names of the rows")
    parser.add_argument("--before", type=Path, help="src of another checkout")
    parser.add_argument("--models", type=Path, help="directory of the models; else the cache")
    parser.add_argument("--n", type=int, help="repetitions")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", choices=list(WORKS), help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        print("\n".join(WORKS))
    elif options.serve:
        torch.set_num_threads(1)
        grpo.serve(options.serve)
    elif options.row:
        print(json.dumps(measure_row(options.row, options, options.n).as_dict()))
    else:
        run_table(options, parser)


def run_table(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Measure, print, and write a full run's results."""
    if unknown := [name for name in options.rows if name not in WORKS]:
        parser.error(f"no row {unknown[0]!r}; --list names them")
    left_out = [name for name in WORKS if name not in options.rows]
    if options.quick:
        rows, others = quick_rows(options, options.rows)
        left_out += others
    else:
        rows = [
            show(in_a_process(name, options, options.n or WORKS[name].n)) for name in options.rows
        ]
    result = {
        "benchmark": "real_models",
        "rows": rows,
        "left_out": left_out,
        "threads": 1,
        "machine": describe(),
    }
    out = options.out or (None if options.quick or left_out else "results/bench_real_models.json")
    if out is not None:
        write_json(out, result)
    if left_out:
        print(f"left out: {', '.join(left_out)}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
