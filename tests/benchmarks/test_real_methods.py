"""The runs on a real model cover every method, and the committed ones did what they promise."""

import json
from pathlib import Path

import pytest

from rekindle.methods.catalog import METHODS
from rekindle.training.recipe import make_recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cases(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _real_cases

    return _real_cases


def test_every_method_has_a_run_with_a_valid_recipe_and_shows_something(cases):
    assert METHODS.keys() <= cases.CASES.keys()
    inputs = cases.Inputs(Path("model"), Path("data"), Path("reward"))
    for case in cases.CASES.values():
        recipe = make_recipe(cases.recipe_of(case, inputs))
        assert recipe.shared.method == case.method
        assert case.shows, f"what {case.name} does is to be seen in a metric: `_OF_SECTION`"


def test_questions_differ(cases, tmp_path):
    """A sum that is trained on is not evaluated on, and no two pairs are of one prompt."""
    cases.write_data(tmp_path)
    for name in ("sums", "chats"):
        files = (tmp_path / name).iterdir()
        rows = [line for path in files for line in path.read_text().splitlines()]
        assert len({json.loads(line)["prompt"] for line in rows}) == len(rows) == 48


def test_the_committed_runs_are_all_there_and_have_no_fault(cases):
    result = json.loads((ROOT / "results" / "real_methods.json").read_text())
    rows = {row["run"]: row for row in result["rows"]}
    assert set(rows) == {*cases.REWARDS, *cases.CASES}
    assert [name for name, row in rows.items() if row["faults"]] == []
    for name, case in cases.CASES.items():
        assert set(rows[name]["signal"]) == {shown.metric for shown in case.shows}
    assert {row["dirty"] for row in rows.values()} == {False}
    assert "no evidence of quality" in result["tells"]
