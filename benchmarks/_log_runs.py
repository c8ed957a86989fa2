"""Simulated runs that are well, in many kinds, and the drawing of plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from _log_simulator import (
    STYLES,
    Plan,
    Rollouts,
    expected,
    model_scores,
    simulate,
    trl_advantages,
    with_parts,
)
from _log_writers import Case, write_table, write_trl, write_verl

ALIVE = ("even", "middle", "hard", "easy", "wide", "two kinds")
Rng = np.random.Generator
ROWS = 8_000  # of a log, at most


def draw_plan(
    rng: Rng, shapes: tuple[str, ...] = ALIVE, *, rows: int | None = None, **fixed: object
) -> Plan:
    """A plan of 10 to 100 steps of 8 to 64 groups of 4 to 16, one epoch or a few."""
    size = int(rng.choice([4, 5, 6, 8, 12, 16]))
    groups = int(rng.choice([8, 12, 16, 24, 32, 48, 64]))
    steps = int(rng.integers(10, 101))
    plan = Plan(
        steps=steps,
        groups=groups,
        size=size,
        prompts=0,
        shape=str(rng.choice(shapes)),
        gain=float(rng.choice([0.0, 0.0, 0.5, 1.0, 1.5])),
        style=str(rng.choice(STYLES)),
        sentences=(0, 2) if rng.random() < 0.7 else (2, 12),
        in_form=float(rng.choice([1.0, 0.98, 0.9])),
        shuffled=bool(rng.random() < 0.8),
    )._replace(**fixed)
    asked = max(200, min(plan.steps * plan.groups, (rows or ROWS) // plan.size))
    plan = plan._replace(steps=max(10, asked // plan.groups))
    epochs = float(rng.choice([1, 1, 1, 1.5, 2, 3, 4]))
    return plan._replace(prompts=max(100, int(plan.steps * plan.groups / epochs)))


def held_out(rng: Rng, run: Rollouts, *, rows: int, every: int = 0) -> Rollouts:
    """Answers of evaluations: the same prompts each time, every so many steps of a run."""
    size = int(rng.choice([1, 4, 8]))
    steps = np.arange(every, run.step.max() + 1, every) if every else np.arange(1, 4)
    prompts = max(4, rows // (size * len(steps)))
    plan = Plan(len(steps), prompts, size, prompts, str(rng.choice(ALIVE)), shuffled=False)
    made = simulate(rng, plan)
    said = np.ones(len(made), dtype=np.bool_)
    return replace(made, step=steps[made.step - 1], evaluation=said)


def draw_run(
    rng: Rng,
    accept: Callable[[Rollouts], bool],
    shapes: tuple[str, ...] = ALIVE,
    **fixed: object,
) -> Rollouts:
    """The first run of drawn plans that is accepted by its chances; it has no texts then.

    Raises:
        ValueError: none of 400 is.
    """
    for _ in range(400):
        plan, seed = draw_plan(rng, shapes, **fixed), int(rng.integers(2**31))
        if accept(simulate(np.random.default_rng(seed), plan, texts=False)):
            return simulate(np.random.default_rng(seed), plan)
    raise ValueError("no plan is accepted")


def is_alive(run: Rollouts) -> bool:
    """By its chances: of all groups and of the last third at least 0.4 are mixed and no kind of
    dead groups is most."""
    return expected(run).is_alive() and expected(run, late=True).is_alive()


def write_any(
    rng: Rng, path: Path, run: Rollouts, cause: str | None, way: str, *, golds: bool = False
) -> Case:
    """The run as one of the trainers or tables that can hold it, all its parts with it."""
    kind = str(rng.choice(["trl", "verl", "table"]))
    if kind == "trl":
        run = run if run.advantage is not None else replace(run, advantage=trl_advantages(run))
        write_trl(
            path,
            run,
            state=bool(rng.random() < 0.7),
            every=5 if run.step.max() >= 100 else 1,
            chat=bool(rng.random() < 0.3),
            golds=golds,
        )
        return Case(path, cause, f"{way}, TRL")
    if kind == "verl":
        write_verl(path, run, uid=not run.parts and bool(rng.random() < 0.5))
        return Case(path, cause, f"{way}, verl")
    keys = ("score", "text", "prompt", "step") + (("gold",) if golds else ())
    keys += ("group",) if rng.random() < 0.5 else ()
    rewards = {("rm" if name == "rm" else f"reward.{name}"): name for name in run.parts}
    table = str(rng.choice(["jsonl", "jsonl", "parquet", "csv"]))
    columns = write_table(
        path,
        run,
        keys,
        kind=table,
        by_step=bool(rng.random() < 0.3),
        rewards={name: key for key, name in rewards.items()},
    )
    columns = {key: column for key, column in columns.items() if key not in rewards.values()}
    return Case(path, cause, f"{way}, {table}", columns | rewards)


# --- well


def plain(rng: Rng, path: Path) -> Case:
    """A verifier of 0 and 1, of -1 and 1, or in tenths."""
    run = draw_run(rng, is_alive)
    score = [run.score, 2 * run.score - 1, 10 * run.score][int(rng.integers(3))]
    return write_any(rng, path, replace(run, score=score), None, "a verifier")


def formatted(rng: Rng, path: Path) -> Case:
    """A verifier and a reward for form, where right and wrong still keep most groups alive."""

    def accept(run: Rollouts) -> bool:
        return is_alive(run) and min(expected(run).mixed, expected(run, late=True).mixed) > 0.65

    run = draw_run(rng, accept, in_form=float(rng.choice([0.9, 0.97])))
    right = np.where(run.formed | (rng.random(len(run)) < 0.7), run.right, 0.0)
    run = with_parts(run, verifier=right, format_reward=0.2 * run.formed)
    return write_any(rng, path, run, None, "a verifier and a format reward")


def with_length(rng: Rng, path: Path) -> Case:
    """A verifier and a penalty for length, where most groups are mixed by the verifier."""

    def accept(run: Rollouts) -> bool:
        return is_alive(run) and min(expected(run).mixed, expected(run, late=True).mixed) > 0.65

    run = draw_run(rng, accept)
    penalty = -0.1 * run.tokens / run.tokens.max()
    return write_any(
        rng, path, with_parts(run, verifier=run.right, length=penalty), None, "a length penalty"
    )


def with_model(rng: Rng, path: Path) -> Case:
    """A verifier and a reward model that knows right from wrong."""
    if rng.random() < 0.5:  # the model is what most groups live on
        few = ("wide", "hard", "easy")
        run = draw_run(rng, lambda run: is_alive(run) and expected(run).mixed < 0.55, few, size=4)
    else:
        run = draw_run(rng, is_alive)
    scores = model_scores(rng, run, float(rng.uniform(0.7, 2.0)), float(rng.uniform(0, 1)))
    run = with_parts(run, verifier=run.right, rm=float(rng.choice([0.1, 0.3, 1.0])) * scores)
    return write_any(rng, path, run, None, "a good reward model")


def partial(rng: Rng, path: Path) -> Case:
    """Tests passed of five: few groups are of one partial score."""
    run = draw_run(rng, is_alive)
    score = rng.binomial(5, np.clip(run.chance, 0.05, 0.95)) / 5
    return write_any(rng, path, replace(run, score=score), None, "tests passed")


def checked(rng: Rng, path: Path) -> Case:
    """A verifier that errs in one answer of a hundred, graded again."""
    run = draw_run(rng, is_alive, rows=3_000)
    flipped = rng.random(len(run)) < float(rng.choice([0.0, 0.01]))
    score = np.where(flipped, 1 - run.right, run.right)
    case = write_any(rng, path, replace(run, score=score), None, "graded again", golds=True)
    return replace(case, options={"check": "numeric"})


def some_cut(rng: Rng, path: Path) -> Case:
    """One answer in ten is cut by the token limit."""
    run = cut_answers(rng, draw_run(rng, is_alive, sentences=(2, 12), in_form=1.0), 0.1)
    columns = write_table(path, run, ("score", "text", "prompt", "step", "tokens", "cut"))
    return Case(path, None, "one in ten cut, jsonl", columns)


def cut_answers(rng: Rng, run: Rollouts, share: float) -> Rollouts:
    """The longest answers cut at a limit; of these one in thirty is right all the same."""
    limit = int(np.quantile(run.tokens, 1 - share))
    cut = run.tokens >= limit
    right = np.where(cut & (rng.random(len(run)) > 0.03), 0.0, run.right)
    texts = [
        text[: 4 * limit] if over else text
        for text, over in zip(run.texts, cut.tolist(), strict=True)
    ]
    tokens = np.minimum(run.tokens, limit)
    return replace(run, right=right, score=right, texts=texts, tokens=tokens, cut=cut)


def unscored(rng: Rng, path: Path) -> Case:
    """A verifier that timed out on one answer in fifty."""
    run = draw_run(rng, is_alive)
    score = np.where(rng.random(len(run)) < 0.02, np.nan, run.score)
    columns = write_table(path, replace(run, score=score))
    return Case(path, None, "some without a score, jsonl", columns)


def evaluated(rng: Rng, path: Path) -> Case:
    """Evaluations beside the training rows, and the log says so."""
    run = draw_run(rng, is_alive)
    other = held_out(rng, run, rows=len(run) // 4, every=5)
    if rng.random() < 0.5:
        write_verl(path / "rollouts", run)
        write_verl(path / "validation", other)
        return Case(path, None, "evaluations in a folder of their own, verl")
    both = join(run, other)
    columns = write_table(path, both, ("score", "text", "prompt", "step", "split"))
    return Case(path, None, "evaluations by their column, jsonl", columns)


def join(one: Rollouts, other: Rollouts) -> Rollouts:
    """The rows of both, the other's prompts as new ones."""
    prompts = len(one.prompts)
    both = {
        name: np.concatenate([getattr(one, name), getattr(other, name)])
        for name in ("step", "chance", "right", "formed", "tokens", "score", "cut", "evaluation")
    }
    return replace(
        one,
        **both,
        group=np.concatenate([one.group, other.group + one.group.max() + 1]),
        prompt=np.concatenate([one.prompt, other.prompt + prompts]),
        texts=one.texts + other.texts,
        prompts=one.prompts + [f"Held out: {text}" for text in other.prompts],
        golds=one.golds + other.golds,
        advantage=None,
    )


WELL: tuple[Callable[[Rng, Path], Case], ...] = (
    plain, formatted, with_length, with_model, partial, checked, some_cut, unscored, evaluated,
    plain,
)  # fmt: skip
