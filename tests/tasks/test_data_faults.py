"""What is wrong with data is said with file and row, or counted: never lost, never a traceback."""

import json
import tracemalloc

import pytest
from test_formats import N, as_csv, chat, everything, jsonl, parquet

from rekindle.errors import DataError
from rekindle.rewards.python_reward import PythonReward
from rekindle.tasks import load_task
from rekindle.tasks.checks import check_golds, normal_text, shared_rows
from rekindle.tasks.own import Rewarded, own_task

GOOD = '{"question": "1?", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("d.csv", b"", "is empty"),
        ("d.csv", b"question,answer\n", "is empty"),
        ("d.csv", b"question,answer\n1?\n", r"d\.csv:2 has 1 cells(.|\n)*2, one for each"),
        ("d.csv", b"question,answer\n1?,1,2\n", r"d\.csv:2 has 3 cells"),
        ("d.csv", b'question,answer\n1?,1\n"2?,2\n', r"d\.csv:3 is not valid CSV"),
        ("d.csv", b'question,answer\n"a\nb",1\nx,1,1\n', r"d\.csv:4 has 3 cells"),
        ("d.csv", b"question,question\n1,2\n", "column 'question' twice"),
        ("d.csv", b"question,answer\n1?,\0\n", r"d\.csv:2 has a NUL byte"),
        ("d.csv", "question,answer\né,1\n".encode("latin1"), r"d\.csv:2 is not UTF-8(.|\n)*latin1"),
        ("d.csv", "question,answer\né,1\n".encode("utf-16"), r"d\.csv:1 is not UTF-8(.|\n)*utf-16"),
        ("d.csv", b"question,answer\r1?,1\r", r"d\.csv:1 is not valid CSV"),
        ("d.CSV", b"question,answer\n1?\n", r"d\.CSV:2 has 1 cells"),
        ("d.csv", b"messages,answer\n[{'role': 'user'}],1\n", r"csv:2 has no usable(.|\n)*dumps"),
        ("d.jsonl", GOOD.encode() + b"\0\0\0\n", r"d\.jsonl:2 is not valid JSON"),
        ("d.jsonl", GOOD.encode() * 2 + b'{"question": "2?", ', r"d\.jsonl:3 is not valid JSON"),
        ("d.jsonl", b'{"question": "1?", "answer": "1", "answer": "2"}', "'answer' is there twice"),
        ("d.jsonl", b'{"question": "\\ud83d", "answer": "1"}', r"d\.jsonl:1: 'prompt' has half"),
        ("d.jsonl", GOOD.encode("utf-16"), r"d\.jsonl:1 is not UTF-8"),
        ("d.json", b"", "is empty"),
        ("d.json", b"[]", "is empty"),
        (
            "d.json",
            b'[{"question": "1?", "answer": "1"}, 5]',
            r"d\.json row 2 is not a JSON object",
        ),
        ("d.json", b'[{"question": "1?"', r"d\.json:1 is not valid JSON"),
        (
            "d.json",
            b'{"question": {"0": "1?"}, "answer": {"0": "1"}}\n',
            "orient='records'",
        ),
        ("d.json", b'{\n"question": {"0": "1?"},\n"answer": {"0": "1"}}', "orient='records'"),
        ("d.json", b'{"easy": [{"question": "1?", "answer": "1"}]}', "'easy', which is no split"),
        ("d.parquet", b"PAR1" + b"\0" * 50, r"d\.parquet cannot be read as parquet"),
        ("d.jsonl.gz", b"\x1f\x8b", "unpack it"),
        ("d.xlsx", b"PK", "format that is not read"),
    ],
)
def test_a_broken_file_is_named_with_its_row(tmp_path, name, content, words):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_task("jsonl", path=str(tmp_path / name))


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_nesting_without_end_is_refused(tmp_path, suffix):
    deep = "[" * 200_000
    text = f'{{"question": "1?", "answer": {deep}' if suffix == ".jsonl" else deep
    (tmp_path / f"d{suffix}").write_text(text)
    with pytest.raises(DataError, match="is not valid JSON"):
        load_task(str(tmp_path / f"d{suffix}"))


def test_a_parquet_file_that_was_cut_off(tmp_path):
    parquet(tmp_path / "d.parquet", [{"question": f"{i}?", "answer": "1"} for i in range(N)])
    whole = (tmp_path / "d.parquet").read_bytes()
    (tmp_path / "d.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read as parquet(.|\n)*again"):
        load_task(str(tmp_path / "d.parquet"))


