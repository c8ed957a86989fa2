"""Data as the field writes it: each format by the tool that writes it, read by its path alone."""

import csv
import datetime
import json
from decimal import Decimal

import pytest

from rekindle.errors import ConfigError, DataError, MissingExtraError
from rekindle.tasks import load_task
from rekindle.tasks.own import notes_of
from rekindle.tasks.sources import split_name

N = 12


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    module = pytest.importorskip("datasets", reason="extra [hub]")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(module.config, "HF_HUB_OFFLINE", True)
    module.disable_progress_bars()
    return module


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_json(path, rows):
    path.write_text(json.dumps(rows, indent=1))


def as_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def parquet(path, rows):
    pa = pytest.importorskip("pyarrow", reason="extra [hub]")
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {".jsonl": jsonl, ".json": as_json, ".csv": as_csv, ".parquet": parquet}


def everything(task):
    return [problem for rows in task.splits.values() for problem in rows]


def only(path, row, **settings):
    """The problem of a file of one row."""
    jsonl(path, [row])
    return everything(load_task(str(path), **settings))[0]


# --- where data lies


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_is_a_task_by_its_path_alone(tmp_path, suffix):
    """The same rows in four formats are the same problems, whatever is in the texts."""
    rows = [{"question": f'{i}+1, "so"\nwhat\u2028?', "answer": f"{i + 1}"} for i in range(N)]
    WRITERS[suffix](tmp_path / f"d{suffix}", rows)
    task = load_task(str(tmp_path / f"d{suffix}"))
    found = {problem.prompt: problem.answer for problem in everything(task)}
    assert found == {row["question"]: row["answer"] for row in rows}
    by_path = load_task("jsonl", path=str(tmp_path / f"d{suffix}"))
    assert {k: len(v) for k, v in by_path.splits.items()} == {
        k: len(v) for k, v in task.splits.items()
    }
    assert by_path.fingerprint() == task.fingerprint()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_directory_has_its_splits_in_the_names_of_its_files(tmp_path, suffix):
    for name, start in (("train", 0), ("validation", 100), ("test", 200)):
        rows = [{"question": f"{start + i}?", "answer": str(i)} for i in range(3)]
        WRITERS[suffix](tmp_path / f"{name}{suffix}", rows)
    (tmp_path / "README.md").write_text("about")
    task = load_task(str(tmp_path))
    assert {name: len(rows) for name, rows in task.splits.items()} == dict.fromkeys(
        ("train", "dev", "test"), 3
    )
    assert task.splits["dev"][0].prompt == "100?"


def test_shards_patterns_and_lists_are_one_table(tmp_path):
    for shard in range(2):
        rows = [{"prompt": f"{shard}-{i}", "answer": "1"} for i in range(3)]
        jsonl(tmp_path / f"train-0000{shard}-of-00002.jsonl", rows)
        jsonl(tmp_path / f"part-{shard}.jsonl", [{"prompt": f"p{shard}", "answer": "1"}])
    jsonl(tmp_path / "test.jsonl", [{"prompt": "t", "answer": "1"}])
    task = load_task(str(tmp_path))
    assert [len(task.splits[split]) for split in ("train", "test")] == [6, 1]
    assert len({problem.id for problem in everything(task)}) == 7
    assert any("part-0.jsonl is not read" in note for note in notes_of(task))
    assert len(everything(load_task(str(tmp_path / "part-*.jsonl")))) == 2
    both = [str(tmp_path / f"part-{shard}.jsonl") for shard in range(2)]
    assert len(everything(load_task("jsonl", path=both))) == 2


