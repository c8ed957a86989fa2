"""Cross-entropy on the mixed logits of two heads (WMSS, arXiv 2602.08222, eq. 5-6).

    z_t = lam * W_s h_s,t + (1 - lam) * W_w h_w,t        loss_t = logsumexp(z_t) - z_t[y_t]

With g_t = softmax(z_t) - onehot(y_t): dloss/dz_s = lam g, dloss/dz_w = (1 - lam) g (eq. 22).

Axes: T tokens, V vocabulary (W rows on the weak side, which must be the same), D strong width,
E weak width, C tokens of a chunk. `lam` weighs the strong side. Low-precision inputs are raised to
fp32 before any product; fp64 stays fp64. A head is one linear map: bias, logit scale and soft cap
belong in front of the mix, and are refused where a model has them (`Policy.head`).
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rekindle.errors import ConfigError

_VOCAB_BLOCK = 16_384  # rows of a low-precision head that are raised to fp32 at a time


def mixed_cross_entropy(
    strong_hidden_TD: Float[Tensor, "T D"],
    strong_head_VD: Float[Tensor, "V D"],
    weak_hidden_TE: Float[Tensor, "T E"],
    weak_head_VE: Float[Tensor, "W E"],
    targets_T: Int[Tensor, " T"],
    *,
    lam: float,
    ignore_index: int = -100,
    chunk: int | None = None,
) -> Float[Tensor, " T"]:
    """Per-token loss in nats, fp32 (fp64 for fp64 inputs); 0 where the target is `ignore_index`.

    Args:
        strong_hidden_TD, weak_hidden_TE: last hidden states; their widths may differ.
        strong_head_VD, weak_head_VE: output embeddings with the same rows. The same tensor on both
            sides: hidden states are mixed instead of logits, one product, the same numbers.
        targets_T: token ids.
        lam: weight of the strong side, 0 to 1.
        ignore_index: marks tokens without loss.
        chunk: rows of logits held at a time; logits are made again in the backward pass. None: the
            plain formula, which holds [T, V].

    Raises:
        ConfigError: `lam` outside 0 to 1, heads with different rows, `chunk` below 1.
    """
    _check(strong_head_VD, weak_head_VE, lam=lam, chunk=chunk)
    if strong_head_VD is weak_head_VE:
        mixed_TD = lam * _raise(strong_hidden_TD) + (1 - lam) * _raise(weak_hidden_TE)
        # Both sides are this one: 1 * W h, and no second product.
        strong_hidden_TD, weak_hidden_TE, lam = mixed_TD, mixed_TD.detach(), 1.0
    if chunk is None:
        return _plain(
            strong_hidden_TD,
            strong_head_VD,
            weak_hidden_TE,
            weak_head_VE,
            targets_T,
            lam=lam,
            ignore_index=ignore_index,
        )
    loss_T: Tensor = _ChunkedMix.apply(
        strong_hidden_TD,
        strong_head_VD,
        weak_hidden_TE,
        weak_head_VE,
        targets_T,
        lam,
        ignore_index,
        chunk,
    )
    return loss_T


def mixed_logits(
    strong_TV: Float[Tensor, "T V"], weak_TV: Float[Tensor, "T V"], *, lam: float
) -> Float[Tensor, "T V"]:
    """lam * z_strong + (1 - lam) * z_weak; a side of weight 0 has no say, even where infinite."""
    if lam == 1:
        return strong_TV
    return weak_TV if lam == 0 else lam * strong_TV + (1 - lam) * weak_TV


def _plain(
    strong_hidden_TD: Tensor,
    strong_head_VD: Tensor,
    weak_hidden_TE: Tensor,
    weak_head_VE: Tensor,
    targets_T: Tensor,
    *,
    lam: float,
    ignore_index: int,
) -> Tensor:
    mixed_TV = mixed_logits(
        _raise(strong_hidden_TD) @ _raise(strong_head_VD).T,
        _raise(weak_hidden_TE) @ _raise(weak_head_VE).T,
        lam=lam,
    )
    return torch.nn.functional.cross_entropy(
        mixed_TV, targets_T, reduction="none", ignore_index=ignore_index
    )


class _ChunkedMix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        strong_hidden_TD: Tensor,
        strong_head_VD: Tensor,
        weak_hidden_TE: Tensor,
        weak_head_VE: Tensor,
        targets_T: Tensor,
        lam: float,
        ignore_index: int,
        chunk: int,
    ) -> Tensor:
        sides = [(strong_hidden_TD, strong_head_VD, lam), (weak_hidden_TE, weak_head_VE, 1 - lam)]
        keep_T = targets_T != ignore_index
        safe_T = targets_T.masked_fill(~keep_T, 0)
        losses = []
        logsums = []
        for rows in range(0, len(targets_T), chunk):
            part = slice(rows, rows + chunk)
            z_CV = _tile(sides, part)
            logsum_C = z_CV.logsumexp(dim=-1)
            logsums.append(logsum_C)
            losses.append(logsum_C - z_CV.gather(-1, safe_T[part, None]).squeeze(-1))
        empty_T = _raise(strong_hidden_TD[:0, 0])
        loss_T = torch.cat([empty_T, *losses]).masked_fill(~keep_T, 0.0)
        ctx.save_for_backward(
            strong_hidden_TD,
            strong_head_VD,
            weak_hidden_TE,
            weak_head_VE,
            safe_T,
            keep_T,
            torch.cat([empty_T, *logsums]),
        )
        ctx.lam, ctx.chunk = lam, chunk
        return loss_T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hs_TD, ws_VD, hw_TE, ww_VE, safe_T, keep_T, logsum_T = ctx.saved_tensors
        grad_T = grads[0].masked_fill(~keep_T, 0.0)
        sides = [(hs_TD, ws_VD, ctx.lam), (hw_TE, ww_VE, 1 - ctx.lam)]
        wants = ctx.needs_input_grad[:4]
        out: list[Tensor | None] = [
            torch.zeros_like(value, dtype=_raise(value[:0]).dtype) if want else None
            for value, want in zip((hs_TD, ws_VD, hw_TE, ww_VE), wants, strict=True)
        ]
        for rows in range(0, len(safe_T), ctx.chunk):
            part = slice(rows, rows + ctx.chunk)
            g_CV = _tile(sides, part).sub_(logsum_T[part, None]).exp_()
            g_CV.scatter_add_(-1, safe_T[part, None], -torch.ones_like(g_CV[:, :1]))
            g_CV.mul_(grad_T[part, None])
            for side, (hidden_TD, head_VD, share) in enumerate(sides):
                hidden_grad, head_grad = out[2 * side], out[2 * side + 1]
                if share == 0:
                    continue
                if hidden_grad is not None:
                    hidden_grad[part] = share * _back(g_CV, head_VD)
                if head_grad is not None:
                    head_grad.addmm_(g_CV.T, _raise(hidden_TD[part]), alpha=share)
        typed = [
            None if value is None else value.to(like.dtype)
            for value, like in zip(out, (hs_TD, ws_VD, hw_TE, ww_VE), strict=True)
        ]
        return (*typed, None, None, None, None)


def _tile(sides: list[tuple[Tensor, Tensor, float]], part: slice) -> Tensor:
    """Mixed logits of some rows; the second product is added into the first one's memory."""
    tile_CV: Tensor | None = None
    for hidden_TD, head_VD, share in sides:
        if share == 0:
            continue
        hidden_CD = _raise(hidden_TD[part])
        if tile_CV is None:
            tile_CV = hidden_CD.new_empty(hidden_CD.shape[0], head_VD.shape[0])
            beta = 0.0
        else:
            beta = 1.0
        for block in _blocks(head_VD):
            tile_CV[:, block].addmm_(hidden_CD, _raise(head_VD[block]).T, beta=beta, alpha=share)
    assert tile_CV is not None  # the shares sum to 1
    return tile_CV


