"""Weak-to-Strong Reasoning: a strong model learns from a weaker one's unreliable answers.

Yang, Ma and Liu 2024, arXiv 2407.13647 (v2). It numbers no equations; the steps are its figure 3's.

    m       = SFT(weak base; gold of half 1)
    D_weak  = greedy answers of m to the questions Q of half 2
    D_icl   = greedy answers of M (as it is) to Q, shown 4 of D_weak
    I       keep q iff answer(D_weak, q) = answer(D_icl, q), and it is one
            M_plus = SFT(M; both texts of each kept question)          weak-ft, icl-ft: one of them
            iteration 2: M_weak-ft and M_icl-ft answer Q anew, again from M
    II      a+ = the commonest answer of 10 samples of M_plus, c = its share
            weak answer is a+,     c >= tau_chosen:    weak text over a sample that says otherwise
            weak answer is not a+, c >= tau_rejected:  a sample that says a+ over the weak text
            M_pro = DPO or ORPO(M_plus; pairs)

The strong model never sees gold of half 2, but for the ceiling.

Axes: none; texts in, texts out.

What we changed or left out, and why:
* Answers are equal by canonical form (rewards/answers.py); the released code compares strings.
* Two thresholds, as in the released code, which made the data; both the same is the paper's text.
  Below tau_chosen there is no pair of either kind.
* Halves share no question (279 of the paper's do); one that does is an error.
* Demos' own questions are left out of D_icl: there the answer stands in the prompt.
* Pairs of a question have a random generator of its own, and each text once.
* Of the three models of stage I only those that are used are trained (`stage1`).
* DPO's reference is M_plus; `pad_to` fills up what the filter keeps, as two of the paper's files.

Known failure modes: the filter keeps easy questions; M_plus that agrees with m on everything has no
pairs; a majority that is wrong teaches against a weak answer that is right.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.errors import DataError
from rekindle.loops.checks import refuse_faults
from rekindle.loops.stages import GeneratedRow
from rekindle.loops.world import World
from rekindle.methods.weak_to_strong.halves import HalvesConfig
from rekindle.methods.weak_to_strong.pairs import (
    DIFFERENT,
    FEW_VOTES,
    NO_ANSWER,
    NO_WINNER,
    Consistent,
    Equality,
    KeptRow,
    Question,
    QuestionPairs,
    WeakPairRow,
    at_least,
    draw_rows,
    drop_repeats,
    pair_of,
    read_answer,
    read_question,
    refuse_other_questions,
    vote,
)
from rekindle.methods.weak_to_strong.stages import WeakToStrongRun
from rekindle.tasks.task import stable_hash

TrainOn = Literal["consistent", "random", "weak", "demos", "votes", "gold", "nothing"]

# --- the rules


def consistent(
    weak: Sequence[GeneratedRow],
    icl: Sequence[GeneratedRow],
    *,
    equality: Equality = "canonical",
    pad_to: int | None = None,
    seed: int = 0,
) -> Consistent:
    """Stage I's filter: questions on which both models give the same final answer.

    Args:
        weak, icl: answers to the same questions in the same order.

    Raises:
        DataError: the rows are of different questions.
    """
    refuse_other_questions(weak, icl)
    kept, differ = list[tuple[KeptRow, KeptRow]](), list[tuple[KeptRow, KeptRow]]()
    dropped = Counter[str]()
    for ours, theirs in zip(weak, icl, strict=True):
        rows: tuple[KeptRow, KeptRow] = {**ours, "side": "weak"}, {**theirs, "side": "icl"}
        forms = [read_answer(r["id"], "text", r, equality=equality).form for r in rows]
        if forms[0] is None:
            dropped[NO_ANSWER] += 1
        elif forms[0] == forms[1]:
            kept.append(rows)
        else:
            dropped[DIFFERENT] += 1
            differ += [rows] if forms[1] is not None else []
    lacking = max(0, (pad_to or 0) - len(kept))
    more = draw_rows(differ, lacking, role="pad", seed=seed)
    dropped[DIFFERENT] -= len(more)
    kept += more
    hybrid = [row for rows in kept for row in rows]
    return Consistent(hybrid, +dropped)


def make_pairs(
    question: Question,
    *,
    tau_chosen: float = 0.6,
    tau_rejected: float = 0.8,
    max_pairs: int = 1,
    unreadable: bool = True,
    seed: int = 0,
) -> QuestionPairs:
    """Stage II's pairs of one question.

    Draws depend on the seed and the id alone. Texts without an answer may be rejected where
    `unreadable`; an empty text is never chosen. Of several pairs the first sample is drawn and the
    rest, where the weak text is rejected, come in the samples' order; no text is there twice.
    """
    winner, weak = vote(question.samples), question.weak
    differ = [sample for sample in winner.differ if unreadable or sample.form is not None]
    rng = random.Random(stable_hash("w2s pairs", seed, question.id))
    if not at_least(winner.votes, winner.n, tau_chosen):
        return QuestionPairs([], FEW_VOTES)
    if winner.answer is None:
        return QuestionPairs([], NO_WINNER)
    right = weak.form == winner.answer
    if right and not differ:
        return QuestionPairs([], "too easy")
    if weak.form is None and not unreadable:
        return QuestionPairs([], NO_ANSWER)
    if not right and not at_least(winner.votes, winner.n, tau_rejected):
        return QuestionPairs([], "the weak model is outvoted by too few")
    chosen = [answer for answer in ([weak] if right else winner.agree) if answer.text.strip()]
    if not chosen:
        return QuestionPairs([], "the chosen text is empty")
    if right:
        others = drop_repeats(rng.sample(differ, len(differ)), other_than=weak.text)
        sides = [(weak, other) for other in others]
    else:
        others = drop_repeats([rng.choice(chosen), *chosen], other_than=weak.text)
        sides = [(other, weak) for other in others]
    share = winner.votes / winner.n
    pairs = [pair_of(question, *both, confidence=share) for both in sides[:max_pairs]]
    return QuestionPairs(pairs, None if pairs else "the texts are the same")


def pairs_of(
    questions: Iterable[Question], config: Config
) -> tuple[list[WeakPairRow], Counter[str]]:
    """The pairs of all questions, and how many questions have none, by reason.

    Raises:
        DataError: an id is there twice; it is named.
    """
    decides = {"tau_chosen", "tau_rejected", "max_pairs", "unreadable", "seed"}
    settings = config.model_dump(include=decides)
    pairs: list[WeakPairRow] = []
    skipped, seen = Counter[str](), set[str]()
    for question in questions:
        if str(question.id) in seen:
            raise DataError(
                f"row '{question.id}' is there twice", wanted="an id of its own for each"
            )
        seen.add(str(question.id))
        these = make_pairs(question, **settings)
        pairs.extend(these.pairs)
        if these.reason is not None:
            skipped[these.reason] += 1
    return pairs, skipped


def explain_pairs(
    rows: Sequence[Mapping[str, object]], config: Config
) -> tuple[list[WeakPairRow], Counter[str]]:
    """`rekindle explain pairs`: the pairs of all rows, and how many rows have none, by reason.

    Args:
        rows: {"id", "prompt", "weak": {"text", "answer"}, "samples": [{"text", "answer"}, ...]},
            see `pairs.py`.

    Returns:
        {"id", "prompt", "chosen", "rejected", "weak_side", "confidence"} in the order of the rows.

    Raises:
        DataError: a row cannot be read, or an id is there twice; it is named.
    """
    return pairs_of((read_question(row, equality=config.equality) for row in rows), config)


# --- what can be set


class Config(HalvesConfig):
    """The rules' settings; those of models, data and budgets are in `halves.py`."""

    train_on: TrainOn = Field(
        default="consistent", description="texts that the strong model learns from; see PRESETS"
    )
    stage1: Literal["weak", "icl", "hybrid"] = Field(
        default="hybrid", description="whose kept texts make M_plus; hybrid has the best pass@10"
    )
    loss: Literal["dpo", "orpo", "none"] = Field(default="dpo", description="of stage II")
    tau_chosen: float = Field(default=0.6, gt=0, le=1, description="released code; weak is chosen")
    tau_rejected: float = Field(default=0.8, gt=0, le=1, description="the same; weak is rejected")
    max_pairs: int = Field(default=1, ge=1, description="a question; 1 on GSM8K, 3 on MATH")
    unreadable: bool = Field(default=True, description="texts without an answer may be rejected")