def test_what_may_be_either_of_two_files_is_refused_and_both_are_named(tmp_path):
    jsonl(tmp_path / "train.jsonl", [{"prompt": "a", "answer": "1"}])
    as_json(tmp_path / "train.json", [{"prompt": "a", "answer": "1"}])
    with pytest.raises(DataError, match=r"train\.json, train\.jsonl"):
        load_task(str(tmp_path))
    (tmp_path / "train.json").unlink()
    jsonl(tmp_path / "train_small.jsonl", [{"prompt": "b", "answer": "1"}])
    assert [p.prompt for p in load_task(str(tmp_path)).splits["train"]] == ["a"]
    (tmp_path / "train.jsonl").rename(tmp_path / "train_large.jsonl")
    with pytest.raises(DataError, match=r"train_large\.jsonl, train_small\.jsonl"):
        load_task(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("gsm8k_test", "test"),
        ("valid.v2", "dev"),
        ("dev-00000-of-00001", "dev"),
        ("contest", None),
        ("latest", None),
        ("train_test", None),
        ("data", None),
    ],
)
def test_a_split_is_a_word_of_a_name(name, split):
    assert split_name(name) == split


def test_saved_datasets_by_path(datasets, tmp_path):
    """One without splits is split by its prompts; validation is dev; others are told."""
    rows = [{"question": f"{i}?", "answer": str(i)} for i in range(40)]
    whole = datasets.Dataset.from_list(rows)
    whole.save_to_disk(tmp_path / "one")
    task = load_task(str(tmp_path / "one"))
    assert sorted(len(split) for split in task.splits.values())[-1] >= 25
    assert sum(len(split) for split in task.splits.values()) == 40
    parts = {"train": range(30), "validation": range(30, 35), "extra": range(35, 40)}
    datasets.DatasetDict({k: whole.select(v) for k, v in parts.items()}).save_to_disk(
        tmp_path / "many"
    )
    task = load_task(str(tmp_path / "many"))
    assert {name: len(split) for name, split in task.splits.items()} == {"train": 30, "dev": 5}
    assert any("split extra is not read" in note for note in task.notes)
    named = load_task(str(tmp_path / "many"), args={"splits": {"test": "extra"}})
    assert len(named.splits["test"]) == 5


def test_a_json_file_may_hold_its_splits(tmp_path):
    parts = {
        "train": [{"question": "1?", "answer": "1"}],
        "test": [{"question": "2?", "answer": "2"}],
    }
    as_json(tmp_path / "d.json", parts)
    assert list(load_task(str(tmp_path / "d.json")).splits) == ["train", "test"]
    as_json(tmp_path / "d.json", {"data": parts["train"]})
    assert len(everything(load_task(str(tmp_path / "d.json")))) == 1
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "d.json").write_text(json.dumps(chat) + "\n")  # `to_json` of datasets: a row a line
    assert everything(load_task(str(tmp_path / "d.json")))[0].solution == "b"


def test_what_looks_like_a_hub_id_and_is_none_says_that_no_file_is_there_either(datasets):
    with pytest.raises(DataError, match="no such file or directory here either"):
        load_task("nobody/nothing-of-this-name")


def test_text_formats_need_no_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    for suffix in (".jsonl", ".json", ".csv"):
        WRITERS[suffix](tmp_path / f"d{suffix}", [{"question": "1?", "answer": "1"}])
        assert len(everything(load_task(str(tmp_path / f"d{suffix}")))) == 1
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"d\.parquet(.|\n)*rekindle\[hub\]"):
        load_task(str(tmp_path / "d.parquet"))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    with pytest.raises(MissingExtraError, match=r"saved dataset(.|\n)*rekindle\[hub\]"):
        load_task(str(tmp_path / "saved"))


# --- whose columns


