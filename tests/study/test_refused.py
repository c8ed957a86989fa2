"""What a study file cannot mean is refused before anything runs, with what to do."""

import lzma
from pathlib import Path

import pytest

from rekindle.errors import ConfigError, DataError
from rekindle.study.plan.planning import load_study, plan, preparations
from rekindle.study.store.archive_read import RUNS, unpacked
from rekindle.training.recipe import load_recipe
from study.costless_runs import TREE, refused, study_of
from study.inline_runs import RECIPE

ROOT = Path(__file__).parents[2]
SFT = {"method": "sft"}


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "bases", [["modèle", "modéle"], ["org/a:b", "org/a-b"], ["x/a-b", "x-a/b", "y/a-b", "x/a/b"]]
)
def test_two_bases_of_one_directory_are_refused(bases):
    said = refused("would have one directory", bases=bases)
    assert any(f"'{base}'" in said for base in bases)


def test_a_last_slash_makes_no_other_base():
    refused("bases lists one twice", bases=["x/m", "x/m/"])
    assert study_of(bases=["x/m/", "x/n"]).bases == ("x/m", "x/n")
    refused("has no name for its directory", bases=["..", "x"])


def test_a_key_that_is_there_twice_is_named_with_its_lines():
    Path("twice.yaml").write_text("method: sft\noptim:\n  lr: 1.0\n  steps: 3\n  lr: 2.0\n")
    for load in (load_recipe, load_study):
        with pytest.raises(ConfigError, match="the key 'lr' occurs twice") as error:
            load("twice.yaml")
        assert "twice.yaml" in str(error.value)
        assert "lines 3 and 5" in str(error.value)
    study_of()
    with pytest.raises(ConfigError, match="'method' occurs twice"):
        load_study("study.yaml", ["arms.a={method: sft, method: grpo}"])


def test_merged_keys_may_be_overridden():
    """The anchor is flattened by whoever merges it, before it is built itself."""
    Path("merge.yaml").write_text(
        "study: toy\nbases: [m]\nseeds: [0]\nbaseline: a\nprimary: {arm: b}\n"
        "recipe: {optim: &some {steps: 3, lr: 1.0}}\n"
        "arms:\n  a: &a {method: sft, optim: &more {<<: *some, lr: 2.0}}\n"
        "  b: {<<: *a, optim: {<<: [*more, *some], clip: 3.0}}\n"
    )
    _, b = plan(load_study("merge.yaml"), Path("out"))
    optim = b.recipe.shared.optim
    assert (optim.steps, optim.lr, optim.clip) == (3, 2.0, 3.0)


@pytest.mark.parametrize("path", sorted(ROOT.glob("studies/**/*.yaml")), ids=lambda p: p.stem)
def test_the_studies_of_this_repository_are_fine(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load_study(path)
    assert plan(study, Path("out"))
    preparations(study, Path("out"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("results/studies/*/study.yaml")))
def test_committed_studies_can_still_be_read(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert plan(load_study(path), Path("out"))


def test_an_arms_own_model_is_refused_as_its_own_seed_is():
    named = {"model": {"name": "testbed/other"}}
    said = refused(r"arms\.b\.model\.name is set", arms={"a": SFT, "b": {**SFT, **named}})
    assert "a study takes its models from 'bases'" in said
    refused(r"recipe\.model\.name is set", recipe={**TREE["recipe"], **named})
    refused(r"arms\.b\.seed is set", arms={"a": SFT, "b": {**SFT, "seed": 3}})


def test_arms_of_other_lengths_are_refused_where_updates_are_the_budget():
    longer = {"a": SFT, "b": {**SFT, "optim": {"steps": 10}}}
    said = refused("arms 'a' and 'b' would take other numbers of updates", arms=longer)
    assert "optim.steps 1 and 10" in said
    refused("would take other numbers of updates", arms=longer, budget={"at_most": 10})
    assert plan(study_of(arms=longer, budget={"unit": "trained", "at_most": 9}), Path("out"))
    assert plan(study_of(arms=longer, budget={"tolerance": 9.0}), Path("out"))
    limited = {"a": SFT, "b": {**SFT, "optim": {"steps": 10, "max_trained": 100}}}
    assert plan(study_of(arms=limited), Path("out"))
    stages = {"a": SFT, "b": {"method": "w2s_stage1", "optim": {"steps": 10}}}
    assert plan(study_of(arms=stages), Path("out"))


@pytest.mark.parametrize(
    "pairs",
    [
        [("b", "a"), ("c", "a"), ("c", "a")],
        [("b", "a"), ("b", "a")],
        [("a", "b"), ("c", "a")],  # the primary one, the other way round
        [("c", "a"), ("a", "c")],
    ],
)
def test_a_comparison_counts_once(pairs):
    comparisons = [{"arm": arm, "baseline": other} for arm, other in pairs]
    said = refused("are compared twice", arms=dict.fromkeys("abc", SFT), comparisons=comparisons)
    assert "adjusted for the number of comparisons" in said


def test_the_primary_comparison_may_be_named_again_and_no_arm_meets_itself():
    comparisons = [{"arm": "b", "baseline": "a"}, {"arm": "c", "baseline": "b"}]
    assert study_of(arms=dict.fromkeys("abc", SFT), comparisons=comparisons)
    refused("compared with itself", comparisons=[{"arm": "b", "baseline": "b"}])


@pytest.mark.parametrize("name", ["reward-model", "a.b", "9rm", "model", "base", "dir"])
def test_a_preparation_has_a_name_that_can_be_named(name):
    said = refused(f"'{name}' cannot name a preparation", prepare={name: ["train"]})
    assert f"{{{name}}}" in said


@pytest.mark.parametrize("word", ["{reward-model}", "{run:zz}", "{rm.x}", "{dir}", "{run:b}"])
def test_no_placeholder_is_left_as_it_stands(word):
    arms = {"a": SFT, "b": {**SFT, "reward": {"model": f"x {word}"}}}
    refused(r"arms\.b n(ames \{|eeds the run)", arms=arms, prepare={"rm": ["train"]})


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"prepare": {"rm": ["train", "{run:a}"]}}, r"prepare\.rm"),
        ({"prepare": {"rm": ["train", "{other}"]}}, r"prepare\.rm"),
        ({"models": {"base-0": {"run": ["x", "{base-0}"], "model": "y"}}}, r"models\.base-0"),
        ({"models": {"base-0": {"run": ["x"], "model": "{out}/y"}}}, r"models\.base-0"),
    ],
)
def test_commands_and_model_paths_name_only_what_there_is(changes, where):
    study = study_of(**changes)
    with pytest.raises(ConfigError, match=where + r" names \{"):
        assert preparations(study, Path("out")) + plan(study, Path("out"))


