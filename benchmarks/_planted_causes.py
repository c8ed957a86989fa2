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
    held_out,
    is_alive,
    join,
    write_any,
)
from _log_simulator import (
    Rollouts,
    expected,
    model_scores,
    trl_advantages,
    with_parts,
)
from _log_writers import Case, write_table, write_trl, write_verl

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
    run = draw_run(rng, lambda run: expected(run).wrong > 0.85, ("very hard",), in_form=0.995)
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


# --- the log


def _filtered(kinds: str, least: float) -> Way:
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


def _other_advantages(name: str) -> Way:
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


def _repeated(name: str) -> Way:
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


def _evaluations(name: str) -> Way:
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
        _other_advantages(name)
        for name in (
            "population std", "the batch's std", "no std", "the batch's mean", "no baseline",
            "the others' mean", "another group's", "the sign",
        )
    ),
    "filtered": (
        _filtered("both", 1.0),
        _filtered("both", 0.8),
        _filtered("wrong", 1.0),
        _filtered("right", 1.0),
    ),
    "repeated_rows": tuple(
        _repeated(name)
        for name in (
            "under other numbers", "appended to its file", "appended to the table", "resumed",
            "each file again",
        )
    ),
    "evaluation_rows": tuple(
        _evaluations(name)
        for name in (
            "in place of training, TRL with its state", "in place of training, TRL without it",
            "in place of training, verl", "in its step", "at steps of their own",
        )
    ),
}  # fmt: skip
