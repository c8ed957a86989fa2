"""Random numbers by address: one uniform per (seed, problem, sample, position), and tokens from it.

Nothing is drawn in sequence, so a sample's numbers do not depend on its neighbours in the batch, on
the batch size, on the order of the rows or on the number of processes.

Axes: B rows, T positions, V vocabulary.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, UInt64
from numpy.typing import NDArray
from torch import Tensor

# fp64 probabilities made at once: on a CPU as many as stay in its cache, else as many as fit well
_CPU_CHUNK, _GPU_CHUNK = 65_536, 16_777_216


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
) -> SampledTokens:
    """The token at which the cumulative probability passes each row's uniform.

    Probabilities and their sums are fp64. Log-probs are those of softmax(logits / temperature),
    whatever `top_p` leaves out. Rows with non-finite logits get a log-prob of nan.
    """
    most = _CPU_CHUNK if logits_BV.device.type == "cpu" else _GPU_CHUNK
    chunk = max(1, most // logits_BV.shape[1])
    if logits_BV.shape[0] <= chunk:
        return _draw_chunk(logits_BV, uniform_B, temperature, top_p)
    parts = [
        _draw_chunk(logits_CV, uniform_C, temperature, top_p)
        for logits_CV, uniform_C in zip(logits_BV.split(chunk), uniform_B.split(chunk), strict=True)
    ]
    return SampledTokens(*(torch.cat(column) for column in zip(*parts, strict=True)))


def greedy(logits_BV: Float[Tensor, "B V"]) -> SampledTokens:
    """The likeliest token, with its log-prob at temperature 1."""
    tokens_B = logits_BV.argmax(-1)
    picked_B = logits_BV.gather(-1, tokens_B[:, None]).squeeze(-1).double()
    return SampledTokens(tokens_B, picked_B - logits_BV.double().logsumexp(-1))


def _draw_chunk(
    logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float
) -> SampledTokens:
    if temperature == 1.0:
        prob_BV = torch.softmax(logits_BV, dim=-1, dtype=torch.float64)
    else:
        prob_BV = torch.softmax(logits_BV.double() / temperature, dim=-1)
    uniform_B1 = uniform_B[:, None]
    if top_p < 1.0:
        sorted_BV, order_BV = prob_BV.sort(dim=-1, descending=True, stable=True)
        mass_BV = sorted_BV.cumsum(dim=-1)
        # the smallest set that reaches top_p: a token is in while the mass before it falls short
        last_B1 = ((mass_BV - sorted_BV) < top_p).sum(dim=-1, keepdim=True).clamp_(min=1) - 1
        place_B1 = torch.searchsorted(mass_BV, uniform_B1 * mass_BV.gather(-1, last_B1), right=True)
        token_B1 = order_BV.gather(-1, place_B1.clamp_(max=prob_BV.shape[1] - 1))
    else:
        mass_BV = prob_BV.cumsum(dim=-1)
        # right: the first place where the mass exceeds the number, so never a token of mass 0
        token_B1 = torch.searchsorted(mass_BV, uniform_B1 * mass_BV[:, -1:], right=True)
        token_B1.clamp_(max=prob_BV.shape[1] - 1)  # nan compares as larger than all
    return SampledTokens(token_B1.squeeze(-1), prob_BV.gather(-1, token_B1).log_().squeeze(-1))
