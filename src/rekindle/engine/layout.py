"""How sequences lie in the rows of a forward pass.

    plain    one sequence a row                            p p p a a . .
    shared   a prompt once, its completions behind it      p p p a a b b b
    packed   several sequences in a row                    p p p a a q q b

Padding is on the right alone, a sequence's last token is no input (nothing is predicted from it),
and each row keeps its own end of the prompt. A document is a prompt with its completions; each
completion is a branch of it, which sees the prompt and itself. The loss sees hidden states one by
one, `before_N`, whatever the rows look like.

Axes: B sequences, T completion tokens, N completion tokens of all sequences, R rows, S columns.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Document = list[int]  # sequences that share a prompt, by number


@dataclass(frozen=True)
class Layout:
    """The input of one forward pass, and where each completion token is predicted in it.

    Attributes:
        tokens_RS: inputs, 0 as padding.
        document_RS: 0 at padding, else which of the row's documents, from 1.
        branch_RS: 0 in a prompt, and where a document has one completion; else which, from 1.
        position_RS: of each token in its own sequence.
        before_N: flat place (row * S + column) of the hidden state in front of each completion
            token, sequence by sequence.
        targets_N: these tokens.
        mask_BT: True at the completion tokens that exist.
        prompts, completions: of the sequences.
        is_plain: a row is one sequence.
    """

    tokens_RS: Int[Tensor, "R S"]
    document_RS: Int[Tensor, "R S"]
    branch_RS: Int[Tensor, "R S"]
    position_RS: Int[Tensor, "R S"]
    before_N: Int[Tensor, " N"]
    targets_N: Int[Tensor, " N"]
    mask_BT: Bool[Tensor, "B T"]
    prompts: Sequence[tuple[int, ...]]
    completions: Sequence[tuple[int, ...]]
    is_plain: bool

    @property
    def attend_RS(self) -> Bool[Tensor, "R S"]:
        """True at inputs that are no padding."""
        return self.document_RS > 0

    @property
    def lengths_RS(self) -> Int[Tensor, "R S"]:
        """At each input, how many inputs its document has; 1 at padding."""
        same_RSS = self.document_RS[:, :, None] == self.document_RS[:, None, :]
        return same_RSS.sum(dim=-1).masked_fill(~self.attend_RS, 1)

    def gather(self, values_RSD: Float[Tensor, "R S D"]) -> Float[Tensor, "N D"]:
        """The rows of what stands in front of each completion token."""
        return values_RSD.flatten(0, 1)[self.before_N]

    def spread(self, values_N: Float[Tensor, " N"]) -> Float[Tensor, "B T"]:
        """Numbers of completion tokens at their places, 0 as padding."""
        zeros_BT = values_N.new_zeros(self.mask_BT.shape)
        return zeros_BT.masked_scatter(self.mask_BT, values_N)

    def to(self, device: torch.device) -> "Layout":
        """The same on another device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def lay_out(
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[tuple[int, ...]],
    rows: Sequence[Sequence[Document]] | None = None,
) -> Layout:
    """Place sequences, of a prompt and a completion each.

    Args:
        rows: the documents of each row, every sequence in exactly one; None: plain rows.
    """
    rows = [[[b]] for b in range(len(prompts))] if rows is None else rows
    lines = [_Line(prompts, completions) for _ in rows]
    for line, documents in zip(lines, rows, strict=True):
        for number, document in enumerate(documents, start=1):
            line.add(number, document)
    width = max((len(line.tokens) for line in lines), default=0)
    before: dict[int, list[int]] = {}
    for r, line in enumerate(lines):
        before |= {b: [r * width + at for at in places] for b, places in line.before.items()}
    order = range(len(prompts))
    return Layout(
        tokens_RS=_padded([line.tokens for line in lines], width),
        document_RS=_padded([line.documents for line in lines], width),
        branch_RS=_padded([line.branches for line in lines], width),
        position_RS=_padded([line.positions for line in lines], width),
        before_N=torch.tensor([at for b in order for at in before[b]], dtype=torch.long),
        targets_N=torch.tensor([t for b in order for t in completions[b]], dtype=torch.long),
        mask_BT=completion_mask(completions),
        prompts=list(prompts),
        completions=list(completions),
        is_plain=all(len(documents) == len(documents[0]) == 1 for documents in rows),
    )


