"""Records -> one step's rows with final weights -> micro-batches.

Axes: B sequences, T completion tokens. How the tokens lie in a forward pass is `engine/layout.py`.
Weights are computed on the whole step (all processes) before any row is dropped or split off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rekindle.engine.layout import (
    PLAIN,
    Arrangement,
    Layout,
    Piece,
    arrange,
    completion_mask,
    lay_out,
)
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
    """The rows of one update on this process, not yet split."""

    prompts: list[tuple[int, ...]]
    completions: list[tuple[int, ...]]
    units: Sequence[Sequence[int]] | None = None  # rows that must share a micro-batch
    packs: bool = False  # whether several sequences may share a row of the forward pass

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def tokens(self) -> int:
        """Completion tokens in these rows."""
        return sum(len(completion) for completion in self.completions)

    def select(self, rows: Sequence[int]) -> "Batch":
        """These rows, with the weights that they had in the whole; any may then be alone."""
        numbers: dict[str, Any] = self.of_rows(rows)
        return Batch(
            prompts=[self.prompts[row] for row in rows],
            completions=[self.completions[row] for row in rows],
            packs=self.packs,
            **numbers,
        )

    def with_signal(self) -> "Batch":
        """Only the rows whose advantage is not exactly 0: without a KL or entropy term the others
        have a gradient of exactly 0, and the denominators have already counted them."""
        return self.select(torch.nonzero(self.advantage_B).flatten().tolist())

    def replace(self, **fields: Any) -> "Batch":
        """A copy with other tensors."""
        return replace(self, **fields)

    def split(self, micro_tokens: int, arrangement: Arrangement = PLAIN) -> list["MicroBatch"]:
        """Slices of at most `micro_tokens` padded inputs (one row at least): `layout.arrange`."""
        pieces = arrange(
            self.prompts,
            self.completions,
            micro_tokens=micro_tokens,
            arrangement=arrangement._replace(packs=arrangement.packs and self.packs),
            units=self.units,
        )
        return [self._slice(piece) for piece in pieces]

    def whole(self) -> "MicroBatch":
        """All rows in one micro-batch, in their order, one sequence a row."""
        rows = list(range(len(self)))
        return self._slice(Piece(rows, [[[row]] for row in rows]))

    def _slice(self, piece: Piece) -> "MicroBatch":
        rows = piece.sequences
        layout = lay_out(
            [self.prompts[row] for row in rows],
            [self.completions[row] for row in rows],
            piece.rows,
        )
        return MicroBatch(rows=rows, layout=layout, **self.of_rows(rows, layout.mask_BT.shape[1]))


@dataclass(frozen=True)
class MicroBatch(_Numbers):
    """The rows of one forward pass: their numbers, and how their tokens lie."""

    rows: list[int]  # where they stand in the batch
    layout: Layout

    @property
    def mask_BT(self) -> Bool[Tensor, "B T"]:
        """True at real completion tokens."""
        return self.layout.mask_BT

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
        return replace(self, layout=self.layout.to(device), **moved)


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
