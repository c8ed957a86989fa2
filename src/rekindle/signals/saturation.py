"""Has SFT stopped giving signal on this data?

For each supervised token of training samples, teacher-forced, with p the probability of the target:

    above 0.99     share of tokens with p > 0.99
    non-target     1 - p, the size of the gradient of the target's logit (dloss/dz_y = p - 1)
    nll            -log p, on training and on held-out samples: a gap is memory
    chain          probability of a whole reference answer, exp(sum log p)

and with a weak checkpoint what WMSS would see (arXiv 2602.08222): the change of entropy of each
sample, and the share of the mixed loss's gradient that falls on tokens above 0.99.

Axes: P samples, V vocabulary. Intervals are over samples (bootstrap-t), each weighed by its tokens'
mean.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from rekindle.engine.batch import Batch, count, pack
from rekindle.engine.device import Alone, micro_tokens
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.engine.update import measure_batch
from rekindle.errors import DataError
from rekindle.evals.intervals import Floats, Interval, cluster
from rekindle.methods.mix_signal import SATURATED, TOKENS, MixSignal
from rekindle.records import Problem
from rekindle.signals.table import Advice, Finding, Health, Row, said

__all__ = ["Row", "Saturation", "saturation", "sft_finding"]

LITTLE, MUCH = 0.01, 0.05  # mean non-target mass: below, SFT has hardly any gradient; above, plenty
KNOWN = 0.95  # probability of a held-out reference answer; above, there is nothing to gain
BACK, TIMES = 0.5, 2.0  # what mixing must bring: share on tokens above 0.99, times SFT's gradient
MEMORY = 2.0  # held-out nll as a multiple of the training nll


class Saturation(NamedTuple):
    """The table, and what it says."""

    rows: list[Row]
    state: str  # saturated | memorised | fading | alive
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        rows = [row._asdict() for row in self.rows]
        return {"signal": "sft", "state": self.state, "verdict": self.verdict, "rows": rows}


def saturation(
    policy: Policy,
    train: Sequence[Problem],
    held_out: Sequence[Problem],
    *,
    weak: Policy | None = None,
    lam: float = 0.5,
) -> Saturation:
    """Measure it on training and held-out samples with solutions.

    Raises:
        DataError: no sample with a solution in one of the two.
        ModelError: `weak` has another tokenizer or vocabulary.
    """
    seen, fresh = _batch(policy, train, "train"), _batch(policy, held_out, "dev")
    ours, theirs = _measured(policy, seen), _measured(policy, fresh)
    rows = [
        _row("tokens/above_099", ours["sure"], "share of supervised tokens above 0.99"),
        _row("mass/non_target", ours["mass"], "gradient of the target's logit, 1 - p"),
        _row("entropy", ours["entropy"], "nats a token", top=float("inf")),
        _row("nll", ours["nll"], "nats a token, training samples", top=float("inf")),
        _row("nll/held_out", theirs["nll"], "the same, held-out samples", top=float("inf")),
        _row("chain_prob", ours["chain"], "probability of a reference answer, training"),
        _row("chain_prob/held_out", theirs["chain"], "the same, held-out"),
    ]
    if weak is not None:
        check_pair(policy, weak)
        rows += _with_weak(policy, weak, seen, ours["entropy"], lam)
    state, verdict = _verdict({row.name: row for row in rows})
    return Saturation(rows, state, verdict)


def sft_finding(found: Saturation) -> Finding:
    """The same as a finding: WMSS fits a saturated model, if a weak one was measured beside it."""
    if found.state not in ("saturated", "memorised"):
        health: Health = "well" if found.state == "alive" else "between"
        return Finding("sft", found.state, health, found.verdict, found.rows)
    rows = {row.name: row for row in found.rows}
    mass, fresh = rows["mass/non_target"], rows["chain_prob/held_out"]
    left = f"the gradient is {said(mass)} a token"
    against = [Advice("sft, more steps on the same data", left)]
    remedy = None
    if fresh.ci_low > KNOWN:
        why = f"held-out answers have probability {said(fresh)}: there is nothing left to gain"
        against.append(Advice("wmss", why))
    elif "mix/gradient" not in rows:
        against.append(Advice("wmss", "no weak model was measured: give --weak"))
    else:
        ratio, back = rows["mix/gradient"].value / mass.ci_high, rows["mix/reactivated"].value
        shown = (
            f"mixed with the weak model the gradient is at least {ratio:.2g} times SFT's, "
            f"{back:.0%} of it on tokens above 0.99"
        )
        if ratio > TIMES and back > BACK:
            why = f"{shown}. A larger gradient is no proof: the study has wmss_d0 and sft_restart"
            remedy = Advice("wmss", why)
        else:
            against.append(Advice("wmss", f"{shown}: too little to change what is learnt"))
    return Finding("sft", found.state, "out", found.verdict, found.rows, remedy, tuple(against))


def _batch(policy: Policy, problems: Sequence[Problem], split: str) -> Batch:
    solved = [(p, p.solution) for p in problems if p.solution is not None]
    if not solved:
        raise DataError(
            f"no sample of the {split} split has a solution",
            got=f"{len(problems)} problems",
            why="whether SFT has signal left is seen on the answers it would be trained on",
            fix="add a 'solution' field",
        )
    prompts = [policy.encode_prompt(problem) for problem, _ in solved]
    answers = [policy.encode_completion(problem, text) for problem, text in solved]
    return pack(prompts, answers, reduction="token", total=count(answers))


def _measured(policy: Policy, batch: Batch) -> dict[str, Floats]:
    limit = micro_tokens(None, policy.device)
    scores = measure_batch(policy, batch, micro_tokens=limit, temperature=1.0)
    logp_PT = scores.logprobs_BT
    gone_PT = logp_PT.isnan()
    sure_PT = (logp_PT.exp() > SATURATED).double().masked_fill(gone_PT, torch.nan)
    return {
        "sure": sure_PT.nanmean(dim=1).numpy(),
        "mass": (1 - logp_PT.exp()).nanmean(dim=1).numpy(),
        "entropy": scores.entropy_BT.nanmean(dim=1).numpy(),
        "nll": -logp_PT.nanmean(dim=1).numpy(),
        "chain": logp_PT.nansum(dim=1).exp().numpy(),
    }


@torch.no_grad()
def _with_weak(
    policy: Policy, weak: Policy, batch: Batch, entropy_P: Floats, lam: float
) -> list[Row]:
    change_P = entropy_P - _measured(weak, batch)["entropy"]
    signal = MixSignal(lam)
    for micro in batch.split(micro_tokens(None, policy.device)):
        moved = micro.to(policy.device)
        mask_BT, target_BT = moved.mask_BT, moved.tokens_BS[:, moved.start :]
        strong_ND, weak_ND = (
            p.hidden(moved.tokens_BS, moved.attend_BS, start=moved.start)[mask_BT]
            for p in (policy, weak)
        )
        target_N = target_BT[mask_BT]
        for first in range(0, len(target_N), TOKENS):
            part = slice(first, first + TOKENS)
            strong_NV, weak_NV = strong_ND[part] @ policy.head().T, weak_ND[part] @ weak.head().T
            signal.add(strong_NV, weak_NV, target_N[part])
    found = signal.metrics(Alone())
    tokens, nan = batch.tokens, float("nan")
    words = {
        "margin/strong": "z[y] - largest other logit, nats",
        "margin/weak": "the same of the weak model",
        "mix/gradient": f"gradient of the target's logit when mixed, lam {lam:g}",
        "mix/amplified": "share of tokens where that is more than SFT's",
        "mix/reactivated": "share of that gradient on tokens above 0.99",
    }
    mixed = [Row(name, found[name], nan, nan, tokens, text) for name, text in words.items()]
    inf = float("inf")
    share_P = (change_P < 0).astype(float)
    return [
        _row("entropy/change", change_P, "strong minus weak, nats a token", low=-inf, top=inf),
        _row("entropy/fell", share_P, "share of samples on which the strong model is surer"),
        *mixed,
    ]


def _row(name: str, values_P: Floats, words: str, *, low: float = 0.0, top: float = 1.0) -> Row:
    found: Interval = cluster(values_P, bounds=(low, top))
    return Row(name, found.value, found.ci_low, found.ci_high, found.n, words)


def _verdict(rows: dict[str, Row]) -> tuple[str, str]:
    """A state that the intervals bear out, and the sentence for it."""
    mass, nll, fresh = rows["mass/non_target"], rows["nll"], rows["nll/held_out"]
    left = (
        f"1 - p is {mass.value:.3g} [{mass.ci_low:.3g}, {mass.ci_high:.3g}] a token, "
        f"{rows['tokens/above_099'].value:.1%} of tokens are above 0.99"
    )
    if mass.ci_high < LITTLE:
        state = "saturated"
        said = f"SFT has stopped giving signal on this data: {left}."
        if fresh.ci_low > MEMORY * nll.value:
            state = "memorised"
            said += (
                f" Held-out answers are not learnt with it (nll {fresh.value:.3f} against "
                f"{nll.value:.3f}): more data, not more steps."
            )
        else:
            said += " Held-out answers are as well known: what is left to gain is not in this data."
    elif mass.ci_low > MUCH:
        state, said = "alive", f"SFT still has signal: {left}. Train on before anything else."
    else:
        state, said = "fading", f"SFT has some signal left, and it is fading: {left}."
    if "mix/reactivated" in rows:
        said += _of_the_mix(rows)
    return state, said


def _of_the_mix(rows: dict[str, Row]) -> str:
    back, more = rows["mix/reactivated"].value, rows["mix/amplified"].value
    ratio = rows["mix/gradient"].value / max(rows["mass/non_target"].value, 1e-12)
    return (
        f" Mixed with the weak model the gradient is {ratio:.2f} times SFT's; {back:.0%} of it is "
        f"on tokens above 0.99, and it is larger on {more:.0%} of all tokens. That it is larger "
        "does not say that it helps: compare wmss with wmss_d0 and sft_restart."
    )
