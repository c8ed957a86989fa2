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


def test_one_file_is_split_by_its_prompts_for_good(tmp_path):
    """80/10/10; what is appended later moves no prompt, and the same prompt is in one split."""
    first = rows(2000)
    task = load_task(name="jsonl", path=write(tmp_path / "d.jsonl", first))
    place = {p.prompt: name for name, split in task.splits.items() for p in split}
    shares = [len(task.splits[name]) / 2000 for name in ("train", "dev", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
    again = [{"prompt": row["prompt"], "answer": "again"} for row in first]
    more = [{"prompt": f"new {i}", "answer": "1"} for i in range(50)]
    task = load_task(name="jsonl", path=write(tmp_path / "d.jsonl", more + first + again))
    for name, split in task.splits.items():
        assert all(place.get(p.prompt, name) == name for p in split)
    assert sum(len(split) for split in task.splits.values()) == 4050


def test_an_empty_split_says_what_there_is(tmp_path):
    task = load_task(name="jsonl", path=write(tmp_path / "d.jsonl", rows(1)))
    empty = next(name for name, split in task.splits.items() if not split)
    with pytest.raises(DataError, match=rf"no {empty} problems(.|\n)*train: \d, dev: \d, test: \d"):
        task.problems(empty, count=1, seed=0)
    with pytest.raises(ConfigError, match="has no levels"):
        load_task(
            name="jsonl",
            path=write(tmp_path / "e.jsonl", [{"prompt": "a", "answer": 1}]),
            levels=[3],
        )


def test_worked_answers_are_graded_by_their_last_line(tmp_path):
    path = write(tmp_path / "d.jsonl", [{"prompt": "2+2?", "answer": "2 and 2.\n#### 4"}])
    task = load_task(name="jsonl", path=path)
    problem = next(split for split in task.splits.values() if split)[0]
    assert task.grade(problem, "so it is 4.").value == 1.0
    assert task.grade(problem, "so it is 2.").value == 0.0


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
        (['{"prompt": " ", "answer": "1"}'], r"d\.jsonl:1 has an empty 'prompt'"),
        (['{"prompt": "a", "answer": NaN}'], r"d\.jsonl:1: 'answer' is not a number"),
        (['{"prompt": "a", "answer": true}'], r"d\.jsonl:1: 'answer' is not a text"),
        (['{"messages": [{"role": "user"}], "answer": "1"}'], "'messages' is not a chat"),
        (['{"messages": [], "answer": "1"}'], "has no 'prompt'"),
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
