"""The head of a model: hidden states to logits, and the products of its gradients.

    z = cap * tanh(scale * (W h + b) / cap)        without a cap: z = scale * (W h + b)

Axes: N tokens in a row, C tokens of a chunk, V vocabulary (B rows of it), D hidden width. Results
are fp32 at least (fp64 stays fp64), in whatever dtype the products are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_VOCAB_BLOCK = 16_384  # rows of the head that are cast at a time
_IN_PLACE: ContextVar[bool] = ContextVar("in_place", default=False)


@dataclass(frozen=True, eq=False)
class Head:
    """The last map of a model.

    Args:
        weight: [V, D], the output embeddings.
        bias: [V] or None.
        scale: of all logits, before the cap: Cohere's logit_scale, 1 / Granite's logits_scaling.
        cap: logits are soft-capped to (-cap, cap) as Gemma 2 does; None: they are linear.
        product: dtype in which hidden states and weight are multiplied; None: fp32 at least.
    """

    weight: Float[Tensor, "V D"]
    bias: Float[Tensor, " V"] | None = None
    scale: float = 1.0
    cap: float | None = None
    product: torch.dtype | None = None

    @property
    def linear(self) -> bool:
        """Whether the logits of a mean of hidden states are the mean of their logits."""
        return self.cap is None

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return raised(self.weight[:0]).dtype if self.product is None else self.product

    def detach(self) -> "Head":
        """The same without gradients."""
        bias = None if self.bias is None else self.bias.detach()
        return replace(self, weight=self.weight.detach(), bias=bias)

    def logits(self, hidden_ND: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """The plain formula, with gradients; [N, V] is held."""
        z_NV = raised(hidden_ND.to(self.dtype) @ self.weight.to(self.dtype).T)
        z_NV = z_NV if self.bias is None else z_NV + self.bias
        z_NV = z_NV if self.scale == 1 else z_NV * self.scale
        return z_NV if self.cap is None else (z_NV / self.cap).tanh() * self.cap


def raised(values: Tensor) -> Tensor:
    """In fp32 at least: fp64 stays fp64."""
    return values if values.dtype == torch.float64 else values.float()


def is_without_data(tensor: Tensor) -> bool:
    """Whether it has a shape alone, as in a dry run."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


# --- products of a chunk, in its memory


def add_logits(
    out_CV: Float[Tensor, "C V"],
    hidden_CD: Float[Tensor, "C D"],
    head: Head,
    *,
    share: float = 1.0,
    onto: float = 0.0,
) -> None:
    """out = onto * out + share * scale * (h W^T + b), without the cap; `onto` 0 ignores `out`."""
    share *= head.scale
    hidden_CD = hidden_CD.to(head.dtype)
    for block in _blocks(head, out_CV.dtype):
        weight_BD, part_CB = head.weight[block].to(head.dtype), out_CV[:, block]
        if head.dtype == out_CV.dtype:
            part_CB.addmm_(hidden_CD, weight_BD.T, beta=onto, alpha=share)
        elif onto == 0:
            torch.mul(_product(hidden_CD, weight_BD.T), share, out=part_CB)
        else:
            part_CB.mul_(onto).add_(_product(hidden_CD, weight_BD.T), alpha=share)
    if head.bias is not None:
        out_CV.add_(head.bias, alpha=share)


def cap_logits(z_CV: Float[Tensor, "C V"], head: Head) -> Float[Tensor, "C V"]:
    """The soft cap, in the memory of `z`."""
    return z_CV if head.cap is None else z_CV.div_(head.cap).tanh_().mul_(head.cap)


def cap_slope(z_CV: Float[Tensor, "C V"], cap: float) -> Float[Tensor, "C V"]:
    """What the cap multiplies a gradient with, of capped logits: 1 - (z / cap)^2."""
    return z_CV.div(cap).square_().neg_().add_(1)


