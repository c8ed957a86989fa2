"""Cross-entropy on the mixed logits of two heads (WMSS, arXiv 2602.08222, eq. 5-6).

    z_t = lam * W_s h_s,t + (1 - lam) * W_w h_w,t        loss_t = logsumexp(z_t) - z_t[y_t]

With g_t = softmax(z_t) - onehot(y_t): dloss/dz_s = lam g, dloss/dz_w = (1 - lam) g (eq. 22).

Axes: T tokens, V vocabulary (W rows on the weak side, which must be the same), D strong width,
E weak width, C tokens of a chunk. `lam` weighs the strong side. Logits are mixed as each model
gives them, after the bias, scale and soft cap of its head, in fp32; fp64 stays fp64.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rekindle.errors import ConfigError
from rekindle.ops.heads import (
    Head,
    HeadGradient,
    add_logits,
    cap_logits,
    cap_slope,
    hidden_gradient,
    raised,
)

_TILE = 32 * 2**20  # bytes of logits; two or three of them are held


def mixed_cross_entropy(
    strong_hidden_TD: Float[Tensor, "T D"],
    strong_head: Head,
    weak_hidden_TE: Float[Tensor, "T E"],
    weak_head: Head,
    targets_T: Int[Tensor, " T"],
    *,
    lam: float,
    ignore_index: int = -100,
    chunk: int | None = None,
    weights_T: Float[Tensor, " T"] | None = None,
) -> Float[Tensor, " T"]:
    """Per-token loss in nats, fp32 (fp64 for fp64 inputs); 0 where the target is `ignore_index`.

    Args:
        strong_hidden_TD, weak_hidden_TE: last hidden states; their widths may differ.
        strong_head, weak_head: their weights have the same rows. One linear head on both sides:
            hidden states are mixed instead of logits, one product, the same numbers.
        targets_T: token ids.
        lam: weight of the strong side, 0 to 1.
        ignore_index: marks tokens without loss.
        chunk: rows of logits held at a time, fewer where they take more than 32 MiB. None: the
            plain formula, which holds [T, V].
        weights_T: what the losses will be multiplied with before they are summed, all 1 by default.
            It changes no number: gradients of the heads are made for these weights in the forward
            pass, and once more in the backward pass where others come (up to one factor).

    Raises:
        ConfigError: `lam` outside 0 to 1, heads with different rows, `chunk` below 1.
    """
    _check(strong_head.weight.shape[0], weak_head.weight.shape[0], lam=lam, chunk=chunk)
    if strong_head.weight is weak_head.weight and strong_head.linear:
        mixed_TD = lam * raised(strong_hidden_TD) + (1 - lam) * raised(weak_hidden_TE)
        # Both sides are this one: 1 * W h, and no second product.
        strong_hidden_TD, weak_hidden_TE, lam = mixed_TD, mixed_TD.detach(), 1.0
    if chunk is not None:
        chunk = min(chunk, rows_within(strong_head.weight.shape[0], _TILE))
    if chunk is None:
        strong_TV = strong_head.logits(strong_hidden_TD)
        weak_TV = weak_head.logits(weak_hidden_TE)
        return mixed_logit_loss(strong_TV, weak_TV, targets_T, lam=lam, ignore_index=ignore_index)
    weights_T = torch.ones_like(targets_T, dtype=torch.float32) if weights_T is None else weights_T
    heads = (strong_head, weak_head)
    tensors = (
        *(strong_hidden_TD, strong_head.weight, strong_head.bias),
        *(weak_hidden_TE, weak_head.weight, weak_head.bias),
    )
    loss_T: Tensor = _ChunkedMix.apply(
        *tensors, targets_T, weights_T, heads, lam, ignore_index, chunk
    )
    return loss_T


def rows_within(width: int, size: int) -> int:
    """How many rows of fp32 logits fit into so many bytes, at least one."""
    return max(1, size // (4 * width))


def mixed_logits(
    strong_TV: Float[Tensor, "T V"], weak_TV: Float[Tensor, "T V"], *, lam: float
) -> Float[Tensor, "T V"]:
    """lam * z_strong + (1 - lam) * z_weak; a side of weight 0 has no say, even where infinite."""
    if lam == 1:
        return strong_TV
    return weak_TV if lam == 0 else lam * strong_TV + (1 - lam) * weak_TV


def mixed_logit_loss(
    strong_TV: Float[Tensor, "T V"],
    weak_TV: Float[Tensor, "T W"],
    targets_T: Int[Tensor, " T"],
    *,
    lam: float,
    ignore_index: int = -100,
) -> Float[Tensor, " T"]:
    """`mixed_cross_entropy` where the logits are there already.

    Raises:
        ConfigError: `lam` outside 0 to 1, or other vocabularies.
    """
    _check(strong_TV.shape[1], weak_TV.shape[1], lam=lam, chunk=None)
    mixed_TV = mixed_logits(raised(strong_TV), raised(weak_TV), lam=lam)
    return torch.nn.functional.cross_entropy(
        mixed_TV, targets_T, reduction="none", ignore_index=ignore_index
    )


class _ChunkedMix(torch.autograd.Function):
    """Gradients are made in the forward pass, while a chunk's logits are there.

    Those of the heads sum over tokens, so they need each token's weight in advance: `weights_T`.
    Where the backward pass brings other weights, only these two are made again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        strong_hidden_TD: Tensor,
        strong_weight_VD: Tensor,
        strong_bias_V: Tensor | None,
        weak_hidden_TE: Tensor,
        weak_weight_VE: Tensor,
        weak_bias_V: Tensor | None,
        targets_T: Tensor,
        weights_T: Tensor,
        heads: tuple[Head, Head],
        lam: float,
        ignore_index: int,
        chunk: int,
    ) -> Tensor:
        keep_T = targets_T != ignore_index
        safe_T = targets_T.masked_fill(~keep_T, 0)
        weights_T = weights_T.masked_fill(~keep_T, 0)
        sides = (
            _Side(strong_hidden_TD, heads[0], lam, ctx.needs_input_grad[0:3]),
            _Side(weak_hidden_TE, heads[1], 1 - lam, ctx.needs_input_grad[3:6]),
        )
        loss_T = raised(strong_hidden_TD[:0, 0]).new_zeros(len(targets_T))
        logsum_T = torch.empty_like(loss_T)
        for rows in range(0, len(targets_T), chunk):
            part = slice(rows, rows + chunk)
            z_CV = _tile(sides, part)
            logsum_T[part] = z_CV.logsumexp(dim=-1)
            loss_T[part] = logsum_T[part] - z_CV.gather(-1, safe_T[part, None]).squeeze(-1)
            if any(side.wanted for side in sides):
                g_CV = _residual(z_CV, logsum_T[part], safe_T[part])
                for side in sides:
                    side.add_hidden(g_CV, part)
                g_CV.mul_(weights_T[part, None])
                for side in sides:
                    side.add_head(g_CV, part)
        ctx.sides, ctx.chunk, ctx.spent = sides, chunk, False
        ctx.kept = safe_T, keep_T, logsum_T, weights_T
        return loss_T.masked_fill(~keep_T, 0.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        safe_T, keep_T, logsum_T, weights_T = ctx.kept
        grad_T = grads[0].masked_fill(~keep_T, 0.0)
        sides, scale = ctx.sides, _one_scale(grad_T, weights_T, keep_T)
        if (scale is None or ctx.spent) and any(side.wants_head for side in sides):
            for side in sides:
                side.start_head()
            for rows in range(0, len(safe_T), ctx.chunk):
                part = slice(rows, rows + ctx.chunk)
                g_CV = _residual(_tile(sides, part), logsum_T[part], safe_T[part])
                g_CV.mul_(grad_T[part, None])
                for side in sides:
                    side.add_head(g_CV, part)
            scale = 1.0
        ctx.spent = True
        out = [gradient for side in sides for gradient in side.finish(grad_T, scale)]
        return (*out, *[None] * 6)


class _Side:
    """One model's hidden states and head, its share of the mix, and the gradients asked for."""

    def __init__(self, hidden_TD: Tensor, head: Head, share: float, wants: Sequence[bool]) -> None:
        self.hidden_TD, self.head, self.share = hidden_TD.detach(), head.detach(), share
        kind = raised(self.hidden_TD[:0]).dtype
        self.hidden_grad = torch.zeros_like(self.hidden_TD, dtype=kind) if wants[0] else None
        self.wants_head = any(wants[1:])
        self._head_grad = HeadGradient(head, wants[1:], in_place=False)
        self._slope_CV: Tensor | None = None
        self.start_head()

    @property
    def wanted(self) -> bool:
        return self.share > 0 and (self.hidden_grad is not None or self.wants_head)

    def add_logits(self, tile_CV: Tensor, part: slice, *, onto: float) -> None:
        """tile = onto * tile + share * z; what the cap does to gradients is kept until the next."""
        hidden_CD = self.hidden_TD[part]
        if self.head.cap is None:
            add_logits(tile_CV, hidden_CD, self.head, share=self.share, onto=onto)
            return
        z_CV = torch.empty_like(tile_CV)
        add_logits(z_CV, hidden_CD, self.head)
        cap_logits(z_CV, self.head)
        self._slope_CV = cap_slope(z_CV, self.head.cap)
        if onto == 0:
            torch.mul(z_CV, self.share, out=tile_CV)
        else:
            tile_CV.mul_(onto).add_(z_CV, alpha=self.share)

    def add_hidden(self, g_CV: Tensor, part: slice) -> None:
        if self.hidden_grad is not None and self.share > 0:
            dz_CV = self._through_cap(g_CV)
            self.hidden_grad[part] = hidden_gradient(dz_CV, self.head, share=self.share)

    def add_head(self, g_CV: Tensor, part: slice) -> None:
        if self.wants_head and self.share > 0:
            self._head_grad.add(self._through_cap(g_CV), self.hidden_TD[part], share=self.share)

    def start_head(self) -> None:
        self._head_grad.start()

    def finish(self, grad_T: Tensor, scale: float | None) -> tuple[Tensor | None, ...]:
        hidden = self.hidden_grad
        if hidden is not None:
            hidden = (hidden * grad_T[:, None]).to(self.hidden_TD.dtype)
        if self.wants_head:
            assert scale is not None
            self._head_grad.scale(scale)
        return hidden, *self._head_grad.finish()

    def _through_cap(self, g_CV: Tensor) -> Tensor:
        return g_CV if self._slope_CV is None else g_CV * self._slope_CV


def _one_scale(grad_T: Tensor, weights_T: Tensor, keep_T: Tensor) -> float | None:
    """c where grad = c * weights on every token with loss, exactly; else None."""
    if torch.equal(grad_T, weights_T.to(grad_T)):
        return 1.0
    grads, weights = grad_T[keep_T], weights_T[keep_T]
    if grads.numel() and bool((weights == weights[0]).all() & (grads == grads[0]).all()):
        return float(grads[0]) / float(weights[0]) if float(weights[0]) else None
    return None


def _residual(z_CV: Tensor, logsum_C: Tensor, target_C: Tensor) -> Tensor:
    """softmax(z) - onehot(target), in the memory of z."""
    g_CV = z_CV.sub_(logsum_C[:, None]).exp_()
    return g_CV.scatter_add_(-1, target_C[:, None], -torch.ones_like(g_CV[:, :1]))


def _tile(sides: Sequence[_Side], part: slice) -> Tensor:
    """Mixed logits of some rows; the second product is added into the first one's memory."""
    first = sides[0]
    rows = len(first.hidden_TD[part]), first.head.weight.shape[0]
    tile_CV = first.hidden_TD.new_empty(rows, dtype=raised(first.hidden_TD[:0]).dtype)
    onto = 0.0  # what is in fresh memory does not count
    for side in sides:
        if side.share > 0:
            side.add_logits(tile_CV, part, onto=onto)
            onto = 1.0
    return tile_CV


def _check(strong_rows: int, weak_rows: int, *, lam: float, chunk: int | None) -> None:
    if not 0 <= lam <= 1:
        raise ConfigError(
            "lam is outside 0 to 1",
            got=lam,
            wanted="0 (weak alone) to 1 (strong alone, which is SFT)",
            why="it is the strong model's share of the mixed logits",
        )
    if strong_rows != weak_rows:
        raise ConfigError(
            "the two heads have different vocabularies",
            got=f"{strong_rows} and {weak_rows} rows",
            wanted="the same rows in the same order, padding included",
            why="logits of different tokens would be added",
        )
    if chunk is not None and chunk < 1:
        raise ConfigError("chunk is below 1", got=chunk, wanted="tokens, at least 1, or None")
