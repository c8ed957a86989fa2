"""NeMo-RL's logs. The files are built from its source (7ea279abf, `log_batched_dict_as_jsonl` and
the `log_data` of `grpo.py` and `grpo_sync.py`), since it does not run on a CPU."""

import json

import numpy as np
import pytest

from rekindle.signals.logs import nemo_rl
from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from signals.run_diagnosis.planted import by_name

ASKED, SAID, PAD = 3, 2, 7


def write_batch(path, columns):
    """A batch as its logger writes it: slices of one row, as many as the first column has."""
    with open(path, "w") as file:
        for i in range(len(next(iter(columns.values())))):
            row = {name: values[i : i + 1] for name, values in columns.items()}
            file.write(json.dumps({**row, "idx": i}, default=str) + "\n")


def padded(values, before):
    return [before] * ASKED + list(values) + [before] * (PAD - ASKED - SAID)


def batch(prompts, rewards, *, lead=(), gap=0.5, sync=False):
    """The columns of a step in the trainer's order; answers are of two tokens."""
    n = len(prompts)
    content = [[*lead, p, f"answer {i} to {p}"] for i, p in enumerate(prompts)]
    texts = {"content": content}
    tokens = {
        "input_lengths": [ASKED + SAID] * n,
        "token_ids": [[ord(p[0]), 8, 9, i, i + 1, 0, 0] for i, p in enumerate(prompts)],
        "token_loss_mask": [padded([1, 1], 0)] * n,
        "sample_loss_mask": [1.0] * n,
        "advantages": [padded([r, r], r) for r in rewards],
        "generation_logprobs": [padded([-1.0, -2.0], 0.0)] * n,
        "prev_logprobs": [padded([-1.0 - gap, -2.0], 0.0)] * n,
    }
    if sync:
        return {"rewards": list(rewards), **tokens, **texts}
    return {**texts, "rewards": list(rewards), **tokens}


def read(path):
    return collect(open_log(path))


def test_a_row_is_a_slice_of_a_batch_of_one(tmp_path):
    write_batch(tmp_path / "train_data_step3.jsonl", batch(["a", "a", "b", "b"], [1, 0, 0, 0]))
    log = read(tmp_path)
    assert (log.about.format, log.step_N.tolist()) == ("nemo_rl", [3] * 4)
    assert log.texts == ["answer 0 to a", "answer 1 to a", "answer 2 to b", "answer 3 to b"]
    assert log.score_N.tolist() == [1, 0, 0, 0]
    assert log.group_N.tolist() == [0, 0, 1, 1]


def test_padding_is_in_no_count_and_no_sum(tmp_path):
    write_batch(tmp_path / "train_data_step1.jsonl", batch(["a", "a"], [0.5, -0.5]))
    log = read(tmp_path)
    assert log.tokens_N.tolist() == [2, 2]
    assert log.advantage_N.tolist() == [0.5, -0.5]
    assert log.sampler_logprob_N.tolist() == [-3, -3]


def test_log_probs_of_trainer_and_sampler_are_apart(tmp_path):
    write_batch(tmp_path / "train_data_step1.jsonl", batch(["a", "a"], [1, 0], gap=0.5))
    log = read(tmp_path)
    assert log.logprob_N.tolist() == [-3.5, -3.5]
    assert log.gap_N.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("sync", [False, True])
def test_with_dynamic_sampling_an_answers_reward_is_the_filtered_one(tmp_path, sync):
    """`rewards` are of all rows that were generated, cut to the number of those that were kept."""
    columns = batch(["a", "a", "b", "b"], [0, 0, 0, 0], sync=sync)
    columns = {
        name: values
        for key, column in columns.items()
        for name, values in (
            [(key, column), ("filtered_rewards", [1, 0, 0, 1])]
            if key == "rewards"
            else [(key, column)]
        )
    }
    write_batch(tmp_path / "train_data_step1.jsonl", columns)
    log = read(tmp_path)
    assert log.score_N.tolist() == [1, 0, 0, 1]
    assert any("only groups with spread are in the log" in note for note in log.about.notes)


