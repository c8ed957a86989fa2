"""A group method costs its file, a row, a page and a test: a toy goes through every command.

`toy_penalty.py` is the file and `ROW` the row; no line of the package knows either.
"""

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from rekindle.methods.catalog import METHODS, Method, MethodKind, Need, Paper, papers
from rekindle.signals.findings import ORDER
from rekindle.study.plan.planning import load_study
from rekindle.study.run.runner import execute_study
from sitegen.build import missing_pages
from sitegen.methods import generated_part
from study.inline_runs import Inline

ROOT = Path(__file__).parents[2]
ROW = Method(
    name="toy_penalty",
    sentence="wrong answers are penalised",
    module="toy_penalty",
    kind="group",
    papers=(Paper("toy_penalty", "2512.00001", "Toy Penalties", "Ann Author, Bob Writer"),),
    needs=("verifier",),
    revives=("groups",),
)
RECIPE = {
    "model": {"name": "testbed/countdown-s0", "device": "cpu"},
    "task": {"name": "countdown", "levels": ["5"]},
    "optim": {"steps": 2, "problems": 4, "lr": 1e-4},
    "eval": {"problems": 4, "samples": 2},
}
STUDY = {
    "study": "toy",
    "bases": ["testbed/countdown-s0"],
    "seeds": [0],
    "recipe": {name: part for name, part in RECIPE.items() if name != "model"},
    "arms": {
        "grpo": {"method": "grpo", "grpo": {"group_size": 4}},
        "toy": {"method": "toy_penalty", "toy_penalty": {"group_size": 4}},
    },
    "baseline": "grpo",
    "primary": {"arm": "toy"},
    "budget": {"unit": "generated", "at_most": 9999},
}


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, "toy_penalty", ROW)


def test_explain_shows_its_advantages(toy, rekindle, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"group": "q", "correct": c} for c in (1, 0, None)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["explain", "advantages", "--method", "toy_penalty", "--input", source]
    code, _, err = rekindle(*words, "--output", target, "--set", "penalty=2")
    assert code == 0, err
    explained = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["advantage"] for row in explained] == [0.0, -2.0, 0.0]


def test_it_is_listed_cited_and_documented(toy, rekindle):
    assert (
        "toy_penalty          section toy_penalty:    wrong answers are penalised\n"
        in rekindle("methods")[1]
    )
    cited = rekindle("cite", "toy_penalty")[1]
    assert "@misc{author2025toy-penalty,\n  title = {{Toy Penalties}}," in cited
    assert "author = {Ann Author and Bob Writer}" in cited
    assert missing_pages(ROOT) == ["toy_penalty (docs/methods/toy_penalty.md)"]
    page = generated_part("toy_penalty", ROOT)
    assert "of a wrong answer" in page
    assert "None of its own: take a recipe of a kindred method" in page


def test_it_trains_and_its_run_has_a_report(toy, rekindle, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"method": "toy_penalty", **RECIPE}))
    sets = ("--set", "toy_penalty.group_size=4", "--set", "toy_penalty.penalty=0.25")
    code, _, err = rekindle("train", recipe, "--out", tmp_path / "run", *sets)
    assert code == 0, err
    lines = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    assert {json.loads(line)["advantage"] for line in lines} <= {0.0, -0.25}
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    code, _, err = rekindle("report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert code == 0, err
    assert "toy_penalty" in (tmp_path / "page.html").read_text()
    code, _, err = rekindle("train", recipe, "--out", tmp_path / "no", "--set", "grpo.beta=1")
    assert (code, "section 'grpo' has no effect with method: toy_penalty" in err) == (2, True)


def test_a_study_plans_it_and_its_page_shows_the_signal_that_it_revives(
    toy, rekindle, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(yaml.safe_dump(STUDY))
    code, _, err = rekindle("study", "study.yaml", "--out", "out", "--dry-run")
    assert code == 0, err
    assert "to run: 2 runs" in err
    assert "arm 'toy' can generate at most" in err  # known of group methods alone
    assert not Path("out").exists()
    execute_study(load_study("study.yaml"), Path("out"), executor=Inline(), quiet=True)
    code, _, err = rekindle("report", "out", "--out", "page.html")
    assert code == 0, err
    page = Path("page.html").read_text()
    assert "LENS (2510.08696): all-wrong groups give a signal" in page
    monkeypatch.delitem(METHODS, "toy_penalty")
    assert rekindle("report", "out", "--out", "without.html")[0] == 0
    assert "LENS (2510.08696)" not in Path("without.html").read_text()


def test_rows_name_what_there_is():
    for name, method in METHODS.items():
        assert method.name == name
        assert set(method.papers) <= set(papers())
        assert set(method.revives) <= set(ORDER)
        assert method.kind in get_args(MethodKind)
        assert set(method.needs) <= set(get_args(Need))
        assert ("verifier" in method.needs or name == "rm_only") == (method.kind == "group")
        assert method.sentence
        assert not method.sentence.endswith(".")
