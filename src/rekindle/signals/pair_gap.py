"""Are chosen and rejected answers still apart?

    similarity      1 - edit distance / longer length, over characters (the first 1,000)
    cosine          of the last hidden states that have read the chosen and the rejected answer
    logp_gap        log p(chosen) - log p(rejected) under the model, nats an answer
    run/gap         chosen minus rejected score of a run's judge, its first round and its last
    run/gap_kept    the last over the first; bootstrap over the prompts of both rounds, where the
                    run has kept its pairs
    run/judge_auc   how well that judge told right from wrong, first round and last: one number each

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
from rekindle.evals.intervals import LEVEL, RESAMPLES, Floats, Interval, cluster
from rekindle.methods.pairs import Pair, edit_similarity, hidden_cosine, packed
from rekindle.signals.table import Advice, Finding, Row, point, row_of, said

ALIKE = 0.9  # edit similarity; converged: a lower bound above
SHRUNK = 0.5  # last gap of a run as a share of its first
BLIND = 0.6  # AUC of a run's judge; below, its pairs are noise, near or far
FEW = 8  # pairs of a round; with fewer the gap that is left has no interval
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
    """The state of the pairs; arrays are empty where there are none.

    `rounds` are a run's: `pairs/gap`, `judge/auc`, and `gaps` of the single pairs where there are.
    """
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
    alike, first, kept = (table.get(n) for n in ("similarity", "run/gap_first", "run/gap_kept"))
    if first is not None and first.value <= 0:
        words = f"The run's judge put chosen no higher than rejected: {_gap(table)}."
        against = (Advice("temporal", "there is no gap that it could keep open"),)
        return Finding("pairs", "no-gap", "out", words, rows, None, against)
    near = alike is not None and alike.ci_low > ALIKE
    shrunk = kept is not None and kept.ci_high < SHRUNK
    if near or shrunk:
        faults = []
        if near and alike is not None:
            faults.append(f"the two sides share most of their text (similarity {said(alike)})")
        if shrunk:
            faults.append(f"the judge's gap closed in {len(rounds)} rounds ({_gap(table)})")
        return _converged(" and ".join(faults), rows, _doubt(table))
    return _apart(rows, table)


def _apart(rows: list[Row], table: Mapping[str, Row]) -> Finding:
    """Nothing is borne out to have converged."""
    alike, first, kept = (table.get(n) for n in ("similarity", "run/gap_first", "run/gap_kept"))
    shown = [] if alike is None else [f"similarity {said(alike)}"]
    shown += [] if first is None else [_gap(table)]
    clear = alike is None or alike.ci_high <= ALIKE
    open_ = first is None or (kept is not None and kept.ci_low >= SHRUNK)
    if not shown or not clear or not open_:
        words = f"Whether chosen and rejected are apart is not settled: {'; '.join(shown)}"
        if first is not None and kept is None:
            words += (
                "; the run keeps one number a round, without its pairs (stages/*-pairs-*): no "
                "interval, and nothing is recommended on it"
            )
        return Finding("pairs", "unsettled", "between", words.removesuffix(": ") + ".", rows)
    words = f"Chosen and rejected are apart: {'; '.join(shown)}."
    judge = table.get("run/judge_auc_last")
    if judge is not None and judge.value < BLIND:
        words += f" But the run's judge has an AUC of {judge.value:.3g}: its pairs are noise."
        return Finding("pairs", "noise", "between", words, rows)
    return Finding("pairs", "open", "well", words, rows)


def _gap(table: Mapping[str, Row]) -> str:
    first, last = table["run/gap_first"], table["run/gap_last"]
    kept = table.get("run/gap_kept")
    share = "" if kept is None else f", {said(kept)} of it is left"
    return f"gap {said(first)} in the first round, {said(last)} in the last{share}"


def _doubt(table: Mapping[str, Row]) -> str | None:
    """What speaks against widening the gap of a run's judge; None: nothing, or there is no run."""
    if "run/gap_first" not in table:
        return None
    judge = table.get("run/judge_auc_last")
    if judge is None:
        return (
            "the AUC of the run's judge is not known in two rounds: whether what it keeps apart is "
            "right and wrong cannot be said"
        )
    if judge.value < BLIND:
        return f"the run's judge has an AUC of {judge.value:.3g}: whatever it keeps apart is noise"
    return None


def _converged(fault: str, rows: list[Row], doubt: str | None) -> Finding:
    words = f"Chosen and rejected have converged: {fault}."
    against = Advice(
        "dpo, more steps on these pairs",
        "what both sides share is pushed up and down at once; more epochs made it worse",
    )
    if doubt is not None:
        both = (Advice("temporal", doubt), against)
        return Finding("pairs", "converged", "out", words, rows, None, both)
    why = (
        f"{fault}; it rejects from the past model and chooses from the future one, which keeps "
        "them apart. Where it was tried here the gap stayed open and accuracy was level. DPO on "
        "pairs that share most of their tokens has damaged small models here: a lower rate, and "
        "the chosen answers' own loss (dpo.nll)"
    )
    return Finding("pairs", "converged", "out", words, rows, Advice("temporal", why), (against,))


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
    gaps = [np.array(row["gaps"]) for row in rounds if row.get("gaps")]
    if len(gaps) > 1 and any(row.name == "run/gap_first" for row in rows):
        rows.append(row_of("run/gap_kept", _kept(gaps[0], gaps[-1]), "last gap over first"))
    return rows


def _kept(first_N: Floats, last_N: Floats) -> Interval:
    """mean(last) / mean(first): no prompt is in both rounds, so each is drawn by itself."""
    n = min(len(first_N), len(last_N))
    nothing = first_N.mean() <= 0
    value = math.nan if nothing else float(last_N.mean() / first_N.mean())
    if n < FEW or nothing:
        return Interval(value, math.nan, math.nan, n)
    rng = np.random.default_rng(0)
    means = [
        values[rng.integers(len(values), size=(RESAMPLES, len(values)), dtype=np.int32)].mean(
            axis=1
        )
        for values in (first_N, last_N)
    ]
    if not (means[0] > 0).all():
        return Interval(value, math.nan, math.nan, n)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means[1] / means[0], [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)
