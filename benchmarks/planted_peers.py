"""What other tools say of the same planted logs: provenir 0.8, polgrad 0.2, afterburn, pytscope.

    PYTHONPATH=PEERS python benchmarks/planted_peers.py [N]

PEERS holds the peers' packages. None of them reads a log of TRL, verl or a table, so their own
functions are handed what they take, read by our readers: provenir's `FlightRecorder` the means of
each step; its `RewardHackingDetector` each answer and each group, with the verdict for the true
reward where the log has it beside the total; its `LoopDoctor` both; polgrad's `length_bias_probe`
advantages and lengths, where the log has advantages. afterburn compares two models and pytscope
reads runs that it recorded itself: neither has a place for rollouts. Settings are each tool's own.
Evaluations and repeats are handed on, as nothing in these tools finds them.
The result goes to `results/peers_on_logs.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from polgrad.aggregate import Aggregation
from polgrad.diagnostics import length_bias_probe
from provenir.loop.doctor import LoopDoctor, LoopSignals
from provenir.observability.flight_recorder import FlightRecorder, RLStepMetrics
from provenir.observability.reward_hacking import RewardHackingDetector

from _log_runs import WELL
from _planted_causes import WAYS
from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.groups import find_verdicts

OUT = Path("results/peers_on_logs.json")


def recorder(log: RunLog) -> FlightRecorder:
    """provenir's flight recorder, fed each step's means."""
    made = FlightRecorder()
    for step in np.unique(log.step_N).tolist():
        rows = log.step_N == step
        score, advantage = log.score_N[rows], log.advantage_N[rows]
        known = not np.isnan(advantage).all()
        made.log_step(
            RLStepMetrics(
                step=step,
                kl=0.02,  # not in these logs: a value that the recorder takes for well
                entropy=1.0,
                reward_mean=float(np.nanmean(score)),
                reward_std=float(np.nanstd(score)),
                response_length_mean=float(log.chars_N[rows].mean() / 4),
                advantage_std=float(np.nanstd(advantage if known else score)),
            )
        )
    return made


def provenir_says(log: RunLog) -> tuple[str, list[str]]:
    """The doctor's category, and the kinds of anomalies and of hacking."""
    record, detector = recorder(log), RewardHackingDetector()
    verdicts = find_verdicts(log)
    apart = verdicts.column != "score" and bool(log.parts)
    truth = verdicts.value_N.tolist() if apart else [None] * len(log)
    rows = zip(log.texts or [], log.score_N.tolist(), truth, strict=True)
    batch = [
        {"response": text, "proxy_reward": score} | ({} if true is None else {"true_reward": true})
        for text, score, true in rows
        if not np.isnan(score)
    ]
    report = detector.detect_batch(batch)
    dead = 0
    for group in np.unique(log.group_N).tolist():
        scores = log.score_N[log.group_N == group]
        dead += bool(detector.detect_group(scores[~np.isnan(scores)].tolist()))
    rewards = [metrics.reward_mean for metrics in record.history]
    signals = LoopSignals.from_reports(rewards, record, report)
    category = str(LoopDoctor().diagnose(signals).primary_category)
    kinds = {anomaly.kind for anomaly in record.anomalies} | {one.kind for one in report.signals}
    return category, sorted(kinds | ({"advantage_collapse in groups"} if dead else set()))


def polgrad_says(log: RunLog) -> str:
    """Whether the slope of the loss mass by length differs from 0, by its own 95 % interval."""
    rows = np.flatnonzero(~np.isnan(log.advantage_N))
    if not len(rows):
        return "no advantages"
    lengths = np.maximum(log.chars_N[rows[:2_000]] // 4, 1)
    mask = torch.arange(int(lengths.max()))[None, :] < torch.tensor(lengths)[:, None]
    advantage = torch.tensor(log.advantage_N[rows[:2_000]])
    found = length_bias_probe(advantage, mask, agg_mode=Aggregation.SEQ_MEAN_TOKEN_MEAN)
    return "slope" if found.ci_low > 0 or found.ci_high < 0 else "no slope"


def main() -> None:
    """Print a line for each cause and write the result."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    facts: dict[str, object] = {}
    for name, ways in {"healthy": WELL, **WAYS}.items():
        doctor, kinds, slopes = Counter[str](), Counter[str](), Counter[str]()
        logs = 4 * count if name == "healthy" else count
        for seed in range(logs):
            place = Path(tempfile.mkdtemp())
            case = ways[seed % len(ways)](np.random.default_rng(seed), place / "log")
            log = collect(open_log(case.path, columns=case.columns))
            category, found = provenir_says(log)
            doctor[category] += 1
            kinds.update(found)
            slopes[polgrad_says(log)] += 1
            shutil.rmtree(place)
        facts[name] = {
            "logs": logs,
            "provenir LoopDoctor": dict(doctor),
            "provenir anomalies": dict(kinds),
            "polgrad length_bias_probe": dict(slopes),
        }
        print(name, facts[name], flush=True)
    names = ("provenir", "polgrad", "afterburn", "pytscope")
    versions = {name: version(name) for name in names}
    command = f"python benchmarks/planted_peers.py {count}"
    OUT.write_text(json.dumps({"command": command, "versions": versions, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
