"""The seam that every rollout passes: whose weights a sampler has, and what it may return."""

import ast
import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import SampleConfig
from rekindle.engine.sampler import Sampler, Samplers, check_rollouts, sampler_for
from rekindle.errors import ConfigError, TrainingError
from rekindle.methods.catalog import find_method
from rekindle.records import Problem
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

PACKAGE = Path(__file__).parents[2] / "src" / "rekindle"
PROBLEMS = [Problem(id=str(i), prompt=f"{i}+1=") for i in range(3)]
CONFIG = SampleConfig(max_new_tokens=4)


def asked(sampler, problems=PROBLEMS, samples=2):
    return sampler.sample(problems, samples=samples, config=CONFIG, seed=0)


class Elsewhere:
    """A sampler as a server is one: it has a copy of the weights, as they were at `sync`."""

    def __init__(self):
        self.syncs, self._inner = [], None

    def sync(self, policy):
        there = copy.copy(policy)
        there.model = copy.deepcopy(policy.model)
        self.syncs.append(policy)
        self._inner = CachedSampler(there)

    def sample(self, problems, *, samples, config, seed):
        return self._inner.sample(problems, samples=samples, config=config, seed=seed)


# --- one place


def test_nothing_but_the_seam_makes_a_sampler():
    for path in PACKAGE.rglob("*.py"):
        if path.name == "sampler.py" and path.parent.name == "engine":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rsplit(".", 1)[-1]
                assert name != "CachedSampler", f"{path.relative_to(PACKAGE)}:{node.lineno}"


# --- whose weights


def test_one_sampler_is_brought_the_weights_of_the_policy_that_is_asked():
    first, second = tiny.policy(seed=1), tiny.policy(seed=2)
    sampler = Elsewhere()
    samplers = Samplers(sampler)
    ours, theirs = samplers.of(first), samplers.of(second)
    alone = [asked(sampler_for(policy)) for policy in (first, second)]
    assert alone[0] != alone[1]
    assert sampler.syncs == []
    assert [asked(ours), asked(theirs), asked(ours)] == [*alone, alone[0]]
    assert [id(policy) for policy in sampler.syncs] == [id(first), id(second), id(first)]
    asked(ours)
    assert len(sampler.syncs) == 3  # the weights are there already


def test_who_asks_again_gets_the_weights_as_they_are_now():
    policy, sampler = tiny.policy(seed=1), Elsewhere()
    samplers = Samplers(sampler)
    before = asked(samplers.of(policy))
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    after = asked(samplers.of(policy))
    assert after != before
    assert after == asked(sampler_for(policy))


def test_a_function_makes_a_sampler_for_each_policy():
    made = []

    def factory(policy):
        made.append(policy)
        return CachedSampler(policy)

    first, second = tiny.policy(seed=1), tiny.policy(seed=2)
    samplers = Samplers(factory)
    assert asked(samplers.of(first)) == asked(sampler_for(first))
    assert asked(samplers.of(first)) == asked(sampler_for(first))
    assert asked(samplers.of(second)) == asked(sampler_for(second))
    assert [id(policy) for policy in made] == [id(first), id(second)]
    assert asked(Samplers(CachedSampler).of(second)) == asked(sampler_for(second))  # a class


