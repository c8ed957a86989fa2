"""Models that a study makes, and those that they are made from."""

from pathlib import Path

import pytest

from rekindle.errors import ConfigError
from rekindle.study.plan.base_models import build_order, check_sources
from rekindle.study.plan.planning import plan, preparations
from study.costless_runs import Cheap, results_of, study_of

BUILT = {"run": ["testbed", "build", "chain-s7", "--out", "{dir}"], "model": "{dir}/chain-s7/final"}
JUDGE = {
    "run": ["train", "j.yaml", "--set", "model.name={model:raw}", "--out", "{dir}"],
    "model": "{dir}/final",
}
CHAIN = {"bases": ["judge"], "models": {"judge": JUDGE, "raw": BUILT}}


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_model_is_made_from_another():
    study = study_of(**CHAIN)
    raw, judge = preparations(study, Path("o"))
    assert (raw.out, raw.needs) == (Path("o/models/raw"), ())
    assert (judge.out, judge.needs) == (Path("o/models/judge"), (raw.out,))
    assert "model.name=o/models/raw/chain-s7/final" in judge.command
    for run in plan(study, Path("o")):
        assert run.recipe.shared.model.name == "o/models/judge/final"
        assert run.base == "judge"


def test_it_is_made_first_and_once():
    both = {**CHAIN, "bases": ["judge", "raw"]}
    executor = Cheap()
    results_of(study_of(**both), "o", executor=executor)
    assert executor.asked[:2] == [Path("o/models/raw"), Path("o/models/judge")]
    assert executor.asked.count(Path("o/models/raw")) == 1


def test_what_rests_on_one_that_failed_is_told():
    found = results_of(study_of(**CHAIN), "o", executor=Cheap(fail=["models/raw"]))
    assert {row.get("base") for row in found["failed"] if "preparation" in row} == {"raw", "judge"}
    assert found["unfinished"] == len(plan(study_of(**CHAIN), Path("o")))


def test_the_order_holds_through_several():
    commands = {"c": ["{model:b}", "{model:a}"], "b": ["{model:a}"], "a": ["x"]}
    assert build_order(commands, "c") == ["a", "b", "c"]
    assert build_order(commands, "elsewhere") == []


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ({"a": ["{model:b}"], "b": ["{model:a}"]}, r"made from each other\n.*(a from b|b from a)"),
        ({"a": ["{model:a}"]}, "made from each other"),
        ({"a": ["{model:rwa}"], "raw": ["x"]}, r"made from 'rwa'.*\n.*raw"),
        ({"a": ["x"], "raw": ["x"]}, "models.raw is not among the bases"),
    ],
)
def test_what_cannot_be_made_is_refused(commands, said):
    with pytest.raises(ConfigError, match=said):
        check_sources(commands, ["a"])
