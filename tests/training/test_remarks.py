"""What a run that went through is said to lack, and when a learning rate is remarked on."""

import json

import pytest

import tiny
from rekindle.engine import device
from rekindle.engine.device import set_threads
from rekindle.methods.catalog import find_method
from rekindle.training.recipe import make_recipe
from rekindle.training.remarks import LARGE, rate_remark, run_remarks

WRONG = {
    "loss": 0.0,
    "groups/no_signal": 1.0,
    "groups/all_wrong": 1.0,
    "groups/all_right": 0.0,
    "tokens/trained": 0.0,
}
RIGHT = {
    "loss": 0.0,
    "groups/no_signal": 1.0,
    "groups/all_wrong": 0.0,
    "groups/all_right": 1.0,
    "tokens/trained": 4.0,
}
MIXED = {"loss": 0.1, "groups/no_signal": 0.5, "groups/all_wrong": 0.5, "tokens/trained": 9.0}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([WRONG, WRONG], ["Every answer of every step was wrong", "No token was trained"]),
        ([RIGHT], ["Every answer of every step was right"]),
        ([WRONG, RIGHT], ["In no step did two answers"]),
        ([WRONG, MIXED], []),
        ([MIXED], []),
        ([{"loss": 0.3, "tokens/trained": 5.0}], []),
        ([{"loss": 0.3, "tokens/trained": 0.0}], ["No token was trained"]),
        ([{"tokens/trained": 0.0}], []),  # examples in the prompt: nothing is meant to be trained
        ([], []),
    ],
)
def test_a_run_without_signal_is_remarked_on_only_where_no_step_had_any(rows, words):
    remarks = run_remarks(rows)
    assert len(remarks) == len(words)
    for remark, start in zip(remarks, words, strict=True):
        assert remark.startswith(start)


@pytest.mark.parametrize(
    ("method", "rate", "parameters", "trained", "usual"),
    [
        ("grpo", 5e-4, LARGE, LARGE, "1e-6"),
        ("sft", 1e-4, LARGE, LARGE, "1e-5"),
        ("dpo", 5e-4, 8 * LARGE, 8 * LARGE, "5e-7"),
        ("sft", 5e-4, LARGE, LARGE // 50, "1e-4 to 2e-4"),
        ("sft", 2e-4, LARGE, LARGE // 50, None),
        ("grpo", 9e-5, LARGE, LARGE, None),
        ("grpo", 5e-4, LARGE - 1, LARGE - 1, None),
    ],
)
def test_a_testbed_rate_is_remarked_on_for_large_models(method, rate, parameters, trained, usual):
    remark = rate_remark(find_method(method), rate, parameters=parameters, trained=trained)
    assert (remark is None) == (usual is None)
    assert usual is None or f"{usual}" in remark


def test_a_run_whose_answers_are_all_wrong_says_so_in_its_manifest_and_summary(tmp_path, rekindle):
    tiny.policy(dtype="float32").save(tmp_path / "model")
    rows = [{"prompt": f"{i}=", "answer": "no number"} for i in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "method": "grpo",
        "model": {"name": str(tmp_path / "model"), "device": "cpu"},
        "task": {"name": "jsonl", "path": str(tmp_path / "data.jsonl"), "verifier": "exact"},
        "sample": {"max_new_tokens": 2},
        "optim": {"steps": 2, "problems": 2},
        "eval": {"problems": 2, "samples": 1},
        "grpo": {"group_size": 2},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    code, out, err = rekindle("train", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert code == 0
    assert "loading " in err
    assert "evaluating: 4 answers" in err  # of two problems, one sampled and one greedy each
    remarks = json.loads((tmp_path / "run" / "manifest.json").read_text())["remarks"]
    assert len(remarks) == 2
    assert all(f"warning: {remark}" in out for remark in remarks)
    code, _, _ = rekindle("report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert (code, remarks[0][:50] in (tmp_path / "page.html").read_text()) == (0, True)


def test_nothing_is_remarked_on_where_there_was_signal():
    assert make_recipe({"method": "grpo"}).shared.checkpoint.keep_finished is False
    assert run_remarks([MIXED, WRONG]) == []


@pytest.mark.parametrize(
    ("variable", "processes", "parameters", "threads"),
    [
        ("3", "1", 10**9, 3),
        ("3,2", "1", 10**9, 3),
        ("3", "1", 1000, 1),
        ("", "1", 10**9, 8),
        ("many", "1", 10**9, 8),
        ("0", "1", 10**9, 8),
        ("", "2", 10**9, 4),
    ],
)
def test_threads_follow_the_environment(variable, processes, parameters, threads, monkeypatch):
    chosen = []
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(device.torch, "set_num_threads", chosen.append)
    assert set_threads("auto", parameters=parameters) == threads
    assert chosen == [threads]
    assert set_threads(2, parameters=parameters) == 2
