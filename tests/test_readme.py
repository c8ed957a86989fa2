"""What README and docs tell people to type exists: commands, options, files, make targets."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

import rekindle
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
            r"study|grade|probe|inspect-data|tasks|methods|quickstart|doctor|cite)[^`\n]*(?:\\\n[^\n]*)?",
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
        r"(?:recipes|studies|docs|benchmarks|results|src|tests|examples)/[\w./-]*\w",
        page.read_text(),
    ):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_table_of_the_tour_is_that_of_the_committed_one():
    """Else: make quickstart, and runs/quickstart/summary.json becomes results/quickstart.json."""
    tour = json.loads((ROOT / "results" / "quickstart.json").read_text())
    assert len(tour["pairs"]) == 5
    page = (ROOT / "docs" / "quickstart.md").read_text()
    for row in tour["pairs"]:
        assert row["unequal"] == {}, "as many updates"
        shares = " | ".join(f"{row[key]:.3f}" for key in ("start", "before", "after"))
        change = f"{row['delta']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
        assert f"| {row['method']} | {row['baseline']} | {shares} | {change} |" in page


def test_make_targets_that_the_readme_names_exist():
    makefile = (ROOT / "Makefile").read_text()
    names = [re.findall(r"(?:    |`)make ([a-z-]+)", page.read_text()) for page in PAGES]
    targets = {target for found in names for target in found}
    assert {"quickstart", "test", "golden", "docs"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_recipes_of_the_readme_load_with_the_settings_shown():
    load_recipe(
        ROOT / "recipes" / "grpo_jsonl_qwen.yaml", ["model.name=Qwen/Qwen3-0.6B", "task.path=data/"]
    )
    load_recipe(ROOT / "recipes" / "grpo_countdown_testbed.yaml", ["optim.steps=20"])


def block(language):
    """The README's one fenced block of a language."""
    readme = (ROOT / "README.md").read_text()
    [text] = re.findall(rf"^```{language}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    return text


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def test_the_transcript_of_the_readme_is_what_the_command_prints(monkeypatch, capsys):
    """Words exactly; numbers to 0.02, for another CPU may draw a few other answers."""
    command, *shown = block("console").splitlines()
    line, tail = command.removeprefix("$ ").split(" | tail -")
    assert len(shown) == int(tail)
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    printed = capsys.readouterr().out.splitlines()[-len(shown) :]
    assert [NUMBER.sub("#", row) for row in printed] == [NUMBER.sub("#", row) for row in shown]
    for now, before in zip(printed, shown, strict=True):
        numbers = [float(number) for number in NUMBER.findall(now)]
        assert numbers == pytest.approx([float(n) for n in NUMBER.findall(before)], abs=0.02)


def test_the_reward_of_the_readme_trains(tmp_path, monkeypatch):
    text = block("python")
    assert len([row for row in text.splitlines() if row.strip()]) <= 10
    own, small = rekindle.train, ["optim.steps=1", "optim.problems=4", "eval.problems=4"]

    def train(recipe, out, *, reward, overrides):
        more = [*overrides, *small, "eval.samples=2"]
        return own(ROOT / recipe, tmp_path / out, reward=reward, overrides=more, quiet=True)

    monkeypatch.setattr(rekindle, "train", train, raising=False)
    (tmp_path / "near.py").write_text(text)
    names = runpy.run_path(str(tmp_path / "near.py"))
    assert (tmp_path / "runs" / "near" / "final" / "config.json").exists()
    rows = (tmp_path / "runs" / "near" / "samples.jsonl").read_text().splitlines()
    assert any(0 < json.loads(row)["score"] < 1 for row in rows), "scores between 0 and 1"
    [problem] = [type("P", (), {"prompt": "1,5,7>36:"})]
    assert names["near_target"]([problem] * 3, ["7*5=35;35+1=36", "7*5=35", "7*5="]) == [1, 0.5, 0]
