"""How often `rekindle diagnose --log` names the right cause, and how often it names one in vain.

    python benchmarks/planted_logs.py [--quick] [--healthy N] [--planted N]

Logs of simulated runs, written as trainers write them: healthy ones in many kinds, and each of the
twelve causes planted in the ways in which it comes about. A run is healthy where, by the chances
that it was drawn with, at least 0.4 of its groups are mixed and no kind of dead groups is most,
over all and over the last third of its steps. Each rule's rate at the edge of its null, where it is
most likely to err, is simulated too. The result goes to `results/false_alarms.json`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from _log_runs import WELL, Rng
from _log_writers import Case
from _machine import describe
from _null_edges import EDGES
from _planted_causes import WAYS
from rekindle.evals.intervals import wilson
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log

OUT = Path("results/false_alarms.json")
FIRST = 5_000  # seed; smaller ones were looked at while the rules were made
Facts = dict[str, object]


def named(make: Callable[[Rng, Path], Case], seed: int) -> tuple[Case, str | None]:
    """A log and the cause that is named in it."""
    place = Path(tempfile.mkdtemp())
    try:
        case = make(np.random.default_rng(seed), place / "log")
        found = diagnose_log(case.path, columns=case.columns, **case.options)
        return case, None if found.cause is None else found.cause.name
    finally:
        shutil.rmtree(place)


def plant(cause: str, count: int) -> Facts:
    """Logs with one cause: how many are named rightly, and as what the others are."""
    ways, wrong, right = WAYS[cause], Counter[str](), 0
    by_way: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for seed in range(FIRST, FIRST + count):
        case, found = named(ways[seed % len(ways)], seed)
        way = by_way[case.way.rsplit(", ", 1)[0]]
        way[1] += 1
        if found == cause:
            right, way[0] = right + 1, way[0] + 1
        else:
            wrong[f"{found or 'none'} ({case.way}, seed {seed})"] += 1
    _, low, high, _ = wilson(right, count)
    return {
        "logs": count,
        "named": right,
        "share": right / count,
        "ci_low": low,
        "ci_high": high,
        "named_otherwise": dict(wrong),
        "by_way": {way: f"{k} of {n}" for way, (k, n) in by_way.items()},
    }


def healthy(count: int) -> Facts:
    """Logs without a cause: how many are named one."""
    wrong, kinds = Counter[str](), Counter[str]()
    for seed in range(count):
        case, found = named(WELL[seed % len(WELL)], 10_000 + seed)
        kinds[case.way.rsplit(", ", 1)[0]] += 1
        if found is not None:
            wrong[f"{found} ({case.way}, seed {10_000 + seed})"] += 1
    alarms = wrong.total()
    _, low, high, _ = wilson(alarms, count)
    return {
        "logs": count,
        "named_a_cause": alarms,
        "share": alarms / count,
        "ci_low": low,
        "ci_high": high,
        "which": dict(wrong),
        "kinds": dict(kinds),
    }


def at_the_edge(count: int) -> dict[str, Facts]:
    """How often each rule's null is refuted where it just holds."""
    rates = {}
    for name, (null, draw) in EDGES.items():
        rng = np.random.default_rng(sum(map(ord, name)))
        alarms = sum(draw(rng) for _ in range(count))
        _, low, high, _ = wilson(alarms, count)
        rates[name] = {
            "null": null,
            "logs": count,
            "refuted": alarms,
            "rate": alarms / count,
            "ci_low": low,
            "ci_high": high,
        }
    return rates


def main() -> None:
    """Print a line for each cause and write the result."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--quick", action="store_true", help="2 logs a cause, 10 healthy, no file")
    asked.add_argument("--planted", type=int, default=20)
    asked.add_argument("--healthy", type=int, default=200)
    asked.add_argument("--edge", type=int, default=1_000)
    options = asked.parse_args()
    if options.quick:
        options.planted, options.healthy, options.edge = 2, 10, 20
    facts: Facts = {
        "command": f"python benchmarks/planted_logs.py {' '.join(sys.argv[1:])}".strip()
    }
    planted = {}
    for cause in WAYS:
        planted[cause] = plant(cause, options.planted)
        print(_line(cause, planted[cause], "named"), flush=True)
    well = healthy(options.healthy)
    print(_line("healthy", well, "named_a_cause"), flush=True)
    edges = at_the_edge(options.edge)
    for name, rate in edges.items():
        print(f"{name:<28} {rate['refuted']:>4} of {rate['logs']} at the edge of its null")
    facts |= {
        "seeds": "planted 5,000 and up by cause, healthy 10,000 and up, edges by the rule's name",
        "planted": planted,
        "healthy": well,
        "edge_of_null": edges,
        "machine": describe(),
    }
    if not options.quick:
        OUT.write_text(json.dumps(facts, indent=1) + "\n")


def _line(name: str, facts: Facts, key: str) -> str:
    interval = f"[{100 * facts['ci_low']:.0f}, {100 * facts['ci_high']:.0f}] %"  # type: ignore[operator]
    others = facts.get("named_otherwise") or facts.get("which") or ""
    return f"{name:<20} {facts[key]:>4} of {facts['logs']} {interval} {others or ''}"


if __name__ == "__main__":
    main()
