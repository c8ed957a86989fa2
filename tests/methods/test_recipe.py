"""Recipes: closed, overridable, and helpful about mistakes."""

import pytest
import yaml

from rekindle.errors import ConfigError, DataError
from rekindle.methods.grpo import PRESETS
from rekindle.training.recipe import load_recipe, make_recipe, with_overrides

MINIMAL = {"method": "grpo"}


def test_a_preset_gives_the_defaults_and_the_section_overrides_them():
    recipe = make_recipe({"method": "dapo", "grpo": {"group_size": 4}})
    assert recipe.method == PRESETS["dapo"].model_copy(update={"group_size": 4})


def test_resolved_recipes_mean_the_same_again():
    recipe = make_recipe({"method": "dr_grpo", "optim": {"lr": 1e-3}, "task": {"levels": ["4"]}})
    again = make_recipe(yaml.safe_load(yaml.safe_dump(recipe.resolved())))
    assert again.resolved() == recipe.resolved()


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optim.lr=1e-4", ("optim", "lr"), 1e-4),
        ("optim.steps=7", ("optim", "steps"), 7),
        ("seed=5", ("seed",), 5),
        ("task.levels=[3, 4]", ("task", "levels"), ["3", "4"]),
        ("sample.stop=['x', '=']", ("sample", "stop"), ["x", "="]),
        ("model.name=a=b", ("model", "name"), "a=b"),
        ("grpo.group_size=16", ("grpo", "group_size"), 16),
        ("task.args.dataset=chain_sum", ("task", "args", "dataset"), "chain_sum"),
    ],
)
def test_overrides(override, path, value):
    node = make_recipe(MINIMAL, [override]).resolved()
    for part in path:
        node = node[part]
    assert node == value


@pytest.mark.parametrize(
    ("tree", "overrides", "message"),
    [
        ({"method": "gpro"}, [], "Did you mean 'grpo'"),
        ({}, [], "names no method"),
        ({"method": "grpo", "optmi": {}}, [], "Did you mean 'optim'"),
        ({"method": "grpo", "grpo": {"groupsize": 4}}, [], r"Did you mean 'grpo\.group_size'"),
        ({"method": "grpo", "sft": {}}, [], "no effect with method: grpo"),
        (MINIMAL, ["optim.lr=-1"], r"optim\.lr cannot be used"),
        (MINIMAL, ["optim.betas=[0.9]"], r"'optim\.betas\.1' is missing"),
        (MINIMAL, ["optim.steps=0"], r"optim\.steps cannot be used"),
        (MINIMAL, ["optim.lr=.nan"], r"optim\.lr cannot be used"),
        (MINIMAL, ["optim.learning_rate=1"], r"unknown key 'optim\.learning_rate'"),
        (MINIMAL, ["optim.lr"], "section.key=value"),
        (MINIMAL, ["optim.lr.x=1"], r"optim\.lr cannot be used"),
        (MINIMAL, ["grpo.group_size=1"], "group_size is too small"),
        (MINIMAL, ["sample.temperature=0"], "temperature is 0"),
        (MINIMAL, ["sample.top_p=0.9"], "importance ratio"),
        (MINIMAL, ["grpo.scale=sd"], r"grpo\.scale cannot be used"),
    ],
)
def test_mistakes_are_named(tree, overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe(tree, overrides)


def test_a_recipe_that_is_no_yaml_or_not_there(tmp_path):
    bad = tmp_path / "r.yaml"
    bad.write_text("method: [grpo\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(bad)
    with pytest.raises(DataError, match="does not exist"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), (".5E3", 500.0), ("'1e-4'", "1e-4"), ('"5"', "5"), ("5", 5)]
)
def test_only_what_yaml_misreads_becomes_a_number(text, value):
    found = with_overrides({}, [f"a.b={text}"])["a"]["b"]
    assert (type(found), found) == (type(value), value)
