"""Temporal Self-Rewarding Language Models: chosen from the future, rejected from the past.

Wang et al. 2025, arXiv 2508.06026.

    M_0 = SFT(base; instructions + judge data)                                         eq. 4
    for i = 0, 1, ...:
        s_i, s_0 = judgements by M_i of K answers of M_i and K of M_0
        chosen_1 = argmax s_i
        rejected = argmin s_0 if min s_0 < min s_i else argmin s_i       anchored rejection
        M_f     = DPO(M_i; D_1),  D_1: s(chosen_1) > s(rejected)                       eq. 5
        s_f = judgements by M_i of K answers of M_f
        chosen_2 = argmax s_f if max s_f > max s_i else argmax s_i       future-guided chosen
        M_{i+1} = DPO(M_i; D_2),  D_2: s(chosen_2) > s(rejected)                       eq. 6

Both DPO runs start from M_i and are referenced to it; M_f is thrown away and judges nothing.

Axes: K candidates of a prompt.

What we changed or left out, and why:
* `past` and `future` are the paper's ablations; with both off this is `self_rewarding`, to the bit.
* A prompt without a judgement in either pool is left out; without one of the future's answers the
  current model's best is chosen (the paper says nothing).
* Ties, missing judgements, answers that were cut off, steps: as in `self_rewarding.py`.

Known failure modes: pairs of M_f against M_0 can be told apart by length or style alone; half of
the DPO runs make a model that is thrown away, and three times as many answers are sampled: compare
at equal DPO runs, equal updates and equal tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from rekindle.engine.policy import Policy
from rekindle.loops.world import World
from rekindle.methods.self_rewarding.candidates import (
    JudgedCandidate,
    Picks,
    PicksRow,
    PromptCandidates,
    best,
    pick,
    picks_rows,
    read_candidates,
    score_of,
    worst,
)
from rekindle.methods.self_rewarding.rounds import Rounds, RoundsConfig, check

__all__ = ["PRESETS", "Config", "check", "explain_pairs", "pick_pairs", "run"]

# --- the rules


def anchored(
    current: JudgedCandidate | None, initial: JudgedCandidate | None
) -> JudgedCandidate | None:
    """The initial model's worst answer where it is strictly worse than the current one's.

    None where either model has no judged answer.
    """
    if current is None or initial is None:
        return None
    return initial if score_of(initial) < score_of(current) else current


def guided(
    current: JudgedCandidate | None, future: JudgedCandidate | None
) -> JudgedCandidate | None:
    """The future model's best answer where it is strictly better than the current one's."""
    if current is None or future is None:
        return current or future
    return future if score_of(future) > score_of(current) else current


def pick_pairs(prompt: PromptCandidates, config: Config) -> Picks:
    """The pairs of one prompt, for the future model (`d1`) and for the next one (`d2`)."""
    top = best(prompt.current, ties=config.ties, choose_cut=config.choose_cut)
    low = worst(prompt.current)
    if config.past:
        low = anchored(low, worst(prompt.initial or ()))
    d1 = pick(top, low)
    if not config.future or prompt.future is None:
        return Picks(d1)
    ahead = best(prompt.future, ties=config.ties, choose_cut=config.choose_cut)
    return Picks(d1, pick(guided(top, ahead), low))


def explain_pairs(
    rows: Sequence[Mapping[str, object]], config: Config
) -> tuple[list[PicksRow], Counter[str]]:
    """`rekindle explain pairs`: the pairs of each row, and how many are not there, by reason.

    Args:
        rows: {"id", "prompt", "current", "initial", "future"}, each of the last three a list of
            {"text", "score"}; a null score is missing, a null future has not been sampled.

    Returns:
        {"id", "d1": {"chosen", "rejected"} or null, "d2": the same} in the order of the rows.

    Raises:
        DataError: a row cannot be read; it is named.
    """
    prompts = [read_candidates(row, initial=config.past, future=config.future) for row in rows]
    return picks_rows(prompts, [pick_pairs(prompt, config) for prompt in prompts])


# --- what can be set


class Config(RoundsConfig):
    """Self-rewarding's settings, and the two switches."""

    past: bool = Field(default=True, description="anchored rejection; off: the paper's ablation")
    future: bool = Field(
        default=True, description="future-guided chosen; off: 'w/o Future', the paper's table 2"
    )


PRESETS: dict[str, Config] = {
    "temporal": Config(iterations=2),
    "temporal_past": Config(future=False),
    "temporal_future": Config(iterations=2, past=False),
}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Algorithm 1: pairs against the past, a future model from them, pairs towards it."""
    rounds = Rounds(config, world)
    start = policy = rounds.seeded(world.policy)
    for i in range(1, config.iterations + 1):
        judge = rounds.begin(i, policy)
        models = {"current": policy}
        answers = {"current": rounds.answers("candidates", "current", policy)}
        if config.past:
            models["initial"] = start
            answers["initial"] = rounds.answers("initial", "initial", start)
        judged = rounds.judged("judged", judge, answers)
        picked = [pick_pairs(prompt, config) for prompt in judged]
        pairs = rounds.pairs("pairs", [both.d1 for both in picked], models)
        if config.future:
            models["future"] = rounds.train("future", policy, pairs, kept=False)
            ahead = {"future": rounds.answers("ahead", "future", models["future"])}
            judged = rounds.judged("judged-ahead", judge, ahead)
            picked = [pick_pairs(prompt, config) for prompt in judged]
            pairs = rounds.pairs("pairs-next", [both.d2 for both in picked], models)
        policy = rounds.end(rounds.train("dpo", policy, pairs, kept=True))
    return policy
