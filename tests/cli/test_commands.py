"""The command line as a user meets it: results, refusals with exit code 2, no tracebacks."""

import json
import subprocess
import sys

import pytest

RECIPE = "recipes/grpo_countdown_testbed.yaml"


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"id": f"p{i}", "prompt": f"{i}+1=", "answer": str(i % 7)} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SMALL = (
    "--set",
    "optim.steps=2",
    "--set",
    "optim.problems=4",
    "--set",
    "eval.problems=3",
    "--set",
    "eval.samples=2",
    "--set",
    "grpo.group_size=4",
    "--quiet",
)


def test_train_eval_compare_report(rekindle, tmp_path):
    run, page = tmp_path / "run", tmp_path / "report.html"
    code, out, err = rekindle("train", RECIPE, "--out", run, *SMALL)
    assert code == 0, err
    assert str(run / "final") in out
    assert (run / "final" / "model.safetensors").exists()
    for name, model in [("before", "testbed/countdown-s0"), ("after", run / "final")]:
        code, out, err = rekindle(
            "eval",
            "--model",
            model,
            "--task",
            "countdown",
            "--split",
            "test",
            "--samples",
            2,
            "--problems",
            4,
            "--out",
            tmp_path / f"{name}.json",
        )
        assert code == 0, err
        assert "pass@2" in out
    result = json.loads((tmp_path / "after.json").read_text())
    assert result["n_problems"] == 12
    assert len(result["outcomes"]) == 12
    code, out, err = rekindle("compare", tmp_path / "before.json", tmp_path / "after.json")
    assert code == 0, err
    assert "greedy" in out
    code, out, err = rekindle("report", run, "--out", page)
    assert code == 0, err
    assert page.stat().st_size > 10_000


def test_eval_of_a_file_by_its_path(rekindle, data, tmp_path):
    code, _, err = rekindle(
        "eval",
        "--model",
        "testbed/chain-s0",
        "--task",
        data,
        "--samples",
        2,
        "--out",
        tmp_path / "e.json",
        "--set",
        "sample.max_new_tokens=8",
    )
    assert code == 0, err
    assert json.loads((tmp_path / "e.json").read_text())["sampling"]["max_new_tokens"] == 8


def test_lists_and_doctor_answer(rekindle):
    for words in (["tasks"], ["methods"], ["testbed", "list"], ["doctor"]):
        code, out, err = rekindle(*words)
        assert code == 0, err
        assert len(out.splitlines()) >= 5


def test_inspect_data_shows_which_tokens_carry_loss(rekindle):
    code, out, err = rekindle("inspect-data", "--task", "chain", "--model", "testbed/chain-s0")
    assert code == 0, err
    assert "[<eos>]" in out
    assert "[<bos>]" not in out


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["grpo.group_size=1"], ["group_size", "got", "wanted", "why", "do"]),
        (["grpo.groupsize=4"], ["Did you mean 'grpo.group_size'"]),
        (["optim.lr=-1"], ["optim.lr", "-1"]),
        (["sample.temperature=0"], ["temperature"]),
        (["sample.top_p=0.5"], ["importance ratio"]),
        (["task.name=countdwn"], ["Did you mean 'countdown'"]),
        (["task.levels=[9]"], ["no level '9'"]),
        (["model.name=testbed/nope"], ["testbed/countdown-s0"]),
        (["model.device=quantum"], ["not a device"]),
        (["device.threads=0"], ["device.threads"]),
        (["checkpoint.every=0"], ["checkpoint.every"]),
        (["log.exporters=[tensorbord]"], ["log.exporters"]),
        (["sft.reduction=token"], ["no effect"]),
        (["=3"], ["section.key=value"]),
    ],
)
def test_settings_that_cannot_be_meant(rekindle, tmp_path, sets, words):
    options = [word for item in sets for word in ("--set", item)]
    code, _, err = rekindle("train", RECIPE, "--out", tmp_path / "run", *SMALL, *options)
    assert code == 2
    assert err.startswith("error: ")
    for word in words:
        assert word in err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_existing_directory_is_kept(rekindle, tmp_path):
    run = tmp_path / "run"
    assert rekindle("train", RECIPE, "--out", run, *SMALL)[0] == 0
    before = (run / "metrics.jsonl").read_bytes()
    code, _, err = rekindle("train", RECIPE, "--out", run, *SMALL)
    assert code == 2
    assert "--resume" in err
    code, _, err = rekindle("train", RECIPE, "--out", run, *SMALL, "--resume", "--set", "seed=9")
    assert code == 2
    assert "seed: 0 -> 9" in err
    code, _, err = rekindle("train", RECIPE, "--out", run, *SMALL, "--resume", "--overwrite")
    assert code == 2
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "is empty"),
        ('{"prompt": "1", "answer": "1"}\n{"prompt"', "data.jsonl:2 is not valid JSON"),
        ('{"prompt": "1"}\n', "data.jsonl:1 has no 'answer'"),
        ('{"id": 1, "prompt": "1", "answer": "1"}\n' * 2, "occurs twice"),
    ],
)
def test_bad_data_names_file_and_line(rekindle, tmp_path, lines, message):
    path = tmp_path / "data.jsonl"
    path.write_text(lines)
    code, _, err = rekindle(
        "train",
        RECIPE,
        "--out",
        tmp_path / "run",
        *SMALL,
        "--set",
        "task.name=jsonl",
        "--set",
        f"task.path={path}",
        "--set",
        "task.levels=null",
        "--set",
        "eval.levels=null",
    )
    assert code == 2
    assert message in err


