"""Supervised fine-tuning: next-token cross-entropy on reference answers.

As the first step of InstructGPT, Ouyang et al. 2022, arXiv 2203.02155.

    loss_bt = -log p(y_bt | x_b, y_b,<t)        reduced over the tokens of all answers of a step

Axes: B sequences, T completion tokens. The prompt carries no loss; the end token does.

What we changed or left out, and why:
* reduction "token" (every answer token of the step counts the same, on all processes) is the
  default; "sequence" gives each answer the same say. Neither depends on how the step is split.
* With `packing` several samples share a row of the forward pass, each blind to the others; where
  that costs more than the padding it saves, they keep rows of their own.

Known failure modes: on problems with many right answers it imitates the one that it is shown and
loses pass@k; once training tokens are near certain (`tokens/above_099`) little gradient is left.
"""

from collections.abc import Sequence

import torch
from pydantic import Field

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.config import SampleConfig, Section
from rekindle.engine.layout import lay_out
from rekindle.engine.noise import noisy_embeddings
from rekindle.engine.policy import Policy
from rekindle.engine.state import TrainState
from rekindle.engine.update import LossFn, LossTerms
from rekindle.errors import DataError
from rekindle.loops.checks import encoded
from rekindle.loops.stages import epochs
from rekindle.loops.world import World
from rekindle.ops.weights import Reduction
from rekindle.records import Problem

# --- the formula


def sft_objective(policy: Policy, *, smoothing: float = 0.0, noise: float = 0.0) -> LossFn:
    """-log p of each answer token, and what it tells about saturation.

    Args:
        smoothing: epsilon of label smoothing: (1 - eps) times the loss and eps times its mean over
            all tokens of the vocabulary. `stats` stay those of the unsmoothed distribution.
        noise: alpha of NEFTune: uniform noise of size alpha / sqrt(L D) on the embeddings of a
            sequence of L tokens (arXiv 2310.05914, algorithm 1).
    """

    def loss(micro: MicroBatch) -> LossTerms:
        layout = micro.layout
        if noise and not layout.is_plain:  # every sequence has noise of its own
            layout = lay_out(layout.prompts, layout.completions).to(policy.device)
        with noisy_embeddings(policy.model, layout, alpha=noise):
            scores = policy.logprobs(layout)
        # eps times: the mean over v of -log p_v, in place of -log p_y
        extra_BT = scores.logprobs_BT - scores.mean_BT
        probs_BT = scores.logprobs_BT.detach().exp()
        return LossTerms(
            smoothing * extra_BT - scores.logprobs_BT if smoothing else -scores.logprobs_BT,
            {
                "entropy": scores.entropy_BT,
                "tokens/above_099": (probs_BT > 0.99).float(),
                "mass/non_target": 1 - probs_BT,
            },
        )

    return loss


# --- what can be set


class Config(Section):
    """SFT's settings."""

    label_smoothing_factor: float = Field(default=0.0, ge=0, lt=1, description="a control")
    neftune_noise_alpha: float = Field(default=0.0, ge=0, description="a control; NEFTune's is 5")

    packing: bool = Field(default=False, description="several samples in a row, one mask each")
    reduction: Reduction = Field(default="token", description="what counts the same")
    budget: int | None = Field(default=None, ge=1, description="tokens, for the constant reduction")


PRESETS: dict[str, Config] = {"sft": Config()}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Draw `optim.problems` solved problems a step and raise the likelihood of their solutions."""
    objective = sft_objective(
        world.policy, smoothing=config.label_smoothing_factor, noise=config.neftune_noise_alpha
    )
    state = world.begin()
    for step in world.steps(state):
        problems = world.draw(state, world.optim.problems)
        world.log(step, update_on(config, world, state, problems, objective))
    return world.policy


def sft_on(world: World, problems: Sequence[Problem]) -> Policy:
    """Cross-entropy on the problems' solutions, in seeded epochs.

    Raises:
        DataError: there is nothing to train on.
    """
    if not problems:
        raise DataError(
            "there is no seed data", fix="set seed.instructions, seed.judged or seed.path"
        )
    objective, state = sft_objective(world.policy), world.begin()
    for step in world.steps(state):
        drawn = epochs(problems, step=step, count=world.optim.problems, seed=world.seed)
        world.log(step, update_on(Config(), world, state, drawn, objective))
    return world.policy


def update_on(
    config: Config, world: World, state: TrainState, problems: list[Problem], objective: LossFn
) -> dict[str, float]:
    """One update on solved problems, divided over the processes; its metrics."""
    batch = weigh(config, world, problems[world.group.rank :: world.group.size])
    with world.logbook.clock("update"):
        metrics = world.update(state, batch, objective)
    trained = world.group.sum({"tokens": float(batch.tokens)})["tokens"]
    return {**metrics, "tokens/trained": trained}


def weigh(config: Config, world: World, problems: list[Problem]) -> Batch:
    """Tokens of the solved problems, weighed over all processes."""
    solved = [(problem, _solution(problem)) for problem in problems]
    prompts, completions = encoded(world.policy, solved, "solved problem")
    batch = pack(
        prompts,
        completions,
        reduction=config.reduction,
        total=world.total(count(completions)),
        budget=config.budget or world.sample.max_new_tokens,
        advantage_B=torch.ones(len(problems), dtype=torch.float64),
    )
    return batch.replace(packs=config.packing)


def check(config: Config, sample: SampleConfig) -> None:
    """Every SFT setting that the schema accepts can be used."""


def _solution(problem: Problem) -> str:
    if problem.solution is None:
        raise DataError(
            f"problem '{problem.id}' has no solution to learn from",
            wanted="a 'solution' field, or 'messages' that end with the assistant",
            why="SFT raises the likelihood of a reference answer",
            fix="add solutions to the data, or train with method: grpo, which needs answers only",
        )
    return problem.solution
