"""Rollouts of a simulated run: prompts as hard as drawn, answers right by chance, texts, rewards.

Answers to a prompt are independent given how hard it is; how hard prompts are comes in several
shapes, and the model grows better or stays. Nothing here knows what a diagnosis looks at.

Axes: N rows in the order in which a trainer writes them, P prompts, T steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SHAPES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "even": lambda rng, n: rng.beta(1.2, 1.2, n),
    "middle": lambda rng, n: rng.beta(4, 4, n),
    "hard": lambda rng, n: rng.beta(1.2, 2.4, n),
    "easy": lambda rng, n: rng.beta(2.4, 1.2, n),
    "wide": lambda rng, n: rng.beta(0.7, 0.7, n),
    "two kinds": lambda rng, n: np.where(
        rng.random(n) < 0.5, rng.beta(1.5, 5, n), rng.beta(5, 1.5, n)
    ),
    "rare": lambda rng, n: rng.beta(0.7, 10, n),
    "very hard": lambda rng, n: rng.beta(0.25, 4, n),
    "hopeless": lambda rng, n: np.where(rng.random(n) < 0.8, 1e-4, rng.beta(2, 3, n)),
    "very easy": lambda rng, n: rng.beta(6, 0.3, n),
    "learnt": lambda rng, n: np.where(rng.random(n) < 0.8, 1 - 1e-4, rng.beta(3, 2, n)),
}
STYLES = ("boxed", "hashes", "tags", "plain")
_TAIL = {
    "boxed": "The answer is \\boxed{{{}}}.",
    "hashes": "#### {}",
    "tags": "<answer>{}</answer>",
    "plain": "The answer is {}",
}
_SENTENCES = (
    "First take {} away from {}.",
    "We know that {} times {} is what we look for.",
    "Let x be {}, then x + {} must be even.",
    "Adding {} and {} gives the next line.",
    "Wait, {} is not a factor of {}.",
    "So far {} of the {} boxes are full.",
)
_ASKED = (
    "What is {} + {} * 3?",
    "A shop has {} pens and sells {}. How many are left?",
    "Tom is {} and Ann is {} years old. How old will both be together in 7 years?",
    "Find the remainder of {} by {}.",
)


class Plan(NamedTuple):
    """What a run looks like."""

    steps: int
    groups: int  # a step
    size: int  # answers of a group
    prompts: int
    shape: str
    gain: float = 0.0  # in logits, from the first step to the last
    style: str = "boxed"
    sentences: tuple[int, int] = (0, 2)  # of an answer, least and most
    in_form: float = 1.0  # share of the answers that state their answer in the style
    shuffled: bool = True  # prompts in another order each epoch
    late_shape: str | None = None  # of the prompts that are asked from `turn` of the steps on
    turn: float = 0.5


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Rows of a run, [N] each; `chance` is what each answer's prompt is solved with."""

    step: Ints
    group: Ints
    prompt: Ints
    chance: Floats
    right: Floats
    formed: Bools
    tokens: Ints
    texts: list[str]
    prompts: list[str]
    golds: list[int]
    score: Floats
    cut: Bools
    evaluation: Bools
    parts: dict[str, Floats] = field(default_factory=dict)
    extra: dict[str, Floats] = field(default_factory=dict)  # logged, and no reward
    advantage: Floats | None = None

    def __len__(self) -> int:
        return len(self.step)

    def take(self, rows: Ints) -> Rollouts:
        """These rows, in this order."""
        kept = {
            name: getattr(self, name)[rows]
            for name in (
                "step", "group", "prompt", "chance", "right", "formed", "tokens", "score", "cut",
                "evaluation",
            )
        }  # fmt: skip
        return replace(
            self,
            **kept,
            texts=[self.texts[row] for row in rows.tolist()],
            parts={name: part[rows] for name, part in self.parts.items()},
            extra={name: part[rows] for name, part in self.extra.items()},
            advantage=None if self.advantage is None else self.advantage[rows],
        )

    def in_groups(self, value: Floats) -> Floats:
        """[P, G] a column by group; the groups are whole and stand one after the other."""
        ends = np.flatnonzero(np.diff(self.group, append=-1) != 0)
        return value.reshape(-1, int(ends[0]) + 1)


