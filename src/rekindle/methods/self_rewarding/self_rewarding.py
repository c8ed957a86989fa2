"""Self-Rewarding Language Models: the model judges its own answers and learns from the pairs.

Yuan et al. 2024, arXiv 2401.10020 (v3).

    M_0 = SFT(base; instructions + judge data)
    for i = 0, 1, ...:
        y_1..y_K ~ M_i(. | x)                     K candidates of each of the iteration's prompts
        s_k = mean of k judgements of y_k by M_i  additive 5-point prompt, 0 to 5
        pair = (y_argmax s, y_argmin s)           left out where the two scores are equal
        M_{i+1} = DPO(M_i; pairs)                 started from and referenced to M_i

Axes: K candidates of a prompt.

What we changed or left out, and why:
* Prompts come from the task, a disjoint chunk an iteration; none are invented (as in Temporal
  Self-Rewarding, so that the two compare).
* K is 7, what Temporal Self-Rewarding takes; the paper has 4, sampled at T 0.7, top_p 0.9.
* Equal scores: the first candidate; `ties: shortest` takes the shortest of the best instead
  (the length rule of Meta-Rewarding, arXiv 2407.19594).
* A candidate without a readable judgement is left out, never taken for a 0; one that was cut off
  is not chosen, since training on it teaches to break off.
* A DPO run is `optim.steps // iterations` steps, the paper's is one epoch; checkpoints are not
  picked by an outside judge.

Known failure modes: chosen and rejected become alike (`pairs/gap`, `pairs/similarity`), the judge
drifts with the policy (`judge/auc`), lengths grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rekindle.engine.policy import Policy
from rekindle.loops.world import World
from rekindle.methods.self_rewarding.candidates import (
    Picks,
    PicksRow,
    PromptCandidates,
    best,
    pick,
    picks_rows,
    read_candidates,
    worst,
)
from rekindle.methods.self_rewarding.rounds import Rounds, RoundsConfig, check

__all__ = ["PRESETS", "Config", "check", "explain_pairs", "pick_pairs", "run"]

# --- the rule


def pick_pairs(prompt: PromptCandidates, config: Config) -> Picks:
    """Highest against lowest of the current model's candidates."""
    chosen = best(prompt.current, ties=config.ties, choose_cut=config.choose_cut)
    return Picks(pick(chosen, worst(prompt.current)))


def explain_pairs(
    rows: Sequence[Mapping[str, object]], config: Config
) -> tuple[list[PicksRow], Counter[str]]:
    """`rekindle explain pairs`: the pairs of each row, and how many have none, by reason.

    Args:
        rows: {"id", "prompt", "current": [{"text", "score"}, ...]}; a null score is missing.

    Returns:
        {"id", "d1": {"chosen", "rejected"} or null, "d2": null} in the order of the rows.

    Raises:
        DataError: a row cannot be read; it is named.
    """
    prompts = [read_candidates(row) for row in rows]
    return picks_rows(prompts, [pick_pairs(prompt, config) for prompt in prompts])


# --- what can be set


class Config(RoundsConfig):
    """Self-rewarding's settings are those of its rounds."""


PRESETS: dict[str, Config] = {"self_rewarding": Config()}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """`iterations` rounds: sample, judge, pick, DPO."""
    rounds = Rounds(config, world)
    policy = rounds.seeded(world.policy)
    for i in range(1, config.iterations + 1):
        judge = rounds.begin(i, policy)
        answers = {"current": rounds.answers("candidates", "current", policy)}
        judged = rounds.judged("judged", judge, answers)
        picked = [pick_pairs(prompt, config).d1 for prompt in judged]
        pairs = rounds.pairs("pairs", picked, {"current": policy})
        policy = rounds.end(rounds.train("dpo", policy, pairs, kept=True))
    return policy
