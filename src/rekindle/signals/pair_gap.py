"""Are chosen and rejected answers still apart?

    similarity      1 - edit distance / longer length, over characters (the first 1,000)
    cosine          of the last hidden states that have read the chosen and the rejected answer
    logp_gap        log p(chosen) - log p(rejected) under the model, nats an answer
    run/gap         chosen minus rejected score of a run's judge, its first round and its last
    run/judge_auc   how well that judge told right from wrong, first round and last

A run's rounds have no interval: one number a round.

Axes: N pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rekindle.engine.device import micro_tokens
from rekindle.engine.policy import Policy
from rekindle.engine.update import measure_batch
from rekindle.evals.intervals import Floats, cluster
from rekindle.methods.pairs import Pair, edit_similarity, hidden_cosine, packed
from rekindle.signals.table import Advice, Finding, Row, point, row_of, said

ALIKE = 0.9  # edit similarity; converged: a lower bound above
SHRUNK = 0.5  # last gap of a run as a share of its first
BLIND = 0.6  # AUC of a run's judge; below, its pairs are noise, near or far
COMPARED = 64  # pairs, as many as a round compares
_CHARACTERS = 1000


def measure_pairs(
    policy: Policy, pairs: Sequence[Pair], rounds: Sequence[Mapping[str, Any]] = ()
) -> Finding:
    """Compare the two sides of the first 64 pairs under the model, and a run's rounds.

    Raises:
        DataError: a pair is longer than the model's context.
    """
    if not pairs:
        nothing = np.array([])
        return pair_finding(nothing, nothing, nothing, rounds=rounds)
    few = pairs[:COMPARED]
    limit = micro_tokens(None, policy.device)
    batch = packed(policy, few, total=1)
    scores = measure_batch(policy, batch, micro_tokens=limit, temperature=1.0)
    chosen_N, rejected_N = scores.logprobs_BT.nansum(dim=1).double().view(2, -1)
    alike = [edit_similarity(p["chosen"], p["rejected"], most=_CHARACTERS) for p in few]
    cosine_N = hidden_cosine(policy, few, micro_tokens=limit)
    gap_N = (chosen_N - rejected_N).cpu().numpy()
    return pair_finding(np.array(alike), cosine_N.cpu().numpy(), gap_N, rounds=rounds)


def pair_finding(
    similarity_N: Floats,
    cosine_N: Floats,
    gap_N: Floats,
    *,
    rounds: Sequence[Mapping[str, Any]] = (),
) -> Finding:
    """The state of the pairs; arrays are empty where there are none, `rounds` are a run's."""
    inf, rows = math.inf, list[Row]()
    if len(similarity_N):
        rows = [
            row_of("similarity", cluster(similarity_N), "edit similarity, 1: equal"),
            row_of("cosine", cluster(cosine_N, bounds=(-1, 1)), "of last hidden states"),
            row_of(
                "logp_gap", cluster(gap_N, bounds=(-inf, inf)), "chosen - rejected, nats an answer"
            ),
        ]
    rows += _of_rounds(rounds)
    table = {row.name: row for row in rows}
    alike, faults = table.get("similarity"), list[str]()
    if alike is not None and alike.ci_low > ALIKE:
        faults.append(f"the two sides share most of their text (similarity {said(alike)})")
    first, last = table.get("run/gap_first"), table.get("run/gap_last")
    if first is not None and last is not None and last.value < SHRUNK * first.value:
        faults.append(
            f"the judge's gap fell from {first.value:.3g} to {last.value:.3g} in {len(rounds)} "
            "rounds (one run, no interval)"
        )
    judge = table.get("run/judge_auc_last")
    blind = judge is not None and judge.value < BLIND
    if not faults:
        shown = [f"similarity {said(alike)}"] if alike is not None else []
        if first is not None and last is not None:
            shown.append(f"gap {first.value:.3g} in the first round, {last.value:.3g} in the last")
        clear = alike is None or alike.ci_high <= ALIKE
        if not shown or not clear:
            words = f"Whether chosen and rejected are apart is not settled: {', '.join(shown)}."
            return Finding("pairs", "unsettled", "between", words.replace(": .", "."), rows)
        words = f"Chosen and rejected are apart: {', '.join(shown)}."
        if judge is not None and blind:
            words += f" But the run's judge has an AUC of {judge.value:.3g}: its pairs are noise."
            return Finding("pairs", "noise", "between", words, rows)
        return Finding("pairs", "open", "well", words, rows)
    return _converged(" and ".join(faults), rows, judge if blind else None)


def _converged(fault: str, rows: list[Row], blind: Row | None) -> Finding:
    words = f"Chosen and rejected have converged: {fault}."
    why = (
        f"{fault}; it rejects from the past model and chooses from the future one, which keeps "
        "them apart. DPO on pairs that share most of their tokens has damaged small models here: "
        "a lower rate, and the chosen answers' own loss (dpo.nll)"
    )
    against = Advice(
        "dpo, more steps on these pairs",
        "what both sides share is pushed up and down at once; more epochs made it worse",
    )
    if blind is None:
        remedy = Advice("temporal", why)
        return Finding("pairs", "converged", "out", words, rows, remedy, (against,))
    why = f"the run's judge has an AUC of {blind.value:.3g}: whatever it keeps apart is noise"
    both = (Advice("temporal", why), against)
    return Finding("pairs", "converged", "out", words, rows, None, both)


def _of_rounds(rounds: Sequence[Mapping[str, Any]]) -> list[Row]:
    wanted = {
        "gap": ("pairs/gap", "judge's score, chosen - rejected"),
        "similarity": ("pairs/similarity", "edit similarity of the round's pairs"),
        "judge_auc": ("judge/auc", "right above wrong, by the judge"),
    }
    rows = []
    for name, (key, words) in wanted.items():
        known = [row[key] for row in rounds if row.get(key) is not None]
        if len(known) > 1:
            rows.append(point(f"run/{name}_first", known[0], len(known), f"{words}, first round"))
            rows.append(point(f"run/{name}_last", known[-1], len(known), f"{words}, last round"))
    return rows
