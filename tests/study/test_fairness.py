"""What arms must have in common, and that they differ: refused in the file, or no verdict."""

from pathlib import Path

import pytest
import yaml

from rekindle.errors import ConfigError
from rekindle.study.plan.planning import load_study, plan
from rekindle.study.run.preflight import short_of_budget
from rekindle.testbed import located
from study.costless_runs import TREE, refused, study_of
from study.evaluations import evaluation

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


def test_a_pair_that_spent_an_enforced_budget_unequally_gets_no_verdict(made):
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
        refused("bases lists one twice", bases=names)
    assert study_of(bases=[shipped, "testbed/addition-s1", "org/name", "runs/b/final"])


def test_arms_that_could_get_no_verdict_are_refused_also_below_a_limit_of_updates():
    """`at_most` was what the refusal named as the way out, and all of them ended untold."""
    short = {**SFT, "optim": {"steps": 5}}
    for budget in ({}, {"at_most": 80}):
        said = refused("other numbers of updates", arms={"a": SFT, "b": short}, budget=budget)
        assert "optim.steps 1 and 5" in said
        assert "without a verdict" in said
        assert "set budget.at_most" not in said
    # what no comparison rests on, and what takes its own time, may differ
    three = {"a": SFT, "b": SFT, "c": short}
    named = {"comparisons": [{"arm": "b", "baseline": "a"}], "budget": {"at_most": 80}}
    assert plan(study_of(arms=three, **named), Path("out"))
    stages = {"a": {"method": "w2s_stage1"}, "b": {"method": "w2s_stage1", "optim": {"steps": 5}}}
    assert plan(study_of(arms=stages, budget={"at_most": 80}), Path("out"))


def test_updates_are_counted_and_not_steps():
    twice = {**GRPO, "grpo": {"minibatches": 2, "epochs": 3}}
    said = refused("other numbers of updates", arms={"a": GRPO, "b": twice})
    assert "1 and 6 updates, optim.steps 1 and 1, of 1 and 6 updates each" in said
    refused("more updates than the budget", arms={"a": GRPO, "b": twice}, budget={"at_most": 5})
    assert plan(study_of(arms={"a": {**GRPO, "optim": {"steps": 6}}, "b": twice}), Path("out"))


def test_arms_that_cannot_spend_their_budget_are_foreseen():
    def said(*, arms, **budget):
        study = study_of(arms=arms, budget=budget)
        return short_of_budget(study, plan(study, Path("out")))

    assert said(arms={"a": SFT, "b": SFT}, at_most=1) == []
    first, second = said(arms={"a": SFT, "b": SFT}, at_most=80)
    assert first.startswith("arm 'a' takes 1 of the budget's 80 updates")
    assert second.startswith("arm 'b'")
    # 1 step of 32 problems, 8 answers of at most 64 tokens
    assert said(arms={"a": GRPO, "b": GRPO}, unit="generated", at_most=32 * 8 * 64) == []
    told = said(arms={"a": GRPO, "b": {"method": "dapo"}}, unit="generated", at_most=20_000)
    assert told == [
        "arm 'a' can generate at most 16,384 tokens in its optim.steps, and the budget is 20,000: "
        "it ends before it has spent it; raise its optim.steps"
    ]
