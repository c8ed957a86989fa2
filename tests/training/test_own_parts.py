"""`train` with a reward, a task, a sampler and a judge of the caller's own, in real tiny runs."""

import json
import textwrap
from dataclasses import dataclass, field, replace

import pytest
from safetensors.torch import load_file

from rekindle.engine.sampler import sampler_for
from rekindle.errors import (
    ConfigError,
    DataError,
    RewardFunctionError,
    RunDirectoryError,
    TrainingError,
)
from rekindle.records import Problem
from rekindle.tasks import load_task
from rekindle.training.train import train

ROWS = [{"id": f"p{i}", "prompt": f"{i}+{i % 3}=", "answer": str(i % 5)} for i in range(40)]


def recipe(base, *, method="grpo", **sections):
    return {
        "method": method,
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        "sample": {"max_new_tokens": 4},
        "optim": {"steps": 3, "problems": 4, "lr": 1e-2},
        "eval": {"problems": 3, "samples": 2},
        "checkpoint": {"every": 50},
        **sections,
    }


def even(problems, texts):
    """A reward that random models earn now and then."""
    return [float(len(text) % 2 == 0) for text in texts]


def metrics(out):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def samples(out):
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


# --- rewards


def test_a_reward_grades_training_and_evaluation(base, tmp_path):
    train(recipe(base), tmp_path / "run", task=ROWS, reward=even, quiet=True)
    for row in samples(tmp_path / "run"):
        assert row["score"] == float(len(row["text"]) % 2 == 0)
    evaluated = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert evaluated["metrics"]["pass@1"]["value"] is not None
    assert evaluated["missing"]["count"] == 0
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "name: rows" in config


def test_a_place_in_a_recipe_is_the_same_run_as_the_function(base, tmp_path, monkeypatch):
    (tmp_path / "placed_rewards.py").write_text(
        "def even(problems, texts):\n    return [float(len(text) % 2 == 0) for text in texts]\n"
    )
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    task = {"name": "jsonl", "path": str(data)}
    placed = recipe(base, task={**task, "verifier": "placed_rewards:even"})
    train(placed, tmp_path / "placed", quiet=True)
    train(recipe(base, task=task), tmp_path / "given", reward=even, quiet=True)
    assert metrics(tmp_path / "placed") == metrics(tmp_path / "given")
    manifest = json.loads((tmp_path / "placed" / "manifest.json").read_text())
    assert set(manifest["fingerprints"]) == {"data", "verifier", "model"}


def test_none_is_missing_and_other_columns_reach_the_reward(base, tmp_path):
    rows = [{"prompt": f"{i}=", "hint": i} for i in range(40)]  # no answer

    def reward(problems, texts):
        return [None if p.meta["hint"] % 2 else 1.0 for p in problems]

    train(recipe(base), tmp_path / "run", task=rows, reward=reward, quiet=True)
    found = samples(tmp_path / "run")
    assert {row["score"] for row in found} == {None, 1.0}
    assert all("gave none" in row["missing"] for row in found if row["score"] is None)


def test_without_a_reward_rows_need_something_to_check(base, tmp_path):
    with pytest.raises(DataError, match="has no 'answer'"):
        train(recipe(base), tmp_path / "run", task=[{"prompt": "1="}], quiet=True)


class Counting:
    """Good until call `fails_at`, which it spends as `how` says."""

    def __init__(self, fails_at, how):
        self.calls, self.fails_at, self.how = 0, fails_at, how

    def __call__(self, problems, texts):
        self.calls += 1
        scores = even(problems, texts)
        return self.how(scores) if self.calls == self.fails_at else scores

    def fingerprint(self):
        return "counting, version 1"


