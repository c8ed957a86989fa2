"""`rekindle diagnose --log`: a run's own log, without a model."""

import json
import subprocess
import sys

import pytest

SHARES = ("all_wrong", "mixed", "all_right", "tied")
MAP = "score=reward,text=answer,prompt=prompt,step=step,group=group"


@pytest.fixture
def log(tmp_path):
    """A table of rollouts: at each of four steps the same groups, other answers."""

    def write(rewards, name="log.jsonl"):
        rows = [
            {"step": step, "group": f"{step}-{place}", "prompt": f"{step} {place}?",
             "answer": f"{step} {place} {i}", "reward": reward}
            for step in range(1, 5)
            for place, group in enumerate(rewards)
            for i, reward in enumerate(group)
        ]  # fmt: skip
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


DEAD, MIXED = [[0, 0, 0, 0]] * 11 + [[1, 0, 0, 0]], [[1, 0, 1, 0]] * 12


def test_one_object_has_what_it_promises(rekindle, log):
    code, out, _ = rekindle("diagnose", "--log", log(DEAD), "--map", MAP, "--json")
    told = json.loads(out)
    assert code == 0
    assert [told[k] for k in ("format", "rows", "rows_repeated", "rows_evaluation")] == [
        "mapped", 192, 0, 0,
    ]  # fmt: skip
    assert (told["groups"], told["steps_seen"], told["steps_logged"]) == (48, 4, 4)
    assert told["cause"] == "too_hard"
    assert {name: told["share"][name]["value"] for name in SHARES} == {
        "all_wrong": 44 / 48, "mixed": 4 / 48, "all_right": 0.0, "tied": 0.0,
    }  # fmt: skip
    assert all(s["ci_low"] <= s["value"] <= s["ci_high"] for s in told["share"].values())
    fields = {"name", "value", "ci_low", "ci_high", "n", "says"}
    assert all(fields <= finding.keys() for finding in told["findings"])
    assert all({"method", "fits", "why"} <= remedy.keys() for remedy in told["remedies"])
    assert [one["fits"] for one in told["remedies"]] == sorted(
        (one["fits"] for one in told["remedies"]), reverse=True
    )
    assert told["credits"][0]["method"] == "grpo"


def test_a_log_that_is_well_has_no_cause_and_needs_no_torch(log):
    """Whatever is found, the exit code is 0; a log of a gigabyte must not wait for torch."""
    command = ["diagnose", "--log", str(log(MIXED)), "--map", MAP, "--json"]
    program = (
        "import sys; from rekindle.cli.main import main; sys.argv = ['rekindle', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as stop: print('\\n', stop.code, 'torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=True
    )
    told = json.loads(run.stdout[: run.stdout.rindex("}") + 1])
    assert (told["cause"], told["credits"]) == (None, [])
    assert run.stdout.rstrip().endswith("0 False")


def test_the_verdict_comes_first(rekindle, log):
    code, out, _ = rekindle("diagnose", "--log", log(DEAD), "--map", MAP)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "mapped log: 192 rows, 48 groups of 4 (by its own names), 4 of 4 steps"
    assert lines[4].startswith("Most groups have no right answer: they move nothing (too_hard)")
    assert lines[5].startswith("next: ")
    assert any(line.startswith("not told: no log-probs") for line in lines)


def test_map_may_be_given_in_parts(rekindle, log):
    parts = [word for part in MAP.split(",") for word in ("--map", part)]
    code, out, _ = rekindle("diagnose", "--log", log(MIXED), *parts, "--json")
    assert (code, json.loads(out)["groups"]) == (0, 48)


def test_several_logs_are_told_together(rekindle, log):
    two = ("--log", log(DEAD), "--log", log(MIXED, "b.jsonl"))
    code, out, _ = rekindle("diagnose", *two, "--map", MAP, "--json")
    assert (code, [one["cause"] for one in json.loads(out)["logs"]]) == (0, ["too_hard", None])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "nothing to diagnose"),
        (("--log", "{log}"), "no log that is known"),
        (("--log", "{log}", "--map", "score"), "--map is not readable"),
        (("--log", "{log}", "--map", "score=reward,score=step"), "--map has 'score' twice"),
        (("--log", "{log}", "--map", "score=rward"), "there is no such column"),
        (("--log", "{log}", "--map", "score=reward", "--model", "m"), "--model does not go with"),
        (("--log", "{log}", "--map", "score=reward", "--verifier-column", "x"), "no such reward"),
        (("--log", "{log}", "--format", "tlr"), "--format tlr is unknown"),
        (("--log", "{log}/none"), "does not exist"),
        (("--model", "m", "--task", "addition", "--json"), "--json does not go with --model"),
    ],
)
def test_what_cannot_be_meant_is_told(rekindle, log, words, what):
    path = str(log(MIXED))
    code, _, err = rekindle("diagnose", *(word.replace("{log}", path) for word in words))
    assert (code, what in err) == (2, True), err


def test_a_large_log_is_told_before_it_is_read(log, monkeypatch, capsys):
    """What its format is and how large; not before JSON, which stands alone."""
    from rekindle.cli import diagnose_log as cli

    monkeypatch.setattr(cli, "LARGE", 100)
    options = cli.LogOptions(None, [MAP], None, None, as_json=False)
    path = log([[1, 0]])
    for as_json, said in ((False, "reading 1 file of mapped, 0 MB\n"), (True, "")):
        given = options._replace(as_json=as_json)
        cli.diagnose_logs([path], given, check=None, out=None, write=None, overwrite=False)
        assert capsys.readouterr().err == said
