"""Are chosen and rejected answers still apart?

    identical       share of all pairs whose two sides are one text, also after the template
    similarity      1 - edit distance / longer length, over characters (the first 1,000)
    alike           share of pairs with a similarity above 0.9
    cosine          of the last hidden states that have read the chosen and the rejected answer
    logp_gap        log p(chosen) - log p(rejected) under the model, nats an answer
    run/...         of the rounds of a run, see `run_rounds`

Texts that are alike may be right and wrong all the same: that the model surely tells them apart,
and what a judge keeps apart in a run, speak against widening the gap. Where the model surely finds
the rejected one likelier, the labels may be swapped.

Axes: N pairs that are compared, M pairs of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rekindle.engine.device import micro_tokens
from rekindle.engine.policy import Policy
from rekindle.engine.update import measure_batch
from rekindle.evals.intervals import Floats, cluster, wilson
from rekindle.loops.pair_step import edit_similarity, hidden_cosine, packed, same_sides
from rekindle.signals.findings import Advice, Finding, Measurement, Sentences, by_name
from rekindle.signals.run_rounds import JudgedRound, round_rows
from rekindle.tasks.pairs import PairRow

ALIKE = 0.9  # edit similarity of a pair that counts as alike
MOST = 0.5  # alike or identical pairs: a lower bound above
TELLS = 1.0  # nats; a log-prob gap surely beyond: the model tells the two sides apart
SHRUNK = 0.5  # last gap of a run as a share of its first
CHANCE, BLIND = 0.5, 0.6  # AUC of a run's judge; below, its pairs are noise, near or far
COMPARED = 64  # pairs, as many as a round compares
_CHARACTERS = 1000
_SAYS = Sentences("pairs")


def measure_pairs(
    policy: Policy, pairs: Sequence[PairRow], rounds: Sequence[JudgedRound] = ()
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
    same_M = np.array(same_sides(policy, pairs))
    return pair_finding(
        np.array(alike), cosine_N.cpu().numpy(), gap_N, same_M=same_M, rounds=rounds
    )


def pair_finding(
    similarity_N: Floats,
    cosine_N: Floats,
    gap_N: Floats,
    *,
    same_M: np.ndarray | None = None,
    rounds: Sequence[JudgedRound] = (),
) -> Finding:
    """The state of the pairs; arrays are empty where there are none.

    Args:
        similarity_N, cosine_N, gap_N: of the pairs that are compared.
        same_M: bool, whether the two sides of a pair are one text; None: as similarity_N has it.
        rounds: of a self-rewarding run.
    """
    rows = list[Measurement]()
    if len(similarity_N):
        same = similarity_N == 1 if same_M is None else same_M
        rows = _rows(similarity_N, cosine_N, gap_N, same)
    rows += round_rows(rounds)
    table = by_name(rows)
    first, kept = table.get("run/gap_first"), table.get("run/gap_kept")
    if first is not None and first.value <= 0:
        return _SAYS.finding("no-gap", rows, against=[_SAYS.advice("no-gap")], gap=_gap(table))
    near = any(name in table and table[name].ci_low > MOST for name in ("alike", "identical"))
    shrunk = kept is not None and kept.ci_high < SHRUNK
    if near and not shrunk and _tells_apart(table):
        return _alike(rows, table)
    if near or shrunk:
        faults = [_SAYS.phrase("near", texts=_texts(table))] if near else []
        if shrunk:
            judge = table.get("run/judge_auc_last")
            auc = "" if judge is None else f", AUC of its judge {_auc(judge)}"
            gap = _gap(table)
            faults.append(_SAYS.phrase("shrunk", rounds=len(rounds), gap=gap, auc=auc))
        return _converged(" and ".join(faults), rows, _doubt(table, shrunk=shrunk))
    return _apart(rows, table)


def _rows(
    similarity_N: Floats, cosine_N: Floats, gap_N: Floats, same_M: np.ndarray
) -> list[Measurement]:
    inf, near = math.inf, int((similarity_N > ALIKE).sum())
    same = wilson(int(same_M.sum()), len(same_M))
    return [
        Measurement("identical", *same, "both sides one text, share"),
        Measurement("similarity", *cluster(similarity_N), "edit similarity, 1: equal"),
        Measurement(
            "alike", *wilson(near, len(similarity_N)), f"similarity above {ALIKE:g}, share"
        ),
        Measurement("cosine", *cluster(cosine_N, bounds=(-1, 1)), "of last hidden states"),
        Measurement(
            "logp_gap", *cluster(gap_N, bounds=(-inf, inf)), "chosen - rejected, nats an answer"
        ),
    ]


def _tells_apart(table: Mapping[str, Measurement]) -> bool:
    """Whether the model surely gives the two sides unlike probabilities, most being two texts."""
    gap, identical = table["logp_gap"], table["identical"]
    return identical.ci_high < MOST and (gap.ci_low > TELLS or gap.ci_high < -TELLS)


def _texts(table: Mapping[str, Measurement]) -> str:
    """What the texts of the pairs are like."""
    same = _SAYS.phrase("identical", rows=table) if table["identical"].value else ""
    return _SAYS.phrase("texts", rows=table) + same


def _apart(rows: list[Measurement], table: Mapping[str, Measurement]) -> Finding:
    """Nothing is borne out to have converged."""
    alike, first, kept = (table.get(n) for n in ("alike", "run/gap_first", "run/gap_kept"))
    parts = [] if alike is None else [_texts(table)]
    parts += [] if first is None else [_gap(table)]
    shown = "; ".join(parts)
    clear = alike is None or max(alike.ci_high, table["identical"].ci_high) < MOST
    open_ = first is None or (kept is not None and kept.ci_low >= SHRUNK)
    if not parts or not clear or not open_:
        shown = f": {shown}" if parts else ""
        if first is not None and kept is None:
            shown += _SAYS.phrase("not-kept")
        return _SAYS.finding("unsettled", rows, shown=shown)
    judge = table.get("run/judge_auc_last")
    if judge is not None and judge.value < BLIND:
        return _SAYS.finding("noise", rows, shown=shown, auc=_auc(judge))
    return _SAYS.finding("open", rows, shown=shown)


def _auc(judge: Measurement) -> str:
    return str(judge) + (" (one number, no interval)" if math.isnan(judge.ci_low) else "")


def _gap(table: Mapping[str, Measurement]) -> str:
    kept = table.get("run/gap_kept")
    share = "" if kept is None else f", {kept} of it is left"
    return _SAYS.phrase("gap", rows=table) + share


def _alike(rows: list[Measurement], table: Mapping[str, Measurement]) -> Finding:
    """Texts that have converged, and that the model surely tells apart all the same: a wider gap is
    not what is missing, and with chosen the less likely one the labels may be swapped."""
    gap = table["logp_gap"]
    closed = _doubt(table, shrunk=False) or _SAYS.phrase("unseen")
    against = _SAYS.advice("told-apart", closed=closed)
    if gap.ci_low > 0:
        return _SAYS.finding("told-apart", rows, against=[against], texts=_texts(table))
    # rejected minus chosen
    less = gap._replace(value=-gap.value, ci_low=-gap.ci_high, ci_high=-gap.ci_low)
    swapped = _SAYS.advice("swapped", less=less)
    return _SAYS.finding(
        "inverted", rows, against=[against, swapped], texts=_texts(table), less=less
    )


def _doubt(table: Mapping[str, Measurement], *, shrunk: bool) -> str | None:
    """What speaks against widening the gap of a judge; None: nothing does."""
    if "run/gap_first" not in table:
        return None
    if not shrunk:
        return _SAYS.phrase("not-closed", gap=_gap(table))
    judge = table.get("run/judge_auc_last")
    if judge is None:
        return _SAYS.phrase("unknown-judge")
    if judge.value < BLIND:
        return _SAYS.phrase("blind-judge", auc=_auc(judge))
    return _SAYS.phrase("chance-judge", auc=_auc(judge)) if judge.ci_low <= CHANCE else None


def _converged(fault: str, rows: list[Measurement], doubt: str | None) -> Finding:
    more = _SAYS.advice("more-steps")
    if doubt is not None:
        against = [Advice("temporal", doubt), more]
        return _SAYS.finding("converged", rows, against=against, fault=fault)
    why = fault if "judge" in fault else fault + _SAYS.phrase("no-judge")
    remedy = _SAYS.advice("temporal", fault=why)
    return _SAYS.finding("converged", rows, remedy=remedy, against=[more], fault=fault)
