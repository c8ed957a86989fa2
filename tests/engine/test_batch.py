"""Packing: weights are final before the split, and splitting loses nothing."""

import pytest
import torch

from rekindle.engine.batch import count, pack


def batch_of(gen, rows=9, reduction="token"):
    prompts = [tuple(range(5, 5 + int(n))) for n in torch.randint(1, 6, (rows,), generator=gen)]
    completions = [
        tuple(range(20, 20 + int(n))) for n in torch.randint(1, 8, (rows,), generator=gen)
    ]
    return pack(
        prompts,
        completions,
        reduction=reduction,
        total=count(completions),
        budget=8,
        advantage_B=torch.randn(rows, generator=gen),
    )


@pytest.mark.parametrize("micro_tokens", [1, 20, 50, 10_000])
def test_splitting_keeps_every_row_token_and_weight(micro_tokens, gen):
    batch = batch_of(gen)
    micros = batch.split(micro_tokens)
    assert sorted(row for micro in micros for row in micro.rows) == list(range(len(batch)))
    for micro in micros:
        layout = micro.layout
        assert layout.tokens_RS.numel() <= micro_tokens or len(micro.rows) == 1
        answers = layout.targets_N.split(layout.mask_BT.sum(dim=1).tolist())
        for b, row in enumerate(micro.rows):
            real = layout.tokens_RS[b][layout.attend_RS[b]].tolist()
            assert real == [*batch.prompts[row], *batch.completions[row]][:-1]
            assert answers[b].tolist() == list(batch.completions[row])
            assert torch.equal(micro.weight_BT[b], batch.weight_BT[row, : micro.weight_BT.shape[1]])
            assert micro.advantage_B[b] == batch.advantage_B[row]
    total = sum(micro.weight_BT.sum() for micro in micros)
    torch.testing.assert_close(total, batch.weight_BT.sum())


def test_dropping_rows_without_signal_keeps_the_weights_of_the_others(gen):
    batch = batch_of(gen)
    advantage = batch.advantage_B.clone()
    advantage[[0, 3, 4]] = 0
    kept = batch.replace(advantage_B=advantage).with_signal()
    rows = [1, 2, 5, 6, 7, 8]
    assert torch.equal(kept.weight_BT, batch.weight_BT[rows])
    assert kept.prompts == [batch.prompts[row] for row in rows]


def test_a_batch_without_any_signal_splits_into_nothing(gen):
    batch = batch_of(gen)
    assert batch.replace(advantage_B=torch.zeros(len(batch))).with_signal().split(100) == []


def test_an_empty_completion_has_no_weight_and_does_not_break_the_padding():
    batch = pack([(5,), (5, 6)], [(), (7, 8)], reduction="sequence", total=count([(), (7, 8)]))
    assert batch.weight_BT.tolist() == [[0, 0], [0.25, 0.25]]
    (micro,) = batch.split(100)
    assert micro.mask_BT.sum() == 2
