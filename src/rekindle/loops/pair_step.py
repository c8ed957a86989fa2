"""Training on pairs of a chosen and a rejected answer: what DPO and ORPO share.

A method's rule says how hard each answer's log-prob is pushed. The loss depends on the parameters
through the answers' summed log-probs alone, so its gradient is that of

    -sum_n (up_n log pi(y_w,n) - down_n log pi(y_l,n))

with the pushes up = -dloss/dlog pi(y_w) and down = dloss/dlog pi(y_l) measured first, without a
graph: chosen and rejected need not share a micro-batch.

Axes: N pairs, B sequences (the chosen, then the rejected), T completion tokens, D width.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.layout import completion_mask
from rekindle.engine.policy import Policy
from rekindle.engine.state import TrainState
from rekindle.engine.update import LossFn, LossTerms
from rekindle.errors import DataError
from rekindle.loops.checks import encoded
from rekindle.loops.stages import epochs
from rekindle.loops.world import World
from rekindle.records import Problem
from rekindle.tasks.pairs import PairRow

_ALARM_AFTER = 10  # steps in a row in which the chosen fell while the margin rose
_FALLING = "displaced steps"
_COMPARED = 64  # pairs whose sides are compared, the first ones


class PairScores(NamedTuple):
    """Log-probs of answers, summed over their tokens, and their lengths; reference: 0 without."""

    chosen_N: Float[Tensor, " N"]
    rejected_N: Float[Tensor, " N"]
    ref_chosen_N: Float[Tensor, " N"]
    ref_rejected_N: Float[Tensor, " N"]
    chosen_tokens_N: Float[Tensor, " N"]
    rejected_tokens_N: Float[Tensor, " N"]


class PairTerms(NamedTuple):
    """A pair's loss, and the gradient that each side gets."""

    loss_N: Float[Tensor, " N"]
    margin_N: Float[Tensor, " N"]  # what the rule pushes above 0
    up_N: Float[Tensor, " N"]  # -dloss / dlog pi(y_w)
    down_N: Float[Tensor, " N"]  # dloss / dlog pi(y_l)


Rule = Callable[[PairScores], PairTerms]


# --- training


def train_on_pairs(
    world: World, pairs: Sequence[PairRow], rule: Rule, *, reference: Policy | None
) -> Policy:
    """Train the world's policy on pairs, in seeded epochs.

    Args:
        pairs: what is trained on, in any order.
        rule: log-probs of a step's pairs to their loss and pushes; the mean over the pairs of a
            step, on all processes, is what is lowered.
        reference: a frozen model that the rule compares with.

    Raises:
        DataError: there is no pair.
    """
    if not pairs:
        raise DataError("there are no pairs to train on", wanted="one at least")
    policy, count = world.policy, world.optim.problems
    similarity = likeness(policy, pairs, micro_tokens=world.micro_tokens)
    state = world.begin()
    for step in world.steps(state):
        drawn = epochs(pairs, step=step, count=count, seed=world.seed)
        batch = packed(policy, drawn[world.group.rank :: world.group.size], total=len(drawn))
        with world.logbook.clock("update"):
            scores = _score_pairs(world, batch, reference)
            terms = rule(scores)
            pushes_B = torch.cat([terms.up_N, -terms.down_N])
            weighed = batch.replace(advantage_B=pushes_B)
            stats = ("entropy", "up", "down")
            metrics = world.update(state, weighed, pushed(policy), stats=stats)
        facts = _facts(world, scores, terms, len(drawn), referenced=reference is not None)
        both = metrics.pop("up") + metrics["down"]
        facts["pairs/gradient_rejected"] = metrics.pop("down") / both if both else math.nan
        if reference is not None:
            facts["pairs/displaced"] = _alarm(state, facts)
        trained = world.group.sum({"tokens": float(batch.tokens)})["tokens"]
        world.log(step, {**metrics, **facts, **similarity, "tokens/trained": trained})
    return policy


def pushed(policy: Policy) -> LossFn:
    """-push * log p of each token; the push is that of its sequence."""

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(micro.layout)
        push_B1 = micro.advantage_B[:, None].to(scores.logprobs_BT)
        size_BT = push_B1.abs() * (1 - scores.logprobs_BT.detach().exp())
        stats = {
            "entropy": scores.entropy_BT,
            "up": size_BT * (push_B1 > 0),
            "down": size_BT * (push_B1 < 0),
        }
        return LossTerms(-push_B1 * scores.logprobs_BT, stats)

    return loss


def packed(policy: Policy, pairs: Sequence[PairRow], *, total: int) -> Batch:
    """Chosen rows, then rejected ones; each token weighs 1 / `total`."""
    problems = [pair_problem(pair) for pair in pairs]
    texts = [p["chosen"] for p in pairs] + [p["rejected"] for p in pairs]
    sides = list(zip(problems * 2, texts, strict=True))
    prompts, completions = encoded(policy, sides, "pair")
    batch = pack(prompts, completions, reduction="token", total=count(completions))
    return batch.replace(weight_BT=completion_mask(completions).double() / total)


def same_sides(policy: Policy, pairs: Sequence[PairRow]) -> list[bool]:
    """Whether the two sides of each pair are the same tokens: one text, or made so by the template,
    which may cut blanks or thoughts, or by the tokenizer."""
    return [
        pair["chosen"] == pair["rejected"]
        or policy.encode_completion(problem := pair_problem(pair), pair["chosen"])
        == policy.encode_completion(problem, pair["rejected"])
        for pair in pairs
    ]


