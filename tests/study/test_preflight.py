"""What runs would not find is said before they begin, and problems are counted, not asked for."""

import json
from pathlib import Path

import pytest

from rekindle.cli.study import study as study_command
from rekindle.errors import ConfigError
from rekindle.study.plan.planning import plan
from rekindle.study.run.preflight import check_inputs, count_problems
from study.costless_runs import TREE, go, study_of

GRPO = {"method": "grpo"}


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(path, count, split="dev"):
    row = {"prompt": "p{}", "answer": "1", "level": "easy"}
    lines = [json.dumps({**row, "prompt": f"p{i}"}) for i in range(count)]
    Path(path).mkdir(parents=True, exist_ok=True)
    Path(path, f"{split}.jsonl").write_text("\n".join(lines))


def checked(**changes):
    study = study_of(**changes)
    runs = plan(study, Path("out"))
    check_inputs(study, runs)
    return study, runs


def recipe(**changes):
    return {**TREE["recipe"], **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bases": ["testbed/countdwn-s0"]}, "Did you mean 'testbed/countdown-s0'"),
        ({"bases": ["runs/no/final"]}, "there is no model at 'runs/no/final'"),
        ({"bases": ["./no"]}, "there is no model at './no'"),
        ({"recipe": recipe(task={"name": "countdwn"})}, "Did you mean 'countdown'"),
        ({"recipe": recipe(task={"name": "chain", "levels": ["9"]})}, "has no level '9'"),
        ({"recipe": recipe(eval={"samples": 1, "levels": ["9"]})}, "has no level '9'"),
        ({"recipe": recipe(task={"name": "jsonl"})}, "needs a file"),
        ({"recipe": recipe(task={"name": "jsonl", "path": "no.jsonl"})}, "no.jsonl does not exist"),
        ({"recipe": recipe(task={"name": "jsonl", "path": "train"})}, "dev"),
        (
            {
                "arms": {
                    "a": {"method": "sft"},
                    "b": {"method": "wmss", "wmss": {"weak": "testbed/x"}},
                }
            },
            "arm 'b': unknown testbed model 'testbed/x'",
        ),
        (
            {
                "arms": {
                    "a": {"method": "sft"},
                    "b": {"method": "sft", "reward": {"model": "a/b/c"}},
                }
            },
            "there is no model at 'a/b/c'",
        ),
    ],
)
def test_what_is_not_there_is_said_before_anything_runs(changes, says):
    rows("train", 3, split="train")
    with pytest.raises(ConfigError) as error:
        checked(**changes)
    assert str(error.value).startswith("arm '")
    assert says in str(error.value)


def test_what_is_made_first_or_is_on_the_hub_is_not_asked_for():
    made = {"run": ["testbed", "build", "chain-s7", "--out", "{dir}"], "model": "{dir}/x/final"}
    checked(
        bases=["m", "org/name"],
        models={"m": made},
        prepare={"rm": ["reward", "train", "--out", "{dir}"], "data": ["x"]},
        arms={
            "a": {"method": "sft", "reward": {"model": "{rm}/final"}},
            "b": {"method": "wmss", "wmss": {"weak": "{run:a}/final"}},
        },
        recipe=recipe(task={"name": "jsonl", "path": "{data}/rows"}),
        baseline="a",
    )
    checked(recipe=recipe(task={"name": "hub", "args": {"dataset": "org/data"}}))


def test_finished_runs_need_nothing_any_more():
    rows("data", 5)
    changes = {"recipe": recipe(task={"name": "jsonl", "path": "data"})}
    go(study_of(**changes), "out")
    Path("data/dev.jsonl").unlink()
    study, runs = checked(**changes)
    assert count_problems(study, runs[0]) == (4, False)
    with pytest.raises(ConfigError, match="no splits"):
        checked(**changes, seeds=[0, 1, 2])


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"recipe": recipe(task={"name": "jsonl", "path": "data"}, eval={"problems": 200})}, 8),
        ({"recipe": recipe(task={"name": "addition"}, eval={"problems": 60})}, 240),
        (
            {
                "recipe": recipe(task={"name": "addition"}, eval={"problems": 60}),
                "primary": {"arm": "b", "level": "3"},
            },
            60,
        ),
        ({"recipe": recipe(task={"name": "chain"}, eval={"problems": 6, "levels": [2, 3]})}, 12),
    ],
)
def test_problems_are_those_that_there_are(changes, count, capsys):
    rows("data", 8)
    study, runs = checked(**changes)
    assert count_problems(study, runs[0]) == (count, True)


def command(**how):
    study_command(Path("study.yaml"), Path("out"), **{"jobs": 1, "dry_run": True, **how})


def test_a_dry_run_counts_and_checks(capsys):
    rows("data", 8)
    changes = {"recipe": recipe(task={"name": "jsonl", "path": "data"}, eval={"problems": 200})}
    study_of(**changes)
    command()
    assert "with 8 problems a difference of" in capsys.readouterr().err
    study_of(**changes, bases=["testbed/countdwn-s0"])
    with pytest.raises(ConfigError, match="Did you mean"):
        command()


def test_resuming_what_is_not_there_is_said_to_begin_a_new_study(capsys):
    study = study_of()
    command(resume=True)
    assert "out does not exist: a new study begins" in capsys.readouterr().err
    go(study, "out")
    command(resume=True)
    assert "a new study begins" not in capsys.readouterr().err
