"""A run with a reward model beside its verifier: what is recorded, what stops it, what resumes."""

import json
import math

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import tiny
from rekindle.engine.checkpoint import find_checkpoint
from rekindle.engine.device import Group
from rekindle.errors import (
    EXIT_RESUMABLE,
    ConfigError,
    RunDirectoryError,
    ServerRefusedError,
    ServerUnavailableError,
    TrainingError,
)
from rekindle.loops.reward_scores import in_all, open_scorer, reward_model_metrics
from rekindle.loops.rollouts import AnswerRow
from rekindle.rewards.controls import OracleScores, RandomScores
from rekindle.training.parts import open_task
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train
from scripted_server import lengths, server

RETRY = {"retries": 1, "backoff": 0.0}


@pytest.fixture
def tree(base, data):
    def make(reward, *, task=None, steps=4):
        return {
            "method": "grpo",
            "seed": 3,
            "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(data), **(task or {})},
            "reward": reward,
            "sample": {"max_new_tokens": 5},
            "optim": {"steps": steps, "problems": 5, "lr": 1e-2},
            "eval": {"problems": 4, "samples": 2},
            "checkpoint": {"every": 50},
            "grpo": {"group_size": 24},
        }

    return make


def rows_of(out, name="metrics.jsonl"):
    rows = [json.loads(line) for line in (out / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_scores_reach_samples_and_metrics_and_leave_training_alone(tree, tmp_path):
    """GRPO does not read them: with and without a reward model the weights are the same bits."""
    train(make_recipe(tree({"source": "random"})), tmp_path / "with", quiet=True)
    train(make_recipe(tree({})), tmp_path / "without", quiet=True)
    for row in rows_of(tmp_path / "with", "samples.jsonl"):
        assert math.isfinite(row["parts"]["rm"])
    metrics = rows_of(tmp_path / "with")[0]
    assert abs(metrics["rm/mean"]) < 0.5
    assert metrics["score/rm_missing"] == 0
    assert "rm/mean" not in rows_of(tmp_path / "without")[0]
    one, two = (
        load_file(tmp_path / n / "final" / "model.safetensors") for n in ("with", "without")
    )
    assert all(one[name].equal(two[name]) for name in one)


def test_a_model_scores_in_process_and_another_one_is_refused_on_resume(tree, tmp_path):
    for seed in (0, 1):
        config = tiny.llama_config(num_labels=1, initializer_range=0.5 + 0.4 * seed)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "rm")
        tiny.tokenizer().save_pretrained(tmp_path / "rm")
        recipe = make_recipe(tree({"model": str(tmp_path / "rm")}, steps=2))
        if seed == 0:
            train(recipe, tmp_path / "run", quiet=True)
            metrics = rows_of(tmp_path / "run")[-1]
            assert metrics["rm/std"] > 0
            by_text = {}
            for row in rows_of(tmp_path / "run", "samples.jsonl"):
                key = row["step"], row["group"], row["text"]
                assert by_text.setdefault(key, row["parts"]["rm"]) == row["parts"]["rm"]
        else:
            with pytest.raises(RunDirectoryError, match="reward"):
                train(recipe, tmp_path / "run", mode="resume", quiet=True)


def test_a_brittle_verifier_trains_and_the_true_check_evaluates(tree, tmp_path):
    # Numerically right, and not the reference text: "7." or "07" for "7". The first version of the
    # verifier takes the last number of an untrained model's digits for its answer.
    train(
        make_recipe(tree({"source": "random"}, task={"brittle": 1.0, "verifier_version": 1})),
        tmp_path / "run",
        quiet=True,
    )
    rows = rows_of(tmp_path / "run", "samples.jsonl")
    for row in rows:
        assert row["score"] == row["reward"] == float(row["text"].strip() == row["answer"])
        assert row["score"] <= row["parts"]["true"]
    metrics = rows_of(tmp_path / "run")
    assert all(row["score/true"] >= row["score/mean"] for row in metrics)
    assert any(row["score/true"] > row["score/mean"] for row in metrics)
    assert any(row["rm/auc_within_wrong"] is not None for row in metrics)
    assert all(row["rm/auc_within_right"] is None for row in metrics)


def test_a_server_that_goes_away_pauses_the_run_and_resume_gives_the_same_bits(
    tree, tmp_path, capfd
):
    """It fails at the third step's scores: two steps are kept, though none was due for a
    checkpoint. Back again, the run is that of a server that never failed."""
    gone = (503, {})
    steps, asked = [], 0
    with server() as (url, seen):
        recipe = make_recipe(tree({"url": url, **RETRY}))
        train(recipe, tmp_path / "straight", quiet=True)
        steps = len(seen) // 4  # requests a step
        asked = len(seen)
    assert asked == 4 * steps
    with server([lengths] * (2 * steps) + [gone, gone]) as (url, _):
        recipe = make_recipe(tree({"url": url, **RETRY}))
        with pytest.raises(SystemExit) as stopped:
            train(recipe, tmp_path / "broken", quiet=True)
        assert stopped.value.code == EXIT_RESUMABLE
        said = capfd.readouterr().err
        assert "503" in said
        assert "--resume" in said
        assert "paused after step 2" in said
        found = find_checkpoint(tmp_path / "broken" / "checkpoints")
        assert found.marker["step"] == 2
        train(recipe, tmp_path / "broken", mode="resume", quiet=True)
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "straight")
    assert rows_of(tmp_path / "broken", "samples.jsonl") == rows_of(
        tmp_path / "straight", "samples.jsonl"
    )
    one, two = (
        load_file(tmp_path / n / "final" / "model.safetensors") for n in ("straight", "broken")
    )
    assert all(one[name].equal(two[name]) for name in one)


