"""What a method does, as far as memory and time go: its phases, and what each has in memory.

Of each method it is said how many copies of the model are there at once; how large a copy is, and
what an update or a sampler needs beside it, is found out elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from rekindle.engine.policy import Policy
from rekindle.engine.update import LossFn
from rekindle.loops.group_step import StepConfig, objective
from rekindle.loops.pair_step import pushed
from rekindle.methods import sft
from rekindle.methods.catalog import find_method
from rekindle.methods.self_rewarding import self_rewarding, temporal
from rekindle.methods.weak_to_strong import weak_to_strong
from rekindle.methods.wmss import wmss
from rekindle.methods.wmss.weak_model import LiveWeak
from rekindle.training.dry_run.data import Lengths, Row
from rekindle.training.recipe import Recipe

_JUDGE_PROMPT = 300  # tokens of a judge's instructions, beside the prompt and the answer
_JUDGE_REPLY = {"additive": 512, "marker": 8}  # where judge.max_new_tokens is silent

Objective = Callable[[Policy, Policy | None], LossFn]  # the policy, and who is mixed in


class Draw(NamedTuple):
    """Answers that are sampled together."""

    problems: int
    samples: int
    prompt: int  # tokens: the longest
    answer: int  # tokens: at most
    times: int = 1

    @property
    def rows(self) -> int:
        """Answers, each time."""
        return self.problems * self.samples


@dataclass(frozen=True)
class Phase:
    """A part of a run in which the same models are in memory.

    Attributes:
        name: of a stage, or `training`.
        steps: of training; 0 where only texts are made or scored.
        rows: of one step's updates.
        objective: the loss; None where nothing is trained.
        updates: in a step.
        epochs: passes with gradient over the rows in a step.
        scored: passes without gradient over the rows in a step.
        scored_tokens: scored once in the phase, beside those.
        draws: what is sampled for training.
        evaluations: how often.
        trained: how many models are trained together.
        mixes: whether a second model is run in the update.
        reference: frozen copies of the model that the update is compared with.
        held: whole copies of the model that are in memory beside all these.
        on_weak: the weak model is trained, not the policy.
        paired: the rows are chosen answers, then rejected ones; a pair stays together.
        packs: several samples may share a row of the forward pass.
    """

    name: str
    steps: int = 0
    rows: tuple[Row, ...] = ()
    objective: Objective | None = None
    updates: int = 1
    epochs: int = 1
    scored: int = 0
    scored_tokens: int = 0
    draws: tuple[Draw, ...] = ()
    evaluations: int = 0
    trained: int = 1
    mixes: bool = False
    reference: int = 0
    held: int = 0
    on_weak: bool = False
    paired: bool = False
    packs: bool = False


def phases_of(recipe: Recipe, lengths: Lengths) -> list[Phase]:
    """The phases of a run, in their order."""
    config = recipe.method
    if isinstance(config, StepConfig):
        return [_groups(recipe, config, lengths)]
    if isinstance(config, wmss.Config):
        return list(_wmss(recipe, config, lengths))
    if isinstance(config, weak_to_strong.Config):
        return list(_weak_to_strong(recipe, config, lengths))
    if isinstance(config, temporal.Config | self_rewarding.Config):
        return list(_rounds(recipe, config, lengths))
    optim = recipe.shared.optim
    if isinstance(config, sft.Config):
        loss = _sft(config.label_smoothing_factor, config.neftune_noise_alpha)
        rows, reference, scored = lengths.solved(optim.problems), 0, 0
    else:
        loss, rows = _pushed, lengths.sides(optim.problems)
        reference = int(find_method(recipe.shared.method).name == "dpo")
        scored = reference
    return [
        Phase(
            "training",
            optim.steps,
            tuple(rows),
            loss,
            scored=scored,
            evaluations=_evaluations(recipe, optim.steps),
            reference=reference,
            paired=not isinstance(config, sft.Config),
            packs=isinstance(config, sft.Config) and config.packing,
        )
    ]


def evaluation(recipe: Recipe, lengths: Lengths, times: int) -> list[Draw]:
    """What evaluations sample: the samples, at each temperature, and a greedy answer."""
    config, sample = recipe.shared.eval, lengths.sample
    problems, prompt = config.problems * lengths.levels, max(lengths.prompts)
    draws = [Draw(problems, config.samples, prompt, sample.max_new_tokens, times)]
    draws *= 1 + len(config.temperatures)
    return [*draws, Draw(problems, 1, prompt, sample.max_new_tokens, times)] if times else []


# --- the methods


def _groups(recipe: Recipe, config: StepConfig, lengths: Lengths) -> Phase:
    optim, settings = recipe.shared.optim, config.model_dump()
    section = find_method(recipe.shared.method).section
    kl = float(settings["beta" if section == "grpo" else "kl"])
    asked = optim.problems * (1 + float(settings.get("extra_rollouts", 0.0)))
    measured = settings.get("logprobs") == "trainer" or section == "rl_zvp"
    loss = _objective(config, recipe.shared.sample.temperature, kl)
    draw = Draw(
        round(asked),
        config.group_size,
        max(lengths.prompts),
        lengths.sample.max_new_tokens,
        optim.steps,
    )
    return Phase(
        "training",
        optim.steps,
        tuple(lengths.groups(optim.problems, config.group_size)),
        loss,
        updates=config.minibatches * config.epochs,
        epochs=config.epochs,
        scored=int(kl > 0) + int(not config.used_once) + int(measured),
        draws=(draw,),
        evaluations=_evaluations(recipe, optim.steps),
        reference=int(kl > 0),
    )


def _wmss(recipe: Recipe, config: wmss.Config, lengths: Lengths) -> Iterable[Phase]:
    optim, parts = recipe.shared.optim, config.iterations + 1
    steps, rest = divmod(optim.steps, parts)
    rows = tuple(lengths.solved(optim.problems))
    plain = _sft(config.label_smoothing_factor, config.neftune_noise_alpha)
    yield Phase(
        "sft", steps, rows, plain, held=1, evaluations=_evaluations(recipe, steps, first=True)
    )
    mixes = config.partner in ("weak", "shuffled") and config.lam < 1
    for k in range(1, parts):
        held = 2 if k == 1 else 3  # the base, the weak one of this iteration, the strong one
        if config.select == "entropy":
            tokens = 2 * config.items * lengths.levels * lengths.mean_solved
            yield Phase(f"entropy {k}", scored_tokens=tokens, trained=0, held=held)
        length = steps + (rest if k == parts - 1 else 0)
        joint = mixes and not config.freeze_weak
        yield Phase(
            f"mix {k}",
            length,
            rows,
            _mixed(config, frozen=not joint) if mixes else plain,
            evaluations=_evaluations(recipe, length, first=False),
            trained=1 + joint,
            mixes=mixes and not config.cache_weak,
            reference=int(mixes and config.freeze_weak and not config.cache_weak),
            held=held,
        )


def _rounds(
    recipe: Recipe, config: temporal.Config | self_rewarding.Config, lengths: Lengths
) -> Iterable[Phase]:
    optim, seed = recipe.shared.optim, config.seed
    judges = config.judge.source == "self"
    past = isinstance(config, temporal.Config) and config.past
    future = isinstance(config, temporal.Config) and config.future
    longest, prompt = lengths.sample.max_new_tokens, max(lengths.prompts)
    if seed.steps:
        made = seed.judged if seed.path is None else 0
        yield Phase(
            "seed",
            seed.steps,
            tuple(lengths.solved(seed.batch)),
            _sft(),
            draws=(Draw(made, seed.answers, prompt, longest),) if made else (),
            evaluations=_evaluations(recipe, seed.steps),
            held=1,
        )
    steps, rest = divmod(optim.steps, config.iterations)
    seeded, reply = int(seed.steps > 0), config.judge.max_new_tokens
    reply = reply or _JUDGE_REPLY[config.judge.format]
    for i in range(1, config.iterations + 1):
        held = 1 + (seeded + (i > 1) if past or future else int(seeded or i > 1))
        length = steps + (rest if i == config.iterations else 0)
        rows = tuple(lengths.sides(optim.problems))
        for name in (["future"] if future else []) + ["dpo"]:
            times = 1 + int(past) if name == "future" or not future else 1
            draw = Draw(config.prompts, config.candidates, prompt, longest, times)
            asked = Draw(
                config.prompts * config.candidates,
                config.judge.samples,
                _JUDGE_PROMPT + prompt + longest,
                reply,
                times * int(judges),
            )
            yield Phase(
                f"{name} {i}",
                length,
                rows,
                _pushed,
                paired=True,
                scored=1,
                draws=(draw, asked) if judges else (draw,),
                evaluations=0 if name == "future" else _evaluations(recipe, length, first=False),
                reference=1,
                held=held + int(future and name == "dpo"),
            )
        if config.replay:
            yield Phase(
                f"replay {i}", config.replay, tuple(lengths.solved(seed.batch)), _sft(), held=held
            )


def _weak_to_strong(
    recipe: Recipe, config: weak_to_strong.Config, lengths: Lengths
) -> Iterable[Phase]:
    optim, longest, prompt = (
        recipe.shared.optim,
        lengths.sample.max_new_tokens,
        max(lengths.prompts),
    )
    once = Draw(config.half2, 1, prompt, longest)
    shown = Draw(config.half2, 1, prompt + config.demos * (prompt + longest), longest)
    many = Draw(config.half2, config.samples, prompt, longest)
    if config.train_on not in ("gold", "votes"):
        weak = config.weak_sft
        rows = tuple(lengths.solved(weak.batch))
        own = config.weak == "base"
        yield Phase("weak", weak.steps, rows, _sft(), held=1, on_weak=not own)
        yield Phase("answers", draws=(once, shown), trained=0, held=2 if own else 1)
    if config.train_on in ("nothing", "demos"):
        return
    held = 2 if config.weak == "base" and config.train_on not in ("gold", "votes") else 1
    again = 1 + 2 * (config.iterations - 1)
    yield Phase(
        "sft",
        optim.steps * again,
        tuple(lengths.solved(optim.problems)),
        _sft(),
        draws=(many,) if config.train_on == "votes" else (once,) * (again - 1),
        evaluations=_evaluations(recipe, optim.steps),
        held=held,
    )
    if config.loss == "none":
        return
    dpo = int(config.loss == "dpo")
    yield Phase(
        config.loss,
        config.stage2.steps,
        tuple(lengths.sides(config.stage2.batch)),
        _pushed,
        paired=True,
        scored=dpo,
        draws=(many,),
        evaluations=_evaluations(recipe, config.stage2.steps, first=False),
        reference=dpo,
        held=held + 1,
    )


def _evaluations(recipe: Recipe, steps: int, *, first: bool = True) -> int:
    """How often a training of so many steps is evaluated; `first`: before it too."""
    every = recipe.shared.eval.every
    between = (steps - 1) // every if every else 0
    return int(first) + between + 1


# --- the losses


def _sft(smoothing: float = 0.0, noise: float = 0.0) -> Objective:
    def build(policy: Policy, _: Policy | None) -> LossFn:
        return sft.sft_objective(policy, smoothing=smoothing, noise=noise)

    return build


def _objective(config: StepConfig, temperature: float, kl: float) -> Objective:
    def build(policy: Policy, _: Policy | None) -> LossFn:
        bonus = config.entropy_bonus
        return objective(policy, config, temperature=temperature, kl=kl, entropy_weight=bonus)

    return build


def _mixed(config: wmss.Config, *, frozen: bool) -> Objective:
    def build(policy: Policy, weak: Policy | None) -> LossFn:
        side = LiveWeak(policy if weak is None else weak, frozen=frozen)
        return wmss.mixed_objective(policy, side, lam=config.lam, chunk=config.chunk)

    return build


def _pushed(policy: Policy, _: Policy | None) -> LossFn:
    return pushed(policy)
