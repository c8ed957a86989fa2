"""Has SFT stopped giving signal on this data?

For each supervised token of training samples, teacher-forced, with p the probability of the target:

    above 0.99     share of tokens with p > 0.99
    non-target     1 - p, the size of the gradient of the target's logit (dloss/dz_y = p - 1)
    nll            -log p, on training and on held-out samples: a gap is memory
    chain          probability of a whole reference answer, exp(sum log p)

and with a weak checkpoint what WMSS would see (arXiv 2602.08222), from each sample's own means over
its tokens, so that both gradients are averaged the same way and samples can be drawn anew:

    mix/gradient       lam (1 - p_mix), mean over samples
    mix/ratio          that over SFT's 1 - p, of the same samples; bootstrap over samples
    mix/reactivated    share of the mixed gradient on tokens above 0.99; bootstrap over samples

Axes: P samples, N tokens of one sample, B, T, V vocabulary, D width. Intervals are over samples
(bootstrap-t), each weighed by its tokens' mean.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from rekindle.engine.batch import Batch, count, pack
from rekindle.engine.device import Group, micro_tokens
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.engine.update import measure_batch
from rekindle.errors import DataError
from rekindle.evals.intervals import RESAMPLES, Floats, Interval, cluster, few_differ, percentiles
from rekindle.methods.wmss.telemetry import SATURATED, TOKENS, MixSignal
from rekindle.records import Problem
from rekindle.signals.findings import Finding, Health, Measurement, Sentences, by_name
from rekindle.signals.texts import refusal

LITTLE, MUCH = 0.01, 0.05  # mean non-target mass: below, SFT has hardly any gradient; above, plenty
KNOWN = 0.95  # probability of a held-out reference answer; above, there is nothing to gain
BACK, TIMES = 0.5, 2.0  # what mixing must bring: share on tokens above 0.99, times SFT's gradient
FEW = 8  # samples; with fewer a ratio has no interval
MEMORY = 2.0  # held-out nll as a multiple of the training nll
_SAYS = Sentences("sft")


def saturation(
    policy: Policy,
    train: Sequence[Problem],
    held_out: Sequence[Problem],
    *,
    weak: Policy | None = None,
    lam: float = 0.5,
) -> Finding:
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
        change_P = ours["entropy"] - _measured(weak, seen)["entropy"]
        inf = math.inf
        rows += [
            _row("entropy/change", change_P, "strong minus weak, nats a token", low=-inf, top=inf),
            _row("entropy/fell", (change_P < 0).astype(float), "samples where the strong is surer"),
            *mix_rows(policy, weak, seen, lam=lam),
        ]
    return sft_finding(rows, *judge(by_name(rows)))


def has_signal(finding: Finding) -> bool:
    """Whether the intervals say that SFT's gradient is more than next to nothing."""
    if finding.state not in ("alive", "fading", "unsettled"):
        return False
    return next(row.ci_low for row in finding.rows if row.name == "mass/non_target") >= LITTLE


def sft_finding(measured: list[Measurement], state: str, verdict: str) -> Finding:
    """What follows from a state: WMSS fits a saturated model, if a weak one was measured beside it.

    `state` and `verdict` are those of `judge`.
    """
    if state not in ("saturated", "memorised"):
        health: Health = "well" if state == "alive" else "between"
        return Finding("sft", state, health, verdict, measured)
    rows = by_name(measured)
    against = [_SAYS.advice("more-steps", rows=rows)]
    remedy = None
    if rows["chain_prob/held_out"].ci_low > KNOWN:
        against.append(_SAYS.advice("nothing-to-gain", rows=rows))
    elif "mix/ratio" not in rows:
        against.append(_SAYS.advice("no-weak"))
    else:
        shown = _SAYS.phrase("mix-gradient", rows=rows)
        if rows["mix/ratio"].ci_low > TIMES and rows["mix/reactivated"].ci_low > BACK:
            remedy = _SAYS.advice("wmss", shown=shown)
        else:
            against.append(_SAYS.advice("too-little", shown=shown, times=TIMES, back=BACK))
    return Finding("sft", state, "out", verdict, measured, remedy, tuple(against))


def _batch(policy: Policy, problems: Sequence[Problem], split: str) -> Batch:
    solved = [(p, p.solution) for p in problems if p.solution is not None]
    if not solved:
        raise refusal(DataError, "unsolved", f"{len(problems)} problems", split=split)
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


def _row(
    name: str, values_P: Floats, meaning: str, *, low: float = 0.0, top: float = 1.0
) -> Measurement:
    return Measurement(name, *cluster(values_P, bounds=(low, top)), meaning)


