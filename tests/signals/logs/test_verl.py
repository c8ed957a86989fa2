"""verl's rollout dumps. The files are built from its source (0.9.1): its trainer needs GPUs."""

import json

import pytest

from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log


def write(path, step, rows, **more):
    path.mkdir(parents=True, exist_ok=True)
    with open(path / f"{step}.jsonl", "w") as file:
        for row in rows:
            file.write(json.dumps({**row, "step": step, **more}, ensure_ascii=False) + "\n")


def row(prompt, i, score, **more):
    answer = f"{prompt} answer {i}"
    return {"input": prompt, "output": answer, "gts": "42", "score": score, **more}


def group(prompt, scores, **more):
    return [row(prompt, i, score, **more) for i, score in enumerate(scores)]


def read(path):
    return collect(open_log(path))


def test_groups_are_by_order_where_rows_have_no_uid(tmp_path):
    write(tmp_path, 1, [*group("a", [1.0, 0.0]), *group("b", [0.0, 0.0])])
    log = read(tmp_path)
    assert (log.about.format, log.about.version) == ("verl", "V0 trainer")
    assert log.group_N.tolist() == [0, 0, 1, 1]
    assert log.golds == ["42", "42"]


def test_groups_are_by_the_first_part_of_uid(tmp_path):
    """Two prompts that differ in special tokens alone were written as the same text."""
    rows = [{**row("a", i, 1.0), "uid": f"{i // 2}_{i % 2}_0"} for i in range(4)]
    write(tmp_path, 1, rows)
    log = read(tmp_path)
    assert log.about.version == "V1 trainer (uid)"
    assert log.group_N.tolist() == [0, 0, 1, 1]
    assert len(log.prompts) == 1


def test_a_uid_comes_again_at_the_next_step(tmp_path):
    for step in (1, 2):
        rows = [{**row(f"p{step}", i, 1.0), "uid": f"0_{i}_0"} for i in range(2)]
        write(tmp_path, step, rows)
    assert read(tmp_path).group_N.tolist() == [0, 0, 1, 1]


def test_steps_are_in_the_order_of_their_numbers(tmp_path):
    for step in (10, 9, 100):
        write(tmp_path, step, group("a", [1.0, 0.0], tag=step))
    assert read(tmp_path).step_N.tolist() == [9, 9, 10, 10, 100, 100]


def test_parts_of_the_reward_are_numbers_alone(tmp_path):
    """math_dapo returns the answer that it found as `pred`: "42" is no reward."""
    rows = group("a", [0.9, -1.0], acc=True, pred="42", overlong_reward=-0.1)
    write(tmp_path, 1, rows)
    log = read(tmp_path)
    assert set(log.parts) == {"acc", "overlong_reward"}
    assert log.parts["acc"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "is_validation"),
    [
        ("validation", True), ("val_generations", True), ("run-eval", True), ("test", False),
        ("interval", False), ("retrieval_run", False), ("rollouts", False), ("latest", False),
    ],
)  # fmt: skip
def test_validation_is_known_by_the_word_in_its_directory(tmp_path, name, is_validation):
    write(tmp_path / name, 1, group("a", [1.0, 0.0]))
    assert read(tmp_path).evaluation_N.tolist() == [is_validation] * 2


def test_validation_beside_training_is_no_data(tmp_path):
    write(tmp_path / "rollouts", 1, group("a", [1.0, 0.0]))
    write(tmp_path / "validation", 1, group("v", [1.0, 0.0]))
    log = read(tmp_path)
    assert [log.prompts[i] for i in log.prompt_N[log.data_N]] == ["a", "a"]


def test_groups_that_dapo_removed_are_told(tmp_path):
    write(tmp_path, 1, group("a", [1.0, 0.0]))
    assert any("filter_groups" in note for note in read(tmp_path).about.notes)