def chat(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def sharegpt(*texts):
    return [
        {"from": ("human", "gpt")[i % 2], "value": text, "weight": None}
        for i, text in enumerate(texts)
    ]


WORKED = "48/2 = <<48/2=24>>24 clips\n#### 24"
BOXED = r"So $x = \boxed{\frac{1}{2}}$, not \boxed{3"
FORMATS = {
    "TRL standard": (
        {"prompt": "The sky", "completion": " is blue."},
        "The sky",
        None,
        " is blue.",
    ),
    "TRL conversational": (
        {"prompt": chat("Sky?"), "completion": [{"role": "assistant", "content": "Blue."}]},
        "Sky?",
        None,
        "Blue.",
    ),
    "TRL messages": (
        {"messages": chat("Sky?", "Blue."), "tools": [{"n": 1}]},
        "Sky?",
        None,
        "Blue.",
    ),
    "TRL prompt alone": ({"prompt": chat("2+2?"), "answer": "4"}, "2+2?", "4", None),
    "parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "answer": 1},
        "a",
        "1",
        None,
    ),
    "GSM8K": ({"question": "How many?", "answer": WORKED}, "How many?", "24", WORKED),
    "questions": ({"question": "How many?", "answer": "24"}, "How many?", "24", None),
    "MATH": (
        {"problem": "x?", "solution": r"a \boxed{1}, so \boxed{\frac{1}{2}}", "level": "Level 5"},
        "x?",
        r"\frac{1}{2}",
        r"a \boxed{1}, so \boxed{\frac{1}{2}}",
    ),
    "MATH-500": (
        {"problem": "x?", "solution": r"\boxed{1}", "answer": "1.0"},
        "x?",
        "1.0",
        r"\boxed{1}",
    ),
    "Alpaca": (
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        "Add.\n\n1, 2",
        None,
        "3",
    ),
    "Alpaca, no input": ({"instruction": "Hi.", "input": "", "output": "Ho"}, "Hi.", None, "Ho"),
    "ShareGPT": ({"conversations": sharegpt("Hi", "Ho")}, "Hi", None, "Ho"),
    "verl": (
        {
            "data_source": "gsm8k",
            "prompt": chat("How many?"),
            "reward_model": {"style": "rule", "ground_truth": "24"},
            "extra_info": {"split": "train", "index": 3, "answer": WORKED},
        },
        "How many?",
        "24",
        WORKED,
    ),
    "verl, a list": (
        {"prompt": chat("x?"), "reward_model": {"ground_truth": ["24"]}},
        "x?",
        "24",
        None,
    ),
    "verl, JSON": (
        {"prompt": chat("x?"), "reward_model": {"ground_truth": '["24"]'}},
        "x?",
        "24",
        None,
    ),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("name", FORMATS)
def test_columns_of_the_field(tmp_path, name, suffix):
    row, prompt, answer, solution = FORMATS[name]
    WRITERS[suffix](tmp_path / f"d{suffix}", [row])
    problem = everything(load_task(str(tmp_path / f"d{suffix}")))[0]
    assert (problem.prompt, problem.answer, problem.solution) == (prompt, answer, solution)


def test_turns_before_the_last_answer_are_the_prompt(tmp_path):
    row = {"system": "Be brief.", "conversations": sharegpt("Hi", "Ho", "How?", "So.")}
    problem = only(tmp_path / "d.jsonl", row)
    assert problem.messages == (
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Ho"),
        ("user", "How?"),
    )
    assert problem.solution == "So."


def test_how_rows_were_read_is_said_once_with_counts(tmp_path):
    rows = [{"question": f"{i}?", "answer": f"#### {i}", "topic": "sums"} for i in range(3)]
    jsonl(tmp_path / "d.jsonl", rows)
    notes = notes_of(load_task(str(tmp_path / "d.jsonl")))
    assert [note.split("d.jsonl: ")[1] for note in notes] == [
        "3 rows: read: prompt = question, answer",
        "3 rows: not read: topic",
        "3 rows: the answer is what follows '####' (GSM8K), the whole text the solution",
    ]


def test_rows_of_one_file_may_name_their_splits_as_verl_does(tmp_path):
    rows = [
        {
            "prompt": chat(f"{i}?"),
            "reward_model": {"ground_truth": "1"},
            "extra_info": {"split": "test" if i % 3 == 0 else "train"},
        }
        for i in range(9)
    ]
    parquet(tmp_path / "d.parquet", rows)
    task = load_task(str(tmp_path / "d.parquet"))
    assert {name: len(split) for name, split in task.splits.items()} == {"train": 6, "test": 3}


@pytest.mark.parametrize(
    ("row", "both"),
    [
        ({"question": "a", "problem": "b", "answer": "1"}, "'question' or 'problem'"),
        ({"conversations": sharegpt("a"), "question": "b", "answer": "1"}, "'question' or 'conv"),
        ({"prompt": "a", "expected_answer": "1", "final_answer": "2"}, "'expected_answer' or"),
        ({"prompt": "a", "completion": "1", "response": "2"}, "'completion' or 'response'"),
        ({"messages": chat("a", "b"), "solution": "c"}, "two solutions"),
    ],
)
def test_two_readings_are_refused_and_a_choice_decides(tmp_path, row, both):
    with pytest.raises(DataError, match=both):
        only(tmp_path / "d.jsonl", row)
    if "solution" in row:
        return
    chosen = {"prompt": next(iter(row))} if "prompt" not in row else {}
    chosen |= {"answer": next(k for k in row if "answer" in k)} if "answer" in both else {}
    chosen |= {"solution": "response"} if "response" in both else {}
    if "conversations" in chosen.values():
        chosen = {"messages": "conversations"}
    assert only(tmp_path / "d.jsonl", row, columns=chosen).prompt == "a"


def test_chosen_columns_lead_into_others_and_hold_for_every_source(datasets, tmp_path):
    rows = [{"meta": {"q": f"{i}?", "deep": {"a": i}}, "prompt": "not this"} for i in range(N)]
    columns = {"prompt": "meta.q", "answer": "meta.deep.a"}
    for suffix in (".jsonl", ".parquet"):
        WRITERS[suffix](tmp_path / f"d{suffix}", rows)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    for place in ("d.jsonl", "d.parquet", "saved"):
        task = load_task(str(tmp_path / place), columns=columns)
        assert {p.prompt: p.answer for p in everything(task)} == {f"{i}?": str(i) for i in range(N)}
    with pytest.raises(ConfigError, match=r"no column 'metta\.q'(.|\n)*meta"):
        load_task(str(tmp_path / "d.jsonl"), columns={"prompt": "metta.q"})
    with pytest.raises(ConfigError, match="Did you mean 'prompt'"):
        load_task(str(tmp_path / "d.jsonl"), columns={"promt": "meta.q"})
    with pytest.raises(ConfigError, match="no effect"):
        load_task("countdown", columns={"prompt": "q"})


# --- values keep their text


BIG = 10**20


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (str(BIG + 7), str(BIG + 7)),
        ("1.50", "1.50"),
        ("0.00001", "0.00001"),
        ("1e400", "1e400"),
        ("-0.0", "-0.0"),
        ('"2024-01-02"', "2024-01-02"),
        ('"007"', "007"),
        ('"NA"', "NA"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_json_values_are_as_they_are_written(tmp_path, suffix, text, answer):
    other = '{"question": "other", "answer": 1.5}'
    rows = f'{{"question": "q", "answer": {text}}}'
    body = f"{rows}\n{other}\n" if suffix == ".jsonl" else f"[{rows},\n{other}]"
    (tmp_path / f"d{suffix}").write_text(body)
    found = {p.prompt: p.answer for p in everything(load_task(str(tmp_path / f"d{suffix}")))}
    assert found == {"q": answer, "other": "1.5"}


def test_cells_of_a_csv_are_texts_and_an_empty_one_is_nothing(tmp_path):
    text = "question;answer;level\n5?;1,50;\n6?;None;a\n7?;null;\n"
    (tmp_path / "d.csv").write_text(text)
    found = {p.prompt: (p.answer, p.level) for p in everything(load_task(str(tmp_path / "d.csv")))}
    assert found == {"5?": ("1,50", ""), "6?": ("None", "a"), "7?": ("null", "")}
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbfquestion\tanswer\r\n5?\t1\r\n\r\n")
    assert everything(load_task(str(tmp_path / "d.csv")))[0].answer == "1"


def test_a_long_cell_is_read_whole(tmp_path):
    long = "x" * 300_000
    as_csv(tmp_path / "d.csv", [{"question": "q", "answer": long}])
    assert everything(load_task(str(tmp_path / "d.csv"), verifier="exact", needs_answer=False))


def test_arrow_values_are_as_their_type_writes_them(datasets, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "half": (pa.array([0.1], pa.float32()), "0.1"),
        "small": (pa.array([1e-5]), "0.00001"),
        "big": (pa.array([2**63 + 1], pa.uint64()), str(2**63 + 1)),
        "money": (pa.array([Decimal("1.50")]), "1.50"),
        "day": (pa.array([datetime.date(2024, 1, 2)]), "2024-01-02"),
        "word": (pa.array(["yes"]).dictionary_encode(), "yes"),
        "five": (pa.array([5.0]), "5.0"),
    }
    table = {"question": ["q"], **{name: column for name, (column, _) in columns.items()}}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    for name, (_, text) in columns.items():
        task = load_task(str(tmp_path / "d.parquet"), columns={"answer": name}, verifier="exact")
        assert everything(task)[0].answer == text, name
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "answers": datasets.Sequence(datasets.Value("float32")),
        }
    )
    rows = [{"question": "q", "label": 1, "answers": [0.1]}]
    made = datasets.Dataset.from_list(rows, features=features)
    made.save_to_disk(tmp_path / "saved")
    made.to_parquet(tmp_path / "e.parquet")
    for place in ("saved", "e.parquet"):
        for name, text in (("label", "yes"), ("answers", "0.1")):
            task = load_task(str(tmp_path / place), columns={"answer": name}, verifier="exact")
            assert everything(task)[0].answer == text, (place, name)


