"""DPO, Direct Preference Optimization: raise the chosen over the rejected, relative to a reference.

Rafailov et al. 2023, arXiv 2305.18290.

    margin_n = beta [(log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))]     eq. 7
    loss_n   = -(1 - eps) logsigmoid(margin_n) - eps logsigmoid(-margin_n)  - nll log pi(y_w)/|y_w|

Axes: N pairs, B sequences (chosen and rejected), T completion tokens. Log-probs are summed over the
completion's tokens. The mean over the pairs of a step is taken on all processes.

What we changed or left out, and why:
* The gradient is taken as in policy gradients: the margin's weight is measured first, without a
  graph, and each sequence is then pushed by it. It is the same gradient to the last bit of theory,
  and chosen and rejected need not share a micro-batch.
* The reference is a copy of the model as training begins, never loaded again by name.

Known failure modes: both log-probs fall and the chosen one with them (`pairs/chosen_change`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from rekindle.engine.batch import Batch, MicroBatch, completion_mask, count, pack
from rekindle.engine.config import Section
from rekindle.engine.policy import Policy
from rekindle.engine.update import LossFn, LossTerms, fresh_state, measure_batch, update
from rekindle.errors import DataError
from rekindle.methods.curriculum import epochs
from rekindle.methods.world import World
from rekindle.records import Problem

# --- the formula


class DPOTerms(NamedTuple):
    loss_N: Float[Tensor, " N"]
    margin_N: Float[Tensor, " N"]
    push_N: Float[Tensor, " N"]  # -d loss / d log pi(y_w), and d loss / d log pi(y_l)


def dpo_terms(
    chosen_N: Float[Tensor, " N"],
    rejected_N: Float[Tensor, " N"],
    ref_chosen_N: Float[Tensor, " N"],
    ref_rejected_N: Float[Tensor, " N"],
    *,
    beta: float,
    smoothing: float,
) -> DPOTerms:
    """Eq. 7 with label smoothing, of log-probs summed over completion tokens."""
    margin_N = beta * ((chosen_N - ref_chosen_N) - (rejected_N - ref_rejected_N))
    loss_N = -(1 - smoothing) * logsigmoid(margin_N) - smoothing * logsigmoid(-margin_N)
    push_N = beta * ((1 - smoothing) * (-margin_N).sigmoid() - smoothing * margin_N.sigmoid())
    return DPOTerms(loss_N, margin_N, push_N)


def pushed(policy: Policy) -> LossFn:
    """-credit * log p of each token; the credit is that of its sequence."""

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(micro.tokens_BS, micro.attend_BS, start=micro.start)
        credit_B1 = micro.advantage_B[:, None].to(scores.logprobs_BT)
        return LossTerms(-credit_B1 * scores.logprobs_BT, {"entropy": scores.entropy_BT})

    return loss


# --- what can be set


class Config(Section):
    """DPO's knobs."""

    beta: float = Field(default=0.1, gt=0.0, description="2401.10020 and 2508.06026 both take 0.1")
    smoothing: float = Field(default=0.0, ge=0.0, lt=0.5, description="label smoothing")
    nll: float = Field(default=0.0, ge=0.0, description="weight of -log p a token of the chosen")


# --- the algorithm


def run_pairs(config: Config, world: World, pairs: Sequence[Mapping[str, Any]]) -> Policy:
    """Train the world's policy on pairs, in seeded epochs; referenced to itself as it begins.

    Args:
        pairs: {"id", "prompt", "chosen", "rejected"}, and "messages" where the prompt is a chat.
    """
    if not pairs:
        raise DataError("there are no pairs to train on", wanted="one at least")
    policy, optim = world.policy, world.optim
    reference = policy.frozen_copy()
    state = world.restore(fresh_state({"policy": policy.model}, optim))
    for step in world.steps(state):
        drawn = epochs(pairs, step=step, count=optim.problems, seed=world.seed)
        mine = drawn[world.group.rank :: world.group.size]
        batch = packed(policy, mine, total=len(drawn))
        with world.clock("update"):
            measured = [
                measure_batch(model, batch, micro_tokens=world.micro_tokens, temperature=1.0)
                .logprobs_BT.nansum(dim=1)
                .view(2, -1)
                for model in (policy, reference)
            ]
            (chosen_N, rejected_N), (ref_chosen_N, ref_rejected_N) = measured
            terms = dpo_terms(
                chosen_N,
                rejected_N,
                ref_chosen_N,
                ref_rejected_N,
                beta=config.beta,
                smoothing=config.smoothing,
            )
            lengths_N = torch.tensor([max(len(c), 1) for c in batch.completions[: len(mine)]])
            credit_B = torch.cat([terms.push_N + config.nll / lengths_N, -terms.push_N])
            metrics = update(
                state,
                batch.replace(advantage_B=credit_B).split(world.micro_tokens),
                pushed(policy),
                clip=optim.clip,
                group=world.group,
                device=policy.device,
            )
        sums = world.group.sum(
            {
                "loss": float(terms.loss_N.sum()),
                "pairs/margin": float(terms.margin_N.sum()),
                "pairs/accuracy": float((terms.margin_N > 0).double().sum()),
                "pairs/chosen_change": float((chosen_N - ref_chosen_N).sum()),
                "pairs/rejected_change": float((rejected_N - ref_rejected_N).sum()),
            }
        )
        trained = world.group.sum({"tokens": float(batch.tokens)})["tokens"]
        means = {name: value / len(drawn) for name, value in sums.items()}
        world.log(step, {**metrics, **means, "tokens/trained": trained})
    return policy


def packed(policy: Policy, pairs: Sequence[Mapping[str, Any]], *, total: int) -> Batch:
    """Chosen rows, then rejected ones; each token weighs 1 / `total`."""
    problems = [
        Problem(id=str(p["id"]), prompt=p["prompt"], messages=p.get("messages")) for p in pairs
    ]
    sides = [(q, p[side]) for side in ("chosen", "rejected") for q, p in zip(problems, pairs)]  # noqa: B905
    prompts = [policy.encode_prompt(problem) for problem, _ in sides]
    completions = [policy.encode_completion(problem, text) for problem, text in sides]
    batch = pack(prompts, completions, reduction="token", total=count(completions))
    return batch.replace(weight_BT=completion_mask(completions).double() / total)
