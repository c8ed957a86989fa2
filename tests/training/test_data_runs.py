"""Runs on data by its path alone: what was read is said once, and equal pairs are left out."""

import json

import pytest

import tiny
from rekindle.errors import DataError, RunDirectoryError
from rekindle.training.train import train

TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] + m['content'].strip() }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a' }}{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    policy = tiny.policy(dtype="float64")
    policy.tokenizer.chat_template = TEMPLATE
    policy.save(directory)
    return directory


def recipe(base, method, name, **section):
    return {
        "method": method,
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        "task": {"name": str(name)},
        "sample": {"max_new_tokens": 3},
        "optim": {"steps": 2, "problems": 2},
        "eval": {"problems": 2, "samples": 1},
        **({method: section} if section else {}),
    }


@pytest.fixture
def data(tmp_path):
    rows = [
        {"instruction": f"{i}+", "input": "1", "output": f"{i + 1}", "by": "me"} for i in range(40)
    ]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    return tmp_path / "d.json"


@pytest.mark.parametrize("version", [1, 2])
def test_a_manifest_names_the_version_of_its_verifier(base, data, tmp_path, version):
    """Another version is another verifier: the run is not resumed with it."""
    asked = recipe(base, "sft", data)
    asked["task"]["verifier_version"] = version
    train(asked, tmp_path / "run", quiet=True)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["fingerprints"]["verifier"] == f"numeric {version}"
    asked["task"]["verifier_version"] = 3 - version
    with pytest.raises(RunDirectoryError, match=f"numeric {version}"):
        train(asked, tmp_path / "run", mode="resume", quiet=True)


def test_how_data_was_read_is_printed_once_and_kept(base, data, tmp_path, capsys):
    train(recipe(base, "sft", data), tmp_path / "run", quiet=False)
    said = [line for line in capsys.readouterr().err.splitlines() if "data: " in line]
    kept = json.loads((tmp_path / "run" / "manifest.json").read_text())["data"]
    assert kept == [
        f"{data}: 40 rows: read as Alpaca: prompt = instruction, solution = output",
        f"{data}: 40 rows: not read: by",
        f"{data}: 40 rows: the prompt is 'instruction', a blank line and 'input'",
    ]
    assert [line.split("data: ")[1] for line in said] == kept


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_pairs_that_the_template_makes_equal_are_left_out_and_named(base, data, tmp_path, method):
    pairs = [
        {"id": "a", "prompt": "1", "chosen": "2", "rejected": "3"},
        {"id": "b", "prompt": "1", "chosen": "2", "rejected": " 2"},
    ]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(pairs))
    with pytest.warns(UserWarning, match=r"1: chosen is rejected after the chat template.*: b\)"):
        train(recipe(base, method, data, pairs=str(path)), tmp_path / "run", quiet=True)
    path.write_text(json.dumps(pairs[1:]))
    with pytest.raises(DataError, match="no pair has two sides that the model can tell apart"):
        train(recipe(base, method, data, pairs=str(path)), tmp_path / "other", quiet=True)