class _Line:
    """A row that is being filled."""

    def __init__(
        self, prompts: Sequence[tuple[int, ...]], completions: Sequence[tuple[int, ...]]
    ) -> None:
        self._prompts, self._completions = prompts, completions
        self.tokens: list[int] = []
        self.documents: list[int] = []
        self.branches: list[int] = []
        self.positions: list[int] = []
        self.before: dict[int, list[int]] = {}  # columns, by sequence

    def add(self, number: int, document: Document) -> None:
        """A prompt once, then the inputs of each of its completions."""
        prompt = self._prompts[document[0]]
        self._append(prompt, number, branch=0, position=0)
        last = len(self.tokens) - 1
        for branch, b in enumerate(document, start=1):
            completion, first = self._completions[b], len(self.tokens)
            own = 0 if len(document) == 1 else branch
            self._append(completion[:-1], number, branch=own, position=len(prompt))
            inside = range(first, first + len(completion) - 1)
            self.before[b] = [last, *inside] if completion else []

    def _append(self, tokens: tuple[int, ...], number: int, *, branch: int, position: int) -> None:
        self.tokens += tokens
        self.documents += [number] * len(tokens)
        self.branches += [branch] * len(tokens)
        self.positions += range(position, position + len(tokens))


def completion_mask(completions: Sequence[Sequence[int]]) -> Bool[Tensor, "B T"]:
    """True at the tokens that exist, rows padded on the right; T is at least 1."""
    lengths_B = torch.tensor([len(completion) for completion in completions], dtype=torch.long)
    width = max(int(lengths_B.max()) if len(lengths_B) else 0, 1)
    return torch.arange(width)[None, :] < lengths_B[:, None]


def _padded(rows: Sequence[Sequence[int]], width: int) -> Int[Tensor, "R S"]:
    full = [[*row, *[0] * (width - len(row))] for row in rows]
    return torch.tensor(full, dtype=torch.long).view(len(rows), width)


# --- which sequences lie where


class Arrangement(NamedTuple):
    """What a model's forward pass allows, and what it costs.

    Attributes:
        shares: a prompt may stand once in front of several completions.
        packs: several documents may stand in a row.
        pairs: so many pairs of attention cost as much as a token; about 6 times the width.
        pass_cost: so many tokens cost as much as one forward pass more.
    """

    shares: bool = False
    packs: bool = False
    pairs: float = float("inf")
    pass_cost: float = 1e9  # as few as there can be


PLAIN = Arrangement()


class Piece(NamedTuple):
    """A micro-batch: its sequences, and the documents of each row, by place among them."""

    sequences: list[int]
    rows: list[list[Document]]


def arrange(
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[tuple[int, ...]],
    *,
    micro_tokens: int,
    arrangement: Arrangement,
    units: Sequence[Sequence[int]] | None = None,
) -> list[Piece]:
    """Micro-batches of at most `micro_tokens` padded inputs (one unit at least), made so that
    padding, repeated prompts, masked attention and passes together cost least.

    Args:
        units: sequences that must share a micro-batch; None: each may be alone.
    """

    def size(document: Document) -> int:
        return _inputs(prompts[document[0]], [completions[b] for b in document])

    if not arrangement.shares:
        alone = [[b] for b in range(len(prompts))] if units is None else units
        items = [[[b] for b in unit] for unit in alone]
    elif units is None:
        every = _by_prompt(range(len(prompts)), prompts)
        cut = [
            _cut_group(group, prompts, completions, micro_tokens, arrangement) for group in every
        ]
        items = [[document] for documents in cut for document in documents]
    else:
        items = [
            [
                document
                for group in _by_prompt(unit, prompts)
                for document in _cut_group(group, prompts, completions, micro_tokens, arrangement)
            ]
            for unit in units
        ]
    items.sort(key=lambda item: (max(map(size, item)), item))
    pieces = _cut(
        [max(map(size, item)) for item in items],
        [len(item) for item in items],
        micro_tokens,
        arrangement.pass_cost,
    )
    rows = [[[document] for i in piece for document in items[i]] for piece in pieces]
    if arrangement.packs and all(len(item) == 1 for item in items):
        packed = _packed([item[0] for item in items], size, micro_tokens)
        rows = min(rows, packed, key=lambda cut: _cost(cut, size, arrangement))
    return [_piece(piece) for piece in rows]


