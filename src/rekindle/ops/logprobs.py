"""Log-probs of tokens, entropies, and estimators of the KL divergence.

Axes: B sequences, T tokens, V vocabulary, D hidden width, N = B * T tokens in a row, C tokens of a
chunk. All in nats. Low-precision logits are raised to fp32 first; fp64 stays fp64.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rekindle.ops.heads import (
    Head,
    HeadGradient,
    add_logits,
    cap_logits,
    cap_slope,
    hidden_gradient,
    is_without_data,
    raised,
)

_CPU_BUDGET = 128 * 2**20  # bytes of logits held at a time; larger is no faster
_DEVICE_BUDGET = 2**29
_CACHE = 2**20  # bytes of logits that a CPU core works on at a time


class TokenScores(NamedTuple):
    """Of every token: its log-prob, the entropy where it was drawn, the mean log-prob there."""

    logprobs_BT: Float[Tensor, "B T"]
    entropy_BT: Float[Tensor, "B T"]
    mean_BT: Float[Tensor, "B T"]  # over the vocabulary: what label smoothing adds


def token_scores(
    logits_BTV: Float[Tensor, "B T V"],
    tokens_BT: Int[Tensor, "B T"],
    *,
    temperature: float = 1.0,
    entropy: Literal["detached", "grad"] = "detached",
) -> TokenScores:
    """log softmax(logits / temperature) at the tokens, the entropy and mean of all log-probs."""
    scores_BTV = raised(logits_BTV) / temperature
    logsum_BT = scores_BTV.logsumexp(dim=-1)
    picked_BT = scores_BTV.gather(-1, tokens_BT[..., None]).squeeze(-1)
    entropy_source = scores_BTV if entropy == "grad" else scores_BTV.detach()
    return TokenScores(
        logprobs_BT=picked_BT - logsum_BT,
        entropy_BT=categorical_entropy(entropy_source),
        mean_BT=scores_BTV.mean(dim=-1) - logsum_BT,
    )


def categorical_entropy(logits: Float[Tensor, "*N V"]) -> Float[Tensor, "*N"]:
    """H(softmax(logits)) = logsumexp(z) - sum_v softmax(z)_v z_v; 0 * -inf counts as 0."""
    logprobs = torch.log_softmax(raised(logits), dim=-1)
    return -(logprobs.exp() * logprobs.clamp(min=torch.finfo(logprobs.dtype).min)).sum(-1)


def kl_k3(logprobs: Float[Tensor, "*N"], ref_logprobs: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """q/p - 1 - log(q/p) at samples of p: unbiased for KL(p || q) and never negative.

    Schulman, "Approximating KL divergence" (2020); GRPO's penalty (arXiv 2402.03300, eq. 4).
    """
    log_ratio = ref_logprobs - logprobs
    return log_ratio.expm1() - log_ratio


# --- from hidden states, few logits at a time


class HeadScores(NamedTuple):
    """`TokenScores` of tokens in a row."""

    logprobs_N: Float[Tensor, " N"]
    entropy_N: Float[Tensor, " N"]
    mean_N: Float[Tensor, " N"]


def head_scores(
    hidden_ND: Float[Tensor, "N D"],
    head: Head,
    targets_N: Int[Tensor, " N"],
    *,
    temperature: float = 1.0,
    entropy: Literal["detached", "grad"] = "detached",
    budget: int | None = None,
) -> HeadScores:
    """Twin of `token_scores(head.logits(hidden), ...)` that holds few logits at a time.

    Gradients reach hidden states and head. Where all logits fit the budget, their softmax is kept
    for the backward pass; else they are made again, chunk by chunk.

    Args:
        hidden_ND: hidden states in front of the tokens.
        head: the map to logits; its scale and cap come before the temperature.
        targets_N: token ids.
        temperature: logits are divided by it.
        entropy: whether gradients flow through the entropies.
        budget: bytes of logits held at a time; None: 128 MiB on a CPU, 512 MiB elsewhere.
    """
    job = _Job.of(hidden_ND, head, temperature, entropy == "grad", budget)
    gradient = HeadGradient(head, (head.weight.requires_grad, _requires_grad(head.bias)))
    with torch.autocast(hidden_ND.device.type, enabled=False):  # the head says its own dtype
        scores = _HeadScores.apply(hidden_ND, head.weight, head.bias, targets_N, job, gradient)
    logprobs_N, entropy_N, mean_N = scores
    entropy_N = entropy_N if job.entropy_grad else entropy_N.detach()
    return HeadScores(logprobs_N, entropy_N, mean_N)


class _Job(NamedTuple):
    """What a pass over the tokens needs to know beside its tensors."""

    head: Head  # without gradients
    temperature: float
    entropy_grad: bool
    rows: int  # tokens whose logits are held
    block: int  # of them, tokens that are worked on at a time

    @classmethod
    def of(
        cls, hidden_ND: Tensor, head: Head, temperature: float, entropy: bool, budget: int | None
    ) -> "_Job":
        on_cpu = hidden_ND.device.type == "cpu"
        width = head.weight.shape[0] * raised(head.weight[:0]).element_size()
        held = budget or (_CPU_BUDGET if on_cpu else _DEVICE_BUDGET)
        rows = max(1, held // width)
        in_cache = on_cpu and not is_without_data(hidden_ND)
        block = max(1, min(rows, _CACHE // width)) if in_cache else rows
        return cls(head.detach(), temperature, entropy, rows, block)

    def parts(self, count: int) -> list[slice]:
        return [slice(first, first + self.rows) for first in range(0, count, self.rows)]

    def tile(self, count: int) -> Tensor:
        weight_VD = self.head.weight
        kind = raised(weight_VD[:0]).dtype
        return weight_VD.new_empty((min(count, self.rows), weight_VD.shape[0]), dtype=kind)

    def logits(self, hidden_CD: Tensor, tile_CV: Tensor) -> Tensor:
        z_CV = tile_CV[: len(hidden_CD)]
        add_logits(z_CV, hidden_CD, self.head)
        cap_logits(z_CV, self.head)
        return z_CV if self.temperature == 1 else z_CV.div_(self.temperature)


class _HeadScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        job: _Job,
        gradient: HeadGradient,
    ) -> tuple[Tensor, ...]:
        count = len(targets_N)
        tile_CV = job.tile(count)
        known_4N = tile_CV.new_empty(4, count)
        keep = any(ctx.needs_input_grad) and count <= job.rows
        keep = keep and job.head.linear and not job.entropy_grad
        for part in job.parts(count):
            z_CV = job.logits(hidden_ND[part], tile_CV)
            _score(z_CV, targets_N[part], known_4N[:, part], block=job.block, keep=keep)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden_ND, targets_N, known_4N)
        ctx.gradient = gradient
        ctx.job, ctx.softmax = job, tile_CV if keep else None
        return tuple(row_N.clone() for row_N in known_4N[:3])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_ND, targets_N, known_4N = ctx.saved_tensors
        job, gradient, smoothed = ctx.job, ctx.gradient, grads[2] is not None
        softmax_CV, ctx.softmax = ctx.softmax, None  # spent: a second pass makes it again
        tile_CV = job.tile(len(targets_N)) if softmax_CV is None else softmax_CV
        to_3N = torch.stack([known_4N.new_zeros(len(targets_N)) if g is None else g for g in grads])
        hidden_grad_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        gradient.start()
        for part in job.parts(len(targets_N)):
            rows = targets_N[part], to_3N[:, part] / job.temperature
            if softmax_CV is None:
                z_CV = job.logits(hidden_ND[part], tile_CV)
                dz_CV = _gradient(z_CV, *rows, known_4N[:, part], job, smoothed=smoothed)
            else:
                dz_CV = _of_softmax(softmax_CV, *rows, smoothed=smoothed)
            if hidden_grad_ND is not None:
                hidden_grad_ND[part] = hidden_gradient(dz_CV, job.head)
            gradient.add(dz_CV, hidden_ND[part])
        return hidden_grad_ND, *gradient.finish(), None, None, None


def _score(z_CV: Tensor, target_C: Tensor, known_4C: Tensor, *, block: int, keep: bool) -> None:
    """Log-prob, entropy, mean log-prob and logsumexp; `keep` leaves the softmax in the logits."""
    logprob_C, entropy_C, mean_C, logsum_C = known_4C
    scratch_KV = torch.empty_like(z_CV[:block])
    for rows in (slice(first, first + block) for first in range(0, len(z_CV), block)):
        shifted_KV = z_CV[rows]
        most_K = shifted_KV.amax(dim=-1)
        shifted_KV.sub_(most_K[:, None])
        p_KV = torch.softmax(shifted_KV, dim=-1, out=scratch_KV[: len(shifted_KV)])
        logsum_K = -p_KV.amax(dim=-1).log()  # the largest is exp(0 - logsum)
        logprob_C[rows] = shifted_KV.gather(-1, target_C[rows, None]).squeeze(-1) - logsum_K
        entropy_C[rows] = logsum_K - torch.linalg.vecdot(p_KV, shifted_KV)
        mean_C[rows] = shifted_KV.mean(dim=-1) - logsum_K
        logsum_C[rows] = most_K + logsum_K
        if keep:
            shifted_KV.copy_(p_KV)


def _of_softmax(p_CV: Tensor, target_C: Tensor, to_3C: Tensor, *, smoothed: bool) -> Tensor:
    """Gradient of the logits, in the memory of their softmax: of log-prob and mean log-prob."""
    up_C, _, mean_C = to_3C
    dz_CV = p_CV.mul_(-(up_C + mean_C)[:, None])
    dz_CV.scatter_add_(-1, target_C[:, None], up_C[:, None])
    return dz_CV.add_(mean_C[:, None] / p_CV.shape[1]) if smoothed else dz_CV


def _gradient(
    z_CV: Tensor, target_C: Tensor, to_3C: Tensor, known_4C: Tensor, job: _Job, *, smoothed: bool
) -> Tensor:
    """The same in the memory of the logits; that of the entropy H too, which is -p (log p + H)."""
    scratch_KV = torch.empty_like(z_CV[: job.block])
    for rows in (slice(first, first + job.block) for first in range(0, len(z_CV), job.block)):
        z_KV, slope = z_CV[rows], None
        if job.head.cap is not None:
            slope = cap_slope(z_KV, job.head.cap / job.temperature)
        z_KV.sub_(known_4C[3, rows, None])
        p_KV = torch.exp(z_KV, out=scratch_KV[: len(z_KV)])
        if job.entropy_grad:
            z_KV.add_(known_4C[1, rows, None]).mul_(p_KV).mul_(-to_3C[1, rows, None])
        dz_KV = _of_softmax(p_KV, target_C[rows], to_3C[:, rows], smoothed=smoothed)
        z_KV.copy_(dz_KV) if not job.entropy_grad else z_KV.add_(dz_KV)
        if slope is not None:
            z_KV.mul_(slope)
    return z_CV


def _requires_grad(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad
