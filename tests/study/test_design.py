"""Study files: what is refused, what is planned, and what each run is given."""

from pathlib import Path

import pytest
import yaml

from rekindle.errors import ConfigError, DataError
from rekindle.study.plan.planning import load_study, plan, preparations, run_directory

TREE = {
    "study": "toy",
    "bases": ["testbed/countdown-s0", "testbed/countdown-s1"],
    "seeds": [0, 1],
    "recipe": {"task": {"name": "countdown"}, "optim": {"steps": 3, "problems": 4}},
    "arms": {
        "grpo": {"method": "grpo"},
        "kl": {"method": "grpo", "optim": {"lr": 1e-4}, "grpo": {"beta": 0.02}},
        "sft": {"method": "sft"},
    },
    "baseline": "grpo",
    "primary": {"arm": "kl", "metric": "pass@4"},
}


@pytest.fixture
def write(tmp_path):
    def writer(**changes):
        tree = {**TREE, **changes}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in tree.items() if v is not None}))
        return path

    return writer


def test_every_arm_seed_and_base_is_planned_pairs_first(write):
    runs = plan(load_study(write()), Path("out"))
    assert len(runs) == 12
    assert [(run.arm, run.base[-2:], run.seed) for run in runs[:4]] == [
        ("grpo", "s0", 0),
        ("kl", "s0", 0),
        ("sft", "s0", 0),
        ("grpo", "s1", 0),
    ]
    kl = runs[1].recipe
    assert (kl.shared.optim.lr, kl.shared.optim.steps, kl.method.beta) == (1e-4, 3, 0.02)
    assert runs[1].out == Path("out/runs/kl/countdown-s0/seed-0")
    assert {run.recipe.shared.seed for run in runs} == {0, 1}


def test_a_budget_of_tokens_reaches_every_recipe(write):
    study = load_study(write(budget={"unit": "trained", "at_most": 5000}))
    assert {run.recipe.shared.optim.max_trained for run in plan(study, Path("out"))} == {5000}


def test_comparisons_default_to_every_arm_with_the_declared_one_first(write):
    pairs = [(p.arm, p.baseline) for p in load_study(write()).pairs()]
    assert pairs == [("kl", "grpo"), ("sft", "grpo")]
    study = load_study(write(comparisons=[{"arm": "sft", "baseline": "kl"}]))
    assert [(p.arm, p.baseline) for p in study.pairs()] == [("kl", "grpo"), ("sft", "kl")]


def test_an_arm_may_use_another_arms_run_and_a_preparation(write):
    arms = {
        **TREE["arms"],
        "sft": {
            "method": "sft",
            "task": {"path": "{run:kl}/samples.jsonl", "verifier": "{weak}"},
        },
    }
    prepare = {"weak": ["train", "weak.yaml", "--set", "model.name={model}", "--out", "{dir}"]}
    study = load_study(write(arms=arms, prepare=prepare, recipe={"task": {"name": "jsonl"}}))
    found = preparations(study, Path("out"))
    assert found[1].command == (
        "train",
        "weak.yaml",
        "--set",
        "model.name=testbed/countdown-s1",
        "--out",
        "out/prepared/weak/countdown-s1",
    )


def test_an_arm_may_name_what_its_base_is_loaded_by(write):
    arms = {**TREE["arms"], "kl": {"method": "grpo", "reward": {"model": "{model} as {base}"}}}
    runs = plan(load_study(write(arms=arms)), Path("out"))
    told = {run.recipe.shared.reward.model for run in runs if run.arm == "kl"}
    assert "testbed/countdown-s0 as countdown-s0" in told


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"baseline": "gpro"}, "baseline is not an arm"),
        ({"primary": {"arm": "klo"}}, "Did you mean 'kl'"),
        ({"primary": {"arm": "grpo"}}, "compared with itself"),
        ({"seeds": [1, 1]}, "seeds lists one twice"),
        ({"bases": ["a", "a"]}, "bases lists one twice"),
        ({"arms": {**TREE["arms"], "a/b": {"method": "sft"}}}, "cannot name an arm"),
        ({"recipe": {"seed": 3}}, "seed is set"),
        ({"sedes": [1]}, "unknown key 'sedes'"),
        ({"primary": {"arm": "kl", "metrik": "x"}}, "unknown key 'primary.metrik'"),
        ({"seeds": []}, "seeds cannot be used"),
        (
            {"comparisons": [{"arm": "kl", "basline": "sft"}]},
            "Did you mean 'comparisons.0.baseline'",
        ),
        ({"pgr": {"week": "sft", "ceiling": "kl"}}, "Did you mean 'pgr.weak'"),
        ({"models": {"m": {"run": ["x"], "modle": "y"}}}, "Did you mean 'models.m.model'"),
        ({"primary": "kl"}, "wanted: keys and values: arm, baseline, metric, level"),
        ({"seeds": 3}, r"wanted: a list\n  do:     write seeds: \[3\]"),
        ({"seeds": []}, "wanted: at least one"),
        ({"bases": [3]}, r'wanted: a text\n  do:     put it in quotes: "3"'),
        ({"meaningful": "much"}, "wanted: a number"),
        ({"arms": ["grpo", "kl"]}, "wanted: keys and values"),
    ],
)
def test_what_cannot_be_meant_is_refused(write, changes, says):
    with pytest.raises(ConfigError, match=says):
        load_study(write(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arms": {**TREE["arms"], "kl": {"method": "grpo", "optim": {"lrr": 1}}}}, "arm 'kl'"),
        ({"budget": {"unit": "updates", "at_most": 2}}, "more updates than the budget"),
        (
            {"arms": {**TREE["arms"], "kl": {"method": "grpo", "reward": {"model": "{rm}"}}}},
            "names {rm}",
        ),
        (
            {"arms": {**TREE["arms"], "kl": {"method": "grpo", "reward": {"model": "{run:lens}"}}}},
            "needs the run of 'lens'",
        ),
    ],
)
def test_a_run_that_cannot_be_meant_is_refused_before_any_begins(write, changes, says):
    study = load_study(write(**changes))
    with pytest.raises(ConfigError, match=says):
        plan(study, Path("out"))


