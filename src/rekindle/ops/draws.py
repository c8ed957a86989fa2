"""Random numbers by address: one uniform per (seed, problem, sample, position), and tokens from it.

Nothing is drawn in sequence, so a sample's numbers do not depend on its neighbours in the batch, on
the batch size, on the order of the rows or on the number of processes.

Axes: B rows, T positions, V vocabulary.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, UInt64
from numpy.typing import NDArray
from torch import Tensor

# fp64 probabilities made at once: on a CPU as many as stay in its cache, else as many as fit well
_CPU_CHUNK, _GPU_CHUNK = 65_536, 16_777_216
_LIKELIEST = 1024  # tokens among which top-p looks before it sorts the vocabulary


def stream_keys(seed: int, names: Sequence[tuple[str, int]]) -> UInt64[np.ndarray, "B 2"]:
    """128 bits for each (problem id, sample): the same on every machine and in every process."""
    digests = [
        hashlib.blake2b(f"{seed}\x1f{sample}\x1f{problem}".encode(), digest_size=16).digest()
        for problem, sample in names
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64).reshape(-1, 2)


def uniforms(
    keys_B2: UInt64[np.ndarray, "B 2"], *, start: int, count: int
) -> Float64[np.ndarray, "T B"]:
    """Numbers in [0, 1) for positions `start .. start + count - 1` of each stream.

    The position walks a Weyl sequence from the first half of the key and is mixed twice, with the
    second half in between, by the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    position_T1 = np.arange(start + 1, start + count + 1, dtype=np.uint64)[:, None]
    state_TB = keys_B2[None, :, 0] + position_T1 * np.uint64(0x9E3779B97F4A7C15)
    state_TB = _mix(_mix(state_TB) ^ keys_B2[None, :, 1])
    # 53 bits: a double below 1 holds them exactly
    return (state_TB >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class SampledTokens(NamedTuple):
    """One token a row, and the log-prob that it was drawn by."""

    tokens_B: Int[Tensor, " B"]
    logprobs_B: Float64[Tensor, " B"]  # before top-p


def draw(
    logits_BV: Float[Tensor, "B V"],
    uniform_B: Float64[Tensor, " B"],
    *,
    temperature: float,
    top_p: float = 1.0,
    drawable: int | None = None,
) -> SampledTokens:
    """The token at which the cumulative probability passes each row's uniform.

    Probabilities and their sums are fp64. Log-probs are those of softmax(logits / temperature) over
    all V, whatever `top_p` and `drawable` leave out. Rows with non-finite logits get a log-prob of
    nan.

    Args:
        top_p: the smallest set of tokens whose mass reaches it is drawn from.
        drawable: ids from here on are never drawn: a model may have rows for more than its
            tokenizer knows. None: all are.
    """
    known = logits_BV.shape[1] if drawable is None else drawable
    draw_chunk = partial(_draw_chunk, temperature=temperature, top_p=top_p, known=known)
    return _by_rows(draw_chunk, logits_BV, uniform_B)


def greedy(logits_BV: Float[Tensor, "B V"], *, drawable: int | None = None) -> SampledTokens:
    """The likeliest token, with its log-prob at temperature 1; `drawable` as in `draw`."""

    def likeliest(logits_CV: Tensor) -> SampledTokens:
        tokens_C = logits_CV[:, :drawable].argmax(-1)
        picked_C = logits_CV.gather(-1, tokens_C[:, None]).squeeze(-1).double()
        return SampledTokens(tokens_C, picked_C - logits_CV.double().logsumexp(-1))

    return _by_rows(likeliest, logits_BV)


def _by_rows(choose: Callable[..., SampledTokens], *inputs: Tensor) -> SampledTokens:
    """`choose` on as many rows at once as their fp64 copies are cheap."""
    rows, vocabulary = inputs[0].shape
    most = _CPU_CHUNK if inputs[0].device.type == "cpu" else _GPU_CHUNK
    chunk = max(1, most // vocabulary)
    if rows <= chunk:
        return choose(*inputs)
    pieces = zip(*(one.split(chunk) for one in inputs), strict=True)
    parts = [choose(*piece) for piece in pieces]
    return SampledTokens(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _draw_chunk(
    logits_BV: Tensor, uniform_B: Tensor, *, temperature: float, top_p: float, known: int
) -> SampledTokens:
    if temperature == 1.0:
        prob_BV = torch.softmax(logits_BV, dim=-1, dtype=torch.float64)
    else:
        prob_BV = torch.softmax(logits_BV.double() / temperature, dim=-1)
    uniform_B1 = uniform_B[:, None]
    if top_p < 1.0:
        sorted_BK, order_BK, last_B1 = _nucleus(prob_BV[:, :known], top_p)
        mass_BK = sorted_BK.cumsum(dim=-1)
        place_B1 = torch.searchsorted(mass_BK, uniform_B1 * mass_BK.gather(-1, last_B1), right=True)
        token_B1 = order_BK.gather(-1, place_B1.clamp_(max=sorted_BK.shape[1] - 1))
    else:
        mass_BV = prob_BV[:, :known].cumsum(dim=-1)
        # right: the first place where the mass exceeds the number, so never a token of mass 0
        token_B1 = torch.searchsorted(mass_BV, uniform_B1 * mass_BV[:, -1:], right=True)
        token_B1.clamp_(max=known - 1)  # nan compares as larger than all
    return SampledTokens(token_B1.squeeze(-1), prob_BV.gather(-1, token_B1).log_().squeeze(-1))


def _nucleus(prob_BV: Tensor, top_p: float) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest tokens, K >= 1 of them, likeliest first, ties by id: their probabilities, their
    ids, and the place of the last that is needed to reach `top_p`."""
    vocabulary = prob_BV.shape[1]
    if vocabulary > 4 * _LIKELIEST and prob_BV.device.type == "cpu":
        # there a full sort takes many times as long as all the rest of a draw
        order_BK = prob_BV.topk(_LIKELIEST, dim=-1, sorted=False).indices.sort(dim=-1).values
        sorted_BK, places_BK = prob_BV.gather(-1, order_BK).sort(
            dim=-1, descending=True, stable=True
        )
        last_B1 = _last_of(sorted_BK, top_p)
        reached_B = sorted_BK.sum(dim=-1) - sorted_BK[:, -1] >= top_p
        # a tie with the first that was left out could go either way
        apart_B = (sorted_BK.gather(-1, last_B1) > sorted_BK[:, -1:]).squeeze(-1)
        if bool((reached_B & apart_B).all()):
            return sorted_BK, order_BK.gather(-1, places_BK), last_B1
    sorted_BV, order_BV = prob_BV.sort(dim=-1, descending=True, stable=True)
    return sorted_BV, order_BV, _last_of(sorted_BV, top_p)


def _last_of(sorted_BK: Tensor, top_p: float) -> Tensor:
    # the smallest set that reaches top_p: a token is in while the mass before it falls short
    before_BK = sorted_BK.cumsum(dim=-1) - sorted_BK
    return (before_BK < top_p).sum(dim=-1, keepdim=True).clamp_(min=1) - 1