def test_saved_datasets_without_rows_or_with_torn_files(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"prompt": [], "answer": []}).save_to_disk(tmp_path / "empty")
    with pytest.raises(DataError, match=r"saved dataset .*empty cannot be read(.|\n)*a row"):
        load_task(str(tmp_path / "empty"))
    rows = [{"prompt": "x" * 999, "answer": "1"}] * 99
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "torn")
    [file] = (tmp_path / "torn").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(DataError, match="torn"):
        load_task(str(tmp_path / "torn"))
    (tmp_path / "torn" / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"torn cannot be read(.|\n)*save it again"):
        load_task(str(tmp_path / "torn"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"question": "a", "answer": "1"}, {"problem": "b", "answer": "1"}),
        ({"messages": chat("a", "b")}, {"question": "a", "answer": "1"}),
        ({"prompt": "a", "answer": "1"}, {"instruction": "a", "input": "", "output": "b"}),
    ],
)
def test_layouts_that_change_within_a_file_are_refused(tmp_path, first, second):
    jsonl(tmp_path / "d.jsonl", [first, first, second])
    with pytest.raises(DataError, match=r"jsonl:3 is laid out unlike(.|\n)*d\.jsonl:1 is"):
        load_task(str(tmp_path / "d.jsonl"))


def test_rows_may_lack_what_not_every_row_needs(tmp_path):
    rows = [
        {"prompt": "a", "answer": "1"},
        {"prompt": "b", "answer": "1", "solution": "x", "level": 2},
        {"messages": chat("c"), "answer": "1"},
    ]
    jsonl(tmp_path / "d.jsonl", rows)
    assert len(everything(load_task(str(tmp_path / "d.jsonl")))) == 3


def test_a_missing_column_names_those_there_are(tmp_path):
    as_csv(tmp_path / "d.csv", [{"promt": "1?", "answer": "1"}])
    with pytest.raises(DataError, match=r"d\.csv:2 has no 'prompt'(.|\n)*Did you mean 'promt'"):
        load_task(str(tmp_path / "d.csv"))
    jsonl(tmp_path / "d.jsonl", [{"question": "1?", "target": "1"}])
    with pytest.raises(DataError, match=r"has no 'answer'(.|\n)*task\.columns\.answer=NAME"):
        load_task(str(tmp_path / "d.jsonl"))


def test_images_are_told_and_texts_beside_them_can_be_chosen(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    row = {"question": "1?", "answer": "1", "image": {"bytes": b"x", "path": None}}
    kinds = {name: datasets.Value("string") for name in ("question", "answer")}
    features = datasets.Features({**kinds, "image": datasets.Image()})
    datasets.Dataset.from_list([row], features=features).to_parquet(tmp_path / "image.parquet")
    row["sound"] = row.pop("image")  # as audio is stored, without a note of what it is
    parquet(tmp_path / "sound.parquet", [{**row, "sound": {"bytes": b"x", "path": "a.wav"}}])
    for name in ("image", "sound"):
        with pytest.raises(DataError, match=rf"row 0 has more than text in column '{name}'"):
            load_task(str(tmp_path / f"{name}.parquet"))
        task = load_task(str(tmp_path / f"{name}.parquet"), columns={"prompt": "question"})
        assert everything(task)[0].prompt == "1?"
    part = {"type": "image", "url": "x"}
    jsonl(tmp_path / "d.jsonl", [{"messages": [{"role": "user", "content": [part]}], "answer": 1}])
    with pytest.raises(DataError, match=r"jsonl:1: 'messages' has a message that is not text"):
        load_task(str(tmp_path / "d.jsonl"))


def test_turns_of_tools_are_told(tmp_path):
    turns = [{"from": "human", "value": "a"}, {"from": "function_call", "value": "f()"}]
    jsonl(tmp_path / "d.jsonl", [{"conversations": turns}])
    with pytest.raises(DataError, match="has a turn from 'function_call'"):
        load_task(str(tmp_path / "d.jsonl"))


def test_a_reward_in_python_gets_what_no_verifier_could_compare(tmp_path):
    rows = [{"prompt": chat("x?"), "reward_model": {"ground_truth": {"target": i}}} for i in "ab"]
    jsonl(tmp_path / "d.jsonl", rows)
    with pytest.raises(DataError, match="is not one answer"):
        load_task(str(tmp_path / "d.jsonl"))
    task = own_task(rows, needs_answer=False)
    assert [p.meta["reward_model"] for p in everything(task)] == [r["reward_model"] for r in rows]


def test_rows_are_read_as_they_are_used(tmp_path):
    """A file of 20 MB of which nothing is kept takes less than 3 in memory, as JSONL and CSV."""
    rows = [{"question": f"{i}?", "answer": "1", "extra": "x" * 10_000} for i in range(2000)]
    jsonl(tmp_path / "d.jsonl", rows)
    as_csv(tmp_path / "d.csv", rows)
    del rows
    for name in ("d.jsonl", "d.csv"):
        tracemalloc.start()
        load_task(str(tmp_path / name))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3e6 < (tmp_path / name).stat().st_size / 6


# --- rows that splits share


def split_files(tmp_path, train, test):
    for name, prompts in (("train", train), ("test", test)):
        jsonl(tmp_path / f"{name}.jsonl", [{"prompt": p, "answer": "1"} for p in prompts])
    return str(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("What is 2+3?", "what is  2 + 3", True),
        ("“Say” it, now.", "say it now", True),
        ("Ｗhat is ２?", "what is 2", True),
        ("2+3", "2-3", False),
        ("2*3", "2 3", False),
        ("1.5 apples", "15 apples", False),
        ("1,234", "1234", False),
        ("(1+2)*3", "1+2*3", False),
        ("5!", "5", True),
        ("5!+1", "5+1", False),
        ("12 3", "1 23", False),
        ("the rapist", "therapist", False),
    ],
)
def test_texts_alike_but_for_case_blanks_and_punctuation(one, other, alike):
    assert (normal_text(one) == normal_text(other)) == alike


