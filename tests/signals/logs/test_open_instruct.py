"""open-instruct's logs. The files are built from its source (e6c3044aa, `rl_utils.py`), since its
trainer needs Ray and GPUs."""

import json

import numpy as np
import pytest

from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log


def record(step, i, prompt, answer, reward, *, size=2, **more):
    """A row as `RolloutRecord` is written."""
    return {
        "step": step,
        "sample_idx": i,
        "prompt_idx": i // size,
        "prompt_tokens": prompt,
        "response_tokens": answer,
        "reward": reward,
        "advantage": 1.0 if reward else -1.0,
        "finish_reason": "stop",
        "dataset": "math",
        "ground_truth": [7],
        "request_info": None,
        "logprobs": [-0.5] * len(answer),
        **more,
    }


def step_of(step, *, start=0, **more):
    prompts = [[1, 2], [1, 2], [3], [3]]
    return [
        record(step, i, prompt, [step, start + i, 9], 10.0 * (i % 2), **more)
        for i, prompt in enumerate(prompts)
    ]


def write(path, rows, shard=0):
    file = path / f"run_1_rollouts_{shard:06d}.jsonl"
    with open(file, "a") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return file


def metadata(path, model):
    content = {"run_name": "run_1", "git_commit": "c", "model_name": model, "timestamp": "t"}
    (path / "run_1_metadata.jsonl").write_text(json.dumps(content) + "\n")


def read(path):
    return collect(open_log(path))


def test_prompts_are_counted_anew_at_each_step(tmp_path):
    write(tmp_path, [*step_of(1), *step_of(2)])
    log = read(tmp_path)
    assert log.about.format == "open_instruct"
    assert log.group_N.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert log.step_N.tolist() == [1] * 4 + [2] * 4


def test_rewards_are_on_their_own_scale(tmp_path):
    write(tmp_path, step_of(1))
    log = read(tmp_path)
    assert log.score_N.tolist() == [0, 10, 0, 10]
    assert log.advantage_N.tolist() == [-1, 1, -1, 1]


def test_a_step_that_a_resumed_run_takes_again_is_another_batch(tmp_path):
    """It is appended to the shard, right behind its first time or later."""
    write(tmp_path, [*step_of(1), *step_of(1, start=50), *step_of(2), *step_of(1, start=90)])
    log = read(tmp_path)
    assert log.group_N.tolist() == [i for i in range(8) for _ in range(2)]
    assert not log.repeated_N.any()


def test_a_step_goes_on_in_the_next_shard(tmp_path):
    rows = step_of(1)
    write(tmp_path, rows[:1], shard=0)
    write(tmp_path, rows[1:], shard=1)
    assert read(tmp_path).group_N.tolist() == [0, 0, 1, 1]


def test_groups_of_two_prompts_stay_as_training_had_them(tmp_path):
    """Answers that were cut had been dropped before the rest was numbered."""
    rows = [record(1, i, prompt, [i], 0.0) for i, prompt in enumerate([[1], [1], [1], [3]])]
    write(tmp_path, rows)
    log = read(tmp_path)
    assert log.group_N.tolist() == [0, 0, 1, 1]
    assert log.prompt_N.tolist() == [0, 0, 0, 1]


def test_log_probs_are_the_samplers(tmp_path):
    write(tmp_path, step_of(1))
    log = read(tmp_path)
    assert log.sampler_logprob_N.tolist() == [-1.5] * 4
    assert np.isnan(log.logprob_N).all()
    assert log.tokens_N.tolist() == [3] * 4


@pytest.mark.parametrize(("reason", "cut"), [("length", 1), ("stop", 0), ("abort", None)])
def test_the_reason_to_stop_says_what_was_cut(tmp_path, reason, cut):
    write(tmp_path, step_of(1, finish_reason=reason))
    (found,) = set(np.nan_to_num(read(tmp_path).cut_N, nan=-1).tolist())
    assert found == (-1 if cut is None else cut)


@pytest.mark.parametrize("model", [None, "org/a-model-that-is-not-here", "/no/such/directory"])
def test_without_its_tokenizer_numbers_stand_for_text(tmp_path, model):
    if model:
        metadata(tmp_path, model)
    write(tmp_path, step_of(1))
    log = read(tmp_path)
    assert (log.texts[0], log.prompts[0]) == ("1 0 9", "1 2")
    assert any("not on this machine: token numbers" in note for note in log.about.notes)


def test_with_its_tokenizer_answers_are_text(tmp_path):
    from tokenizers import Tokenizer, models

    words = {f"w{i}": i for i in range(20)}
    model = tmp_path / "model"
    model.mkdir()
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(model / "tokenizer.json"))
    metadata(tmp_path, str(model))
    write(tmp_path, step_of(1))
    log = read(tmp_path)
    assert log.texts[0] == "w1 w0 w9"
    assert len(log.about.notes) == 1


def test_groups_that_were_dropped_are_told(tmp_path):
    write(tmp_path, step_of(1))
    assert "filter_zero_std_samples" in read(tmp_path).about.notes[0]