def test_a_prompt_beyond_the_context_is_named(rekindle, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": "x" * 300 + str(i), "answer": "1"}) + "\n" for i in range(30))
    )
    code, _, err = rekindle(
        "eval",
        "--model",
        "testbed/chain-s0",
        "--task",
        path,
        "--out",
        tmp_path / "e.json",
    )
    assert code == 2
    assert "longer than the model's context" in err
    assert not (tmp_path / "e.json").exists()


def test_sft_without_solutions_is_refused(rekindle, data, tmp_path):
    code, _, err = rekindle(
        "train",
        "recipes/sft_addition_testbed.yaml",
        "--out",
        tmp_path / "run",
        "--quiet",
        "--set",
        "task.name=jsonl",
        "--set",
        f"task.path={data}",
        "--set",
        "task.levels=null",
        "--set",
        "eval.levels=null",
        "--set",
        "eval.problems=2",
        "--set",
        "eval.samples=1",
        "--set",
        "sample.max_new_tokens=4",
    )
    assert code == 2
    assert "has no solution" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "tset"], "--split is unknown"),
        (["--samples", 0], "at least 1"),
        (["--samples", 4, "--set", "sample.temperature=0"], "several samples at temperature 0"),
        (["--levels", "17"], "no level '17'"),
        (["--set", "sampel.top_p=1"], "Did you mean 'sample'"),
    ],
)
def test_evaluations_that_cannot_be_meant(rekindle, tmp_path, options, message):
    code, _, err = rekindle(
        "eval",
        "--model",
        "testbed/chain-s0",
        "--task",
        "chain",
        "--out",
        tmp_path / "e.json",
        *options,
    )
    assert code == 2
    assert message in err


def test_an_evaluation_is_not_overwritten_unless_told(rekindle, tmp_path):
    place = tmp_path / "e.json"
    place.write_text("{}")
    words = (
        "eval",
        "--model",
        "testbed/chain-s0",
        "--task",
        "chain",
        "--out",
        place,
        "--samples",
        1,
        "--problems",
        2,
    )
    assert rekindle(*words)[0] == 2
    assert place.read_text() == "{}"
    assert rekindle(*words, "--overwrite")[0] == 0


def test_a_report_of_nothing_is_refused(rekindle, tmp_path):
    code, _, err = rekindle("report", tmp_path / "nowhere", "--out", tmp_path / "r.html")
    assert code == 2
    assert err.startswith("error: ")


HELP = "import rekindle.cli.main as m\ntry: m.main()\nexcept SystemExit: pass"


@pytest.mark.parametrize("words", ["import rekindle", HELP], ids=["import", "help"])
def test_nothing_heavy_is_imported_before_it_is_needed(words):
    """Which modules are loaded decides the time; the clock itself is in benchmarks/startup.py."""
    heavy = "('torch', 'transformers', 'numpy', 'scipy', 'pydantic')"
    probe = (
        f"import sys; sys.argv = ['rekindle', '--help']\n{words}\n"
        f"print('HEAVY', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout


def test_diagnose_says_whether_sft_has_signal_left(rekindle, tmp_path):
    words = ("--task", "addition", "--levels", "4", "--problems", "8", "--out", tmp_path / "d.json")
    code, out, err = rekindle(
        "diagnose", "--model", "testbed/addition-s0", "--weak", "testbed/addition-s1", *words
    )
    assert code == 0, err
    assert "mass/non_target" in out
    assert "mix/reactivated" in out
    found = json.loads((tmp_path / "d.json").read_text())
    assert found["state"] in ("saturated", "memorised", "fading", "unsettled", "alive")
    assert found["state"] + ":" in out


def test_an_evaluation_can_be_pushed_away_from_a_weaker_model(rekindle, tmp_path):
    small = ("--task", "addition", "--levels", "3", "--problems", "5", "--samples", "2")
    more = ("--set", "eval.likelihood=true", "--set", "eval.temperatures=[0.5]")
    for name, words in {"plain": (), "away": ("--weak", "testbed/addition-s1")}.items():
        code, out, err = rekindle(
            "eval",
            "--model",
            "testbed/addition-s0",
            *small,
            *words,
            *more,
            "--out",
            tmp_path / f"{name}.json",
        )
        assert code == 0, err
    assert "ece" in out
    plain, away = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("plain", "away"))
    assert away["model"] == "testbed/addition-s0 + 0.25 (it - testbed/addition-s1)"
    assert plain["values"]["chain_prob"] != away["values"]["chain_prob"]
    assert rekindle("compare", tmp_path / "plain.json", tmp_path / "away.json")[0] == 0


def test_an_executor_that_is_not_there_is_refused(rekindle, tmp_path):
    code, _, err = rekindle("study", "s.yaml", "--out", tmp_path / "o", "--executor", "raj")
    assert code == 2
    assert "Did you mean 'ray'" in err
