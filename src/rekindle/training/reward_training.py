"""Train a reward model: a trunk with a scalar head, on right against wrong answers.

    correctness     loss = -log sigmoid(s) for a right answer, -log sigmoid(-s) for a wrong one
    bradley_terry   loss = -log sigmoid(s_chosen - s_rejected)
                    (Bradley and Terry 1952; for reward models Ouyang et al. 2022, arXiv 2203.02155,
                    eq. 1 with two answers a prompt)

Both see the same contrasts: a right and a wrong answer to the same problem. They come from a task,
with answers of policies at several temperatures, its references, and spoilt ones (`reward_data`),
labelled by the task's own check; or, for bradley_terry, from a file of pairs.

The labels are those of the true check. Where training then uses a brittle verifier, the reward
model carries what that verifier lacks: that is the premise of such a study, not a finding.

Axes: B sequences, S tokens, N contrasts.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypedDict

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.config import (
    CheckpointConfig,
    DeviceConfig,
    ModelConfig,
    OptimConfig,
    SampleConfig,
    Section,
    TaskConfig,
)
from rekindle.engine.device import Group, micro_tokens
from rekindle.engine.run import Run
from rekindle.engine.update import LossFn, LossTerms, fresh_state, update
from rekindle.evals.ranking import auc_interval
from rekindle.evals.reading import Cell
from rekindle.loops.rollouts import known
from rekindle.ops.ranking import auc
from rekindle.records import Problem
from rekindle.rewards.reward_model import ScalarHead, Scorer
from rekindle.tasks import Task
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.tasks.task import stable_hash
from rekindle.training.reward_data import Contrast, spoil

# --- the formulas


def correctness_loss(score_B: Float[Tensor, " B"], right_B: Float[Tensor, " B"]) -> Tensor:
    """Binary cross-entropy of each answer, nats."""
    loss_B: Tensor = binary_cross_entropy_with_logits(score_B, right_B, reduction="none")
    return loss_B


def bradley_terry_loss(chosen_N: Float[Tensor, " N"], rejected_N: Float[Tensor, " N"]) -> Tensor:
    """Negative log-likelihood that each chosen answer wins, nats."""
    loss_N: Tensor = -logsigmoid(chosen_N - rejected_N)
    return loss_N


# --- what can be set


class RewardDataConfig(Section):
    """Where the answers come from."""

    problems: int = Field(
        default=6000, ge=1, description="training problems drawn, all levels together"
    )
    samples: int = Field(default=2, ge=1, description="answers a problem, policy and temperature")
    temperatures: tuple[float, ...] = Field(
        default=(0.7, 1.0, 1.4), min_length=1, description="that answers are drawn at"
    )
    policies: tuple[str, ...] = Field(
        default=(), description="more models that answer, e.g. RUN/final: on-policy refresh"
    )
    corrupted: float = Field(
        default=0.5, ge=0.0, le=1.0, description="share of the wrong answers that are spoilt ones"
    )
    pairs: str | None = Field(default=None, description="bradley_terry: a JSONL file instead")
    held_out: int = Field(
        default=200, ge=1, description="problems per level of the dev split (pairs: prompts)"
    )
    held_out_samples: int = Field(default=8, ge=1, description="answers to each, temperature 1")


class RewardTraining(Section):
    """What `rekindle reward train` reads; `optim.problems` counts contrasts a step."""

    loss: Literal["correctness", "bradley_terry"] = Field(
        default="correctness", description="verdicts on answers, or pairs of answers"
    )
    seed: int = Field(default=0, ge=0, description="of problems, draws and the new head")
    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    sample: SampleConfig = SampleConfig()
    data: RewardDataConfig = RewardDataConfig()
    optim: OptimConfig = OptimConfig(
        steps=600, problems=64, lr=1e-3, schedule="cosine", warmup=0.05, betas=(0.9, 0.98)
    )
    every: int = Field(default=50, ge=1, description="steps between looks at the held-out answers")
    checkpoint: CheckpointConfig = CheckpointConfig()
    device: DeviceConfig = DeviceConfig()


# --- the algorithm

Draw = Callable[[int, random.Random], list[Contrast]]


class HeldOut(NamedTuple):
    """Answers to held-out problems: `right` by the true check, `accepted` by training's."""

    answers: list[tuple[Problem, str]]
    right: list[float]
    accepted: list[float]
    natural: list[bool]  # a policy's own, not spoilt


def fit(
    config: RewardTraining, head: ScalarHead, *, draw: Draw, held_out: HeldOut, run: Run
) -> ScalarHead:
    """`optim.steps` updates on contrasts that `draw` gives; every one a function of its step."""
    optim = config.optim
    state = run.restore(fresh_state({"reward": head.model}, optim))
    budget = micro_tokens(optim.micro_tokens, head.device)
    for step in run.steps(state, total=optim.steps):
        rng = random.Random(stable_hash("reward", config.seed, step))
        contrasts = draw(optim.problems, rng)
        make = correctness if config.loss == "correctness" else bradley_terry
        micros, loss = make(head, contrasts, budget)
        metrics = update(state, micros, loss, clip=optim.clip, group=Group(), device=head.device)
        look = step % config.every == 0 or step == optim.steps
        right = torch.tensor(held_out.right)
        measured = auc(torch.tensor(values(head, held_out)), right) if look else math.nan
        metrics["rm/auc_held_out"] = measured
        run.log(step, metrics)
    return head