def test_what_splits_share_is_counted_and_refused_or_told(tmp_path):
    place = split_files(tmp_path, ["a?", "b?", "c?"], ["a?", "B", "d?"])
    words = r"1 of 3 test problems are in train too, and 1 more but for case(.|\n)*shared_rows=tell"
    with pytest.raises(DataError, match=words):
        load_task(place)
    with pytest.warns(UserWarning, match="1 of 3 test problems are in train too, and 1 more"):
        task = load_task(place, shared_rows="tell")
    [shared] = shared_rows(task.splits)
    assert (shared.by_text, shared.by_normal_text) == (("test-1",), ("test-2",))
    assert any("1 of 3 test problems" in note for note in task.notes)
    load_task(split_files(tmp_path, ["a?", "b?"], ["c?"]))


def test_conversations_are_alike_as_wholes(tmp_path):
    """The same last question after another first one is another problem."""
    train = {"messages": chat("one", "yes", "and?"), "answer": "1"}
    test = {"messages": chat("two", "yes", "and?"), "answer": "1"}
    jsonl(tmp_path / "train.jsonl", [train])
    jsonl(tmp_path / "test.jsonl", [test])
    load_task(str(tmp_path))
    jsonl(tmp_path / "test.jsonl", [train])
    with pytest.raises(DataError, match="splits share problems"):
        load_task(str(tmp_path))


def test_splits_that_are_made_here_share_no_text_and_tell_what_is_alike(tmp_path):
    rows = [{"prompt": f"What is {i}?", "answer": "1"} for i in range(60)]
    jsonl(tmp_path / "d.jsonl", rows + rows)
    load_task(str(tmp_path / "d.jsonl"))
    jsonl(tmp_path / "d.jsonl", rows + [{**row, "prompt": row["prompt"].upper()} for row in rows])
    with pytest.warns(UserWarning, match="more but for case"):
        load_task(str(tmp_path / "d.jsonl"))


# --- golds that nothing matches


class Deaf:
    """A verifier that accepts nothing with an x."""

    def __call__(self, gold, text, settings):
        from rekindle.records import Score

        return Score(float(gold in text and "x" not in gold))


def test_golds_that_no_answer_matches_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(
        load_task.__globals__["Listed"].grade_many.__globals__["VERIFIERS"], "exact", Deaf()
    )
    jsonl(tmp_path / "d.jsonl", [{"prompt": g, "answer": g} for g in ("a", "bx", "c")])
    with pytest.warns(UserWarning, match=r"1 of 3 golds match no answer(.|\n)*'bx'"):
        task = load_task(str(tmp_path / "d.jsonl"), verifier="exact")
    check = check_golds(task)
    assert (check.golds, check.checked, [one.gold for one in check.unmatched]) == (3, 3, ["bx"])
    jsonl(tmp_path / "d.jsonl", [{"prompt": g, "answer": g} for g in ("x", "bx")])
    with pytest.raises(DataError, match=r"no answer can be right(.|\n)*task\.verifier="):
        load_task(str(tmp_path / "d.jsonl"), verifier="exact")


@pytest.mark.parametrize("verifier", ["exact", "numeric"])
@pytest.mark.parametrize(
    "gold",
    ["7", "-1/2", "1,234", "B", r"\frac{1}{2}", "two words", "40%", "1e-05", "a\nb", "#### 3"],
)
def test_golds_of_the_field_match_themselves(tmp_path, verifier, gold):
    jsonl(tmp_path / "d.jsonl", [{"prompt": "q", "answer": gold}])
    assert not check_golds(load_task(str(tmp_path / "d.jsonl"), verifier=verifier)).unmatched


def test_a_task_without_golds_has_none_to_check():
    graded = Rewarded(load_task("countdown"), PythonReward.of(lambda problems, texts: [1.0]))
    for task in (load_task("countdown"), graded):
        assert check_golds(task).checked == 0


def test_of_a_verifier_in_processes_a_sample_is_checked(tmp_path, monkeypatch):
    from rekindle.records import Score
    from rekindle.tasks import checks
    from rekindle.tasks.rows import Listed

    rows = [{"prompt": f"{i}?", "answer": str(i)} for i in range(999)]
    jsonl(tmp_path / "d.jsonl", rows)
    asked = []
    monkeypatch.setattr(
        Listed, "grade_many", lambda self, a: asked.extend(a) or [Score(1.0)] * len(a)
    )
    monkeypatch.setattr(checks, "POOLED", ("exact",))
    check = check_golds(load_task(str(tmp_path / "d.jsonl"), verifier="exact"))
    assert (check.golds, check.checked) == (999, 200)
    assert len(asked) == 400  # at load, and here
    assert len(json.dumps([text for _, text in asked])) > 0