def test_with_dynamic_sampling_what_was_generated_is_counted(tmp_path):
    """Its rewards are in the order of generation, four to a group as the kept answers are."""
    kept = [1, 0, 0, 1] * 2
    for step, generated in ((1, [0] * 4 + [1] * 4), (2, [0, 1, 0, 0] + [0] * 4)):
        columns = batch(["a"] * 4 + ["b"] * 4, generated)
        columns = {"content": columns.pop("content"), "rewards": columns.pop("rewards"),
                   "filtered_rewards": kept, **columns}  # fmt: skip
        write_batch(tmp_path / f"train_data_step{step}.jsonl", columns)
    found = by_name(diagnose_log(tmp_path).findings)
    assert found["metrics/no_spread"].value == 0.75
    assert found["metrics/all_wrong"].value == 0.5
    assert found["metrics/all_right"].value == 0.25
    assert found["share/mixed"].value == 1


def test_validation_is_no_data_and_its_turns_have_roles(tmp_path):
    write_batch(tmp_path / "train_data_step1.jsonl", batch(["a", "a"], [1, 0]))
    turns = [{"role": "user", "content": "v"}, {"role": "assistant", "content": "said"}]
    columns = {"content": [turns, turns], "rewards": [1.0, 0.0]}
    write_batch(tmp_path / "val_data_step1.jsonl", columns)
    log = read(tmp_path)
    assert log.evaluation_N.tolist() == [False, False, True, True]
    assert log.texts[2:] == ["said", "said"]
    assert log.prompts[log.prompt_N[2]] == "v"


def test_columns_of_the_synchronous_trainer_stand_in_another_order(tmp_path, monkeypatch):
    monkeypatch.setattr(nemo_rl, "TOKEN_ROWS", 1)
    for step in (1, 2, 3):
        columns = batch(["a", "a", "b", "b"], [1, 0, 0, 1], sync=True)
        write_batch(tmp_path / f"train_data_step{step}.jsonl", columns)
    log = read(tmp_path)
    assert set(log.texts) == {f"answer {i} to {p}" for i, p in enumerate("aabb")}


def test_without_texts_token_numbers_tell_prompts_apart(tmp_path):
    columns = batch(["a", "a", "b", "b"], [1, 0, 0, 1], sync=True)
    del columns["content"]
    write_batch(tmp_path / "train_data_step1.jsonl", columns)
    log = read(tmp_path)
    assert log.group_N.tolist() == [0, 0, 1, 1]
    assert log.texts == ["0 1", "1 2", "2 3", "3 4"]
    assert any("no texts" in note for note in log.about.notes)


def test_a_system_prompt_is_no_prompt(tmp_path):
    """It is the first text of every row: all would be one group."""
    columns = batch(["a", "a", "b", "b"], [1, 0, 0, 1], lead=["Be brief."])
    write_batch(tmp_path / "train_data_step1.jsonl", columns)
    log = read(tmp_path)
    assert log.group_N.tolist() == [0, 0, 1, 1]
    assert log.texts[0] == "answer 0 to a"


def test_turns_behind_the_first_answer_are_no_prompt(tmp_path):
    columns = batch(["a", "a", "b", "b"], [1, 0, 0, 1])
    columns["content"] = [[*turns, "tool says"] for turns in columns["content"]]
    write_batch(tmp_path / "train_data_step1.jsonl", columns)
    log = read(tmp_path)
    assert log.group_N.tolist() == [0, 0, 1, 1]
    assert log.texts[0] == "answer 0 to a\ntool says"


def test_of_a_large_log_token_lists_are_read_in_part(tmp_path, monkeypatch):
    """The rest of the row is read of all; which part it was is said."""
    monkeypatch.setattr(nemo_rl, "TOKEN_ROWS", 4)
    for step in range(1, 5):
        write_batch(tmp_path / f"train_data_step{step}.jsonl", batch(["a", "a"], [1, 0]))
    log = read(tmp_path)
    assert log.score_N.tolist() == [1, 0] * 4
    assert (~np.isnan(log.tokens_N)).sum() == 4
    assert "2 of the 4 files" in log.about.notes[0]


def test_a_key_that_stands_in_a_text_cuts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(nemo_rl, "TOKEN_ROWS", 1)
    for step in (1, 2):
        columns = batch(["a", "a"], [1, 0])
        columns["content"][0][1] = 'x, "input_lengths": y'
        write_batch(tmp_path / f"train_data_step{step}.jsonl", columns)
    assert read(tmp_path).texts[0::2] == ['x, "input_lengths": y'] * 2


def test_empty_files_are_passed_over(tmp_path):
    (tmp_path / "train_data_step1.jsonl").touch()
    write_batch(tmp_path / "train_data_step2.jsonl", batch(["a", "a"], [1, 0]))
    assert len(read(tmp_path)) == 2