def _back(g_CV: Tensor, head_VD: Tensor) -> Tensor:
    """g @ head, the head raised block by block."""
    out_CD = g_CV.new_zeros(g_CV.shape[0], head_VD.shape[1])
    for block in _blocks(head_VD):
        out_CD.addmm_(g_CV[:, block], _raise(head_VD[block]))
    return out_CD


def _blocks(head_VD: Tensor) -> list[slice]:
    rows = head_VD.shape[0]
    width = rows if head_VD.dtype in (torch.float32, torch.float64) else _VOCAB_BLOCK
    return [slice(first, first + width) for first in range(0, rows, width)]


def _check(strong_head_VD: Tensor, weak_head_VE: Tensor, *, lam: float, chunk: int | None) -> None:
    if not 0 <= lam <= 1:
        raise ConfigError(
            "lam is outside 0 to 1",
            got=lam,
            wanted="0 (weak alone) to 1 (strong alone, which is SFT)",
            why="it is the strong model's share of the mixed logits",
        )
    if strong_head_VD.shape[0] != weak_head_VE.shape[0]:
        raise ConfigError(
            "the two heads have different vocabularies",
            got=f"{strong_head_VD.shape[0]} and {weak_head_VE.shape[0]} rows",
            wanted="the same rows in the same order, padding included",
            why="logits of different tokens would be added",
        )
    if chunk is not None and chunk < 1:
        raise ConfigError("chunk is below 1", got=chunk, wanted="tokens, at least 1, or None")


def _raise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