def test_a_server_that_is_never_there_leaves_a_run_that_can_be_resumed(tree, tmp_path):
    with server([(503, {})] * 2) as (url, _):
        recipe = make_recipe(tree({"url": url, **RETRY}))
        with pytest.raises(SystemExit):
            train(recipe, tmp_path / "run", quiet=True)
        assert train(recipe, tmp_path / "run", mode="resume", quiet=True).is_dir()


def test_a_server_that_refuses_ends_the_run_with_what_it_has(tree, tmp_path, capfd):
    with server([lengths] * 2 + [(401, {})]) as (url, seen):
        recipe = make_recipe(tree({"url": url, "batch": 1000, **RETRY}))
        with pytest.raises(ServerRefusedError, match="HTTP 401"):
            train(recipe, tmp_path / "run", quiet=True)
        assert len(seen) == 3
        kept = find_checkpoint(tmp_path / "run" / "checkpoints").marker["step"]
        assert kept == 2
        assert f"stopped after step {kept}" in capfd.readouterr().err
        train(recipe, tmp_path / "run", mode="resume", quiet=True)


@pytest.mark.parametrize(
    ("status", "code"), [(503, EXIT_RESUMABLE), (429, EXIT_RESUMABLE), (401, 2), (402, 2), (302, 2)]
)
def test_the_exit_code_says_whether_to_come_back(tree, tmp_path, rekindle, status, code):
    with server(answer=(status, {})) as (url, _):
        (tmp_path / "r.yaml").write_text(json.dumps(tree({"url": url, **RETRY})))
        left, _, said = rekindle("train", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert (left, f"HTTP {status}" in said) == (code, True)


KEY = "sk-Secret0123456789"


def repeating(body):
    return {**lengths(body), "you": [KEY], KEY: KEY}


def test_a_key_is_in_no_file_of_a_run_whatever_the_server_repeats(
    tree, tmp_path, monkeypatch, rekindle
):
    monkeypatch.setenv("MY_KEY", KEY)
    sent, garbage = [], lambda body: f"<p>{KEY}</p>".encode()
    script = [garbage] + [repeating] * 3 + [garbage] * 2
    with server(script, answer=repeating, headers=sent) as (url, _):
        recipe = tree({"url": url, "key_env": "MY_KEY", **RETRY}, steps=2)
        (tmp_path / "r.yaml").write_text(json.dumps(recipe))
        out = tmp_path / "run"
        code, *said = rekindle("train", tmp_path / "r.yaml", "--out", out)
        assert code == EXIT_RESUMABLE
        assert "***" in said[1]
        code, *more = rekindle("train", tmp_path / "r.yaml", "--out", out, "--resume")
        assert code == 0
    assert {headers["Authorization"] for headers in sent} == {f"Bearer {KEY}"}
    assert KEY not in "".join([*said, *more])
    for path in out.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert "MY_KEY" in (out / "config.yaml").read_text()


@pytest.mark.parametrize("url", ["http://me:HUSH@host/v1", "https://host/v1?api_key=HUSH"])
def test_an_address_with_a_secret_is_refused_before_anything_is_written(
    tree, tmp_path, rekindle, url
):
    (tmp_path / "r.yaml").write_text(json.dumps(tree({})))
    words = ("--out", tmp_path / "run", "--set", f"reward.url={url}")
    code, out, err = rekindle("train", tmp_path / "r.yaml", *words)
    assert (code, "reward.key_env: NAME" in err, "HUSH" in out + err) == (2, True, False)
    assert not (tmp_path / "run").exists()


def holes(share):
    def answer(body):
        good = lengths(body)["rewards"]
        return {"rewards": [None if i % 10 < 10 * share else v for i, v in enumerate(good)]}

    return answer


def test_some_missing_scores_are_counted(tree, tmp_path):
    with server(answer=holes(0.2)) as (url, _):
        train(make_recipe(tree({"url": url}, steps=2)), tmp_path / "run", quiet=True)
    for row in rows_of(tmp_path / "run"):
        assert 0.1 < row["score/rm_missing"] < 0.35
    missing = [r["parts"]["rm"] is None for r in rows_of(tmp_path / "run", "samples.jsonl")]
    assert any(missing)
    assert not all(missing)


def test_too_many_missing_scores_stop_the_run_with_their_reasons(tree, tmp_path):
    with server(answer=holes(0.6)) as (url, _):
        recipe = make_recipe(tree({"url": url, "max_missing": 0.4}, steps=2))
        with pytest.raises(TrainingError, match="gave null") as caught:
            train(recipe, tmp_path / "run", quiet=True)
    assert "reward.max_missing" in str(caught.value)


def test_a_failure_in_another_process_is_raised_here_too():
    class Two(Group):
        def gather_objects(self, items):
            return [*items, ServerUnavailableError("server down")]

    with pytest.raises(ServerUnavailableError, match="server down"):
        in_all(Two(), lambda: RandomScores().score([]))


def test_metrics_by_hand():
    """Four rejected answers, one of them right and scored above two of the three others; two
    accepted ones, both right."""
    rows = [
        AnswerRow(0, 0, 0.0, 0.0, 1, None, rm_score=1.0, true=0.0),
        AnswerRow(0, 1, 0.0, 0.0, 1, None, rm_score=2.0, true=0.0),
        AnswerRow(0, 2, 0.0, 0.0, 1, None, rm_score=3.0, true=1.0),
        AnswerRow(1, 0, 0.0, 0.0, 1, None, rm_score=4.0, true=0.0),
        AnswerRow(1, 1, 1.0, 0.0, 1, None, rm_score=5.0, true=1.0),
        AnswerRow(1, 2, 1.0, 0.0, 1, None, rm_missing="x", true=1.0),
    ]
    found = reward_model_metrics(rows)
    assert found["rm/auc"] == pytest.approx(5 / 6)
    assert found["rm/auc_in_group"] == 1.0
    assert found["rm/auc_within_wrong"] == pytest.approx(2 / 3)
    assert math.isnan(found["rm/auc_within_right"])
    assert found["score/rm_missing"] == pytest.approx(1 / 6)
    assert found["rm/mean"] == 3.0


@pytest.mark.parametrize(
    ("reward", "match"),
    [
        ({"source": "random", "model": "x"}, "reward.model has no effect"),
        ({"model": "x", "url": "http://x"}, "exclude each other"),
        ({"served": "x"}, "reward.served has no effect"),
        ({"key_env": "X"}, "reward.key_env has no effect"),
        ({"url": "http://x", "key_env": "sk-123"}, "reward.key_env is not the name"),
        ({"url": "localhost:80"}, "reward.url is not an address"),
        ({"url": "http://x", "revision": "main"}, "reward.revision has no effect"),
        ({"url": "http://x", "protocol": "grpc"}, "reward.protocol"),
        ({"modle": "x"}, "Did you mean 'reward.model'"),
        ({"source": "oracle", "url": "http://x"}, "reward.url has no effect"),
        ({"source": "random", "noise": 0.1}, "reward.noise has no effect"),
    ],
)
def test_settings_that_cannot_be_meant(tree, reward, match):
    with pytest.raises(ConfigError, match=match):
        make_recipe(tree(reward))


def test_no_reward_model_unless_one_is_named(tree):
    shared = make_recipe(tree({})).shared
    assert open_scorer(shared.reward, open_task(shared.task)) is None


def test_the_oracle_knows_the_true_check_where_the_verifier_is_brittle(tree):
    reward = {"source": "oracle", "noise": 0.0}
    shared = make_recipe(tree(reward, task={"brittle": 1.0, "verifier_version": 1})).shared
    task = open_task(shared.task)
    oracle = open_scorer(shared.reward, task)
    assert isinstance(oracle, OracleScores)
    problem = task.problems("dev", count=1, seed=0)[0]
    texts = [problem.answer, problem.answer + "x"]
    wanted = [task.grade(problem, text).value for text in texts]
    assert [s.value for s in oracle.score([(problem, text) for text in texts])] == wanted


@pytest.mark.parametrize("method", ["hero", "hero_mean", "rm_only", "naive_blend", "gated"])
def test_methods_that_rank_are_refused_without_a_reward_model(method):
    with pytest.raises(ConfigError, match=f"method '{method}' needs a reward model"):
        make_recipe({"method": method})
    for reward in ({"model": "somewhere"}, {"url": "http://x"}, {"source": "random"}):
        make_recipe({"method": method, "reward": reward})
    make_recipe({"method": "verifier_only"})
