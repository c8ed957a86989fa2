"""How often the early word is false while the signal holds, and how soon it comes once it is lost.

Steps of G groups, each mixed or not. While the null holds (at least 20 % of a step's groups are
expected to be mixed, whatever came before) no more than 1 run in 100 may ever be told:

    iid      each group mixed with chance 0.2
    ar       the chance follows an AR(1) of correlation 0.95, never below 0.2
    bursts   the same, but a step is dead or alive as a whole (0 or 0.9 of its groups)
    drift    the chance falls from 0.9 to 0.2 over 300 steps and stays there

Beside it, `by_group`, the bet that takes each group for evidence of its own: what it would cost to
believe that the groups of a step do not depend on each other.

The delay counts steps from the first without signal: after 50 or 1,000 good ones the chance falls
from 0.3, 0.5 or 0.8 to what is `left`, for three other floors too; `back` is the delay of the
second word once it is 0.5 again.
Shares have Wilson's 95 % interval. The default writes results/early_word.json; `--quick` does not.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _machine import describe
from rekindle.files import write_json
from rekindle.signals.run_diagnosis.early_word import ALPHA, FLOOR, EarlyWord, Evidence

OUT = Path(__file__).parents[1] / "results" / "early_word.json"
Floats = NDArray[np.float64]
Make = Callable[[np.random.Generator, int, int, int], NDArray[np.int64]]
SEED = 20_261_201
PATIENCE = 300  # steps without signal after which a run that was not told is counted as missed


def _level(rng: np.random.Generator, runs: int, steps: int) -> Floats:
    """An AR(1) of variance 1, [runs, steps]."""
    level, levels = np.zeros(runs), np.empty((runs, steps))
    for step in range(steps):
        level = 0.95 * level + math.sqrt(1 - 0.95**2) * rng.normal(size=runs)
        levels[:, step] = level
    return levels


def iid(rng: np.random.Generator, runs: int, steps: int, groups: int) -> NDArray[np.int64]:
    """Mixed groups of each step, [runs, steps]."""
    return rng.binomial(groups, FLOOR, (runs, steps))


def ar(rng: np.random.Generator, runs: int, steps: int, groups: int) -> NDArray[np.int64]:
    """Difficulty that wanders slowly."""
    return rng.binomial(groups, np.clip(FLOOR + 0.1 * _level(rng, runs, steps), FLOOR, 1))


def bursts(rng: np.random.Generator, runs: int, steps: int, groups: int) -> NDArray[np.int64]:
    """Steps that are dead or alive as a whole."""
    chance = np.clip(FLOOR + 0.1 * _level(rng, runs, steps), FLOOR, 0.9)
    return rng.binomial(groups, 0.9 * (rng.random((runs, steps)) < chance / 0.9))


def drift(rng: np.random.Generator, runs: int, steps: int, groups: int) -> NDArray[np.int64]:
    """A curriculum that grows harder up to the floor."""
    chance = np.clip(0.9 - 0.7 * np.arange(steps) / 300, FLOOR, 1)
    return rng.binomial(groups, np.broadcast_to(chance, (runs, steps)))


NULLS: dict[str, Make] = {"iid": iid, "ar": ar, "bursts": bursts, "drift": drift}


def words(shares: Floats, floor: float = FLOOR) -> dict[str, int]:
    """The step of the first word of each kind, from 0."""
    early, told = EarlyWord(floor), dict[str, int]()
    for step, share in enumerate(shares.tolist()):
        turn = early.observe(step, share)
        if turn is not None:
            told.setdefault(turn, step)
    return told


def told_by_group(mixed: NDArray[np.int64], groups: int) -> bool:
    """Whether a bet on each group ever reaches the limit, the mixed ones of a step first."""
    evidence = Evidence(FLOOR)
    for count in mixed.tolist():
        for i in range(groups):
            if evidence.add(float(i < count)) >= 1 / ALPHA:
                return True
    return False


def share_of(count: int, runs: int) -> dict[str, object]:
    """A share with Wilson's interval."""
    z, p = 1.96, count / runs
    middle = (p + z * z / (2 * runs)) / (1 + z * z / runs)
    half = z * math.sqrt(p * (1 - p) / runs + z * z / (4 * runs**2)) / (1 + z * z / runs)
    return {"value": p, "ci_low": max(0.0, middle - half), "ci_high": middle + half, "n": runs}


def false_words(runs: int, steps: int, few: int) -> list[dict[str, object]]:
    """A row for each null and number of groups."""
    rows = []
    for place, (name, make) in enumerate(NULLS.items()):
        for groups in (4, 16):
            rng = np.random.default_rng([SEED, place, groups])
            mixed = make(rng, runs, steps, groups)
            told = sum("out" in words(row / groups) for row in mixed)
            by_group = sum(told_by_group(row, groups) for row in mixed[:few])
            row = {"null": name, "groups": groups, "steps": steps, "false": share_of(told, runs)}
            rows.append(row | {"by_group": share_of(by_group, few)})
            print(f"{name:<7} G {groups:<3} false {told / runs:.4f}  by group {by_group / few:.3f}")
    return rows


def delays(runs: int) -> list[dict[str, object]]:
    """A row for each way to lose a signal."""
    rows = []
    for groups in (4, 16, 64):
        for before in (0.3, 0.5, 0.8):
            for good in (50, 1000):
                for left in (0.0, 0.05, 0.1):
                    rows.append(_delay(runs, groups, before, good, left))
                    print(*(f"{name} {value}" for name, value in rows[-1].items()))
    rows += [_delay(runs, 16, 0.8, 50, 0.0, floor) for floor in (0.05, 0.1, 0.5)]
    return rows


def _delay(
    runs: int, groups: int, before: float, good: int, left: float, floor: float = FLOOR
) -> dict[str, object]:
    rng = np.random.default_rng([SEED, groups, good, int(100 * before), int(100 * left)])
    chance = np.r_[[before] * good, [left] * PATIENCE, [0.5] * 100]
    told = [words(rng.binomial(groups, chance) / groups, floor) for _ in range(runs)]
    out = np.array([one.get("out", 10**6) - good + 1 for one in told])
    after = good + PATIENCE
    back = [one["back"] - after + 1 for one in told if one.get("back", -1) >= after]
    return {
        "floor": floor,
        "groups": groups,
        "before": before,
        "good_steps": good,
        "left": left,
        "told": float((out <= PATIENCE).mean()),
        "median": float(np.median(out)),
        "q90": float(np.quantile(out, 0.9)),
        "back_median": float(np.median(back)) if back else None,
        "runs": runs,
    }


def main() -> None:
    """Simulate, print a line a row, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    null = false_words(*((100, 200, 20) if quick else (4000, 1000, 400)))
    lost = delays(5 if quick else 200)
    result = {
        "benchmark": "early_word",
        "seed": SEED,
        "floor": FLOOR,
        "alpha": ALPHA,
        "false_words": null,
        "delays": lost,
        "machine": describe(),
    }
    if not quick:
        write_json(OUT, result)
    worst = max(row["false"]["value"] for row in null)  # type: ignore[index]
    print(json.dumps({"benchmark": "early_word", "worst_false": worst, "promised": ALPHA}))


if __name__ == "__main__":
    main()
