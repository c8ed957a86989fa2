"""Supervised fine-tuning: next-token cross-entropy on reference answers.

    loss_bt = -log p(y_bt | x_b, y_b,<t)        reduced over the tokens of all answers of a step

Axes: B sequences, T completion tokens. The prompt carries no loss; the end token does.

What we changed or left out, and why:
* reduction "token" (every answer token of the step counts the same, on all processes) is the
  default; "sequence" gives each answer the same say. Neither depends on how the step is split.
* No packing: answers of similar length share a micro-batch, which needs no attention tricks.

Known failure modes: on problems with many right answers it imitates the one that it is shown and
loses pass@k; once training tokens are near certain (`tokens/above_099`) little gradient is left.
"""

import torch
from pydantic import Field

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.config import SampleConfig, Section
from rekindle.engine.policy import Policy
from rekindle.engine.update import LossFn, LossTerms, fresh_state, update
from rekindle.errors import DataError
from rekindle.methods.world import World
from rekindle.ops.weights import Reduction
from rekindle.records import Problem

# --- the formula


def sft_objective(policy: Policy) -> LossFn:
    """-log p of each answer token, and what it tells about saturation."""

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(micro.tokens_BS, micro.attend_BS, start=micro.start)
        probs_BT = scores.logprobs_BT.detach().exp()
        return LossTerms(
            -scores.logprobs_BT,
            {
                "entropy": scores.entropy_BT,
                "tokens/above_099": (probs_BT > 0.99).float(),
                "mass/non_target": 1 - probs_BT,
            },
        )

    return loss


# --- what can be set


class Config(Section):
    """SFT's knobs."""

    reduction: Reduction = Field(default="token", description="what counts the same")
    budget: int | None = Field(default=None, ge=1, description="tokens, for the constant reduction")


PRESETS: dict[str, Config] = {"sft": Config()}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Draw `optim.problems` solved problems a step and raise the likelihood of their solutions."""
    policy, optim = world.policy, world.optim
    state = world.restore(fresh_state({"policy": policy.model}, optim))
    for step in world.steps(state):
        problems = world.draw(state, optim.problems)
        mine = problems[world.group.rank :: world.group.size]
        batch = weigh(config, world, mine)
        with world.clock("update"):
            metrics = update(
                state,
                batch.split(world.micro_tokens),
                sft_objective(policy),
                clip=optim.clip,
                group=world.group,
                device=policy.device,
            )
        trained = world.group.sum({"tokens": float(batch.tokens)})["tokens"]
        world.log(step, {**metrics, "tokens/trained": trained})
    return policy


def weigh(config: Config, world: World, problems: list[Problem]) -> Batch:
    """Tokens of the solved problems, weighed over all processes."""
    prompts = [world.policy.encode_prompt(problem) for problem in problems]
    completions = [
        world.policy.encode_completion(problem, _solution(problem)) for problem in problems
    ]
    for problem, prompt, completion in zip(problems, prompts, completions, strict=True):
        _check_length(problem, len(prompt) + len(completion), world.policy.context)
    return pack(
        prompts,
        completions,
        reduction=config.reduction,
        total=world.total(count(completions)),
        budget=config.budget or world.sample.max_new_tokens,
        advantage_B=torch.ones(len(problems), dtype=torch.float64),
    )


def check(config: Config, sample: SampleConfig) -> None:
    """Every SFT setting that the schema accepts can be meant."""


def _solution(problem: Problem) -> str:
    if problem.solution is None:
        raise DataError(
            f"problem '{problem.id}' has no solution to learn from",
            wanted="a 'solution' field, or 'messages' that end with the assistant",
            why="SFT raises the likelihood of a reference answer",
            fix="add solutions to the data, or train with method: grpo, which needs answers only",
        )
    return problem.solution


def _check_length(problem: Problem, tokens: int, context: int) -> None:
    if tokens > context:
        raise DataError(
            f"problem '{problem.id}' with its solution is longer than the model's context",
            got=f"{tokens} tokens",
            wanted=f"at most {context}",
            fix="shorten or drop it, or use a model with a longer context",
        )
