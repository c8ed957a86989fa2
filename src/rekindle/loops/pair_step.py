"""Training on pairs of a chosen and a rejected answer: what DPO and ORPO share.

A method's rule says how hard each answer's log-prob is pushed. The loss depends on the parameters
through the answers' summed log-probs alone, so its gradient is that of

    -sum_n (up_n log pi(y_w,n) - down_n log pi(y_l,n))

with the pushes up = -dloss/dlog pi(y_w) and down = dloss/dlog pi(y_l). Both sides of a pair are in
one micro-batch, behind one prompt where the model allows it, so that one forward pass serves both.

Axes: N pairs, B sequences (the chosen, then the rejected), T completion tokens, D width.
"""

import math
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.device import Group
from rekindle.engine.layout import completion_mask
from rekindle.engine.policy import Policy
from rekindle.engine.progress import say_once
from rekindle.engine.prompt_limit import PromptLimit
from rekindle.engine.state import TrainState
from rekindle.engine.update import LossFn, LossTerms
from rekindle.errors import DataError, ModelError
from rekindle.loops.checks import encoded
from rekindle.loops.stages import epochs
from rekindle.loops.world import World
from rekindle.ops.logprobs import TokenScores
from rekindle.records import Problem
from rekindle.tasks.pairs import PairRow, pairs_of_file

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
    referenced = None if reference is None else ReferenceScores(world, state, reference, len(pairs))
    places = range(len(pairs))
    for step in world.steps(state):
        drawn = epochs(places, step=step, count=count, seed=world.seed)
        mine = drawn[world.group.rank :: world.group.size]
        batch = packed(policy, [pairs[place] for place in mine], total=len(drawn))
        with world.logbook.clock("update"):
            if referenced is not None:
                batch = referenced.put_into(batch, mine)
            objective = PairObjective(policy, rule, referenced=referenced is not None)
            metrics = world.update(state, batch, objective, stats=("entropy", "up", "down"))
        facts = objective.facts(world.group, len(drawn))
        both = metrics.pop("up") + metrics["down"]
        facts["pairs/gradient_rejected"] = metrics.pop("down") / both if both else math.nan
        if reference is not None:
            facts["pairs/displaced"] = _alarm(state, facts)
        trained = world.group.sum({"tokens": float(batch.tokens)})["tokens"]
        world.log(step, {**metrics, **facts, **similarity, "tokens/trained": trained})
    return policy


class PairObjective:
    """The loss of a micro-batch of whole pairs, the chosen first: one forward pass gives the
    log-probs that the rule reads, and those that it pushes.

    Args:
        rule: of the pairs, each by itself.
        referenced: the batch has the reference's log-probs.
    """

    def __init__(self, policy: Policy, rule: Rule, *, referenced: bool) -> None:
        self._policy, self._rule, self._referenced = policy, rule, referenced
        self._sums: dict[str, float] = {}

    def __call__(self, micro: MicroBatch) -> LossTerms:
        scores = self._policy.logprobs(micro.layout)
        sums_B = scores.logprobs_BT.detach().double().sum(dim=1)
        ref_B = micro.ref_logprobs_BT[:, 0] if self._referenced else torch.zeros_like(sums_B)
        lengths_B = micro.mask_BT.sum(dim=1).to(sums_B)
        sides = (x_B.to(sums_B).view(2, -1) for x_B in (sums_B, ref_B, lengths_B))
        pairs = PairScores(*(side_N for both_2N in sides for side_N in both_2N))
        terms = self._rule(pairs)
        for name, value_N in self._values(pairs, terms).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value_N.sum())
        return push_terms(scores, torch.cat([terms.up_N, -terms.down_N]))

    def facts(self, group: Group, total: int) -> dict[str, float]:
        """Means over the step's pairs, on all processes; changes where there is a reference."""
        sums = group.sum(self._sums)
        return {name: sums[name] / total for name in sums}

    def _values(self, scores: PairScores, terms: PairTerms) -> dict[str, Tensor]:
        values = {
            "loss": terms.loss_N,
            "pairs/margin": terms.margin_N,
            "pairs/accuracy": (terms.margin_N > 0).double(),
            "pairs/chosen_logp": scores.chosen_N,
            "pairs/rejected_logp": scores.rejected_N,
        }
        if self._referenced:
            change_N = scores.chosen_N - scores.ref_chosen_N
            values |= {
                "pairs/chosen_change": change_N,
                "pairs/rejected_change": scores.rejected_N - scores.ref_rejected_N,
                "pairs/chosen_fell": (change_N < 0).double(),
            }
        return values


class ReferenceScores:
    """Summed log-probs of pairs under a frozen reference, each pair scored once in a run: they are
    part of its state, so that a resumed run reads the same bits.

    Axes: M pairs of the data.
    """

    def __init__(self, world: World, state: TrainState, reference: Policy, pairs: int) -> None:
        self._world, self._reference = world, reference
        missing_M2 = torch.full((pairs, 2), torch.nan, dtype=torch.float64)
        self._known_M2 = state.tensors.setdefault("reference", missing_M2)

    def put_into(self, batch: Batch, places: Sequence[int]) -> Batch:
        """The batch with its reference log-probs, a sequence's sum in its first column.

        Args:
            places: of the batch's pairs in the data.
        """
        count = len(places)
        unknown = [n for n in range(count) if bool(self._known_M2[places[n]].isnan().any())]
        found: list[tuple[int, list[float]]] = []
        if unknown:
            rows = batch.select([*unknown, *(n + count for n in unknown)])
            scores = self._world.measure(self._reference, rows, temperature=1.0)
            sums_N2 = scores.logprobs_BT.nansum(dim=1).view(2, -1).T.tolist()
            found = [(places[n], sums) for n, sums in zip(unknown, sums_N2, strict=True)]
        for place, sums in self._world.group.gather_objects(found):
            self._known_M2[place] = torch.tensor(sums, dtype=torch.float64)
        ref_BT = batch.ref_logprobs_BT.clone()
        ref_BT[:, 0] = self._known_M2[torch.tensor(places, dtype=torch.long)].T.flatten()
        return batch.replace(ref_logprobs_BT=ref_BT)


