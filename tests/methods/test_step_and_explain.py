"""What a training step credits is what `rekindle explain advantages` says of its rows."""

import json

import pytest

import tiny
from rekindle.cli.explain import explain_advantages
from rekindle.errors import DataError
from rekindle.methods.catalog import find_method
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

METHODS = {
    "grpo": {},
    "lens": {"neg_scale": "unit"},
    "lens_uniform": {},
    "hero": {"sigma_mean": 1.0},
    "hero_mean": {"sigma_mean": 1.0},
    "rm_only": {},
    "gated": {},
    "ngrpo": {},
    "w_reinforce": {},
}


@pytest.mark.parametrize("method", list(METHODS))
def test_a_steps_advantages_are_those_of_explain(method, tmp_path):
    """Rows of samples.jsonl, in another order, through the command."""
    base, data = tmp_path / "base", tmp_path / "data.jsonl"
    tiny.policy(dtype="float64").save(base)
    rows = [{"prompt": f"{i}+{i % 3}=", "answer": str(i % 5)} for i in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = find_method(method).section
    recipe = make_recipe(
        {
            "method": method,
            "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(data)},
            "reward": {"source": "random"},
            "sample": {"max_new_tokens": 5},
            "optim": {"steps": 2, "problems": 4, "lr": 1e-2},
            "eval": {"problems": 2, "samples": 2},
            "log": {"samples": 1000},
            section: {"group_size": 16, **METHODS[method]},
        }
    )
    train(recipe, tmp_path / "run", quiet=True)
    logged = [json.loads(x) for x in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    asked = [
        {
            "group": f"{row['step']}-{row['group']}",
            "correct": row["score"],
            "rm_score": row["parts"]["rm"],
            "sum_logprob": row["sum_logprob"],
            "num_tokens": row["tokens"],
        }
        for row in logged
    ]
    assert len(asked) == 2 * 4 * 16
    order = sorted(range(len(asked)), key=lambda i: (i * 37) % len(asked))
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(asked[i]) + "\n" for i in order))
    sets = [f"{key}={value}" for key, value in METHODS[method].items()]
    explain_advantages(method, source, target, sets, overwrite=True)
    explained = [json.loads(line) for line in target.read_text().splitlines()]
    for place, i in enumerate(order):
        assert explained[place]["advantage"] == pytest.approx(logged[i]["advantage"], abs=1e-9)
        assert explained[place]["reward"] == pytest.approx(logged[i]["reward"], abs=1e-9)
        for column in ("penalty", "weight"):
            if column in explained[place]:
                assert explained[place][column] == pytest.approx(logged[i][column], abs=1e-9)
    assert any(row["advantage"] for row in explained)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"correct": "-1", "sum_logprob": -1, "num_tokens": 3}, "in.jsonl:2: 'correct' is not"),
        ({"correct": 0, "num_tokens": 3}, r"row 2 \(group 'q'\) has no usable 'sum_logprob'"),
        ({"correct": 0, "sum_logprob": "x", "num_tokens": 3}, "in.jsonl:2: 'sum_logprob' is not"),
        ({"correct": 0, "sum_logprob": -1}, "row 2 .* has no usable 'num_tokens'"),
        ({"correct": 0, "sum_logprob": -1, "num_tokens": -3}, "in.jsonl:2: 'num_tokens' is neg"),
    ],
)
def test_rows_that_lens_cannot_use_are_named(row, says, tmp_path):
    good = {"group": "q", "correct": 1, "sum_logprob": -1, "num_tokens": 3}
    lines = [good, {"group": "q", **row}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=says):
        explain_advantages("lens", tmp_path / "in.jsonl", tmp_path / "out.jsonl", [])
    assert not (tmp_path / "out.jsonl").exists()


def test_scores_that_are_not_finite_are_refused(tmp_path):
    line = '{"group": "q", "correct": 1, "rm_score": NaN}\n'
    (tmp_path / "in.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"in.jsonl:1: 'rm_score' is not a number"):
        explain_advantages("hero", tmp_path / "in.jsonl", tmp_path / "out.jsonl", [])
