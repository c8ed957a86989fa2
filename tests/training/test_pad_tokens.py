"""Which token pads: it changes no bit of a run, not even where it is the end token."""

import json

import pytest
from safetensors.torch import load_file

import tiny
from rekindle.loops import world
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

METHODS = ("grpo", "sft", "dpo", "wmss_frozen")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models that are alike but for their pad token, rows and pairs of unequal lengths."""
    directory = tmp_path_factory.mktemp("pads")
    for name, pad in {"own": "<pad>", "eos": "<eos>", "none": None}.items():
        tiny.policy(tok=tiny.tokenizer(pad_token=pad)).save(directory / name)
    rows = [
        {"prompt": f"{i}+" * (1 + i % 4) + "1=", "answer": str(i % 5), "solution": "1" * (i % 7)}
        for i in range(1, 31)
    ]
    pairs = [
        {"prompt": f"{i}=" * (1 + i % 3), "chosen": str(i), "rejected": "0" * i}
        for i in range(1, 20)
    ]
    for name, lines in {"data": rows, "pairs": pairs}.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / f"{name}.jsonl").write_text(text)
    return directory


def recipe(place, method, model, *, weak="own"):
    own = {
        "grpo": {"group_size": 8},
        "dpo": {"pairs": str(place / "pairs.jsonl")},
        "sft": {},
        "wmss": {"weak": str(place / weak)},
    }
    section = method.partition("_")[0]
    return make_recipe(
        {
            "method": method,
            "model": {"name": str(place / model), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(place / "data.jsonl"), "verifier_version": 1},
            "sample": {"max_new_tokens": 6},
            "optim": {"steps": 3, "problems": 5, "lr": 1e-2, "micro_tokens": 60},
            "eval": {"problems": 3, "samples": 2},
            "checkpoint": {"every": 2},
            section: own[section],
        }
    )


def outcome(out):
    """Trained weights, and the texts and numbers of every step."""
    weights = load_file(out / "final" / "model.safetensors")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    numbers = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
    return {n: w.numpy().tobytes() for n, w in weights.items()}, numbers


@pytest.fixture(scope="module")
def plain(place, tmp_path_factory):
    """The outcome of a method where the pad token is no other token."""
    at, known = tmp_path_factory.mktemp("plain"), {}

    def of(method):
        if method not in known:
            train(recipe(place, method, "own"), at / method, quiet=True)
            known[method] = outcome(at / method)
        return known[method]

    return of


@pytest.mark.parametrize("model", ["eos", "none"])
@pytest.mark.parametrize("method", METHODS)
def test_no_bit_of_a_run_depends_on_it(method, model, place, plain, tmp_path):
    train(recipe(place, method, model), tmp_path / "run", quiet=True)
    assert outcome(tmp_path / "run") == plain(method)


def test_a_weak_model_may_pad_with_another_token(place, plain, tmp_path):
    train(recipe(place, "wmss_frozen", "own", weak="eos"), tmp_path / "run", quiet=True)
    assert outcome(tmp_path / "run") == plain("wmss_frozen")


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_run_that_pads_with_the_end_token_is_resumed_to_the_bit(
    method, place, plain, tmp_path, monkeypatch
):
    real, calls = world.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(place, method, "eos"), tmp_path / "run", quiet=True)
    monkeypatch.undo()
    train(recipe(place, method, "eos"), tmp_path / "run", mode="resume", quiet=True)
    assert outcome(tmp_path / "run") == plain(method)
