"""The report reads what training and evaluation really write, without a complaint."""

import json

import tiny
from rekindle.report.figures import QUANTITIES
from rekindle.report.load import load_run
from rekindle.report.page import build_report
from rekindle.report.samples import Sample
from rekindle.report.verdict import arms_of, verdict_rows
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


def test_a_real_run_is_read_whole(tmp_path):
    recipe = make_recipe(
        {
            "method": "grpo",
            "task": {"name": "countdown"},
            "sample": {"max_new_tokens": 8},
            "optim": {"steps": 3, "problems": 4},
            "eval": {"every": 2, "problems": 4, "samples": 4},
            "checkpoint": {"every": 2},
        }
    )
    out = tmp_path / "run"
    train(recipe, out, command="rekindle train recipe.yaml", quiet=True, policy=tiny.policy())
    run = load_run(out)
    assert list(run.notes) == []
    assert (run.method, run.seed, run.steps_done, run.settings.steps) == ("grpo", "0", 3, 3)
    assert run.manifest.command == "rekindle train recipe.yaml"
    assert [e.step for e in run.evaluations] == [0, 2, 3]
    file = json.loads((out / "eval.json").read_text())
    assert {name: tuple(cell.values()) for name, cell in file["metrics"].items()} == {
        name: tuple(cell) for name, cell in run.after.metrics.items()
    }
    logged = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len(run.samples) == len(logged)
    assert all(isinstance(sample, Sample) and sample.finish for sample in run.samples)
    for key in run.rows[0].values:
        assert key in QUANTITIES or key.startswith(("time/", "groups/")), f"{key}: no title"
    assert all(row.verdict != "not compared" for row in verdict_rows(arms_of([run])))
    assert build_report([out], tmp_path / "report.html").stat().st_size > 900_000
