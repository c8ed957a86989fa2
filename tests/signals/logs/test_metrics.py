"""Metrics without rollouts, from every kind of file that trainers leave."""

import json
import math

import numpy as np
import pytest

from rekindle.errors import DataError
from rekindle.signals.logs.formats import open_log
from rekindle.signals.logs.metrics import MetricsReader

ROWS = [{"step": step, "reward": 0.1 * step, "grad_norm": 1.0} for step in (1, 2, 3)]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def history(path):
    reader = open_log(path)
    assert isinstance(reader, MetricsReader)
    assert list(reader.rows()) == []
    return reader.about.history


def rewards(path):
    return {row["step"]: pytest.approx(row["reward"]) for row in history(path)}


def state(rows, step):
    return json.dumps({"log_history": rows, "global_step": step, "logging_steps": 1})


def test_the_state_of_the_newest_checkpoint(tmp_path):
    for step in (2, 10):
        place = tmp_path / f"checkpoint-{step}"
        place.mkdir()
        (place / "trainer_state.json").write_text(state(ROWS[: 1 if step == 2 else 3], step))
    assert rewards(tmp_path) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert open_log(tmp_path).about.steps_taken == 3


def test_an_evaluation_at_a_step_adds_to_its_row(tmp_path):
    rows = [*ROWS, {"step": 3, "eval_reward": 0.9}]
    (tmp_path / "trainer_state.json").write_text(state(rows, 3))
    assert len(history(tmp_path)) == 3
    assert history(tmp_path)[2]["eval_reward"] == 0.9


@pytest.mark.parametrize("key", ["step", "_step", "train/global_step", "training/global_step"])
def test_json_lines_by_the_name_that_their_step_has(tmp_path, key):
    lines(tmp_path / "wandb-history.jsonl", [{key: r["step"], "reward": r["reward"]} for r in ROWS])
    assert rewards(tmp_path) == {1: 0.1, 2: 0.2, 3: 0.3}


def test_verls_file_logger_nests_them(tmp_path):
    rows = [{"step": r["step"], "data": {"reward": r["reward"]}} for r in ROWS]
    lines(tmp_path / "exp.jsonl", rows)
    assert rewards(tmp_path) == {1: 0.1, 2: 0.2, 3: 0.3}


@pytest.mark.parametrize("shown", ["{}", "np.float64({})"])
@pytest.mark.parametrize(
    "before", ["", "(TaskRunner pid=12) ", "\x1b[36m(TaskRunner pid=12)\x1b[0m "]
)
def test_verls_console(tmp_path, shown, before):
    """numpy's numbers are printed as numpy 2 shows them."""
    pairs = {"reward": 0.25, "actor/lr": 1e-06, "val-core/gsm8k/acc/mean@1": -0.5}
    text = " - ".join(f"{name}:{shown.format(value)}" for name, value in pairs.items())
    (tmp_path / "run.log").write_text(f"loading step: x\n{before}step:7 - {text}\nother - line\n")
    assert history(tmp_path) == ({**pairs, "step": 7.0},)


def test_values_that_are_not_finite_are_kept(tmp_path):
    """They are what went wrong."""
    (tmp_path / "run.log").write_text("step:1 - actor/grad_norm:nan - b:1\n")
    assert math.isnan(history(tmp_path)[0]["actor/grad_norm"])
    (tmp_path / "run.log").unlink()
    (tmp_path / "m.jsonl").write_text('{"step": 1, "grad_norm": NaN, "b": 1}\n')
    assert math.isnan(history(tmp_path)[0]["grad_norm"])


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    place = tmp_path / "runs" / "a"
    writer = EventFileWriter(str(place))
    for row in ROWS:
        value = Summary.Value(tag="reward", simple_value=row["reward"])
        writer.add_event(Event(step=row["step"], summary=Summary(value=[value])))
    writer.close()
    assert rewards(tmp_path) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert open_log(tmp_path).about.version == "TensorBoard"


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    (tmp_path / "events.out.tfevents.1").touch()
    with pytest.raises(DataError, match="rekindle\\[trackers\\]"):
        open_log(tmp_path)


def test_of_several_kinds_one_is_read_and_the_others_named(tmp_path):
    (tmp_path / "trainer_state.json").write_text(state(ROWS, 3))
    (tmp_path / "run.log").write_text("step:1 - reward:0.5\n")
    about = open_log(tmp_path).about
    assert (about.version, about.history[0]["reward"]) == ("trainer_state.json", 0.1)
    assert any("there are also verl's console" in note for note in about.notes)


def test_rows_with_texts_are_no_metrics(tmp_path):
    lines(tmp_path / "log.jsonl", [{"step": 1, "answer": "a", "reward": 1.0}])
    with pytest.raises(DataError, match="with step, answer, reward"):
        open_log(tmp_path)


def test_rows_of_a_step_that_were_logged_apart_are_one(tmp_path):
    lines(tmp_path / "m.jsonl", [{"step": 1, "reward": 0.5}, {"step": 1, "grad_norm": 2.0}])
    assert history(tmp_path) == ({"step": 1, "reward": 0.5, "grad_norm": 2.0},)


def test_an_offline_run_of_wandb_is_exported_first(tmp_path):
    (tmp_path / "run-1.wandb").write_bytes(b"\x00\x01")
    with pytest.raises(DataError, match="wandb sync"):
        open_log(tmp_path)


def test_openrlhf_writes_metrics_alone(tmp_path):
    with pytest.raises(DataError, match="writes no rollouts"):
        open_log(tmp_path, format="openrlhf")
    lines(tmp_path / "m.jsonl", ROWS)
    assert np.isclose(open_log(tmp_path, format="openrlhf").about.history[2]["reward"], 0.3)