def hidden_gradient(
    dz_CV: Float[Tensor, "C V"], head: Head, *, share: float = 1.0
) -> Float[Tensor, "C D"]:
    """share * scale * dz W, of the logits before the cap."""
    share *= head.scale
    out_CD = dz_CV.new_zeros(dz_CV.shape[0], head.weight.shape[1])
    for block in _blocks(head, dz_CV.dtype):
        part_CB, weight_BD = dz_CV[:, block].to(head.dtype), head.weight[block].to(head.dtype)
        if head.dtype == out_CD.dtype:
            out_CD.addmm_(part_CB, weight_BD, alpha=share)
        else:
            out_CD.add_(_product(part_CB, weight_BD), alpha=share)
    return out_CD


# --- the head's own gradient


@contextmanager
def gradients_in_place() -> Iterator[None]:
    """Within the block, a head's gradient is added into the `.grad` of its parameters.

    Only where there is one, in fp32 at least. No second [V, D] is made then, and
    `torch.autograd.grad` cannot see the gradient: this is for the owner of an update.
    """
    token = _IN_PLACE.set(True)
    try:
        yield
    finally:
        _IN_PLACE.reset(token)


class HeadGradient:
    """The gradient of a head, summed over chunks of tokens.

    Args:
        head: with its very parameters.
        wants: whether the gradient of the weight, and of the bias, is asked for.
        in_place: False: never into `.grad`, whatever `gradients_in_place` allows.
    """

    def __init__(self, head: Head, wants: Sequence[bool], *, in_place: bool = True) -> None:
        self.head, self.wants = head.detach(), wants
        own = (head.weight, head.bias)
        self._kept = [_own_grad(parameter) if in_place else None for parameter in own]
        self._totals: list[Tensor | None] = [None, None]

    def start(self) -> None:
        """From 0, or from what `.grad` holds."""
        for at, own in enumerate((self.head.weight, self.head.bias)):
            if own is not None and self.wants[at]:
                kept = self._kept[at]
                kind = raised(own[:0]).dtype
                self._totals[at] = torch.zeros_like(own, dtype=kind) if kept is None else kept

    def add(
        self,
        dz_CV: Float[Tensor, "C V"],
        hidden_CD: Float[Tensor, "C D"],
        *,
        share: float = 1.0,
    ) -> None:
        """weight += share * scale * dz^T h, and bias += share * scale * the sum of dz."""
        weight_VD, bias_V = self._totals
        share *= self.head.scale
        if bias_V is not None:
            bias_V.add_(dz_CV.sum(dim=0), alpha=share)
        if weight_VD is None:
            return
        hidden_CD = hidden_CD.to(self.head.dtype)
        for block in _blocks(self.head, dz_CV.dtype):
            part_BC = dz_CV[:, block].to(self.head.dtype).T
            if self.head.dtype == weight_VD.dtype:
                weight_VD[block].addmm_(part_BC, hidden_CD, alpha=share)
            else:
                weight_VD[block].add_(_product(part_BC, hidden_CD), alpha=share)

    def scale(self, factor: float) -> None:
        """Multiply what was summed so far."""
        for total in self._totals:
            if total is not None and factor != 1:
                total.mul_(factor)

    def finish(self) -> tuple[Tensor | None, Tensor | None]:
        """What autograd is given for weight and bias: nothing where `.grad` has it already."""
        weight, bias = (
            None if total is None or kept is not None or own is None else total.to(own.dtype)
            for total, kept, own in zip(
                self._totals, self._kept, (self.head.weight, self.head.bias), strict=True
            )
        )
        self._totals = [None, None]  # given away: no second copy of [V, D]
        return weight, bias


def _own_grad(parameter: Tensor | None) -> Tensor | None:
    if not _IN_PLACE.get() or parameter is None or not parameter.is_leaf:
        return None
    grad = parameter.grad
    return grad if grad is not None and grad.dtype in (torch.float32, torch.float64) else None


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Of low-precision factors: CUDA gives the sums in fp32, which it has; a CPU rounds them."""
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left @ right


def _blocks(head: Head, kind: torch.dtype) -> list[slice]:
    """Rows of the head: all at once where nothing has to be cast."""
    rows = head.weight.shape[0]
    width = rows if head.weight.dtype == head.dtype == kind else _VOCAB_BLOCK
    return [slice(first, first + width) for first in range(0, rows, width)]
