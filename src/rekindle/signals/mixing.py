"""What WMSS would see (arXiv 2602.08222): the gradient of the mixed loss beside SFT's.

Each sample's own means over its tokens (`methods.mix_signal`), so that both gradients are averaged
the same way and samples can be drawn anew:

    mix/gradient       lam (1 - p_mix), mean over samples
    mix/ratio          that over SFT's 1 - p, of the same samples; bootstrap over samples
    mix/reactivated    share of the mixed gradient on tokens above 0.99; bootstrap over samples

Axes: P samples, N tokens of one sample, V vocabulary, D width.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from rekindle.engine.batch import Batch
from rekindle.engine.device import Alone, micro_tokens
from rekindle.engine.policy import Policy
from rekindle.evals.intervals import LEVEL, RESAMPLES, Floats, Interval, cluster, few_differ
from rekindle.methods.wmss.telemetry import TOKENS, MixSignal
from rekindle.signals.table import Row, row_of

FEW = 8  # samples; with fewer a ratio has no interval


@torch.no_grad()
def mix_rows(policy: Policy, weak: Policy, batch: Batch, *, lam: float) -> list[Row]:
    """Rows on mixing the weak model's logits in, over the batch's samples."""
    signal, found = MixSignal(lam), list[dict[str, float]]()
    for micro in batch.split(micro_tokens(None, policy.device)):
        moved = micro.to(policy.device)
        strong_BTD, weak_BTD = (
            p.hidden(moved.tokens_BS, moved.attend_BS, start=moved.start) for p in (policy, weak)
        )
        target_BT = moved.tokens_BS[:, moved.start :]
        for b, mask_T in enumerate(moved.mask_BT):
            strong_ND, weak_ND = strong_BTD[b][mask_T], weak_BTD[b][mask_T]
            target_N = target_BT[b][mask_T]
            for first in range(0, len(target_N), TOKENS):
                part = slice(first, first + TOKENS)
                strong_NV, weak_NV = (
                    strong_ND[part] @ policy.head().T,
                    weak_ND[part] @ weak.head().T,
                )
                signal.add(strong_NV, weak_NV, target_N[part])
            found.append(signal.metrics(Alone()))
    of = {name: np.array([one[name] for one in found]) for name in found[0]}
    return _rows(of, lam)


def _rows(of: dict[str, Floats], lam: float) -> list[Row]:
    mixed_P, plain_P, inf = of["mix/gradient"], of["mass/non_target"], math.inf
    back_P = np.nan_to_num(of["mix/reactivated"]) * mixed_P  # nan: nothing to share out
    return [
        row_of(
            "margin/strong",
            cluster(of["margin/strong"], bounds=(-inf, inf)),
            "z[y] - largest other logit, nats",
        ),
        row_of(
            "margin/weak", cluster(of["margin/weak"], bounds=(-inf, inf)), "the same, weak model"
        ),
        row_of("mix/gradient", cluster(mixed_P), f"target's gradient when mixed, lam {lam:g}"),
        row_of("mix/ratio", ratio(mixed_P, plain_P), "that over SFT's, of the same samples"),
        row_of("mix/amplified", cluster(of["mix/amplified"]), "tokens where it is more than SFT's"),
        row_of(
            "mix/reactivated", ratio(back_P, mixed_P, top=1.0), "share of it on tokens above 0.99"
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
    found = above_P[drawn].sum(axis=1)[under > 0] / under[under > 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    if np.ptp(found) < 1e-12 * abs(value) + 1e-15:  # no draw differs, and samples not seen may
        each = np.full(n, value)
        return few_differ(each, level=LEVEL, bounds=(0.0, top)) or Interval(value, low, high, n)
    return Interval(value, float(low), float(high), n)
