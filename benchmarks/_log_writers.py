"""Simulated runs on disk, as TRL 1.16 and verl 0.9.1 write them, and as tables of no trainer."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from _log_simulator import Ints, Rollouts

Row = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A log on disk, how it is to be read, and what is planted in it."""

    path: Path
    cause: str | None
    way: str
    columns: Mapping[str, str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def write_trl(
    path: Path,
    run: Rollouts,
    *,
    state: bool = True,
    every: int = 1,
    chat: bool = False,
    eval_steps: Ints | None = None,
    golds: bool = False,
) -> None:
    """`completions/completions_%05d.parquet`, and `trainer_state.json` if `state`."""
    import pyarrow
    from pyarrow import parquet

    (path / "completions").mkdir(parents=True)
    for step, rows in _by_step(run):
        if step % every:
            continue
        part = run.take(rows)
        prompts = [run.prompts[p] for p in part.prompt.tolist()]
        columns = {
            "step": [step] * len(part),
            "prompt": [[{"role": "user", "content": p}] for p in prompts] if chat else prompts,
            "completion": [[{"role": "assistant", "content": t}] for t in part.texts]
            if chat
            else part.texts,
            **{name: _float32(v) for name, v in (part.parts or {"verifier": part.score}).items()},
            **({"gold": [str(run.golds[p]) for p in part.prompt.tolist()]} if golds else {}),
            "advantage": None if part.advantage is None else _float32(part.advantage),
        }
        kept = {name: value for name, value in columns.items() if value is not None}
        parquet.write_table(
            pyarrow.table(kept), path / "completions" / f"completions_{step:05d}.parquet"
        )
    if state:
        _write_state(path, run, every, [] if eval_steps is None else eval_steps.tolist())


def _write_state(path: Path, run: Rollouts, every: int, eval_steps: list[int]) -> None:
    last = int(run.step.max())
    history: list[Row] = []
    for step, rows in _by_step(run):
        if step % every == 0:
            score = run.score[rows]
            history.append(
                {"step": step, "reward": float(score.mean()), "reward_std": float(score.std())}
            )
        if step in eval_steps:
            history.append({"step": step, "eval_reward": float(run.score[rows].mean())})
    place = path / f"checkpoint-{last}"
    place.mkdir()
    state = {"global_step": last, "logging_steps": every, "max_steps": last, "log_history": history}
    if eval_steps:
        state["eval_steps"] = eval_steps[0]
    (place / "trainer_state.json").write_text(json.dumps(state))


def write_verl(path: Path, run: Rollouts, *, uid: bool = False) -> None:
    """`<step>.jsonl`; with `uid` as the newer trainer, without reward parts."""
    path.mkdir(parents=True)
    for step, rows in _by_step(run):
        part = run.take(rows)
        size = int((part.group == part.group[0]).sum())
        lines = []
        for i, row in enumerate(_rows(part)):
            line: Row = {
                "input": f"user\n{row['prompt']}\nassistant\n",
                "output": row["text"],
                "gts": str(row["gold"]),
                "score": row["score"],
                "step": step,
            }
            if uid:
                line["uid"] = f"{part.group[i]}_{i % size}_0"
            else:
                line |= {name: float(values[i]) for name, values in part.parts.items()}
            lines.append(json.dumps(line))
        (path / f"{step}.jsonl").write_text("\n".join(lines) + "\n")


NAMES = {  # of the columns of a table, by the keys of --map
    "score": "reward",
    "text": "response",
    "prompt": "question",
    "step": "iter",
    "group": "group_id",
    "gold": "answer",
    "tokens": "num_tokens",
    "cut": "finish_reason",
    "advantage": "adv",
    "split": "split",
}


def write_table(
    path: Path,
    run: Rollouts,
    keys: tuple[str, ...] = ("score", "text", "prompt", "step"),
    *,
    kind: str = "jsonl",
    by_step: bool = False,
    rewards: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """A table of no trainer, in one file or one a step; the map that reads it.

    Args:
        keys: of `NAMES`, the columns that it has.
        rewards: further keys of the map, by the name of the part that they stand for.
    """
    path.mkdir(parents=True)
    rewards = rewards or {}
    rows = [
        {NAMES[key]: _value(row, key) for key in keys}
        | {name: float(run.parts[name][i]) for name in rewards if name in run.parts}
        | {name: float(run.extra[name][i]) for name in rewards if name in run.extra}
        for i, row in enumerate(_rows(run))
    ]
    files = {"rollouts": rows}
    if by_step:
        files = {f"step_{step}": [rows[i] for i in place] for step, place in _by_step(run)}
    for name, part in files.items():
        _WRITERS[kind](path / f"{name}.{kind}", part)
    return {key: NAMES[key] for key in keys} | {key: name for name, key in rewards.items()}


def _value(row: Row, key: str) -> object:
    if key == "cut":
        return "length" if row["cut"] else "stop"
    if key == "split":
        return "eval" if row["evaluation"] else "train"
    return row[key]


def _rows(run: Rollouts) -> list[Row]:
    golds = [run.golds[p] for p in run.prompt.tolist()]
    prompts = [run.prompts[p] for p in run.prompt.tolist()]
    advantage = [None] * len(run) if run.advantage is None else run.advantage.tolist()
    columns = {
        "score": run.score.tolist(), "text": run.texts, "prompt": prompts,
        "step": run.step.tolist(), "group": run.group.tolist(), "gold": golds,
        "tokens": run.tokens.tolist(), "cut": run.cut.tolist(), "advantage": advantage,
        "evaluation": run.evaluation.tolist(),
    }  # fmt: skip
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _jsonl(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _csv(path: Path, rows: list[Row]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


_WRITERS: dict[str, Callable[[Path, list[Row]], None]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}


def _by_step(run: Rollouts) -> list[tuple[int, Ints]]:
    order = np.argsort(run.step, kind="stable")
    steps, first = np.unique(run.step[order], return_index=True)
    return list(zip(steps.tolist(), np.split(order, first[1:]), strict=True))


def _float32(value: np.ndarray) -> list[float]:
    return value.astype(np.float32).astype(np.float64).tolist()  # type: ignore[no-any-return]
