"""WMSS's loss for a training loop of your own: plain names, any leading axes, lists too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rekindle.errors import ConfigError
from rekindle.ops import mixing
from rekindle.ops.heads import Head

Floats = Tensor | NDArray[np.floating] | Sequence[float] | Sequence[Sequence[float]]
Ints = Tensor | NDArray[np.integer] | Sequence[int] | Sequence[Sequence[int]]


def mixed_cross_entropy(
    strong: Floats,
    weak: Floats,
    targets: Ints,
    *,
    lam: float = 0.5,
    strong_head: Floats | None = None,
    weak_head: Floats | None = None,
    ignore_index: int = -100,
    chunk: int | None = None,
) -> Tensor:
    """-log softmax(lam z_strong + (1 - lam) z_weak)[target] of each token, in nats.

    WMSS (Chen et al. 2026, arXiv 2602.08222), eq. 5-6. Gradients reach both sides.

    Args:
        strong, weak: [..., V] logits; or [..., D] and [..., E] last hidden states beside both
            heads, so that no more than `chunk` rows of logits are held.
        targets: [...] token ids; `ignore_index` where a token carries no loss.
        lam: weight of the strong side, 0 to 1; 1 is plain cross-entropy.
        strong_head, weak_head: [V, D] and [V, E] output embeddings.
        chunk: rows of logits held at a time, with heads; None: all.

    Returns:
        [...] the loss of each token, fp32 (fp64 for fp64 inputs); 0 at `ignore_index`.

    Raises:
        ConfigError: `lam` outside 0 to 1, vocabularies or shapes that differ, one head alone, or
            `chunk` without heads.
    """
    strong_X, weak_X, targets_X = (torch.as_tensor(x) for x in (strong, weak, targets))
    _check(strong_X, weak_X, targets_X, heads=(strong_head, weak_head), chunk=chunk)
    strong_T, weak_T = (x.reshape(-1, x.shape[-1]) for x in (strong_X, weak_X))
    if strong_head is None or weak_head is None:
        loss_T = mixing.mixed_logit_loss(
            strong_T, weak_T, targets_X.reshape(-1), lam=lam, ignore_index=ignore_index
        )
    else:
        loss_T = mixing.mixed_cross_entropy(
            strong_T,
            Head(torch.as_tensor(strong_head)),
            weak_T,
            Head(torch.as_tensor(weak_head)),
            targets_X.reshape(-1),
            lam=lam,
            ignore_index=ignore_index,
            chunk=chunk,
        )
    return loss_T.reshape(targets_X.shape)


def _check(
    strong_X: Tensor,
    weak_X: Tensor,
    targets_X: Tensor,
    *,
    heads: tuple[Floats | None, Floats | None],
    chunk: int | None,
) -> None:
    if (heads[0] is None) != (heads[1] is None):
        raise ConfigError(
            "one head is missing",
            got="strong_head" if heads[1] is None else "weak_head",
            wanted="both, with hidden states, or none, with logits",
        )
    if chunk is not None and heads[0] is None:
        raise ConfigError("chunk has no effect with logits", fix="remove it, or pass both heads")
    shapes = {tuple(x.shape) for x in (strong_X[..., 0], weak_X[..., 0], targets_X)}
    if len(shapes) > 1:
        raise ConfigError(
            "strong, weak and targets are of other tokens",
            got=f"{tuple(strong_X.shape)}, {tuple(weak_X.shape)}, {tuple(targets_X.shape)}",
            wanted="[..., V], [..., V] and [...] with the same leading axes",
        )
