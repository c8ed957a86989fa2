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
from collections.abc import Sequence
from typing import Any

from rekindle.engine.policy import Policy
from rekindle.loops.world import World
from rekindle.methods.self_rewarding.candidates import (
    NOT_ASKED,
    Candidate,
    Pick,
    Picks,
    Row,
    candidates_of,
    explained,
    id_of,
    score_of,
)
from rekindle.methods.self_rewarding.rounds import Knobs, Rounds, Ties, check

__all__ = ["PRESETS", "Config", "check", "explain_pairs", "picks", "run"]

# --- the rule


def best(candidates: Sequence[Candidate], *, ties: Ties, choose_cut: bool) -> Candidate | None:
    """The highest score among those that may be chosen, None when there is none.

    Of equal ones the first, or with `shortest` the shortest (and of these the first).
    """
    usable = [c for c in candidates if c.score is not None and (choose_cut or not c.cut)]
    length = (lambda c: -len(c.text)) if ties == "shortest" else (lambda c: 0)
    return max(usable, key=lambda c: (score_of(c), length(c)), default=None)


def worst(candidates: Sequence[Candidate]) -> Candidate | None:
    """The lowest score, of equal ones the first; None when none has a score."""
    usable = [c for c in candidates if c.score is not None]
    return min(usable, key=score_of, default=None)


def pick(chosen: Candidate | None, rejected: Candidate | None) -> Pick:
    """The pair, if there is anything to learn from it."""
    if rejected is None:
        return Pick(reason="no answer with a judgement")
    if chosen is None:
        return Pick(reason="every judged answer was cut off")
    if score_of(chosen) <= score_of(rejected):
        return Pick(reason="equal scores")
    if chosen.text == rejected.text:
        return Pick(reason="chosen is rejected")
    if not chosen.text.strip():
        return Pick(reason="chosen is empty")
    return Pick(chosen, rejected)


def picks(row: Row, config: Config) -> Picks:
    """Highest against lowest of the current model's candidates."""
    current = candidates_of(row, "current")
    chosen = best(current, ties=config.ties, choose_cut=config.choose_cut)
    return Picks(pick(chosen, worst(current)), Pick(reason=NOT_ASKED))


def explain_pairs(rows: Sequence[Row], config: Config) -> tuple[list[dict[str, Any]], Counter[str]]:
    """`rekindle explain pairs`: the pairs of each row, and how many have none, by reason.

    Args:
        rows: {"id", "prompt", "current": [{"text", "score"}, ...]}; a null score is missing.

    Returns:
        {"id", "d1": {"chosen", "rejected"} or null, "d2": null} in the order of the rows.

    Raises:
        DataError: a row cannot be read; it is named.
    """
    return explained([(id_of(row), picks(row, config)) for row in rows])


# --- what can be set


class Config(Knobs):
    """Self-rewarding's knobs are those of its rounds."""


PRESETS: dict[str, Config] = {"self_rewarding": Config()}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """`iterations` rounds: sample, judge, pick, DPO."""
    rounds = Rounds(config, world)
    policy = rounds.seeded(world.policy)
    for i in range(1, config.iterations + 1):
        judge = rounds.begin(i, policy)
        answers = {"current": rounds.answers("candidates", "current", policy)}
        rows = rounds.rows_of(rounds.judged("judged", judge, answers))
        found = [picks(row, config).d1 for row in rows]
        pairs = rounds.pairs("pairs", found, {"current": policy})
        policy = rounds.end(rounds.train("dpo", policy, pairs, kept=True))
    return policy