def unequal_pairs(policy: Policy, pairs: Sequence[PairRow]) -> list[PairRow]:
    """The pairs whose sides differ for the model; a warning names the others.

    Raises:
        DataError: none is left.
    """
    same = same_sides(policy, pairs)
    equal = [pair["id"] for pair, is_same in zip(pairs, same, strict=True) if is_same]
    if not equal:
        return list(pairs)
    first = ", ".join(equal[:3])
    what = f"{len(equal)}: chosen is rejected after the chat template and tokenizer"
    if len(equal) == len(pairs):
        raise DataError(
            "no pair has two sides that the model can tell apart",
            got=f"{what} ({first})",
            why="equal answers give no preference",
        )
    warnings.warn(f"pairs left out ({what}: {first})", stacklevel=2)
    return [pair for pair, is_same in zip(pairs, same, strict=True) if not is_same]


def pair_problem(pair: PairRow) -> Problem:
    """What both sides of a pair answer."""
    turns = pair.get("messages")
    messages = None if turns is None else tuple((role, content) for role, content in turns)
    return Problem(id=str(pair["id"]), prompt=pair["prompt"], messages=messages)


def _score_pairs(world: World, batch: Batch, reference: Policy | None) -> PairScores:
    sums = [
        world.measure(model, batch, temperature=1.0).logprobs_BT.nansum(dim=1).view(2, -1)
        for model in (world.policy, *([] if reference is None else [reference]))
    ]
    ours, theirs = sums[0], sums[1] if reference is not None else torch.zeros_like(sums[0])
    lengths = torch.tensor([float(len(c)) for c in batch.completions], dtype=ours.dtype)
    return PairScores(*ours, *theirs, *lengths.view(2, -1))


def _facts(
    world: World, scores: PairScores, terms: PairTerms, total: int, *, referenced: bool
) -> dict[str, float]:
    """Means over the step's pairs, on all processes; changes where there is a reference."""
    values = {
        "loss": terms.loss_N,
        "pairs/margin": terms.margin_N,
        "pairs/accuracy": (terms.margin_N > 0).double(),
        "pairs/chosen_logp": scores.chosen_N,
        "pairs/rejected_logp": scores.rejected_N,
    }
    if referenced:
        chosen_N = scores.chosen_N - scores.ref_chosen_N
        values |= {
            "pairs/chosen_change": chosen_N,
            "pairs/rejected_change": scores.rejected_N - scores.ref_rejected_N,
            "pairs/chosen_fell": (chosen_N < 0).double(),
        }
    sums = world.group.sum({name: float(value.sum()) for name, value in values.items()})
    return {name: value / total for name, value in sums.items()}


def _alarm(state: TrainState, facts: Mapping[str, float]) -> float:
    """1 once the chosen answers have become less likely for ten steps while the margin grew."""
    falls = facts["pairs/chosen_change"] < 0 < facts["pairs/margin"]
    steps = int(state.scalars.get(_FALLING) or 0) + 1 if falls else 0
    state.scalars[_FALLING] = steps
    if steps == _ALARM_AFTER:
        warnings.warn(
            f"likelihood displacement: for {steps} steps the chosen answers have been less likely "
            f"than under the reference (by {-facts['pairs/chosen_change']:.2f} nats now) while the "
            "margin grew; lower optim.lr, or add the chosen answers' own loss (nll)",
            stacklevel=2,
        )
    return float(steps >= _ALARM_AFTER)


# --- how alike the two sides are


def likeness(policy: Policy, pairs: Sequence[PairRow], *, micro_tokens: int) -> dict[str, float]:
    """Means over the first pairs: of characters by edits, and of the policy's hidden states."""
    few = pairs[:_COMPARED]
    edits = [edit_similarity(pair["chosen"], pair["rejected"]) for pair in few]
    cosine_N = hidden_cosine(policy, few, micro_tokens=micro_tokens)
    return {
        "pairs/similarity": sum(edits) / len(edits),
        "pairs/cosine": float(cosine_N.mean()),
    }


def edit_similarity(a: Sequence[object], b: Sequence[object], *, most: int = 2000) -> float:
    """1 - Levenshtein distance / longer length, over tokens or characters; 1 for equal ones.

    Only the first `most` of each are compared: time grows with the product of the lengths.
    """
    a, b = a[:most], b[:most]
    longest = max(len(a), len(b))
    if longest == 0:
        return 1.0
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return 1 - row[-1] / longest


@torch.no_grad()
def hidden_cosine(
    policy: Policy, pairs: Sequence[PairRow], *, micro_tokens: int
) -> Float[Tensor, " N"]:
    """Cosine of the last hidden states that have read the whole chosen and rejected answer, fp64
    (2508.06026, figure 1: features of the last layer)."""
    batch = packed(policy, pairs, total=1)
    states: list[Tensor] = [torch.empty(0)] * len(batch)
    for micro in batch.split(micro_tokens, policy.arrangement()):
        moved = micro.to(policy.device)
        last_B = moved.mask_BT.sum(dim=1).cumsum(dim=0) - 1
        for row, state_D in zip(micro.rows, policy.hidden(moved.layout)[last_B], strict=True):
            states[row] = state_D.double().cpu()
    chosen_ND, rejected_ND = torch.stack(states).view(2, len(pairs), -1)
    return torch.nn.functional.cosine_similarity(chosen_ND, rejected_ND, dim=-1)
