"""What group methods keep or measure in the course of a run: HERO's sigma, LENS's log-probs."""

import json
import math
from dataclasses import replace

import pytest
import torch

import tiny
from rekindle.engine.cached_sampler import CachedSampler
from rekindle.records import Problem
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    tiny.policy(dtype="float64").save(directory / "model")
    rows = [{"prompt": f"{i}+{i % 3}=", "answer": str(i % 5)} for i in range(40)]
    (directory / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def run(base, out, method, *, sampler=None, **settings):
    """Four steps, every answer logged: metrics rows and sample rows."""
    tree = {
        "method": method,
        "model": {"name": str(base / "model"), "dtype": "float64", "device": "cpu"},
        "task": {"name": "jsonl", "path": str(base / "data.jsonl")},
        "sample": {"max_new_tokens": 5, "temperature": 0.8},
        "optim": {"steps": 4, "problems": 4, "lr": 1e-2},
        "eval": {"problems": 2, "samples": 2},
        "log": {"samples": 1000},
        method: {"group_size": 8, **settings},
    }
    if method == "hero":
        tree["reward"] = {"source": "random"}
    train(make_recipe(tree), out, quiet=True, sampler=sampler)
    return [
        [json.loads(line) for line in (out / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "samples.jsonl")
    ]


# --- HERO


def sigmas(samples, step):
    """Population standard deviation of the reward model's scores in each group of a step."""
    groups = {}
    for row in samples:
        if row["step"] == step:
            groups.setdefault(row["group"], []).append(row["parts"]["rm"])
    out = {}
    for group, scores in groups.items():
        mean = sum(scores) / len(scores)
        out[group] = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    return out


@pytest.mark.parametrize("running", ["average", "cumulative"])
def test_heros_running_mean_is_used_before_it_is_updated_and_once_a_batch(running, base, tmp_path):
    """By hand from the logged scores. Two minibatches and two epochs: four updates a batch.

    average: sigma_1 = b_1, sigma_t = 0.9 sigma_(t-1) + 0.1 b_t, b_t the mean over the groups of
    step t; cumulative: the mean over the groups of all steps. Step t is weighed with sigma_(t-1),
    the first with b_1: w = 0.4 + 2.6 / (1 + exp(-6 (sigma_u - sigma))).
    """
    settings = {"running": running, "minibatches": 2, "epochs": 2}
    metrics, samples = run(base, tmp_path / "run", "hero", **settings)
    known, before = [], None
    for row in metrics:
        each = sigmas(samples, row["step"])
        batch = sum(each.values()) / len(each)
        known += each.values()
        after = sum(known) / len(known)
        if running == "average":
            after = batch if before is None else 0.9 * before + 0.1 * batch
        assert row["updates"] == 4
        assert row["sigma/used"] == (None if before is None else pytest.approx(before, rel=1e-12))
        assert row["sigma/running"] == pytest.approx(after, rel=1e-12)
        assert row["sigma/batch"] == pytest.approx(batch, rel=1e-12)
        used = batch if before is None else before
        for answer in samples:
            if answer["step"] == row["step"]:
                gap = each[answer["group"]] - used
                weight = 0.4 + 2.6 / (1 + math.exp(-6 * gap))
                assert answer["weight"] == pytest.approx(weight, rel=1e-9)
        before = after
    used = [row["sigma/used"] for row in metrics]
    assert used[1:] == [row["sigma/running"] for row in metrics[:-1]]
    assert len(set(used)) == 4  # they differ, so that the order can be seen


# --- LENS


class Misreporting(CachedSampler):
    """Draws as ours does, and reports a log-prob of -9 for each token."""

    def sample(self, problems, *, samples, config, seed):
        rollouts = super().sample(problems, samples=samples, config=config, seed=seed)
        return [replace(r, sampled_logprobs=(-9.0,) * len(r.tokens)) for r in rollouts]


def own_forward(base, row):
    """The log-prob of a logged answer under the start model, at the run's temperature of 0.8; None
    where its text does not have all its tokens (special ones)."""
    policy, problem = tiny.policy(dtype="float64"), Problem(row["problem"], row["prompt"])
    prompt, answer = policy.encode_prompt(problem), policy.encode_completion(problem, row["text"])
    answer = answer if row["finish"] == "eos" else answer[:-1]
    if len(answer) != row["tokens"]:
        return None
    logits = policy.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1] / 0.8
    picked = logits.detach().log_softmax(dim=-1).gather(1, torch.tensor(answer)[:, None])
    return float(picked.sum())


def test_lens_rescores_answers_by_the_trainers_forward(base, tmp_path):
    """Whatever the sampler says: credit rests on the policy's own log-probs before each update.

    In fp64 an honest sampler's log-probs are the same numbers but for rounding, at every step.
    """
    metrics, samples = run(
        base, tmp_path / "trainer", "lens", logprobs="trainer", sampler=Misreporting
    )
    _, honest = run(base, tmp_path / "honest", "lens", logprobs="sampler")
    assert [row["text"] for row in samples] == [row["text"] for row in honest]
    for row, other in zip(samples, honest, strict=True):
        assert row["sum_logprob"] == pytest.approx(other["sum_logprob"], abs=1e-6)
        assert row["penalty"] == pytest.approx(other["penalty"], rel=1e-6, abs=1e-9)
        assert row["advantage"] == pytest.approx(other["advantage"], rel=1e-4, abs=1e-6)
    first = [row for row in samples if row["step"] == 1]
    whole = [(row, own_forward(base, row)) for row in first]
    for row, logprob in whole:
        assert logprob is None or row["sum_logprob"] == pytest.approx(logprob, abs=1e-9)
    assert sum(logprob is not None for _, logprob in whole) > 10
    assert any(row["penalty"] for row in first)
    assert metrics[0]["logprobs/sampler_gap"] > 1  # what the sampler said is only compared


def test_lens_takes_the_samplers_log_probs_where_it_is_told_to(base, tmp_path):
    _, samples = run(base, tmp_path / "run", "lens", logprobs="sampler", sampler=Misreporting)
    for row in samples:
        assert row["sum_logprob"] == -9.0 * row["tokens"]