def test_the_librarys_sampler_serves_another_policy_after_sync():
    first, second = tiny.policy(seed=1), tiny.policy(seed=2)
    sampler = sampler_for(first)
    assert isinstance(sampler, Sampler)
    config = SampleConfig(max_new_tokens=4, stop=("1",))
    sampler.sample(PROBLEMS, samples=2, config=config, seed=0)
    sampler.sync(second)
    again = sampler.sample(PROBLEMS, samples=2, config=config, seed=0)
    assert again == sampler_for(second).sample(PROBLEMS, samples=2, config=config, seed=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    tiny.policy(dtype="float64").save(directory / "model")
    rows = [
        {"id": f"p{i}", "prompt": f"{i}+{i % 3}=", "answer": str(i % 5), "solution": str(i % 5)}
        for i in range(40)
    ]
    (directory / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def tree_of(base, method, section):
    return {
        "method": method,
        "model": {"name": str(base / "model"), "dtype": "float64", "device": "cpu"},
        "task": {"name": "jsonl", "path": str(base / "data.jsonl")},
        "sample": {"max_new_tokens": 5},
        "optim": {"steps": 2, "problems": 4, "lr": 1e-2},
        "eval": {"problems": 4, "samples": 2, "every": 1},
        "log": {"samples": 1000},
        "reward": {"source": "random"} if method == "temporal" else {},
        find_method(method).section: section,
    }


W2S = {"half1": 8, "half2": 12, "demos": 1, "weak_sft": {"steps": 25, "lr": 2e-2, "batch": 16}}
RUNS = {
    "grpo": {"group_size": 8},
    "sft_extrapolate": {},
    "w2s_full_weak": W2S,
    "w2s_weak_icl": W2S,
    "temporal": {
        "iterations": 1,
        "prompts": 8,
        "candidates": 3,
        "choose_cut": True,
        "judge": {"source": "reward"},
    },
}


@pytest.mark.parametrize("method", RUNS)
def test_a_run_whose_sampler_lives_elsewhere_is_the_same_run(method, base, tmp_path, monkeypatch):
    """Training, stages, demos, extrapolation and evaluation: every bit, from copied weights."""
    recipe = make_recipe(tree_of(base, method, RUNS[method]))
    train(recipe, tmp_path / "here", quiet=True)
    sampler = Elsewhere()
    real, made = CachedSampler.__init__, []
    monkeypatch.setattr(
        CachedSampler, "__init__", lambda self, policy: (made.append(policy), real(self, policy))[1]
    )
    train(recipe, tmp_path / "elsewhere", quiet=True, sampler=sampler)
    assert len(made) == len(sampler.syncs) > 0  # the run makes none of its own
    here, elsewhere = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("here", "elsewhere")
    )
    assert all(torch.equal(here[name], elsewhere[name]) for name in here)
    for name in ("metrics.jsonl", "samples.jsonl"):
        if (tmp_path / "here" / name).exists():
            assert lines(tmp_path / "here" / name) == lines(tmp_path / "elsewhere" / name)
    here, elsewhere = (
        json.loads((tmp_path / name / "eval.json").read_text()) for name in ("here", "elsewhere")
    )
    assert here["outcomes"] == elsewhere["outcomes"]


def lines(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


# --- what comes back


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: r[:-1], "their number"),
        (lambda r: [*r, r[0]], "their number"),
        (lambda r: [], "their number"),
        (lambda r: [r[1], r[0], *r[2:]], "rollout 1"),
        (lambda r: r[2:4] + r[:2] + r[4:], "rollout 1"),
        (lambda r: [*r[:4], replace(r[4], problem=Problem("9", "9=")), r[5]], "rollout 5"),
        (lambda r: [*r[:4], replace(r[4], problem=Problem("2", "9+1=")), r[5]], "rollout 5"),
        (lambda r: [*r[:5], replace(r[5], sampled_logprobs=())], "log-probs of rollout 6"),
    ],
)
def test_rollouts_that_were_not_asked_for_are_refused(change, what):
    policy = tiny.policy()

    class Other(Elsewhere):
        def sample(self, problems, *, samples, config, seed):
            return change(super().sample(problems, samples=samples, config=config, seed=seed))

    with pytest.raises(TrainingError, match=what) as refused:
        asked(Samplers(Other()).of(policy))
    error = refused.value
    assert None not in (error.got, error.wanted, error.why, error.fix)
    check_rollouts(asked(sampler_for(policy)), PROBLEMS, 2)


def test_a_function_that_makes_no_sampler_is_refused():
    with pytest.raises(ConfigError, match="no sampler") as refused:
        asked(Samplers(lambda policy: policy).of(tiny.policy()))
    assert None not in (refused.value.got, refused.value.wanted, refused.value.why)
