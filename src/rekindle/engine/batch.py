"""Records -> one step's rows with final weights -> padded micro-batches.

Axes: B sequences, S prompt and completion tokens, T completion tokens. Prompts are padded on the
left and completions on the right, so that every completion of a micro-batch starts in the same
column. Weights are computed on the whole step (all processes) before any row is dropped or split
off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rekindle.ops.weights import Reduction, Totals, reduction_weights, totals


@dataclass(frozen=True)
class _Numbers:
    """What the rows of an update carry beside their tokens.

    `weight_BT` reduces per-token losses over the whole step; `advantage_B` is credit and stays out
    of it, and `shape_BT` is its factor at each token, 1 but for methods that tell tokens apart.
    `old_`, `ref_` and `sampled_logprobs_BT` are nan where there are none.
    """

    weight_BT: Float[Tensor, "B T"]
    advantage_B: Float[Tensor, " B"]
    shape_BT: Float[Tensor, "B T"]
    old_logprobs_BT: Float[Tensor, "B T"]
    ref_logprobs_BT: Float[Tensor, "B T"]
    sampled_logprobs_BT: Float[Tensor, "B T"]

    def of_rows(self, rows: Sequence[int], width: int | None = None) -> dict[str, Tensor]:
        """The numbers of some rows, of the first `width` tokens, by name."""
        index = torch.as_tensor(rows, dtype=torch.long)
        whole = {field.name: vars(self)[field.name] for field in fields(_Numbers)}
        return {name: x[index, :width] if x.ndim == 2 else x[index] for name, x in whole.items()}


@dataclass(frozen=True)
class Batch(_Numbers):
    """The rows of one update on this process, not yet padded to a common prompt length."""

    prompts: list[tuple[int, ...]]
    completions: list[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def tokens(self) -> int:
        """Completion tokens in these rows."""
        return sum(len(completion) for completion in self.completions)

    def select(self, rows: Sequence[int]) -> "Batch":
        """These rows, with the weights that they had in the whole."""
        return Batch(
            prompts=[self.prompts[row] for row in rows],
            completions=[self.completions[row] for row in rows],
            **self.of_rows(rows),
        )

    def with_signal(self) -> "Batch":
        """Only the rows whose advantage is not exactly 0: without a KL or entropy term the others
        have a gradient of exactly 0, and the denominators have already counted them."""
        return self.select(torch.nonzero(self.advantage_B).flatten().tolist())

    def replace(self, **fields: Any) -> "Batch":
        """A copy with other tensors."""
        return replace(self, **fields)

    def split(self, micro_tokens: int) -> list["MicroBatch"]:
        """Slices of similar length with at most `micro_tokens` padded tokens (one row at least)."""
        order = sorted(
            range(len(self)),
            key=lambda row: (len(self.prompts[row]) + len(self.completions[row]), row),
        )
        pieces: list[list[int]] = []
        widest_prompt = widest_completion = 0
        for row in order:
            prompt = max(widest_prompt, len(self.prompts[row]))
            completion = max(widest_completion, len(self.completions[row]))
            fits = pieces and (len(pieces[-1]) + 1) * (prompt + completion) <= micro_tokens
            if not fits:
                pieces.append([])
                prompt, completion = len(self.prompts[row]), len(self.completions[row])
            pieces[-1].append(row)
            widest_prompt, widest_completion = prompt, completion
        return [self._pad(rows) for rows in pieces]

    def _pad(self, rows: list[int]) -> "MicroBatch":
        start = max(len(self.prompts[row]) for row in rows)
        width = max(max(len(self.completions[row]) for row in rows), 1)
        tokens_BS = torch.zeros(len(rows), start + width, dtype=torch.long)
        attend_BS = torch.zeros_like(tokens_BS, dtype=torch.bool)
        for b, row in enumerate(rows):
            sequence = (*self.prompts[row], *self.completions[row])
            begin = start - len(self.prompts[row])
            tokens_BS[b, begin : begin + len(sequence)] = torch.tensor(sequence)
            attend_BS[b, begin : begin + len(sequence)] = True
        return MicroBatch(
            rows=rows,
            tokens_BS=tokens_BS,
            attend_BS=attend_BS,
            start=start,
            **self.of_rows(rows, width),
        )


@dataclass(frozen=True)
class MicroBatch(_Numbers):
    """Padded tensors for one forward pass; completions begin in column `start`."""

    rows: list[int]  # where they stand in the batch
    tokens_BS: Int[Tensor, "B S"]
    attend_BS: Bool[Tensor, "B S"]
    start: int

    @property
    def mask_BT(self) -> Bool[Tensor, "B T"]:
        """True at real completion tokens."""
        return self.attend_BS[:, self.start :]

    def filled(
        self, values_BT: Float[Tensor, "B T"], padding_BT: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """Per-token values in the dtype of `padding_BT`, which stands in at padding."""
        return torch.where(self.mask_BT, values_BT.to(padding_BT), padding_BT)

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on another device; weights and credit in fp32 where fp64 is not to be had."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            name: value.to(device, torch.float32 if value.is_floating_point() else value.dtype)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def completion_mask(completions: Sequence[Sequence[int]]) -> Bool[Tensor, "B T"]:
    """True at the tokens that exist, rows padded on the right."""
    lengths_B = torch.tensor([len(completion) for completion in completions], dtype=torch.long)
    width = max(int(lengths_B.max()) if len(lengths_B) else 0, 1)
    return torch.arange(width)[None, :] < lengths_B[:, None]


def padded(rows: Sequence[Sequence[float]], width: int) -> Float[Tensor, "B T"]:
    """Rows of per-token numbers, nan on the right."""
    out_BT = torch.full((len(rows), width), torch.nan, dtype=torch.float64)
    for b, row in enumerate(rows):
        out_BT[b, : len(row)] = torch.as_tensor(row, dtype=torch.float64)
    return out_BT


def pack(
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[tuple[int, ...]],
    *,
    reduction: Reduction,
    total: Totals,
    budget: int | None = None,
    advantage_B: Float[Tensor, " B"] | None = None,
    sampled_logprobs: Sequence[Sequence[float]] | None = None,
) -> Batch:
    """Weigh the rows of an update.

    Args:
        prompts, completions: token ids, a completion with its end token.
        reduction, total, budget: see `ops.weights`; `total` counts all processes.
        advantage_B: credit of each row; 1 when left out.
        sampled_logprobs: the sampler's, for the gap metric.
    """
    mask_BT = completion_mask(completions)
    missing_BT = torch.full(mask_BT.shape, torch.nan, dtype=torch.float64)
    ones_B = torch.ones(len(prompts), dtype=torch.float64)
    return Batch(
        prompts=list(prompts),
        completions=list(completions),
        weight_BT=reduction_weights(mask_BT, reduction, total=total, budget=budget),
        advantage_B=ones_B if advantage_B is None else advantage_B.double(),
        shape_BT=torch.ones_like(missing_BT),
        old_logprobs_BT=missing_BT,
        ref_logprobs_BT=missing_BT,
        sampled_logprobs_BT=padded(sampled_logprobs or [()] * len(prompts), mask_BT.shape[1]),
    )


def count(completions: Sequence[Sequence[int]]) -> Totals:
    """Sequences and tokens of this process, to be summed over processes."""
    return totals(completion_mask(completions))