def raises(scores):
    raise ValueError("the judge is asleep")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (raises, "raised ValueError"),
        (lambda scores: scores[:-1], "too few scores"),
        (lambda scores: ["yes"] * len(scores), "something else than a number"),
        (lambda scores: [float("nan")] * len(scores), "returned nan"),
    ],
    ids=["raises", "too few", "texts", "nan"],
)
def test_a_reward_that_fails_in_a_step_loses_nothing(base, tmp_path, how, says):
    """The failing step is the third; after `resume` the run is the one that never failed."""
    never = Counting(0, how)
    train(recipe(base), tmp_path / "straight", task=ROWS, reward=never, quiet=True)
    fails_at = 2 + 3  # two calls of the evaluation before the first step
    with pytest.raises(RewardFunctionError, match=says) as caught:
        train(recipe(base), tmp_path / "run", task=ROWS, reward=Counting(fails_at, how), quiet=True)
    assert all(part in str(caught.value) for part in ("got:", "wanted:", "why:", "do:"))
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 2]
    train(
        recipe(base),
        tmp_path / "run",
        task=ROWS,
        reward=Counting(0, how),
        mode="resume",
        quiet=True,
    )
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")
    weights = [load_file(tmp_path / n / "final" / "model.safetensors") for n in ("run", "straight")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_another_reward_is_refused_on_resume(base, tmp_path):
    run = tmp_path / "run"
    train(recipe(base), run, task=ROWS, reward=even, quiet=True)

    def other(problems, texts):
        return [1.0 - score for score in even(problems, texts)]

    for reward in (other, None):
        with pytest.raises(RunDirectoryError, match=r"verifier \(hash\)"):
            train(recipe(base), run, task=ROWS, reward=reward, mode="resume", quiet=True)


# --- what cannot be meant


def test_one_reward_and_one_task(base, tmp_path):
    placed = recipe(base, task={"verifier": "some_rewards:reward"})
    with pytest.raises(ConfigError, match="two rewards"):
        train(placed, tmp_path / "run", reward=even)
    with pytest.raises(ConfigError, match="two tasks"):
        train(recipe(base, task={"name": "countdown"}), tmp_path / "run", task=ROWS)
    assert not (tmp_path / "run").exists()


def test_typos_in_a_recipe_that_is_a_dict(base, tmp_path):
    with pytest.raises(ConfigError, match=r"'grpo.groupsize'.*\n.*Did you mean 'grpo.group_size'"):
        train({**recipe(base), "grpo": {"groupsize": 8}}, tmp_path / "run")
    with pytest.raises(ConfigError, match="unknown section 'optm'"):
        train({**recipe(base), "optm": {"lr": 1.0}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ([{"id": "a", "prompt": "1=", "answer": 1}, {"id": "a", "prompt": "2=", "answer": 2}],
         "'a' occurs twice"),
        ([{"prompt": "1=", "answer": 1}, "2="], "no mapping"),
        ({"training": ROWS}, "'training' is no split"),
        ("countdown", "this is no task"),
        (3, "this is no task"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used(base, tmp_path, task, says):
    with pytest.raises((ConfigError, DataError), match=says):
        train(recipe(base), tmp_path / "run", task=task, quiet=True)
    assert not (tmp_path / "run").exists()


@dataclass
class OwnTask:
    """The testbed's addition under a name of its own; `same_id` gives each problem one id."""

    same_id: bool = False
    inner: object = field(default_factory=lambda: load_task("addition"))
    name: str = "own"
    levels: tuple = ("2",)
    stop: tuple = ()
    max_new_tokens: int = 4

    def _named(self, problems):
        return [replace(p, id="same") if self.same_id else p for p in problems]

    def problems(self, split, *, count, seed, levels=None):
        return self._named(self.inner.problems(split, count=count, seed=seed, levels=("2",)))

    def draw(self, *, step, count, seed, levels=None):
        return self._named(self.inner.draw(step=step, count=count, seed=seed, levels=("2",)))

    def grade(self, problem, text):
        return self.inner.grade(problem, text)

    def answer_of(self, problem, text):
        return self.inner.answer_of(problem, text)

    def fingerprint(self):
        return "own, version 1"


def test_an_object_is_a_task(base, tmp_path):
    train(recipe(base), tmp_path / "run", task=OwnTask(), reward=even, quiet=True)
    assert {row["problem"].split("-")[0] for row in samples(tmp_path / "run")} == {"addition"}


def test_a_task_whose_ids_repeat_is_refused_before_anything_runs(base, tmp_path):
    with pytest.raises(DataError, match="two problems the id 'same'") as caught:
        train(recipe(base), tmp_path / "run", task=OwnTask(same_id=True), quiet=True)
    assert all(part in str(caught.value) for part in ("got:", "wanted:", "why:", "do:"))
    assert not (tmp_path / "run").exists()


# --- samplers


class Recording:
    """The library's sampler, that writes down what it is asked."""

    def __init__(self):
        self.synced, self.calls, self.inner = 0, [], None

    def sync(self, policy):
        self.synced += 1
        self.inner = sampler_for(policy)
        self.inner.sync(policy)

    def sample(self, problems, *, samples, config, seed):
        self.calls.append(len(problems) * samples)
        return self.inner.sample(problems, samples=samples, config=config, seed=seed)


def test_every_rollout_comes_from_the_callers_sampler(base, tmp_path, monkeypatch):
    train(recipe(base), tmp_path / "library", task=ROWS, reward=even, quiet=True)
    recording = Recording()
    train(recipe(base), tmp_path / "own", task=ROWS, reward=even, sampler=recording, quiet=True)
    assert metrics(tmp_path / "own") == metrics(tmp_path / "library")
    assert recording.synced >= 1 + 3  # before the first evaluation, and after each update
    generated = sum(row["tokens/generated"] for row in metrics(tmp_path / "own"))
    assert generated > 0


class Swapped(Recording):
    def sample(self, problems, *, samples, config, seed):
        rollouts = super().sample(problems, samples=samples, config=config, seed=seed)
        other = Problem(id="another", prompt="0=")
        return [replace(rollout, problem=other) for rollout in rollouts]


def test_a_sampler_that_returns_other_problems_is_refused(base, tmp_path):
    with pytest.raises(Exception, match="other rollouts than were asked for") as caught:
        train(recipe(base), tmp_path / "run", task=ROWS, sampler=Swapped(), quiet=True)
    assert all(part in str(caught.value) for part in ("got:", "wanted:", "why:", "do:"))


class Empty(Recording):
    def sample(self, problems, *, samples, config, seed):
        return None


def test_a_sampler_that_returns_no_rollouts_is_refused(base, tmp_path):
    with pytest.raises(TrainingError, match="what it returned"):
        train(recipe(base), tmp_path / "run", task=ROWS, sampler=Empty(), quiet=True)


def test_a_mode_or_recipe_that_is_none_is_refused_before_anything_is_touched(base, tmp_path):
    with pytest.raises(ConfigError, match="no mode 'resum'"):
        train(recipe(base), tmp_path / "run", task=ROWS, mode="resum", quiet=True)
    with pytest.raises(ConfigError, match="this is no recipe"):
        train(None, tmp_path / "run")


def test_what_is_no_sampler_is_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="no sampler"):
        train(recipe(base), tmp_path / "run", task=ROWS, sampler=3, quiet=True)


# --- judges


def test_a_callable_judges_self_rewarding(base, tmp_path):
    def judge(problems, texts):
        return [float(len(text)) for text in texts]

    own = {"iterations": 1, "prompts": 6, "candidates": 3, "choose_cut": True}
    section = {**own, "judge": {"source": "callable"}}
    tree = recipe(base, method="self_rewarding", self_rewarding=section)
    train(tree, tmp_path / "run", task=ROWS, judge=judge, quiet=True)
    pairs = tmp_path / "run" / "stages" / "03-pairs-1" / "rows.jsonl"
    for line in pairs.read_text().splitlines():
        row = json.loads(line)
        assert row["chosen_score"] == len(row["chosen"]) > len(row["rejected"])


def test_it_works_from_a_file_and_from_overrides(base, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        textwrap.dedent(f"""
            method: grpo
            model: {{name: "{base}", dtype: float64, device: cpu}}
            sample: {{max_new_tokens: 4}}
            optim: {{steps: 9, problems: 4}}
            eval: {{problems: 3, samples: 2}}
        """)
    )
    train(path, tmp_path / "run", task=ROWS, overrides=["optim.steps=2"], quiet=True)
    assert len(metrics(tmp_path / "run")) == 2