def correctness(
    head: ScalarHead, contrasts: Sequence[Contrast], budget: int
) -> tuple[list[MicroBatch], LossFn]:
    """Micro-batches and loss: every answer on its own, its label in `advantage_B`."""
    batch = _batch(head, contrasts)

    def loss(micro: MicroBatch) -> LossTerms:
        score_B = head.logits(micro.layout.tokens_RS, micro.layout.attend_RS)
        return _terms(correctness_loss(score_B, micro.advantage_B.to(score_B)))

    return batch.split(budget), loss


def bradley_terry(
    head: ScalarHead, contrasts: Sequence[Contrast], budget: int
) -> tuple[list[MicroBatch], LossFn]:
    """Micro-batches and loss: the two answers of a contrast stay together."""
    batch, count_N = _batch(head, contrasts), len(contrasts)
    lengths = [len(tokens) for tokens in batch.prompts]
    widest = [max(lengths[n], lengths[n + count_N]) for n in range(count_N)]
    pieces: list[list[int]] = []
    for n in sorted(range(count_N), key=lambda n: (widest[n], n)):
        if pieces and 2 * (len(pieces[-1]) + 1) * widest[n] <= budget:
            pieces[-1].append(n)
        else:
            pieces.append([n])
    micros = []
    for piece in pieces:
        rows = [*piece, *(n + count_N for n in piece)]
        micros.append(batch.select(rows).whole())

    def loss(micro: MicroBatch) -> LossTerms:
        score_B = head.logits(micro.layout.tokens_RS, micro.layout.attend_RS)
        chosen_N, rejected_N = score_B.chunk(2)
        loss_N = bradley_terry_loss(chosen_N, rejected_N)
        return _terms(loss_N.repeat(2))  # every row weighs the same in all

    return micros, loss


def _batch(head: ScalarHead, contrasts: Sequence[Contrast]) -> Batch:
    """All chosen answers, then all rejected ones. The whole text is a row's prompt, and one token
    behind it, which is no input, carries the row's loss: a mean over rows."""
    answers = [(c.problem, c.chosen) for c in contrasts]
    answers += [(c.problem, c.rejected) for c in contrasts]
    rows = [head.encode(problem, text)[: head.context] for problem, text in answers]
    ends = [(head.pad_id,)] * len(rows)
    label_B = torch.zeros(len(rows), dtype=torch.float64)
    label_B[: len(contrasts)] = 1.0
    return pack(rows, ends, reduction="sequence", total=count(ends), advantage_B=label_B)


def _terms(loss_B: Tensor) -> LossTerms:
    return LossTerms(loss_B[:, None], {})


# --- held out


def values(head: Scorer, held_out: HeldOut) -> list[float]:
    """Scores of held-out answers, nan where missing."""
    return [known(score.value) for score in head.score(held_out.answers)]


def held_out_answers(
    task: Task,
    problems: Sequence[Problem],
    answers: Sequence[tuple[Problem, str]],
    *,
    brittle: float,
    seed: int,
) -> HeldOut:
    """A policy's answers, and for each problem one that is spoilt."""
    texts: dict[str, list[str]] = {}
    for problem, text in answers:
        texts.setdefault(problem.id, []).append(text)
    rng = random.Random(stable_hash("held out", seed))
    labelled, natural = list(answers), [True] * len(answers)
    for problem in problems:
        solution = [] if problem.solution is None else [problem.solution]
        spoilt = spoil(task, problem, [*texts.get(problem.id, []), *solution], rng)
        if spoilt is not None:
            labelled.append((problem, spoilt.text))
            natural.append(False)
    verifier = BrittleVerifier(task, brittle) if brittle else task
    graded = [verifier.grade(problem, text) for problem, text in labelled]
    accepted = [known(score.value) for score in graded]
    right = [known(score.parts.get("true", score.value)) for score in graded]
    return HeldOut(labelled, right, accepted, natural)


class Assessment(TypedDict):
    """A reward model on held-out answers: how many, the share right, those without a score."""

    answers: int
    right: float
    missing: int
    metrics: dict[str, Cell]


def assess(head: Scorer, held_out: HeldOut) -> Assessment:
    """AUCs on held-out problems with 95 % intervals (bootstrap over problems).

    On a policy's own answers: overall, over pairs of one problem, within the answers that the
    training verifier accepts and rejects. `auc_spoilt`: right answers against spoilt ones.
    """
    score = values(head, held_out)
    ids = [problem.id for problem, _ in held_out.answers]

    def over(kept: Sequence[bool], *, within: bool = False) -> Cell:
        rows = [i for i, keep in enumerate(kept) if keep]
        scores, right = [score[i] for i in rows], [held_out.right[i] for i in rows]
        value, low, high, n = auc_interval(scores, right, [ids[i] for i in rows], within=within)
        return {"value": value, "ci_low": low, "ci_high": high, "n": n}

    own = held_out.natural
    rejected = [n and not a > 0.5 for n, a in zip(own, held_out.accepted, strict=True)]
    accepted = [n and a > 0.5 for n, a in zip(own, held_out.accepted, strict=True)]
    spoilt = [not n or r > 0.5 for n, r in zip(own, held_out.right, strict=True)]
    shares = [r for n, r in zip(own, held_out.right, strict=True) if n and not math.isnan(r)]
    return {
        "answers": sum(own),
        "right": sum(shares) / len(shares) if shares else math.nan,
        "missing": sum(math.isnan(value) for value in score),
        "metrics": {
            "auc": over(own),
            "auc_in_group": over(own, within=True),
            "auc_within_wrong": over(rejected),
            "auc_within_right": over(accepted),
            "auc_spoilt": over(spoilt),
        },
    }
