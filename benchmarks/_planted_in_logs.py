"""Logs that mislead: groups dropped, advantages of another estimator, rows twice, evaluations.

Ways as those of `_planted_causes`: each takes a generator and a folder and writes one log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from _log_runs import Rng, draw_run, held_out, is_alive, join, write_any
from _log_simulator import Rollouts, expected, trl_advantages
from _log_writers import Case, write_table, write_trl, write_verl

Way = Callable[[Rng, Path], Case]


def filtered(kinds: str, least: float) -> Way:
    def way(rng: Rng, path: Path) -> Case:
        def accept(run: Rollouts) -> bool:
            share = expected(run)
            gone = {"both": share.wrong + share.right, "wrong": share.wrong, "right": share.right}
            return is_alive(run) and gone[kinds] > 0.25

        run = draw_run(rng, accept)
        right = run.in_groups(run.right).sum(1)
        size = run.in_groups(run.right).shape[1]
        dead = np.zeros(len(right), dtype=np.bool_)
        if kinds in ("both", "wrong"):
            dead |= right == 0
        if kinds in ("both", "right"):
            dead |= right == size
        kept = ~(dead & (rng.random(len(dead)) < rng.uniform(least, 1)))
        run = run.take(np.flatnonzero(np.repeat(kept, size)))
        name = {"both": "dead groups", "wrong": "all-wrong groups", "right": "all-right groups"}
        return write_any(rng, path, run, "filtered", f"{name[kinds]} dropped")

    return way


def other_advantages(name: str) -> Way:
    def way(rng: Rng, path: Path) -> Case:
        run = draw_run(rng, is_alive)
        score = run.in_groups(run.score)
        mean, std = score.mean(1, keepdims=True), score.std(1, ddof=1, keepdims=True) + 1e-4
        size = score.shape[1]
        made = {
            "population std": (score - mean) / (score.std(1, keepdims=True) + 1e-4),
            "the batch's std": (score - mean) / (score.std(ddof=1) + 1e-4),
            "no std": score - mean,
            "the batch's mean": (score - score.mean()) / std,
            "no baseline": score / std,
            "the others' mean": (score - mean) * size / (size - 1),
            "another group's": np.roll((score - mean) / std, 1, axis=0),
            "the sign": -(score - mean) / std,
        }[name].ravel()
        write_trl(path, replace(run, advantage=made), every=1)
        # TRL has these too: they are wrong where another is stated
        stated = name in ("no std", "the batch's std", "the others' mean")
        options = {"estimator": "group_std"} if stated else {}
        return Case(path, "advantage_mismatch", f"{name}, TRL", options=options)

    return way


def repeated(name: str) -> Way:
    def way(rng: Rng, path: Path) -> Case:
        run = draw_run(rng, is_alive)
        steps = np.unique(run.step)
        copied = rng.random(len(steps)) < rng.uniform(0.15, 0.7)
        copied[: max(2, len(steps) // 8)] = True
        again = run.take(np.flatnonzero(np.isin(run.step, steps[copied])))
        if name == "resumed":
            # a run that went on from a checkpoint writes the same steps again
            first, last = sorted(rng.choice(len(steps), 2, replace=False).tolist())
            last = max(last, first + len(steps) // 6)
            again = run.take(np.flatnonzero((run.step > first) & (run.step <= last + 1)))
        if name == "under other numbers":
            again = replace(again, step=again.step + steps.max())
        if name == "each file again":
            again = run.take(np.arange(len(run)))
            again = replace(again, step=2 * again.step)
            run = replace(run, step=2 * run.step - 1)
        run = _rows_of(run, again)
        if name in ("under other numbers", "each file again"):
            return write_any(rng, path, run, "repeated_rows", name)
        keys = ("score", "text", "prompt", "step") + (("group",) if rng.random() < 0.5 else ())
        columns = write_table(path, run, keys, by_step=name == "appended to its file")
        return Case(path, "repeated_rows", f"{name}, jsonl", columns)

    return way


def _rows_of(one: Rollouts, other: Rollouts) -> Rollouts:
    """The rows of both; the other's groups and prompts are those of the first."""
    names = (
        "step", "group", "prompt", "chance", "right", "formed", "tokens", "score", "cut",
        "evaluation",
    )  # fmt: skip
    both = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return replace(one, **both, texts=one.texts + other.texts)


def evaluations(name: str) -> Way:
    def way(rng: Rng, path: Path) -> Case:
        run = draw_run(rng, is_alive, rows=6_000, groups=int(rng.choice([8, 12, 16, 24])))
        every = int(rng.integers(3, 6))
        rows = int(len(run) * rng.uniform(0.12, 0.5))
        other = replace(
            held_out(rng, run, rows=rows, every=every),
            evaluation=np.zeros(1, dtype=np.bool_),
        )
        if name == "in its step":
            columns = write_table(path, _mixed_in(run, other))
            return Case(path, "evaluation_rows", f"{name}, jsonl", columns)
        steps = np.unique(other.step)
        if name != "at steps of their own":
            run = run.take(np.flatnonzero(~np.isin(run.step, steps)))
        else:
            run = replace(run, step=10 * run.step)
            other = replace(other, step=10 * other.step + 5)
            columns = write_table(path, _mixed_in(run, other))
            return Case(path, "evaluation_rows", f"{name}, jsonl", columns)
        both = _mixed_in(run, other)
        if name == "in place of training, verl":
            write_verl(path, both)
        else:
            both = replace(both, advantage=_advantages(both))
            said = steps if name == "in place of training, TRL with its state" else None
            write_trl(path, both, state=said is not None, eval_steps=said)
        return Case(path, "evaluation_rows", name)

    return way


def _advantages(run: Rollouts) -> np.ndarray:
    """By group, of groups of several sizes."""
    made = np.zeros(len(run))
    sizes = np.bincount(run.group)[run.group]
    for size in np.unique(sizes):
        if size > 1:
            rows = np.flatnonzero(sizes == size)
            made[rows] = trl_advantages(run.take(rows))
    return made


def _mixed_in(run: Rollouts, other: Rollouts) -> Rollouts:
    plain = replace(other, evaluation=np.zeros(len(other), dtype=np.bool_))
    both = join(run, plain)
    return both.take(np.argsort(both.step, kind="stable"))
