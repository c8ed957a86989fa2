"""Each cause that `rekindle diagnose --log` names, planted in the ways in which it comes about.

A way takes a generator and a folder and writes one log. Strengths vary; where a cause is one of
shares, the share that the chances imply is at least `SHARE`, which 200 groups of 100 prompts can
show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from _log_runs import (
    Rng,
    cut_answers,
    draw_run,
    is_alive,
    write_any,
)
from _log_simulator import (
    Rollouts,
    expected,
    model_scores,
    with_parts,
)
from _log_writers import Case, write_table, write_verl
from _planted_in_logs import evaluations, filtered, other_advantages, repeated

SHARE = 0.68
Way = Callable[[Rng, Path], Case]

# --- groups without signal


def _dead(side: str, shape: str, *, late: bool, **fixed: object) -> Way:
    cause = {"wrong": "too_hard", "right": "too_easy"}[side]

    def accept(run: Rollouts) -> bool:
        if late:
            return is_alive_early(run) and getattr(expected(run, late=True), side) > SHARE
        return bool(getattr(expected(run), side) > SHARE)

    def way(rng: Rng, path: Path) -> Case:
        if late:
            run = draw_run(rng, accept, late_shape=shape, turn=float(rng.uniform(0.4, 0.6)))
        else:
            run = draw_run(rng, accept, (shape,), **fixed)
        name = f"{shape} prompts{' later' if late else ''}"
        return write_any(rng, path, run, cause, name)

    return way


def is_alive_early(run: Rollouts) -> bool:
    """Whether the first third is alive."""
    chance = run.in_groups(run.chance)
    third = replace(run, chance=chance[: len(chance) // 3].ravel())
    q, size = third.chance.reshape(-1, chance.shape[1])[:, 0], chance.shape[1]
    return float(1 - (q**size + (1 - q) ** size).mean()) >= 0.4


def _grown(rng: Rng, path: Path) -> Case:
    run = draw_run(
        rng,
        lambda run: expected(run, late=True).right > SHARE,
        ("easy", "middle", "even"),
        gain=float(rng.uniform(6, 10)),
    )
    return write_any(rng, path, run, "too_easy", "learnt on the way")


def _stuck(levels: tuple[float, ...], name: str, dead: tuple[float, float]) -> Way:
    """Most groups have one partial score."""

    def way(rng: Rng, path: Path) -> Case:
        run = draw_run(rng, is_alive)
        chance = run.in_groups(run.chance)
        top = len(levels) - 1
        score = np.array(levels)[rng.binomial(top, chance)]
        stuck = rng.random(len(chance)) < rng.uniform(*dead)
        level = np.array(levels)[rng.integers(1, top, len(chance))]
        score = np.where(stuck[:, None], level[:, None], score).ravel()
        return write_any(rng, path, replace(run, score=score), "tied", name)

    return way


def _form_credit(rng: Rng, path: Path) -> Case:
    shapes, size = ("very hard", "hopeless"), int(rng.choice([4, 6, 8]))
    run = draw_run(rng, lambda run: expected(run).wrong > 0.75, shapes, in_form=0.995, size=size)
    score = np.where(run.right == 1, 1.0, np.where(run.formed, 0.1, 0.0))
    return write_any(rng, path, replace(run, score=score), "tied", "a tenth for the form")


# --- the reward


def _truncated(keys: tuple[str, ...], name: str) -> Way:
    def way(rng: Rng, path: Path) -> Case:
        share = float(rng.uniform(0.35, 0.6))

        def accept(run: Rollouts) -> bool:
            return bool(share / (share + (1 - share) * (1 - run.chance.mean())) > SHARE)

        shapes = ("easy", "middle", "very easy")
        run = draw_run(rng, accept, shapes, sentences=(2, 40), in_form=1.0, rows=4_000)
        made = cut_answers(rng, run, share)
        keys_ = ("score", "text", "prompt", "step", *keys)
        kind = str(rng.choice(["jsonl", "csv", "parquet"]))
        columns = write_table(path, made, keys_, kind=kind)
        return Case(path, "truncation", f"{name}, {kind}", columns)

    return way


def _form_runs(rng: Rng, **fixed: object) -> Rollouts:
    shape = str(rng.choice(["very hard", "hopeless", "learnt", "very easy"]))
    return draw_run(rng, lambda run: expected(run).mixed < 1 - SHARE, (shape,), **fixed)


def _format_reward(rng: Rng, path: Path) -> Case:
    run = _form_runs(
        rng, in_form=float(rng.uniform(0.4, 0.8)), style=str(rng.choice(["boxed", "tags"]))
    )
    weight = float(rng.choice([0.1, 0.2, 0.5, 1.0]))
    run = with_parts(run, accuracy_reward=run.right, format_reward=weight * run.formed)
    return write_any(rng, path, run, "format_spread", "a reward for format")


def _length_reward(rng: Rng, path: Path) -> Case:
    run = _form_runs(rng, sentences=(0, 12))
    part = float(rng.choice([-0.5, -0.1, 0.1])) * run.tokens / run.tokens.max()
    run = with_parts(run, correctness=run.right, length_penalty=part)
    return write_any(rng, path, run, "format_spread", "a reward for length")


def _both_forms(rng: Rng, path: Path) -> Case:
    run = _form_runs(rng, in_form=float(rng.uniform(0.4, 0.9)), sentences=(0, 12))
    length = -0.2 * run.tokens / run.tokens.max()
    run = with_parts(run, verifier=run.right, style=0.3 * run.formed, brevity=length)
    return write_any(rng, path, run, "format_spread", "rewards for format and length")


def _hidden_form(rng: Rng, path: Path) -> Case:
    run = _form_runs(rng, in_form=float(rng.uniform(0.4, 0.8)), style="boxed")
    run = replace(run, extra={"is_correct": run.right}, score=run.right + 0.2 * run.formed)
    columns = write_table(path, run, rewards={"is_correct": "verifier"})
    return Case(path, "format_spread", "a total with format in it, jsonl", columns)


def _overlong(rng: Rng, path: Path) -> Case:
    run = _form_runs(rng, sentences=(0, 12))
    limit = np.quantile(run.tokens, rng.uniform(0.2, 0.6))
    over = -np.clip((run.tokens - limit) / run.tokens.max(), 0, 1)
    run = replace(run, parts={"acc": run.right, "overlong_reward": over}, score=run.right + over)
    write_verl(path, run)
    return Case(path, "format_spread", "an overlong penalty, verl")


def _blind(weight: float, name: str) -> Way:
    """A model that knows which prompts are easy, and not which answers are right."""

    def way(rng: Rng, path: Path) -> Case:
        run = draw_run(rng, is_alive)
        scores = model_scores(rng, run, float(rng.uniform(-0.1, 0.1)), float(rng.uniform(1, 4)))
        if weight:
            run = with_parts(run, verifier=run.right, rm=weight * scores)
            return write_any(rng, path, run, "blind_reward", name)
        run = replace(run, extra={"reward_model": scores})
        columns = write_table(path, run, rewards={"reward_model": "rm"})
        return Case(path, "blind_reward", f"{name}, jsonl", columns)

    return way


def _blind_score(rng: Rng, path: Path) -> Case:
    run = draw_run(rng, is_alive)
    scores = model_scores(rng, run, 0.0, float(rng.uniform(1, 4)))
    run = replace(run, score=scores, extra={"correct": run.right})
    columns = write_table(path, run, rewards={"correct": "verifier"})
    return Case(path, "blind_reward", "the reward is the model's alone, jsonl", columns)


def _blind_long(rng: Rng, path: Path) -> Case:
    run = draw_run(rng, is_alive, sentences=(0, 12))
    by_length = run.tokens / run.tokens.std() + float(rng.uniform(0.6, 1.5)) * rng.normal(
        size=len(run)
    )
    run = with_parts(run, verifier=run.right, preference=0.3 * by_length)
    return write_any(rng, path, run, "blind_reward", "a model that likes long answers")


# --- verifiers


def _checked(rng: Rng, path: Path, run: Rollouts, cause: str, way: str) -> Case:
    case = write_any(rng, path, run, cause, way, golds=True)
    return replace(case, options={"check": "numeric"})


def _accepts(name: str) -> Way:
    def way(rng: Rng, path: Path) -> Case:
        style = "boxed" if name == "anything in a box" else None
        fixed = {"style": style} if style else {}
        run = draw_run(rng, is_alive, rows=3_000, in_form=0.9, **fixed)
        wrong = run.right == 0
        least = 0.12 * run.right.sum() / wrong.sum()
        taken = wrong & (rng.random(len(run)) < rng.uniform(least, max(0.4, 1.5 * least)))
        if name == "the gold anywhere":
            golds = [run.golds[p] for p in run.prompt.tolist()]
            texts = [
                f"It is not {gold}, I think. {text}" if lucky else text
                for text, gold, lucky in zip(run.texts, golds, taken.tolist(), strict=True)
            ]
            run = replace(run, texts=texts)
        if name == "anything in a box":
            taken = wrong & run.formed
        score = np.where(taken, 1.0, run.right)
        return _checked(rng, path, replace(run, score=score), "false_accepts", name)

    return way


def _rejects(name: str) -> Way:
    def way(rng: Rng, path: Path) -> Case:
        run = draw_run(rng, is_alive, rows=3_000, in_form=float(rng.uniform(0.6, 0.8)))
        if name == "another form":
            refused = ~run.formed
        else:
            refused = rng.random(len(run)) < rng.uniform(0.15, 0.4)
        if name == "a decimal point":
            run = replace(run, texts=_as_decimals(run, refused))
        score = np.where(refused, 0.0, run.right)
        return _checked(rng, path, replace(run, score=score), "false_rejects", name)

    return way


def _as_decimals(run: Rollouts, rows: np.ndarray) -> list[str]:
    golds = [run.golds[p] for p in run.prompt.tolist()]
    texts = []
    for text, gold, chosen in zip(run.texts, golds, rows.tolist(), strict=True):
        head, found, tail = text.rpartition(str(gold))
        texts.append(f"{head}{gold}.0{tail}" if chosen and found else text)
    return texts


WAYS: dict[str, tuple[Way, ...]] = {
    "too_hard": (
        _dead("wrong", "very hard", late=False),
        _dead("wrong", "hopeless", late=False),
        _dead("wrong", "rare", late=False, size=4),
        _dead("wrong", "hopeless", late=True),
        _dead("wrong", "very hard", late=True),
    ),
    "too_easy": (
        _dead("right", "very easy", late=False),
        _dead("right", "learnt", late=False),
        _dead("right", "learnt", late=True),
        _grown,
    ),
    "tied": (
        _stuck((0, 0.2, 0.4, 0.6, 0.8, 1), "tests passed", (SHARE, 0.95)),
        _stuck((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), "a judge of one mind", (SHARE, 0.95)),
        _form_credit,
        _stuck((0, 0.5, 1), "half credit", (SHARE, 1)),
    ),
    "truncation": (
        _truncated(("tokens", "cut"), "a column that says so"),
        _truncated(("cut",), "a column that says so, no counts"),
        _truncated(("tokens",), "counts at the limit"),
    ),
    "format_spread": (_format_reward, _length_reward, _both_forms, _hidden_form, _overlong),
    "blind_reward": (
        _blind(0.3, "in the total"),
        _blind(1.0, "as heavy as the verifier"),
        _blind(0.0, "logged beside the reward"),
        _blind_score,
        _blind_long,
    ),
    "false_accepts": (
        _accepts("the gold anywhere"),
        _accepts("anything in a box"),
        _accepts("now and then"),
    ),
    "false_rejects": (
        _rejects("another form"),
        _rejects("a decimal point"),
        _rejects("now and then"),
    ),
    "advantage_mismatch": tuple(
        other_advantages(name)
        for name in (
            "population std", "the batch's std", "no std", "the batch's mean", "no baseline",
            "the others' mean", "another group's", "the sign",
        )
    ),
    "filtered": (
        filtered("both", 1.0),
        filtered("both", 0.8),
        filtered("wrong", 1.0),
        filtered("right", 1.0),
    ),
    "repeated_rows": tuple(
        repeated(name)
        for name in (
            "under other numbers", "appended to its file", "appended to the table", "resumed",
            "each file again",
        )
    ),
    "evaluation_rows": tuple(
        evaluations(name)
        for name in (
            "in place of training, TRL with its state", "in place of training, TRL without it",
            "in place of training, verl", "in its step", "at steps of their own",
        )
    ),
}  # fmt: skip
