"""`datasets` as a source of problems: local files and saved datasets, without a network."""

import json

import pytest

from rekindle.errors import ConfigError, DataError, MissingExtraError
from rekindle.tasks import load_task

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    module = pytest.importorskip("datasets", reason="extra [hub]")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(module.config, "HF_HUB_OFFLINE", True)
    return module


def rows(n, start=0):
    return [{"q": f"{i}+1", "a": f"so\n#### {i + 1}"} for i in range(start, start + n)]


COLUMNS = {"prompt": "q", "answer": "a", "solution": "a"}


def test_files_by_a_builder(datasets, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(200)))
    args = {"dataset": "json", "data_files": str(path), "columns": COLUMNS}
    task = load_task(name="hub", args=args)
    problem = task.problems("test", count=5, seed=0)[0]
    assert task.grade(problem, f"it is {int(problem.prompt[:-2]) + 1}").value == 1.0
    assert task.grade(problem, "it is 0").value == 0.0
    assert problem.solution == problem.answer
    assert {name: len(split) > 0 for name, split in task.splits.items()} == {
        "train": True,
        "dev": True,
        "test": True,
    }
    assert load_task(name="hub", args={**args, "limit": 7}).fingerprint() != task.fingerprint()
    listed = load_task(name="hub", args={**args, "limit": 7}).splits.values()
    assert sum(len(split) for split in listed) == 7


def test_the_fingerprint_follows_the_content_not_the_file(datasets, tmp_path):
    prints = []
    for name, n in (("a.parquet", 20), ("b.parquet", 20), ("c.parquet", 21)):
        datasets.Dataset.from_list(rows(n)).to_parquet(tmp_path / name)
        args = {"dataset": "parquet", "data_files": str(tmp_path / name), "columns": COLUMNS}
        prints.append(load_task(name="hub", args=args).fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_saved_datasets_and_their_splits(datasets, tmp_path):
    """Theirs are train and test; dev is a part of train that no other split shares."""
    saved = datasets.DatasetDict(
        train=datasets.Dataset.from_list(rows(200)), test=datasets.Dataset.from_list(rows(9, 500))
    )
    saved.save_to_disk(tmp_path / "saved")
    args = {"dataset": str(tmp_path / "saved"), "columns": COLUMNS}
    splits = load_task(name="hub", args=args).splits
    prompts = {name: {p.prompt for p in split} for name, split in splits.items()}
    assert prompts["test"] == {f"{i}+1" for i in range(500, 509)}
    assert prompts["train"] | prompts["dev"] == {f"{i}+1" for i in range(200)}
    assert not prompts["train"] & prompts["dev"]
    assert 5 <= len(prompts["dev"]) <= 35
    renamed = load_task(
        name="hub", args={**args, "splits": {"dev": "test", "test": "train"}}
    ).splits
    assert [p.prompt for p in renamed["dev"]] == [p.prompt for p in splits["test"]]
    datasets.Dataset.from_list(rows(30)).save_to_disk(tmp_path / "single")
    single = load_task(name="hub", args={**args, "dataset": str(tmp_path / "single")})
    assert sum(len(split) for split in single.splits.values()) == 30


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"colums": {}}, ConfigError, "Did you mean 'columns'"),
        ({"columns": {"promt": "q"}}, ConfigError, "Did you mean 'prompt'"),
        ({"columns": {"prompt": "qq"}}, ConfigError, r"no column 'qq'(.|\n)*What exists: a, q"),
        ({"columns": "q"}, ConfigError, "not a mapping"),
        ({"columns": {"prompt": "q"}}, DataError, r"row 0 has no 'answer'"),
        ({"splits": {"dev": "valid"}}, ConfigError, r"no split 'valid'(.|\n)*train"),
        ({"splits": {"validation": "train"}}, ConfigError, "takes no setting"),
        ({"limit": 0}, ConfigError, "not a count"),
        ({"dataset": None}, ConfigError, "needs a dataset"),
        ({"dataset": "no/such-dataset"}, DataError, "could not be loaded"),
    ],
)
def test_mistakes(datasets, tmp_path, change, error, message):
    datasets.Dataset.from_list(rows(3)).save_to_disk(tmp_path / "saved")
    args = {"dataset": str(tmp_path / "saved"), "columns": COLUMNS, **change}
    with pytest.raises(error, match=message):
        load_task(name="hub", args=args)


def test_broken_files_and_ids_that_occur_twice(datasets, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"q": 1, "a": 2}\n{"q": ')
    args = {"dataset": "json", "data_files": str(path), "columns": {"prompt": "q", "answer": "a"}}
    with pytest.raises(DataError, match=r"d\.jsonl:2 is not valid JSON"):
        load_task(name="hub", args=args)
    twice = [{**row, "id": "same"} for row in rows(2)]
    datasets.Dataset.from_list(twice).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"'same' occurs twice(.|\n)*row 0 and .*row 1"):
        load_task(name="hub", args={"dataset": str(tmp_path / "saved"), "columns": COLUMNS})


def test_without_the_extra_the_command_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rekindle\[hub\]'"):
        load_task(name="hub", args={"dataset": "x"})