def _cost(
    cut: list[list[list[Document]]], size: Callable[[Document], int], arrangement: Arrangement
) -> float:
    """Of micro-batches, in tokens; where a row is one sequence, attention is causal."""
    total = 0.0
    for rows in cut:
        width = max(sum(map(size, row)) for row in rows)
        masked = 1.0 if any(len(row) > 1 or len(row[0]) > 1 for row in rows) else 0.5
        total += len(rows) * (width + masked * width * width / arrangement.pairs)
    return total + len(cut) * arrangement.pass_cost


def _inputs(prompt: tuple[int, ...], completions: Sequence[tuple[int, ...]]) -> int:
    return len(prompt) + sum(max(len(completion) - 1, 0) for completion in completions)


def _piece(rows: list[list[Document]]) -> Piece:
    sequences = sorted(b for row in rows for document in row for b in document)
    place = {b: at for at, b in enumerate(sequences)}
    return Piece(sequences, sorted([[place[b] for b in d] for d in row] for row in rows))


def _cut(
    widths: Sequence[int], rows: Sequence[int], micro_tokens: int, pass_cost: float
) -> list[list[int]]:
    """Items of rising width in consecutive pieces; the least of rows times width, and of passes."""
    before = np.concatenate([[0], np.cumsum(rows, dtype=int)])
    best = np.zeros(len(widths) + 1)
    begins = np.zeros(len(widths), dtype=int)
    for last, width in enumerate(widths):
        counts = before[last + 1] - before[: last + 1]
        first = min(int((counts * width > micro_tokens).sum()), last)
        costs = best[first : last + 1] + counts[first:] * width + pass_cost
        at = int(costs.argmin())
        best[last + 1], begins[last] = costs[at], first + at
    pieces, end = list[list[int]](), len(widths)
    while end:
        begin = int(begins[end - 1])
        pieces.append(list(range(begin, end)))
        end = begin
    return pieces[::-1]


def _by_prompt(sequences: Iterable[int], prompts: Sequence[tuple[int, ...]]) -> list[Document]:
    together: dict[tuple[int, ...], Document] = {}
    for b in sequences:
        together.setdefault(prompts[b], []).append(b)
    return list(together.values())


def _cut_group(
    group: Document,
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[tuple[int, ...]],
    micro_tokens: int,
    arrangement: Arrangement,
) -> list[Document]:
    """Sequences of one prompt in as many documents as cost least: the prompt is read once a
    document, and attention grows with the square of its length."""
    group = sorted(group, key=lambda b: (len(completions[b]), b))
    choices = []
    for parts in range(1, len(group) + 1):
        split = [group[part::parts] for part in range(parts)]
        sizes = [_inputs(prompts[group[0]], [completions[b] for b in part]) for part in split]
        if max(sizes) <= micro_tokens or parts == len(group):
            masked = 0.5 if parts == len(group) else 1.0  # plain rows: attention is causal
            pairs = masked / arrangement.pairs
            choices.append((sum(size + size * size * pairs for size in sizes), parts, split))
    return min(choices)[2]


def _packed(
    documents: Sequence[Document], size: Callable[[Document], int], micro_tokens: int
) -> list[list[list[Document]]]:
    """Documents of rising size in rows as wide as the longest of them, the longest first."""
    width = size(documents[-1]) if documents else 1
    rows, room = list[list[Document]](), list[int]()
    for document in reversed(documents):
        needed = size(document)
        at = next((r for r, left in enumerate(room) if left >= needed), None)
        if at is None:
            at = len(rows)
            rows.append([])
            room.append(width)
        rows[at].append(document)
        room[at] -= needed
    many = max(1, micro_tokens // max(width, 1))
    return [rows[first : first + many] for first in range(0, len(rows), many)]
