"""Problems from files: what is accepted, how they are split, and what each mistake is told."""

import json

import pytest

from rekindle.errors import ConfigError, DataError
from rekindle.tasks import load_task


def write(path, rows, **kwargs):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), **kwargs)
    return str(path)


def rows(n=60):
    return [{"prompt": f"{i}+1", "answer": i + 1, "level": i % 2} for i in range(n)]


def test_rows_become_problems(tmp_path):
    task = load_task(name="jsonl", path=write(tmp_path / "d.jsonl", rows()))
    assert task.levels == ("0", "1") or task.levels == ("1", "0")
    everything = [p for s in ("train", "dev", "test") for p in task.problems(s, count=99, seed=0)]
    assert sorted(p.prompt for p in everything) == sorted(f"{i}+1" for i in range(60))
    problem = everything[0]
    assert task.grade(problem, f"so the answer is {problem.answer}").value == 1.0
    assert task.grade(problem, "the answer is 99999").value == 0.0


def test_a_level_of_zero_is_a_level(tmp_path):
    task = load_task(name="jsonl", path=write(tmp_path / "d.jsonl", rows()))
    assert set(task.levels) == {"0", "1"}


def test_training_goes_through_the_data_epoch_by_epoch(tmp_path):
    task = load_task(name="jsonl", path=write(tmp_path / "d.jsonl", rows()))
    size = len(task.problems("train", count=99, seed=0))
    drawn = [p.id for step in range(size) for p in task.draw(step=step, count=3, seed=0)]
    for epoch in range(3):
        assert len(set(drawn[epoch * size : (epoch + 1) * size])) == size
    assert drawn[:size] != drawn[size : 2 * size]
    assert task.draw(step=2, count=3, seed=0) == task.draw(step=2, count=3, seed=0)


def test_a_directory_has_its_own_splits(tmp_path):
    write(tmp_path / "train.jsonl", [{"prompt": "a", "answer": "1"}])
    write(tmp_path / "test.jsonl", [{"prompt": "b", "answer": "2"}])
    task = load_task(name="jsonl", path=str(tmp_path))
    assert [p.prompt for p in task.problems("test", count=9, seed=0)] == ["b"]
    with pytest.raises(DataError, match="no dev problems"):
        task.problems("dev", count=9, seed=0)


def test_messages_and_solutions(tmp_path):
    def chat(i):
        return [{"role": "user", "content": f"{i}+0?"}, {"role": "assistant", "content": f"{i}"}]

    path = write(tmp_path / "d.jsonl", [{"messages": chat(i), "id": f"c{i}"} for i in range(20)])
    task = load_task(name="jsonl", path=path)
    problem = task.draw(step=0, count=1, seed=0)[0]
    assert problem.messages == (("user", f"{problem.solution}+0?"),)
    assert task.grade(problem, problem.solution).value is None  # no answer: missing, not wrong


def test_a_byte_order_mark_and_line_separators_inside_texts_are_fine(tmp_path):
    path = tmp_path / "d.jsonl"
    raw = json.dumps({"prompt": "a\u2028b", "answer": "1"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + raw.encode() + b"\r\n\r\n")
    assert load_task(name="jsonl", path=str(path)).levels == ("",)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["\n"], "is empty"),
        (['{"prompt": "a", "answer": "1"}', '{"prompt": '], r"d\.jsonl:2 is not valid JSON"),
        (["[1, 2]"], r"d\.jsonl:1 is not a JSON object"),
        (
            ['{"promt": "a", "answer": "1"}'],
            r"d\.jsonl:1 has no 'prompt'(.|\n)*Did you mean 'promt'",
        ),
        (['{"prompt": "a"}'], r"d\.jsonl:1 has no 'answer'"),
        (['{"prompt": "a", "answer": null}'], r"d\.jsonl:1 has no 'answer'"),
        (['{"prompt": "a", "answer": "  "}'], "empty 'answer'"),
        (['{"prompt": ["a"], "answer": "1"}'], "'prompt' is not a text"),
        (['{"messages": "hi", "answer": "1"}'], "'messages' is not a chat"),
        (
            [
                '{"id": "x", "prompt": "a", "answer": "1"}',
                '{"id": "x", "prompt": "b", "answer": "1"}',
            ],
            r"'x' occurs twice(.|\n)*jsonl:1 and .*jsonl:2",
        ),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, lines, message):
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        load_task(name="jsonl", path=str(path))


def test_missing_or_binary_files(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_task(name="jsonl", path=str(tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match="needs a file"):
        load_task(name="jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        load_task(name="jsonl", path=str(tmp_path / "b.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no splits"):
        load_task(name="jsonl", path=str(tmp_path / "empty"))


def test_the_fingerprint_follows_the_content(tmp_path):
    path = tmp_path / "d.jsonl"
    one = load_task(name="jsonl", path=write(path, rows())).fingerprint()
    assert load_task(name="jsonl", path=str(path)).fingerprint() == one
    assert load_task(name="jsonl", path=write(path, rows(61))).fingerprint() != one


@pytest.mark.filterwarnings("ignore")
def test_hub_datasets_from_local_files(tmp_path):
    pytest.importorskip("datasets", reason="extra [hub]")
    path = write(tmp_path / "d.jsonl", [{"q": f"{i}+1", "a": f"#### {i + 1}"} for i in range(30)])
    args = {"dataset": "json", "data_files": path, "columns": {"prompt": "q", "answer": "a"}}
    task = load_task(name="hub", args=args)
    problem = task.problems("test", count=5, seed=0)[0]
    assert task.grade(problem, "it is 0").value == 0.0
    with pytest.raises(ConfigError, match="takes no setting"):
        load_task(name="hub", args={"dataset": "json", "colums": {}})
    with pytest.raises(ConfigError, match="needs a dataset"):
        load_task(name="hub")
    with pytest.raises(DataError, match="could not be loaded"):
        load_task(name="hub", args={"dataset": "no/such-dataset"})


@pytest.mark.filterwarnings("ignore")
def test_any_reasoning_gym_dataset():
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    task = load_task(name="gym", args={"dataset": "chain_sum", "min_terms": 2, "max_terms": 3})
    problems = task.problems("test", count=10, seed=0)
    assert len({p.id for p in problems}) == 10
    assert task.grade(problems[0], problems[0].answer).value == 1.0
    assert task.grade(problems[0], "nonsense").value < 1.0
    drawn = task.draw(step=0, count=10, seed=0)
    assert drawn == task.draw(step=0, count=10, seed=0)
    assert not {p.prompt for p in drawn} & {p.prompt for p in problems}
    with pytest.raises(ConfigError, match="Did you mean 'chain_sum'"):
        load_task(name="gym", args={"dataset": "chain_sums"})
    with pytest.raises(ConfigError, match="refuses its settings"):
        load_task(name="gym", args={"dataset": "chain_sum", "no_such": 1})