def simulate(rng: np.random.Generator, plan: Plan, *, texts: bool = True) -> Rollouts:
    """A run by its plan, with the verdict for its score; without `texts` these are empty."""
    asked = _asked(rng, plan)  # [T, groups]
    chance_P = np.clip(SHAPES[plan.shape](rng, plan.prompts), 1e-6, 1 - 1e-6)
    grown = plan.gain * (np.arange(plan.steps) / max(1, plan.steps - 1) - 0.5)
    chance = _sigmoid(np.log(chance_P / (1 - chance_P))[asked] + grown[:, None])
    if plan.late_shape is not None:
        late = np.arange(plan.steps) >= plan.turn * plan.steps
        other_P = np.clip(SHAPES[plan.late_shape](rng, plan.prompts), 1e-6, 1 - 1e-6)
        chance[late] = other_P[asked[late]]
    # a prompt that is asked again later in a changed mix is another prompt
    late_N = np.zeros_like(asked)
    if plan.late_shape is not None:
        late_N[late] = plan.prompts
    prompt = np.repeat((asked + late_N).ravel(), plan.size)
    count = len(prompt)
    step = np.repeat(np.arange(1, plan.steps + 1), plan.groups * plan.size)
    chance_N = np.repeat(chance.ravel(), plan.size)
    right = (rng.random(count) < chance_N).astype(np.float64)
    prompts, golds = _questions(rng, 2 * plan.prompts)
    formed = rng.random(count) < plan.in_form
    answers = [""] * count
    if texts:
        answers = write_texts(rng, plan, right, formed, [golds[p] for p in prompt.tolist()])
    return Rollouts(
        step=step,
        group=np.repeat(np.arange(count // plan.size), plan.size),
        prompt=prompt,
        chance=chance_N,
        right=right,
        formed=formed,
        tokens=count_tokens(answers),
        texts=answers,
        prompts=prompts,
        golds=golds,
        score=right,
        cut=np.zeros(count, dtype=np.bool_),
        evaluation=np.zeros(count, dtype=np.bool_),
    )


def _asked(rng: np.random.Generator, plan: Plan) -> Ints:
    """[T, groups] the prompts of each step, over as many epochs as it takes."""
    need, order = plan.steps * plan.groups, list[Ints]()
    while sum(map(len, order)) < need:
        order.append(rng.permutation(plan.prompts) if plan.shuffled else np.arange(plan.prompts))
    return np.concatenate(order)[:need].reshape(plan.steps, plan.groups)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def _questions(rng: np.random.Generator, count: int) -> tuple[list[str], list[int]]:
    """Prompts, each another one, and their answers."""
    numbers = rng.integers(3, 99, (count, 2)).tolist()
    prompts = [f"{_ASKED[i % len(_ASKED)].format(a, b)} ({i})" for i, (a, b) in enumerate(numbers)]
    return prompts, [int(gold) for gold in rng.integers(2, 400, count)]


def write_texts(
    rng: np.random.Generator, plan: Plan, right: Floats, formed: Bools, golds: list[int]
) -> list[str]:
    """Answers: some reasoning, then a number that is the gold or near it."""
    count = len(golds)
    lengths = rng.integers(plan.sentences[0], plan.sentences[1] + 1, count)
    kinds = rng.integers(0, len(_SENTENCES), int(lengths.sum()))
    pairs = rng.integers(2, 99, (len(kinds), 2)).tolist()
    sentences = [_SENTENCES[k].format(*pair) for k, pair in zip(kinds.tolist(), pairs, strict=True)]
    off = rng.choice([-10, -4, -3, -2, -1, 1, 2, 3, 5, 10], count)
    numbers = (np.array(golds) + np.where(right == 1, 0, off)).tolist()
    texts, place = [], 0
    for number, length, good in zip(numbers, lengths.tolist(), formed.tolist(), strict=True):
        tail = _TAIL[plan.style].format(number) if good else f"So it is {number}"
        texts.append(" ".join([*sentences[place : place + length], tail]))
        place += length
    return texts


def count_tokens(texts: list[str]) -> Ints:
    """About as many as a tokenizer makes of it: one for four characters."""
    return np.array([1 + len(text) // 4 for text in texts])


# --- rewards


def with_parts(run: Rollouts, **parts: Floats) -> Rollouts:
    """The run with these rewards, and their sum for its score."""
    return replace(run, parts=parts, score=np.sum(list(parts.values()), axis=0))


def model_scores(rng: np.random.Generator, run: Rollouts, within: float, between: float) -> Floats:
    """A reward model's: `within` standard deviations between right and wrong answers of a prompt,
    `between` between easy and hard prompts."""
    by_prompt = (
        between * (2 * run.chance - 1) + 0.3 * rng.normal(size=run.prompt.max() + 1)[run.prompt]
    )
    return np.asarray(by_prompt + within * run.right + rng.normal(size=len(run)))


# --- advantages


def trl_advantages(run: Rollouts) -> Floats:
    """TRL's default: over the group's standard deviation with ddof 1, plus 1e-4, in float32."""
    score = run.in_groups(run.score).astype(np.float32)
    centred = score - score.mean(1, keepdims=True)
    made = centred / (score.std(1, ddof=1, keepdims=True) + np.float32(1e-4))
    return np.asarray(made, dtype=np.float64).ravel()


# --- what is known of a plan


class Expected(NamedTuple):
    """Shares of groups that a run's chances give, over all steps and over the last third."""

    wrong: float
    mixed: float
    right: float

    def is_alive(self, least: float = 0.4) -> bool:
        """At least so many groups are mixed, and no kind of dead groups is most of them."""
        return self.mixed >= least and max(self.wrong, self.right) <= 0.5


def expected(run: Rollouts, *, late: bool = False) -> Expected:
    """Shares by the chances alone, whatever was drawn."""
    chance = run.in_groups(run.chance)
    size, q = chance.shape[1], chance[:, 0]
    q = q[int(len(q) * 2 / 3) :] if late else q
    wrong, right = float(((1 - q) ** size).mean()), float((q**size).mean())
    return Expected(wrong, 1 - wrong - right, right)