def pushed(policy: Policy) -> LossFn:
    """-push * log p of each token; the push is that of its sequence, the batch's advantage."""

    def loss(micro: MicroBatch) -> LossTerms:
        return push_terms(policy.logprobs(micro.layout), micro.advantage_B)

    return loss


def push_terms(scores: TokenScores, push_B: Float[Tensor, " B"]) -> LossTerms:
    """-push * log p of each token, and how much of its gradient pushes up and down."""
    push_B1 = push_B[:, None].to(scores.logprobs_BT)
    size_BT = push_B1.abs() * (1 - scores.logprobs_BT.detach().exp())
    stats = {
        "entropy": scores.entropy_BT,
        "up": size_BT * (push_B1 > 0),
        "down": size_BT * (push_B1 < 0),
    }
    return LossTerms(-push_B1 * scores.logprobs_BT, stats)


def packed(policy: Policy, pairs: Sequence[PairRow], *, total: int) -> Batch:
    """Chosen rows, then rejected ones; each token weighs 1 / `total`. The sides of a pair share a
    micro-batch."""
    problems = [pair_problem(pair) for pair in pairs]
    texts = [p["chosen"] for p in pairs] + [p["rejected"] for p in pairs]
    sides = list(zip(problems * 2, texts, strict=True))
    prompts, completions = encoded(policy, sides, "pair")
    batch = pack(prompts, completions, reduction="token", total=count(completions))
    units = [(n, n + len(pairs)) for n in range(len(pairs))]
    return batch.replace(weight_BT=completion_mask(completions).double() / total, units=units)


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


def pairs_to_train(world: World, path: str | None) -> list[PairRow]:
    """The pairs of a file that the world's policy can learn from; what is left out is told.

    Raises:
        DataError: a row cannot be read, its prompt is too long, or too few pairs are left.
    """
    pairs, told = fitting_pairs(world.scope.limit, pairs_of_file(path), least=world.optim.problems)
    world.run.note_remarks(told)
    return unequal_pairs(world.policy, pairs)


def fitting_pairs(
    limit: PromptLimit | None, pairs: Sequence[PairRow], *, least: int = 1
) -> tuple[list[PairRow], tuple[str, ...]]:
    """The pairs within the limit of prompts, as `PromptLimit.keep`; those left out are told."""
    if limit is None:
        return list(pairs), ()
    kept, told = limit.keep(pairs, pair_problem, what="pairs", least=least)
    for sentence in told:
        warnings.warn(sentence, stacklevel=2)
    return kept, told


def pair_problem(pair: PairRow) -> Problem:
    """What both sides of a pair answer."""
    turns = pair.get("messages")
    messages = None if turns is None else tuple((role, content) for role, content in turns)
    where = pair.get("place", "")
    return Problem(id=str(pair["id"]), prompt=pair["prompt"], messages=messages, place=where)


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
    """Means over the first pairs: of characters by edits, and of the policy's hidden states, left
    out where the model gives none."""
    few = pairs[:_COMPARED]
    edits = [edit_similarity(pair["chosen"], pair["rejected"]) for pair in few]
    cosine_N = hidden_cosine(policy, few, micro_tokens=micro_tokens)
    alike = {
        "pairs/similarity": sum(edits) / len(edits),
        "pairs/cosine": float(cosine_N.mean()),
    }
    return {name: value for name, value in alike.items() if not math.isnan(value)}


def edit_similarity(a: Sequence[Hashable], b: Sequence[Hashable], *, most: int = 2000) -> float:
    """1 - Levenshtein distance / longer length, over tokens or characters; 1 for equal ones.

    Only the first `most` of each are compared: time grows with the product of the lengths.
    """
    a, b = a[:most], b[:most]
    longest = max(len(a), len(b))
    return 1 - Levenshtein.distance(a, b) / longest if longest else 1.0


@torch.no_grad()
def hidden_cosine(
    policy: Policy, pairs: Sequence[PairRow], *, micro_tokens: int
) -> Float[Tensor, " N"]:
    """Cosine of the last hidden states that have read the whole chosen and rejected answer, fp64
    (2508.06026, figure 1: features of the last layer); nan, and a word, where there are none."""
    batch = packed(policy, pairs, total=1)
    states: list[Tensor] = [torch.empty(0)] * len(batch)
    for micro in batch.split(micro_tokens, policy.arrangement()):
        moved = micro.to(policy.device)
        last_B = moved.mask_BT.sum(dim=1).cumsum(dim=0) - 1
        try:
            hidden_ND = policy.hidden(moved.layout)
        except ModelError as error:
            say_once(f"pairs/cosine is left out: {error.what}")
            return torch.full((len(pairs),), math.nan, dtype=torch.float64)
        for row, state_D in zip(micro.rows, hidden_ND[last_B], strict=True):
            states[row] = state_D.double().cpu()
    chosen_ND, rejected_ND = torch.stack(states).view(2, len(pairs), -1)
    return torch.nn.functional.cosine_similarity(chosen_ND, rejected_ND, dim=-1)
