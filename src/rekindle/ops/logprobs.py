"""Log-probs of tokens, entropies, and estimators of the KL divergence.

Axes: B sequences, T tokens, V vocabulary, D hidden width, N = B * T tokens in a row. All in nats.
Low-precision logits are raised to fp32 first; fp64 stays fp64.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class TokenScores(NamedTuple):
    """Of every token: its log-prob, and the entropy where it was drawn."""

    logprobs_BT: Float[Tensor, "B T"]
    entropy_BT: Float[Tensor, "B T"]


def token_scores(
    logits_BTV: Float[Tensor, "B T V"],
    tokens_BT: Int[Tensor, "B T"],
    *,
    temperature: float = 1.0,
    entropy: Literal["detached", "grad"] = "detached",
) -> TokenScores:
    """log softmax(logits / temperature) at the tokens, and the entropy of that distribution."""
    scores_BTV = raised(logits_BTV) / temperature
    logsum_BT = scores_BTV.logsumexp(dim=-1)
    picked_BT = scores_BTV.gather(-1, tokens_BT[..., None]).squeeze(-1)
    entropy_source = scores_BTV if entropy == "grad" else scores_BTV.detach()
    return TokenScores(
        logprobs_BT=picked_BT - logsum_BT, entropy_BT=categorical_entropy(entropy_source)
    )


def categorical_entropy(logits: Float[Tensor, "*N V"]) -> Float[Tensor, "*N"]:
    """H(softmax(logits)) = logsumexp(z) - sum_v softmax(z)_v z_v; 0 * -inf counts as 0."""
    logprobs = torch.log_softmax(raised(logits), dim=-1)
    return -(logprobs.exp() * logprobs.clamp(min=torch.finfo(logprobs.dtype).min)).sum(-1)


def chunked_token_scores(
    hidden_BTD: Float[Tensor, "B T D"],
    head_VD: Float[Tensor, "V D"],
    tokens_BT: Int[Tensor, "B T"],
    *,
    temperature: float = 1.0,
    chunk: int = 1024,
) -> TokenScores:
    """Twin of `token_scores(hidden @ head.T, ...)` that holds at most `chunk` rows of logits.

    Gradients reach `hidden_BTD` and `head_VD`; logits are recomputed in the backward pass, products
    are accumulated in fp32. The entropies carry no gradient.
    """
    shape = tokens_BT.shape
    logprobs_N, entropy_N = _ChunkedScores.apply(
        hidden_BTD.reshape(-1, hidden_BTD.shape[-1]),
        head_VD,
        tokens_BT.reshape(-1),
        temperature,
        chunk,
    )
    return TokenScores(logprobs_N.view(shape), entropy_N.view(shape))


class _ChunkedScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        tokens_N: Tensor,
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        logprobs, entropies = [], []
        for rows in range(0, hidden_ND.shape[0], chunk):
            part = slice(rows, rows + chunk)
            logp_CV = _chunk_logprobs(hidden_ND[part], head_VD, temperature)
            logprobs.append(logp_CV.gather(-1, tokens_N[part, None]).squeeze(-1))
            entropies.append(-(logp_CV.exp() * logp_CV).sum(-1))
        ctx.save_for_backward(hidden_ND, head_VD, tokens_N)
        ctx.temperature, ctx.chunk = temperature, chunk
        entropy_N = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy_N)
        return torch.cat(logprobs), entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, head_VD, tokens_N = ctx.saved_tensors
        grad_N = grads[0]
        accumulate = raised(head_VD[:0]).dtype
        hidden_grad_ND = torch.empty_like(hidden_ND)
        head_grad_VD = torch.zeros_like(head_VD, dtype=accumulate)
        for rows in range(0, hidden_ND.shape[0], ctx.chunk):
            part = slice(rows, rows + ctx.chunk)
            # d logp_y / dz = onehot(y) - softmax(z)
            dz_CV = _chunk_logprobs(hidden_ND[part], head_VD, ctx.temperature).exp_().neg_()
            dz_CV.scatter_add_(-1, tokens_N[part, None], torch.ones_like(dz_CV[:, :1]))
            dz_CV *= grad_N[part, None] / ctx.temperature
            hidden_grad_ND[part] = (dz_CV @ head_VD.to(accumulate)).to(hidden_ND.dtype)
            head_grad_VD += dz_CV.T @ hidden_ND[part].to(accumulate)
        return hidden_grad_ND, head_grad_VD.to(head_VD.dtype), None, None, None


def _chunk_logprobs(hidden_CD: Tensor, head_VD: Tensor, temperature: float) -> Tensor:
    return torch.log_softmax(raised(hidden_CD @ head_VD.T) / temperature, dim=-1)


def kl_k3(logprobs: Float[Tensor, "*N"], ref_logprobs: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """q/p - 1 - log(q/p) at samples of p: unbiased for KL(p || q) and never negative.

    Schulman, "Approximating KL divergence" (2020); GRPO's penalty (arXiv 2402.03300, eq. 4).
    """
    log_ratio = ref_logprobs - logprobs
    return log_ratio.expm1() - log_ratio


def raised(values: Tensor) -> Tensor:
    """In fp32 at least: fp64 stays fp64."""
    return values if values.dtype == torch.float64 else values.float()