@pytest.mark.parametrize(
    "other",
    [
        {"eval": {"problems": 7}},
        {"task": {"levels": ["4"]}},
        {"task": {"timeout": 3.0}},
        {"task": {"args": {"size": 4}}},
        {"sample": {"temperature": 0.5}},
        {"model": {"system": "think"}},
        {"model": {"dtype": "bfloat16"}},
        {"model": {"revision": "main"}},
    ],
)
def test_evaluation_must_be_the_same_for_all_arms(write, other):
    arms = {**TREE["arms"], "kl": {"method": "grpo", **other}}
    with pytest.raises(ConfigError, match="arm 'kl' would be evaluated in another way"):
        plan(load_study(write(arms=arms)), Path("out"))


def test_arms_may_draw_their_training_problems_in_other_shares(write):
    arms = {**TREE["arms"], "kl": {"method": "grpo", "task": {"args": {"mix": {"3": 1}}}}}
    assert plan(load_study(write(arms=arms)), Path("out"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"primary": {"arm": "kl", "metric": "pass@16"}}, "set eval.samples to 16"),
        ({"primary": {"arm": "kl", "metric": "maj@4"}}, "set eval.samples to 4"),
        ({"primary": {"arm": "kl", "metric": "accuracy"}}, "one of: pass@1, pass@2, pass@4"),
        ({"secondary": ["chain_prob"]}, "set eval.likelihood"),
        ({"secondary": ["pass@1@t0.5"]}, "eval.temperatures"),
        ({"primary": {"arm": "kl", "level": "9"}}, "level '9' would not be evaluated"),
        ({"secondary": ["pass@1"], "levels": ["9"]}, "secondary: level '9'"),
    ],
)
def test_what_would_not_be_measured_is_refused_before_anything_runs(write, changes, says):
    recipe = {**TREE["recipe"], "task": {"name": "countdown", "levels": ["3", "4"]}}
    study = load_study(write(recipe=recipe, **changes))
    with pytest.raises(ConfigError, match="would not be") as error:
        plan(study, Path("out"))
    assert says in str(error.value)


def test_metrics_that_can_be_had_from_the_answers_are_fine(write):
    recipe = {**TREE["recipe"], "eval": {"temperatures": [0.5], "likelihood": True}}
    metrics = ["pass@3", "maj@8", "avg@8", "greedy", "pass@1@t0.5", "chain_prob@t0.5", "brier"]
    assert plan(load_study(write(recipe=recipe, secondary=metrics)), Path("out"))


def test_the_default_interval_leaves_the_hash_of_older_studies_alone(write):
    before = load_study(write())
    assert "interval" not in before.declaration()
    assert load_study(write(interval="crossed")).declared_hash() == before.declared_hash()
    assert load_study(write(interval="bootstrap")).declared_hash() != before.declared_hash()
    with pytest.raises(ConfigError, match="interval"):
        load_study(write(interval="wilson"))


def test_a_missing_file_and_a_broken_one(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_study(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_study(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(ConfigError, match="not a mapping"):
        load_study(tmp_path / "list.yaml")


def test_the_declaration_changes_with_what_is_declared(write):
    before = load_study(write()).declared_hash()
    assert load_study(write()).declared_hash() == before
    assert load_study(write(primary={"arm": "kl", "metric": "pass@1"})).declared_hash() != before
    assert load_study(write(seeds=[0, 1, 2])).declared_hash() != before


def test_bases_of_the_same_last_name_get_directories_of_their_own(write):
    study = load_study(write(bases=["a/final", "b/final"]))
    places = {run_directory(study, Path("o"), "grpo", base, 0) for base in study.bases}
    assert places == {Path("o/runs/grpo/a-final/seed-0"), Path("o/runs/grpo/b-final/seed-0")}


def test_where_a_model_is_held_and_what_all_are_told_may_be_set(write):
    arms = {
        **TREE["arms"],
        "kl": {"method": "grpo", "grpo": {"beta": 1}, "model": {"device": "cpu"}},
    }
    recipe = {**TREE["recipe"], "model": {"system": "{base}"}}
    assert plan(load_study(write(arms=arms, recipe=recipe)), Path("out"))


def test_a_level_may_be_a_number_in_the_file_and_on_the_command_line(write):
    study = load_study(write(primary={"arm": "kl", "level": 5}, levels=[5, None]))
    assert (study.primary.level, study.levels) == ("5", ("5", None))
    quoted = load_study(write(primary={"arm": "kl", "level": "5"}, levels=["5", None]))
    assert study.declared_hash() == quoted.declared_hash()
    for value in ("5", '"5"'):
        assert load_study(write(), [f"primary.level={value}"]).primary.level == "5"
    with pytest.raises(ConfigError, match="level cannot be used"):
        load_study(write(primary={"arm": "kl", "level": True}))