@pytest.mark.parametrize(
    "value",
    [True, datetime.datetime(2024, 1, 2), datetime.time(1, 2), b"7", {"a": 1}, ["7", "8"], []],
)
def test_what_is_no_text_is_refused_by_row(tmp_path, value):
    parquet(tmp_path / "d.parquet", [{"question": "q", "answer": value}])
    with pytest.raises(DataError, match=r"d\.parquet row 0(.|\n)*answer"):
        load_task(str(tmp_path / "d.parquet"))


@pytest.mark.parametrize(
    ("answer", "verifier", "read"),
    [
        (["7"], "numeric", "7"),
        ([7], "exact", "7"),
        ('["7"]', "numeric", "7"),
        ("[7.50]", "numeric", "7.50"),
        ('"7"', "numeric", "7"),
        ('["7"]', "exact", '["7"]'),
        ("[1, 2]", "exact", "[1, 2]"),
        ("[sic]", "exact", "[sic]"),
        ("{1, 2}", "exact", "{1, 2}"),
    ],
)
def test_a_list_of_one_is_told_and_what_only_looks_like_one_stays(tmp_path, answer, verifier, read):
    path = tmp_path / "d.jsonl"
    problem = only(path, {"question": "q", "answer": answer}, verifier=verifier)
    assert problem.answer == read
    told = [n for n in notes_of(load_task(str(path), verifier=verifier)) if "'answer' is" in n]
    assert len(told) == (answer in (["7"], [7], '["7"]', "[7.50]", '"7"'))


@pytest.mark.parametrize("answer", ['["7", "8"]', '{"target": 24}', '[{"a": 1}]'])
def test_json_that_is_not_one_answer_is_refused(tmp_path, answer):
    with pytest.raises(DataError, match=r"jsonl:1: 'answer' is not one answer(.|\n)*module:func"):
        only(tmp_path / "d.jsonl", {"question": "q", "answer": answer})
