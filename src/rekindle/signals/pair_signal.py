"""Are chosen and rejected answers still apart?

    identical       share of all pairs whose two sides are one text
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
from rekindle.evals.intervals import Floats, Interval, cluster, wilson
from rekindle.loops.pair_step import edit_similarity, hidden_cosine, packed
from rekindle.signals.findings import Advice, Finding, Measurement, measurement, show
from rekindle.signals.run_rounds import JudgedRound, round_rows
from rekindle.tasks.pairs import PairRow

ALIKE = 0.9  # edit similarity of a pair that counts as alike
MOST = 0.5  # alike or identical pairs: a lower bound above
TELLS = 1.0  # nats; a log-prob gap surely beyond: the model tells the two sides apart
SHRUNK = 0.5  # last gap of a run as a share of its first
CHANCE, BLIND = 0.5, 0.6  # AUC of a run's judge; below, its pairs are noise, near or far
COMPARED = 64  # pairs, as many as a round compares
_CHARACTERS = 1000


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
    same_M = np.array([p["chosen"] == p["rejected"] for p in pairs])
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
    table = {row.name: row for row in rows}
    first, kept = table.get("run/gap_first"), table.get("run/gap_kept")
    if first is not None and first.value <= 0:
        verdict = f"The run's judge put chosen no higher than rejected: {_gap(table)}."
        against = (Advice("temporal", "there is no gap that it could keep open"),)
        return Finding("pairs", "no-gap", "out", verdict, rows, None, against)
    near = any(name in table and table[name].ci_low > MOST for name in ("alike", "identical"))
    shrunk = kept is not None and kept.ci_high < SHRUNK
    if near and not shrunk and _tells_apart(table):
        return _alike(rows, table)
    if near or shrunk:
        faults = [f"the two sides share most of their text ({_texts(table)})"] if near else []
        if shrunk:
            judge = table.get("run/judge_auc_last")
            auc = "" if judge is None else f", AUC of its judge {_auc(judge)}"
            faults.append(f"the judge's gap closed in {len(rounds)} rounds ({_gap(table)}{auc})")
        return _converged(" and ".join(faults), rows, _doubt(table, shrunk=shrunk))
    return _apart(rows, table)


def _rows(
    similarity_N: Floats, cosine_N: Floats, gap_N: Floats, same_M: np.ndarray
) -> list[Measurement]:
    inf, near = math.inf, int((similarity_N > ALIKE).sum())
    same = wilson(int(same_M.sum()), len(same_M))
    return [
        measurement("identical", same, "both sides one text, share"),
        measurement("similarity", cluster(similarity_N), "edit similarity, 1: equal"),
        measurement("alike", wilson(near, len(similarity_N)), f"similarity above {ALIKE:g}, share"),
        measurement("cosine", cluster(cosine_N, bounds=(-1, 1)), "of last hidden states"),
        measurement(
            "logp_gap", cluster(gap_N, bounds=(-inf, inf)), "chosen - rejected, nats an answer"
        ),
    ]


def _tells_apart(table: Mapping[str, Measurement]) -> bool:
    """Whether the model surely gives the two sides unlike probabilities, most being two texts."""
    gap, identical = table["logp_gap"], table["identical"]
    return identical.ci_high < MOST and (gap.ci_low > TELLS or gap.ci_high < -TELLS)


def _texts(table: Mapping[str, Measurement]) -> str:
    """What the texts of the pairs are like."""
    identical = table["identical"]
    same = f", identical {identical}: training leaves those out" if identical.value else ""
    return f"alike {table['alike']} of the pairs, similarity {table['similarity']}{same}"


def _apart(rows: list[Measurement], table: Mapping[str, Measurement]) -> Finding:
    """Nothing is borne out to have converged."""
    alike, first, kept = (table.get(n) for n in ("alike", "run/gap_first", "run/gap_kept"))
    shown = [] if alike is None else [_texts(table)]
    shown += [] if first is None else [_gap(table)]
    clear = alike is None or max(alike.ci_high, table["identical"].ci_high) < MOST
    open_ = first is None or (kept is not None and kept.ci_low >= SHRUNK)
    if not shown or not clear or not open_:
        verdict = f"Whether chosen and rejected are apart is not settled: {'; '.join(shown)}"
        if first is not None and kept is None:
            verdict += (
                "; the run has not kept the pairs of its first round and its last "
                "(stages/*-pairs-*): no interval, and nothing is recommended on it"
            )
        return Finding("pairs", "unsettled", "between", verdict.removesuffix(": ") + ".", rows)
    verdict = f"Chosen and rejected are apart: {'; '.join(shown)}."
    judge = table.get("run/judge_auc_last")
    if judge is not None and judge.value < BLIND:
        verdict += f" But the run's judge has an AUC of {_auc(judge)}: its pairs are noise."
        return Finding("pairs", "noise", "between", verdict, rows)
    return Finding("pairs", "open", "well", verdict, rows)


def _auc(judge: Measurement) -> str:
    return show(judge) + (" (one number, no interval)" if math.isnan(judge.ci_low) else "")


def _gap(table: Mapping[str, Measurement]) -> str:
    first, last = table["run/gap_first"], table["run/gap_last"]
    kept = table.get("run/gap_kept")
    share = "" if kept is None else f", {kept} of it is left"
    return f"gap {first} in the first round, {last} in the last{share}"


def _alike(rows: list[Measurement], table: Mapping[str, Measurement]) -> Finding:
    """Texts that have converged, and that the model surely tells apart all the same: a wider gap is
    not what is missing, and with chosen the less likely one the labels may be swapped."""
    gap = table["logp_gap"]
    texts = f"Chosen and rejected texts have converged ({_texts(table)})"
    closed = (
        _not_closed(table)
        if "run/gap_first" in table
        else "whether a judge's gap has closed is seen in the run that made the pairs, give it as "
        "--run"
    )
    against = Advice("temporal", f"the model tells the two sides apart; {closed}")
    if gap.ci_low > 0:
        verdict = (
            f"{texts}, and the model tells them apart all the same: chosen is more likely by "
            f"{gap} nats. That they are alike does not say that there is nothing left to "
            "learn from them, nor does the gap say that there is much. DPO on pairs that share "
            "most of their tokens has damaged small models here: a lower rate, and the chosen "
            "answers' own loss (dpo.nll)."
        )
        return Finding("pairs", "converged", "out", verdict, rows, None, (against,))
    less = show(_less(gap))
    verdict = (
        f"{texts}, and the model strongly prefers the rejected one: chosen is less likely by "
        f"{less} nats. Either the labels are swapped, or the model has this to learn: look at the "
        "pairs."
    )
    why = f"chosen is less likely by {less} nats: labels that are swapped would teach what is wrong"
    look = Advice("dpo, before you have looked at the pairs", why)
    return Finding("pairs", "inverted", "out", verdict, rows, None, (against, look))


def _less(gap: Measurement) -> Interval:
    """Rejected minus chosen."""
    return Interval(-gap.value, -gap.ci_high, -gap.ci_low, gap.n)


def _not_closed(table: Mapping[str, Measurement]) -> str:
    return f"that the gap of the run's judge closed is not borne out: {_gap(table)}"


def _doubt(table: Mapping[str, Measurement], *, shrunk: bool) -> str | None:
    """What speaks against widening the gap of a judge; None: nothing does."""
    if "run/gap_first" not in table:
        return None
    if not shrunk:
        return _not_closed(table)
    judge = table.get("run/judge_auc_last")
    if judge is None:
        return (
            "the AUC of the run's judge is not known in two rounds: whether what it keeps apart is "
            "right and wrong is not known"
        )
    if judge.value < BLIND:
        return f"the run's judge has an AUC of {_auc(judge)}: whatever it keeps apart is noise"
    if judge.ci_low <= CHANCE:
        return f"the run's judge has an AUC of {_auc(judge)}: what it keeps apart may be noise"
    return None


def _converged(fault: str, rows: list[Measurement], doubt: str | None) -> Finding:
    verdict = f"Chosen and rejected have converged: {fault}."
    against = Advice(
        "dpo, more steps on these pairs",
        "what both sides share is pushed up and down at once; more epochs made it worse",
    )
    if doubt is not None:
        both = (Advice("temporal", doubt), against)
        return Finding("pairs", "converged", "out", verdict, rows, None, both)
    if "judge" not in fault:
        fault += (
            ", and that the model tells them apart is not borne out; of the judge that made the "
            "pairs nothing is known, give its run as --run"
        )
    why = (
        f"{fault}; it rejects from the past model and chooses from the future one, which keeps "
        "them apart. Where it was tried here the gap stayed open and accuracy was level. DPO on "
        "pairs that share most of their tokens has damaged small models here: a lower rate, and "
        "the chosen answers' own loss (dpo.nll)"
    )
    return Finding("pairs", "converged", "out", verdict, rows, Advice("temporal", why), (against,))
