"""What arms must have in common, and that they differ: refused in the file, or no verdict."""

from pathlib import Path

import pytest
import yaml

from rekindle.errors import ConfigError
from rekindle.study.design import load_study, plan
from rekindle.testbed import located
from study.cheap import TREE, refused, study_of
from study.test_bad_input import evaluation, made  # noqa: F401

SFT, GRPO = {"method": "sft"}, {"method": "grpo"}


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("unit", ["trained", "generated"])
def test_a_budget_of_tokens_has_a_limit_that_ends_every_run(unit):
    arms = {"a": GRPO, "b": {**GRPO, "optim": {"steps": 50}}}
    said = refused("budget.at_most is missing", arms=arms, budget={"unit": unit})
    assert f"in {unit} tokens" in said
    assert plan(study_of(arms=arms, budget={"unit": unit, "at_most": 9}), Path("out"))


@pytest.mark.parametrize("method", ["sft", "sft_restart", "wmss", "dpo"])
def test_an_arm_that_generates_nothing_has_no_budget_of_generated_tokens(method):
    arm = {"method": method, **({"dpo": {"pairs": "p.jsonl"}} if method == "dpo" else {})}
    budget = {"unit": "generated", "at_most": 100}
    said = refused("arm 'b' generates no tokens", arms={"a": GRPO, "b": arm}, budget=budget)
    assert f"method: {method}" in said
    assert plan(study_of(arms={"a": GRPO, "b": arm}, budget={**budget, "unit": "trained"}), Path())


def test_a_pair_that_spent_an_enforced_budget_unequally_gets_no_verdict(made):  # noqa: F811
    better = {"a": [1, 0, 0] * 30, "b": [1] * 90}

    def row(steps, method="sft", **budget):
        arms = {"a": {"method": method}, "b": {"method": method}}
        return made(
            lambda a, b, s: evaluation(better[a]),
            log=lambda arm: '{"step": 1, "tokens/trained": 9}\n' * (steps if arm == "b" else 20),
            arms=arms,
            budget=budget,
        )

    assert row(20)["verdict"] == row(20, at_most=20)["verdict"] == "helps"
    for unit in ({}, {"at_most": 30}, {"unit": "trained", "at_most": 400}):
        found = row(30, **unit)
        assert (found["verdict"], found["ci_low"] > 0) == ("cannot tell yet", True)
        assert "unequal budget: b spent" in found["why"]
    assert row(30, tolerance=0.6)["verdict"] == "helps"
    # stages take the updates that their data gives, where no limit is declared: told, and no more
    assert row(30, method="w2s_stage1")["verdict"] == "helps"


def test_arms_that_do_not_differ_are_not_compared():
    def written(other):
        tree = {**TREE, "arms": {"a": SFT, "b": {**SFT, **other}}}
        Path("study.yaml").write_text(yaml.safe_dump(tree))
        return load_study("study.yaml")

    for other in ({}, {"optim": {"steps": 1}}, {"log": {"samples": 3}}, {"device": {"threads": 1}}):
        with pytest.raises(ConfigError, match="'a' and 'b' have the same settings") as error:
            plan(written(other), Path("out"))
        assert "0 by construction" in str(error.value)
    assert plan(written({"optim": {"lr": 0.1}}), Path("out"))


def test_one_model_under_two_names_is_one_base():
    Path("runs/a/final").mkdir(parents=True)
    Path("link").symlink_to("runs/a/final")
    shipped = "testbed/addition-s0"
    for names in (
        [shipped, f"./{shipped}"],
        [shipped, located(shipped)],
        ["runs/a/final", "./runs/a/final"],
        ["runs/a/final", str(Path("runs/a/final").resolve())],
        ["runs/a/final", "link"],
        ["org/name", "org//name"],
    ):
        refused("bases has one twice", bases=names)
    assert study_of(bases=[shipped, "testbed/addition-s1", "org/name", "runs/b/final"])