def test_other_braces_and_braces_in_paths_stay():
    arms = {"a": SFT, "b": {**SFT, "reward": {"model": r"\d{3} \boxed{} {a: 1} {base}"}}}
    run = plan(study_of(arms=arms, bases=["x/{odd}", "x/n"]), Path("{out}"))[1]
    assert run.recipe.shared.reward.model == r"\d{3} \boxed{} {a: 1} -odd-"
    assert run.recipe.shared.model.name == "x/{odd}"


@pytest.mark.parametrize("metric", ["pass@01", "pass@0", "pass@", "pass@1 "])
def test_a_metric_is_spelt_as_it_will_be_looked_for(metric):
    refused("would not be measured", primary={"arm": "b", "metric": metric})


def test_a_level_that_the_task_does_not_have_is_refused():
    said = refused("level 'zzz' would not be evaluated", primary={"arm": "b", "level": "zzz"})
    assert "one of: 2, 3, 4" in said
    assert plan(study_of(primary={"arm": "b", "level": "3"}), Path("out"))
    recipe = {**TREE["recipe"], "task": {"name": "jsonl", "path": "made-later.jsonl"}}
    assert plan(study_of(recipe=recipe, primary={"arm": "b", "level": "x"}), Path("out"))
    Path("made-later.jsonl").write_text('{"prompt": "p", "answer": "1", "level": "y"}\n' * 3)
    refused("level 'x' would not", recipe=recipe, primary={"arm": "b", "level": "x"})


@pytest.mark.parametrize("section", ["model", "optim"])
def test_a_section_that_is_no_mapping_is_told(section):
    budget = {"unit": "trained", "at_most": 100}
    recipe = {**TREE["recipe"], section: "abc"}
    said = refused(f"'{section}' is not a mapping", recipe=recipe, budget=budget)
    assert "arm 'a'" in said
    assert "got:    abc" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{}", "line 2"),
        ("[1]", "line 2"),
        ('{"place": 1, "files": {"a": "b"}}', "line 2"),
        ('{"place": "a/b/c", "files": {"a": 1}}', "line 2"),
        ('{"place": "a/b/c", "files": []}', "line 2"),
        ("{", "line 2"),
    ],
)
def test_an_archive_with_an_odd_line_names_it(line, says):
    Path("small").mkdir()
    text = '{"place": "a/b/c", "arm": "a", "files": {"x": "y"}}\n' + line + "\n"
    (Path("small") / RUNS).write_bytes(lzma.compress(text.encode()))
    with pytest.raises(DataError, match=says) as error, unpacked(Path("small")):
        pass
    assert RUNS in str(error.value)


@pytest.mark.parametrize("seeds", [[True, False], ["1"], [1.0]])
def test_seeds_are_whole_numbers(seeds):
    said = refused(r"seeds\.0 cannot be used", seeds=seeds)
    assert f"got:    {seeds[0]}" in said


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"arms": {"a": SFT, "b": None}}, r"arms\.b"),
        ({"seeds": None}, "seeds"),
        ({"study": None}, "study"),
    ],
)
def test_a_key_without_a_value_is_told_as_that(changes, where):
    said = refused(f"{where} cannot be used", **changes)
    assert "got:    nothing (null)" in said
    assert "do:     give it a value" in said


def test_a_key_that_is_missing_is_told_as_that():
    Path("study.yaml").write_text("study: toy\nbases: [m]\nseeds: [0]\narms: {a: {method: sft}}\n")
    with pytest.raises(ConfigError, match="'baseline' is missing") as error:
        load_study("study.yaml")
    assert "got:    keys study, bases, seeds, arms" in str(error.value)


def test_an_address_with_a_password_is_refused_before_anything_is_written(file, rekindle):
    """A study copies its file and its recipes."""
    file(recipe={**RECIPE, "reward": {"url": "http://me:HUSH@host.example/v1"}})
    code, out, err = rekindle("study", "study.yaml", "--out", "out")
    assert (code, "a user name or password" in err, "HUSH" in out + err) == (2, True, False)
    assert not Path("out").exists()
