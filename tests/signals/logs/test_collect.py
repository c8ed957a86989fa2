"""Rows of any log become columns; groups, repeats and evaluations are found before they count."""

import json

import numpy as np
import pytest

from rekindle.errors import ConfigError, DataError
from rekindle.signals.logs.collect import collect, find_groups
from rekindle.signals.logs.formats import open_log
from rekindle.signals.logs.mapped import natural

COLUMNS = {"score": "reward", "text": "answer", "prompt": "prompt", "step": "step"}


def row(step, prompt, answer, reward, **more):
    return {"step": step, "prompt": prompt, "answer": answer, "reward": reward, **more}


def group(step, prompt, rewards, *, tag="", **more):
    return [
        row(step, prompt, f"{tag}{prompt} {step} answer {i}", reward, **more)
        for i, reward in enumerate(rewards)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def read(path, rows, **columns):
    return collect(open_log(write(path / "log.jsonl", rows), columns={**COLUMNS, **columns}))


def find(prompts, blocks=None, size=None):
    blocks = [0] * len(prompts) if blocks is None else blocks
    numbers, by = find_groups([None] * len(prompts), np.array(blocks), np.array(prompts), size)
    return numbers.tolist(), by


def test_groups_are_runs_of_one_prompt():
    assert find([1, 1, 2, 2, 3, 3])[0] == [0, 0, 1, 1, 2, 2]


def test_a_prompt_drawn_twice_in_a_row_is_two_groups():
    assert find([1, 1, 2, 2, 2, 2, 3, 3])[0] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_same_prompt_at_the_next_step_is_another_group():
    assert find([1, 1, 1, 1], blocks=[0, 0, 1, 1])[0] == [0, 0, 1, 1]


def test_a_known_size_splits_runs():
    numbers, by = find([1] * 8, size=4)
    assert (numbers, by) == ([0] * 4 + [1] * 4, "the order of the rows, 4 to a group")


def test_rows_in_another_order_are_grouped_by_prompt_within_a_step():
    numbers, by = find([1, 2, 3, 1, 2, 3, 1, 2, 3])
    assert (numbers, by) == ([0, 1, 2] * 3, "the prompt within a step")


def test_groups_of_unequal_size_stay_runs():
    assert find([1, 1, 1, 2, 2, 3, 3, 3])[0] == [0, 0, 0, 1, 1, 2, 2, 2]


def test_a_batch_under_another_step_is_a_repeat(tmp_path):
    """Only the second time, and only where texts and scores are the same too."""
    batch = [*group(1, "a", [1, 0, 0, 0]), *group(1, "b", [0, 1, 1, 0])]
    again = [{**one, "step": 2} for one in batch]
    fresh = [*group(3, "a", [1, 0, 0, 0]), *group(3, "b", [0, 1, 1, 0])]
    log = read(tmp_path, [*batch, *again, *fresh])
    assert log.repeated_N.tolist() == [False] * 8 + [True] * 8 + [False] * 8


def test_short_answers_that_coincide_are_no_repeat(tmp_path):
    """Two groups of one text all over are as likely as not the same by chance."""
    rows = [row(step, "a", "7", 1.0) for step in (1, 2, 3) for _ in range(8)]
    assert not read(tmp_path, rows).repeated_N.any()


def test_a_batch_that_is_appended_twice_in_one_step_is_a_repeat(tmp_path):
    batch = [*group(1, "a", [1, 0] * 8), *group(1, "b", [0, 1] * 8)]
    log = read(tmp_path, batch + batch)
    assert log.repeated_N.tolist() == [False] * 32 + [True] * 32


def evaluated(step):
    return [one for prompt in ("x", "y") for one in group(step, prompt, [1, 0])]


def test_prompts_of_evaluation_steps_are_found(tmp_path):
    train = [group(step, f"p{step}", [1, 0]) for step in range(1, 10)]
    rows = [one for step, part in enumerate(train, 1) for one in part]
    mixed = [*rows[:6], *evaluated(3.0), *rows[6:12], *evaluated(6.0), *rows[12:], *evaluated(9.0)]
    only = [
        one
        for one in mixed
        if not (one["prompt"] == f"p{int(one['step'])}" and one["step"] in (3, 6, 9))
    ]
    log = read(tmp_path, only)
    assert [log.prompts[i] for i in log.prompt_N[log.evaluation_N]] == ["x"] * 2 + ["y"] * 2 + [
        "x", "x", "y", "y", "x", "x", "y", "y",
    ]  # fmt: skip


def test_prompts_that_epochs_repeat_are_training(tmp_path):
    rows = [one for step in range(1, 13) for one in group(step, f"p{step % 3}", [1, 0])]
    assert not read(tmp_path, rows).evaluation_N.any()


def test_what_the_log_says_of_evaluations_is_believed(tmp_path):
    rows = [*group(1, "a", [1, 0], kind="train"), *group(1, "b", [1, 0], kind="validation")]
    log = read(tmp_path, rows, split="kind")
    assert log.evaluation_N.tolist() == [False, False, True, True]


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    path = write(tmp_path / "log.jsonl", group(1, "a", [1, 0, 0, 1]))
    path.write_bytes(path.read_bytes()[:-9])
    log = collect(open_log(path, columns=COLUMNS))
    assert (len(log), "not written to its end" in log.damage[0]) == (3, True)


def test_a_file_of_other_lines_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row(1, "a", "b", 1)) + "\n" + "step 1 loss 0.3\n" * 5)
    with pytest.raises(DataError, match="5 of its 6 lines are not JSON objects"):
        collect(open_log(path, columns=COLUMNS))