def judge(rows: dict[str, Measurement]) -> tuple[str, str]:
    """A state that the intervals bear out, and the sentence for it.

    States: saturated, memorised, fading, unsettled, alive, unclear.
    """
    mass = rows["mass/non_target"]
    left = _SAYS.phrase("left", rows=rows)
    limits = _SAYS.phrase("limits", little=LITTLE, much=MUCH)
    if math.isnan(mass.ci_low) or (mass.ci_low < LITTLE and mass.ci_high > MUCH):
        return "unclear", _SAYS.phrase("unclear", left=left)
    if mass.ci_high < LITTLE:
        state, known = _held_out(rows)
        verdict = f"{_SAYS.phrase('gone', left=left)} {known}"
    elif mass.ci_low > MUCH:
        state, verdict = "alive", _SAYS.phrase("alive", left=left)
    elif mass.ci_high > MUCH:
        state, verdict = "unsettled", _SAYS.phrase("unsettled", left=left, limits=limits)
    else:
        name = "fading" if mass.ci_low >= LITTLE else "fading-if-any"
        state, verdict = "fading", _SAYS.phrase(name, left=left, limits=limits)
    return state, f"{verdict} {_of_the_mix(rows)}".rstrip()


def _held_out(rows: dict[str, Measurement]) -> tuple[str, str]:
    """Saturated or memorised: what the held-out intervals bear out."""
    nll, fresh, chain = rows["nll"], rows["nll/held_out"], rows["chain_prob/held_out"]
    if chain.ci_high < KNOWN and fresh.ci_low > MEMORY * nll.ci_high:
        state = name = "memorised"
    elif chain.ci_low > KNOWN or fresh.ci_high <= MEMORY * nll.ci_low:
        state, name = "saturated", "well-known"
    else:
        state, name = "saturated", "not-settled"
    return state, _SAYS.phrase(name, shown=_SAYS.phrase("held-out", rows=rows))


def _of_the_mix(rows: dict[str, Measurement]) -> str:
    """What mixing in the weak model's logits brings; nothing where there is none."""
    if "mix/ratio" not in rows:
        return ""
    ratio = rows["mix/ratio"]
    name = "mix-larger" if ratio.ci_low > 1 else "mix-unsettled"
    name = "mix-smaller" if ratio.ci_high < 1 else name
    return f"{_SAYS.phrase('mixed', rows=rows)} {_SAYS.phrase(name)}"


# --- the weak model mixed in


@torch.no_grad()
def mix_rows(policy: Policy, weak: Policy, batch: Batch, *, lam: float) -> list[Measurement]:
    """Rows on mixing the weak model's logits in, over the batch's samples."""
    signal, samples = MixSignal(lam), list[dict[str, float]]()
    for micro in batch.split(micro_tokens(None, policy.device)):
        moved = micro.to(policy.device)
        layout, lengths = moved.layout, moved.mask_BT.sum(dim=1).tolist()
        strong_ND, weak_ND = (p.hidden(layout).split(lengths) for p in (policy, weak))
        for rows in zip(strong_ND, weak_ND, layout.targets_N.split(lengths), strict=True):
            pieces = zip(*(row.split(TOKENS) for row in rows), strict=True)
            for strong_ND, weak_ND, target_N in pieces:
                heads = policy.head(), weak.head()
                signal.add(heads[0].logits(strong_ND), heads[1].logits(weak_ND), target_N)
            samples.append(signal.metrics(Group()))
    of = {name: np.array([one[name] for one in samples]) for name in samples[0]}
    return _rows(of, lam)


def _rows(of: dict[str, Floats], lam: float) -> list[Measurement]:
    mixed_P, plain_P, inf = of["mix/gradient"], of["mass/non_target"], math.inf
    back_P = np.nan_to_num(of["mix/reactivated"]) * mixed_P  # nan: nothing to share out
    largest = "z[y] - largest other logit, nats"
    return [
        _row("margin/strong", of["margin/strong"], largest, low=-inf, top=inf),
        _row("margin/weak", of["margin/weak"], "the same, weak model", low=-inf, top=inf),
        _row("mix/gradient", mixed_P, f"target's gradient when mixed, lam {lam:g}"),
        Measurement("mix/ratio", *ratio(mixed_P, plain_P), "that over SFT's, of the same samples"),
        _row("mix/amplified", of["mix/amplified"], "tokens where it is more than SFT's"),
        Measurement(
            "mix/reactivated", *ratio(back_P, mixed_P, top=1.0), "share of it on tokens above 0.99"
        ),
    ]


def ratio(above_P: Floats, below_P: Floats, *, seed: int = 0, top: float = math.inf) -> Interval:
    """mean(above) / mean(below), at most `top`, with a percentile bootstrap over samples."""
    n = len(above_P)
    if n == 0 or below_P.sum() <= 0:
        return Interval(math.nan, math.nan, math.nan, n)
    value = float(above_P.mean() / below_P.mean())
    if n < FEW:
        return Interval(value, math.nan, math.nan, n)
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n), dtype=np.int32)
    under = below_P[drawn].sum(axis=1)
    ratios = above_P[drawn].sum(axis=1)[under > 0] / under[under > 0]
    low, high = percentiles(ratios)
    if np.ptp(ratios) < 1e-12 * abs(value) + 1e-15:  # no draw differs, and samples not seen may
        return few_differ(np.full(n, value), bounds=(0.0, top)) or Interval(value, low, high, n)
    return Interval(value, low, high, n)
