"""What README and docs tell people to type exists: commands, options, files, make targets."""

import json
import re
import sys
from pathlib import Path

import pytest

from rekindle.cli.main import main
from rekindle.training.recipe import load_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = sorted(
    {
        match.replace("\\|", "|").replace("\\\n", " ")
        for page in PAGES
        for match in re.findall(
            r"(?<![\w-])rekindle (?:train|eval|diagnose|compare|report|explain|testbed|reward|"
            r"study|grade|inspect-data|tasks|methods|quickstart|doctor|cite)[^`\n]*(?:\\\n[^\n]*)?",
            page.read_text(),
        )
    }
)


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_exists(command, monkeypatch, capsys):
    words = command.split()
    names = [words[1]]
    if words[1] in ("explain", "testbed", "reward"):
        names.append(words[2].strip("`,"))
    monkeypatch.setattr(sys, "argv", ["rekindle", *[name.strip("`,") for name in names], "--help"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    text = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", command):
        assert option in text, f"{option} in: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_exist(page):
    for name in re.findall(
        r"(?:recipes|studies|docs|benchmarks|results|src|tests)/[\w./-]*\w", page.read_text()
    ):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_table_of_the_tour_is_that_of_the_committed_one():
    """Else: make quickstart, and runs/quickstart/summary.json becomes results/quickstart.json."""
    found = json.loads((ROOT / "results" / "quickstart.json").read_text())
    assert len(found["pairs"]) == 5
    readme = (ROOT / "README.md").read_text()
    for row in found["pairs"]:
        assert row["unequal"] == {}, "as many updates"
        shares = " | ".join(f"{row[key]:.3f}" for key in ("start", "before", "after"))
        change = f"{row['delta']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
        assert f"| {row['method']} | {row['baseline']} | {shares} | {change} |" in readme


def test_make_targets_that_the_readme_names_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:    |`)make ([a-z-]+)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_recipes_of_the_readme_load_with_the_settings_shown():
    load_recipe(
        ROOT / "recipes" / "grpo_jsonl_qwen.yaml", ["model.name=Qwen/Qwen3-0.6B", "task.path=data/"]
    )
    load_recipe(ROOT / "recipes" / "grpo_countdown_testbed.yaml", ["optim.steps=20"])