PRESETS: dict[str, Config] = {
    "weak_to_strong": Config(),
    "w2s_stage1": Config(loss="none"),
    "w2s_full_weak": Config(train_on="weak", loss="none"),
    "w2s_weak_icl": Config(
        train_on="demos", loss="none"
    ),  # nothing is trained; evaluated with the demos
    "w2s_random": Config(train_on="random", loss="none"),  # as many weak texts as the filter keeps
    "w2s_self_training": Config(train_on="votes", loss="none"),  # the strong model's own majorities
    "w2s_ceiling": Config(train_on="gold", loss="none"),
    "w2s_floor": Config(train_on="nothing", loss="none"),  # the weak model itself
}


def check(config: Config, sample: SampleConfig) -> None:
    """Settings that the schema accepts and nobody can mean."""
    two_stages = config.loss != "none"
    samples = two_stages or config.train_on == "votes"
    faults: dict[str, object] = {
        f"loss: {config.loss} has no pairs to train on": two_stages
        and config.train_on != "consistent",
        "iterations has no effect": config.iterations > 1 and config.train_on != "consistent",
        "tau_rejected is below tau_chosen, which comes first": two_stages
        and config.tau_rejected < config.tau_chosen,
        "dpo.pairs and orpo.pairs have no effect, pairs are made": config.dpo.pairs
        or config.orpo.pairs,
        "samples at sample.temperature 0 are all the same": samples and sample.temperature == 0,
    }
    got = f"train_on: {config.train_on}, loss: {config.loss}"
    refuse_faults("weak_to_strong", faults, got=got, page="has the baselines")


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Stage I and stage II, or the baseline that `train_on` names."""
    this, strong = WeakToStrongRun(config, world), world.policy
    if config.train_on == "gold":
        return this.sft("sft", this.gold())
    if config.train_on == "votes":
        return this.sft("sft", this.majorities(strong, tau=config.tau_chosen))
    weak = this.weak_model(kept=config.train_on == "nothing")
    if config.train_on == "nothing":
        return weak
    weak_rows = this.greedy("weak", weak)
    if config.train_on == "weak":
        return this.sft("sft", weak_rows)
    demos = this.demos(weak_rows, weak)
    if config.train_on == "demos":
        return this.prompted(demos)
    icl_rows = this.greedy("icl", strong, demos)
    with_icl = {row["id"] for row in icl_rows}
    shared = config.model_dump(include={"equality", "pad_to", "seed"})
    same = consistent([row for row in weak_rows if row["id"] in with_icl], icl_rows, **shared)
    models = {"weak": weak, "icl": strong}
    kept = this.kept(1, same.hybrid, same.dropped, models, of=weak_rows)
    if config.train_on == "random":
        return this.sft("sft", this.some(weak_rows, len(kept) // 2, weak))
    for i in range(2, config.iterations + 1):
        sides = {side: [row for row in kept if row["side"] == side] for side in ("weak", "icl")}
        models = {side: this.sft(f"{side}-ft", rows, kept=False) for side, rows in sides.items()}
        again = [this.greedy(f"{side}-{i}", model) for side, model in models.items()]
        same = consistent(*again, **shared)
        kept = this.kept(i, same.hybrid, same.dropped, models, of=again[0])
    plus = this.sft("sft", [row for row in kept if config.stage1 in ("hybrid", row["side"])])
    if config.loss == "none":
        return plus
    pairs, dropped = pairs_of(this.voted(weak_rows, plus), config)
    pairs = this.pairs(pairs, dropped, {"weak": weak, "strong": plus})
    return this.stage_two(config.loss, plus, pairs)
