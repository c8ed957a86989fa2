"""Layouts: plain, shared prompts and packed rows are one set of numbers, values and gradients."""

import pytest
import torch

import tiny
from families import family_config
from rekindle.engine.attention import supports_branches, visible
from rekindle.engine.layout import Arrangement, arrange, lay_out

PROMPTS = [(1, 4, 5, 6)] * 3 + [(1, 9)] + [(1, 7, 8)] * 2
COMPLETIONS = [(7, 8, 2), (9, 10, 11, 12, 2), (2,), (12, 13, 2), (5, 6, 7, 2), (5, 2)]
SHARED = [[[0, 1, 2]], [[3]], [[4, 5]]]
PACKED = [[[0, 1, 2], [3]], [[4, 5]]]
SINGLE = [[[0], [3], [1]], [[2], [4], [5]]]
BOTH = {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}
CHANGES = {"mistral": {"sliding_window": 3}, "gemma2": BOTH, "gemma3_text": BOTH}
NAMES = ("llama", "qwen2", "mistral", "gemma2", "gemma3_text", "gpt_neox", "gpt2", "opt")


def model_of(kind, attention="sdpa"):
    config = family_config(kind, **CHANGES.get(kind, {}))
    config._attn_implementation = attention
    model = tiny.model(config=config, dtype=torch.float64)
    with torch.no_grad():  # large enough for attention to matter
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.5)
    return model


def scored(model, rows):
    policy = tiny.policy_of(model, dtype="float64")
    model.zero_grad(set_to_none=True)
    scores = policy.logprobs(lay_out(PROMPTS, COMPLETIONS, rows))
    (scores.logprobs_BT * torch.linspace(0.5, 2.0, 30).view(6, 5)).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return [*(score_BT.detach() for score_BT in scores), gradient]


@pytest.mark.parametrize("rows", [SHARED, PACKED, SINGLE])
@pytest.mark.parametrize(
    ("name", "attention"),
    [("gemma2", "eager"), *((n, a) for n in NAMES for a in ("sdpa", "eager") if n != "gemma2")],
)
def test_every_layout_has_the_values_and_gradients_of_plain_rows(name, attention, rows):
    model = model_of(name, attention)
    assert supports_branches(model)
    for got, want in zip(scored(model, rows), scored(model, None), strict=True):
        assert float((got - want).norm()) <= 1e-6 * float(want.norm())  # norms are fp32 inside


@pytest.mark.parametrize("kind", ["mamba", "bloom"])
def test_models_whose_tokens_look_elsewhere_keep_plain_rows(kind):
    """A state that runs through the row, and distances counted in columns."""
    assert not supports_branches(tiny.model(config=family_config(kind)))


def test_nothing_reaches_another_document():
    model = model_of("llama")
    embedded = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, out: embedded.append(out) or out.retain_grad()
    )
    policy = tiny.policy_of(model, dtype="float64")
    layout = lay_out(PROMPTS, COMPLETIONS, PACKED)
    policy.logprobs(layout).logprobs_BT[3].sum().backward()
    grad_RS = embedded[-1].grad.abs().sum(dim=-1)
    own_RS = torch.zeros_like(grad_RS, dtype=torch.bool)
    own_RS[0, (layout.document_RS[0] == 2).nonzero().flatten()] = True
    assert (grad_RS[~own_RS] == 0).all()
    assert (grad_RS[own_RS] > 0).all()


def test_what_a_token_sees():
    layout = lay_out([(1, 4)] * 2, [(5, 6, 2), (7, 8, 2)], [[[0, 1]]])
    assert layout.tokens_RS.tolist() == [[1, 4, 5, 6, 7, 8]]
    assert layout.position_RS.tolist() == [[0, 1, 2, 3, 2, 3]]
    assert layout.before_N.tolist() == [1, 2, 3, 1, 4, 5]
    seen = ["".join("x" if x else "." for x in row) for row in visible(layout)[0].tolist()]
    assert seen == ["x.....", "xx....", "xxx...", "xxxx..", "xx..x.", "xx..xx"]
    near = ["".join("x" if x else "." for x in row) for row in visible(layout, 2)[0].tolist()]
    assert near == ["x.....", "xx....", ".xx...", "..xx..", ".x..x.", "....xx"]


def test_spreading_puts_numbers_where_their_tokens_are():
    layout = lay_out(PROMPTS, COMPLETIONS, PACKED)
    placed_BT = layout.spread(layout.targets_N.double() + 1)
    for row, completion in zip(placed_BT.long().tolist(), COMPLETIONS, strict=True):
        assert row == [*(t + 1 for t in completion), *[0] * (5 - len(completion))]


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("micro_tokens", [1, 12, 30, 1000])
@pytest.mark.parametrize("pass_cost", [0.0, 5.0, 1e9])
def test_every_sequence_lies_in_one_place(shares, packs, micro_tokens, pass_cost, gen):
    arrangement = Arrangement(shares=shares, packs=packs, pairs=96.0, pass_cost=pass_cost)
    prompts = [tuple(range(n)) for n in torch.randint(1, 5, (23,), generator=gen).tolist()]
    completions = [tuple(range(n)) for n in torch.randint(0, 9, (23,), generator=gen).tolist()]
    pieces = arrange(prompts, completions, micro_tokens=micro_tokens, arrangement=arrangement)
    assert sorted(b for piece in pieces for b in piece.sequences) == list(range(23))
    for piece in pieces:
        places = [b for row in piece.rows for document in row for b in document]
        assert sorted(places) == list(range(len(piece.sequences)))
        layout = lay_out(
            [prompts[b] for b in piece.sequences],
            [completions[b] for b in piece.sequences],
            piece.rows,
        )
        alone = len(piece.rows) == 1
        assert layout.tokens_RS.numel() <= micro_tokens or alone
        for document in (d for row in piece.rows for d in row):
            assert len({prompts[piece.sequences[b]] for b in document}) == 1


def test_rows_of_other_lengths_are_cut_apart_where_a_pass_is_cheap():
    prompts, completions = [(1,) * n for n in (10, 11, 50, 51)], [(2,)] * 4
    cheap, dear = Arrangement(pass_cost=8.0), Arrangement(pass_cost=500.0)
    cut = [
        [
            piece.sequences
            for piece in arrange(prompts, completions, micro_tokens=1000, arrangement=a)
        ]
        for a in (cheap, dear)
    ]
    assert cut == [[[0, 1], [2, 3]], [[0, 1, 2, 3]]]


def test_a_long_answers_prompt_is_not_worth_sharing():
    """Attention between branches is computed and thrown away: it grows with the square."""
    for length, documents in [(20, 1), (2000, 8)]:
        prompts, completions = [(1,) * 50] * 8, [(2,) * length] * 8
        shared = Arrangement(shares=True, pairs=3456.0, pass_cost=8.0)
        pieces = arrange(prompts, completions, micro_tokens=10**6, arrangement=shared)
        assert sum(len(row) for piece in pieces for row in piece.rows) == documents


def test_packing_fills_the_rows():
    prompts, completions = [(1,) * 4] * 9, [(2,) * n for n in (13, 3, 3, 3, 3, 3, 3, 3, 3)]
    arrangement = Arrangement(packs=True, pairs=1e9, pass_cost=500.0)
    (piece,) = arrange(prompts, completions, micro_tokens=1000, arrangement=arrangement)
    assert sorted(len(row) for row in piece.rows) == [1, 2, 2, 2, 2]