def test_numbers_that_json_does_not_know_are_missing(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"reward": NaN, "answer": "a"}\n{"reward": 1, "answer": "b"}\n')
    log = collect(open_log(path, columns={"score": "reward", "text": "answer"}))
    assert np.isnan(log.score_N).tolist() == [True, False]


def test_log_probs_by_token_are_summed(tmp_path):
    rows = [row(1, "a", "b", 1, lp=[-1.0, -0.5, -0.25]), row(1, "a", "c", 0, lp=[])]
    log = read(tmp_path, rows, logprob="lp")
    assert log.logprob_N[0] == -1.75
    assert np.isnan(log.logprob_N[1])
    assert log.tokens_N.tolist() == [3, 0]


@pytest.mark.parametrize(("named", "prompts"), [(True, 2), (False, 4)])
def test_without_prompts_what_hangs_together_is_a_group(tmp_path, named, prompts):
    """Groups that the log names at each step are those of one prompt; others are alone."""
    rows = [
        row(step, "", f"{step} {place} {i}", 0, uid=place if named else f"{step}/{place}")
        for step in (1, 2)
        for place in (0, 1)
        for i in range(3)
    ]
    log = read(tmp_path, rows, group="uid")
    assert len(np.unique(log.group_N)) == 4
    assert len(np.unique(log.prompt_N)) == len(log.prompts) == len(log.prompt_keys) == prompts


def test_without_prompts_and_groups_runs_of_one_reference_are_groups(tmp_path):
    rows = [row(1, "", f"{gold} {i}", 0, gold=gold) for gold in ("3", "5") for i in range(4)]
    log = read(tmp_path, rows, gold="gold")
    assert log.group_N.tolist() == [0] * 4 + [1] * 4
    assert list(log.golds) == ["3", "5"]


def test_with_nothing_that_names_groups_each_step_is_its_own_unit(tmp_path):
    log = read(tmp_path, [row(step, "", f"{step} {i}", 0) for step in (1, 2, 3) for i in range(4)])
    assert log.group_N.tolist() == log.prompt_N.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(log.prompts) == 3


def test_csv_and_parquet_are_the_same_log(tmp_path):
    import pyarrow
    from pyarrow import csv, parquet

    rows = [*group(1, "a", [1.0, 0.0, None]), *group(2, "b", [0.0, 1.0, 1.0])]
    table = pyarrow.Table.from_pylist(rows)
    csv.write_csv(table, tmp_path / "log.csv")
    parquet.write_table(table, tmp_path / "log.parquet")
    logs = [
        collect(open_log(tmp_path / f"log.{kind}", columns=COLUMNS)) for kind in ("csv", "parquet")
    ]
    for log in logs:
        assert log.step_N.tolist() == [1, 1, 1, 2, 2, 2]
        assert np.array_equal(log.score_N, [1, 0, np.nan, 0, 1, 1], equal_nan=True)
        assert log.texts == [one["answer"] for one in rows]


def test_texts_that_were_not_kept_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("rekindle.signals.logs.collect.KEPT_CHARS", 10)
    log = read(tmp_path, group(1, "a", [1, 0, 0, 1]))
    assert log.texts is None
    assert log.texts_of([2, 0]) == {0: "a 1 answer 0", 2: "a 1 answer 2"}


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"text": "answer"}, "--map names no score"),
        ({"score": "rewards"}, "there is no such column"),
        ({"score": "reward", "txt": "answer"}, "--map has no 'txt'"),
    ],
)
def test_columns_that_are_not_there_are_told(tmp_path, columns, what):
    path = write(tmp_path / "log.jsonl", [row(1, "a", "b", 1)])
    with pytest.raises(ConfigError, match=what):
        open_log(path, columns=columns)


def test_an_unknown_layout_is_described_and_not_guessed(tmp_path):
    write(tmp_path / "log.jsonl", [row(1, "a", "b", 1)])
    with pytest.raises(DataError, match="with step, prompt, answer, reward"):
        open_log(tmp_path)


def test_files_are_in_the_order_of_their_numbers(tmp_path):
    names = [tmp_path / f"step_{i}.jsonl" for i in (10, 9, 100, 1)]
    assert [path.name for path in sorted(names, key=natural)] == [
        "step_1.jsonl", "step_9.jsonl", "step_10.jsonl", "step_100.jsonl",
    ]  # fmt: skip
