"""SFT's own controls: label smoothing and NEFTune."""

import json

import pytest
import torch
from safetensors.torch import load_file

import tiny
from rekindle.engine.batch import count, pack
from rekindle.engine.noise import noisy_embeddings
from rekindle.engine.policy import Policy
from rekindle.loops import world as world_module
from rekindle.methods.sft import sft_objective
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


def micro():
    prompts, answers = [(1, 4, 5), (1, 6)], [(7, 8, 2), (9, 10, 11, 2)]
    return pack(prompts, answers, reduction="token", total=count(answers)).split(10_000)[0]


def test_label_smoothing_is_torchs():
    policy, m = tiny.policy(), micro()
    ours = sft_objective(policy, smoothing=0.1)(m)
    z, targets = policy.head().logits(policy.hidden(m.layout)), m.layout.targets_N
    theirs = torch.nn.functional.cross_entropy(z, targets, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(ours.loss_BT[m.mask_BT], theirs, atol=1e-12, rtol=0)
    parameters = list(policy.model.parameters())
    a = torch.autograd.grad(ours.loss_BT[m.mask_BT].sum(), parameters, retain_graph=True)
    b = torch.autograd.grad(theirs.sum(), parameters)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, atol=1e-12, rtol=0)
    plain = sft_objective(policy)(m).stats["mass/non_target"]
    torch.testing.assert_close(ours.stats["mass/non_target"], plain, atol=1e-12, rtol=0)


def test_noise_has_neftunes_size_and_leaves_nothing_behind():
    """Uniform of half-width alpha / sqrt(L D), L counted without padding; D is 16."""
    policy, m = tiny.policy(), micro()
    embed, tokens = policy.model.get_input_embeddings(), m.layout.tokens_RS
    clean = embed(tokens)
    torch.manual_seed(0)
    with noisy_embeddings(policy.model, m.layout, alpha=5.0):
        noise = (embed(tokens) - clean).abs()
    for b, length in enumerate(m.layout.attend_RS.sum(dim=1).tolist()):
        size = 5 / (length * 16) ** 0.5
        assert 0.8 * size < float(noise[b].max().detach()) <= size
    assert torch.equal(embed(tokens), clean)


def test_without_noise_nothing_is_drawn():
    policy, m = tiny.policy(), micro()
    before = torch.get_rng_state()
    with noisy_embeddings(policy.model, m.layout, alpha=0.0):
        policy.model(m.layout.tokens_RS)
    assert torch.equal(before, torch.get_rng_state())


def recipe(tmp_path, method, **section):
    base, data = tmp_path / "base", tmp_path / "data.jsonl"
    tiny.policy().save(base)
    lines = [{"id": f"p{i}", "prompt": f"{i}=", "answer": "1", "solution": "12"} for i in range(9)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    name = "sft" if method == "sft" else "wmss"
    return make_recipe(
        {
            "method": method,
            "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(data)},
            "sample": {"max_new_tokens": 3},
            "optim": {"steps": 4, "problems": 3, "lr": 1e-2},
            "eval": {"problems": 2, "samples": 1},
            "checkpoint": {"every": 1},
            name: section,
        }
    )


def test_packing_changes_no_number(tmp_path, monkeypatch):
    """A long sample and eight short ones: as plain rows, and several in a row."""
    widths, real = [], Policy.logprobs

    def logprobs(policy, layout, **settings):
        widths.append(len(layout.tokens_RS))
        return real(policy, layout, **settings)

    monkeypatch.setattr(Policy, "logprobs", logprobs)
    lines = [
        {"id": f"p{i}", "prompt": f"{i}=", "answer": "1", "solution": "12" * (2 if i else 15)}
        for i in range(9)
    ]
    rows = []
    for packing in (False, True):
        asked = recipe(tmp_path, "sft", packing=packing)
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        asked = make_recipe(asked.resolved(), ["optim.problems=9", "eval.problems=1"])
        train(asked, tmp_path / str(packing), quiet=True)
        text = (tmp_path / str(packing) / "metrics.jsonl").read_text()
        rows.append([json.loads(line) for line in text.splitlines()])
    assert sum(widths[4:]) < sum(widths[:4])
    for plain, packed in zip(*rows, strict=True):
        for name in ("loss", "grad_norm", "entropy", "tokens/trained"):
            assert packed[name] == pytest.approx(plain[name], rel=1e-6)


def weights(out):
    return load_file(out / "final" / "model.safetensors")


@pytest.mark.parametrize("setting", ["neftune_noise_alpha", "label_smoothing_factor"])
def test_they_change_training(tmp_path, setting):
    for name, value in (("off", 0.0), ("on", 0.3)):
        train(recipe(tmp_path, "sft", **{setting: value}), tmp_path / name, quiet=True)
    on, off = weights(tmp_path / "on"), weights(tmp_path / "off")
    assert any(not torch.equal(on[name], off[name]) for name in on)


def test_noise_goes_on_where_it_was_after_a_resume(tmp_path, monkeypatch):
    asked = recipe(tmp_path, "sft", neftune_noise_alpha=5.0)
    train(asked, tmp_path / "straight", quiet=True)
    real, calls = world_module.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world_module, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(asked, tmp_path / "broken", quiet=True)
    monkeypatch.setattr(world_module, "update", real)
    train(asked, tmp_path / "broken", mode="resume", quiet=True)
    a, b = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    assert all(torch.equal(a[name], b[name]) for name in a)
