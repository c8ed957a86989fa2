"""SkyRL's evaluations. The files are built from its source (a9564572e, `trainer_utils.py`)."""

import json

import numpy as np
import pytest

from rekindle.errors import DataError
from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log


def entry(prompt, answer, score, **more):
    return {
        "input_prompt": prompt,
        "output_response": answer,
        "score": score,
        "stop_reason": "stop",
        "env_class": "gsm8k",
        "env_extras": {"reward_spec": {"method": "rule", "ground_truth": "7"}},
        "data_source": "openai/gsm8k",
        **more,
    }


def write(path, step, rows, totals=None):
    place = path / "dumped_evals" / f"global_step_{step}_evals"
    place.mkdir(parents=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (place / "openai_gsm8k.jsonl").write_text(text)
    (place / "aggregated_results.jsonl").write_text(json.dumps(totals or {"a": 1.0}) + "\n")


def test_evaluations_are_read_and_said_to_be_evaluations(tmp_path):
    for step in (10, 20):
        write(tmp_path, step, [entry("a", f"x{step}", 1.0), entry("a", f"y{step}", 0.0)])
    log = collect(open_log(tmp_path))
    assert (log.about.format, log.about.version) == ("skyrl", "evaluations")
    assert (log.step_N.tolist(), log.group_N.tolist()) == ([10, 10, 20, 20], [0, 0, 1, 1])
    assert "every row is of an evaluation" in log.about.notes[0]
    assert log.golds == ["7"]


@pytest.mark.parametrize(
    ("score", "wanted"), [([0.0, 0.0, 1.0], 1), ([0.25, 0.25], 0.5), (0, 0), ([], None)]
)
def test_a_score_by_token_is_summed(tmp_path, score, wanted):
    write(tmp_path, 1, [entry("a", "x", score)])
    found = collect(open_log(tmp_path)).score_N[0]
    assert np.isnan(found) if wanted is None else found == wanted


def test_metrics_beside_the_rows_are_no_rows(tmp_path):
    write(tmp_path, 5, [entry("a", "x", 1.0)], totals={"eval/all/avg_score": 0.5})
    log = collect(open_log(tmp_path))
    assert len(log) == 1
    assert log.about.history == ({"eval/all/avg_score": 0.5, "step": 5.0},)


def test_training_batches_are_named_and_never_loaded(tmp_path):
    place = tmp_path / "dumped_data"
    place.mkdir()
    (place / "global_step_1_training_input.pkl").write_bytes(b"a batch")
    with pytest.raises(DataError) as error:
        open_log(tmp_path)
    assert "global_step_1_training_input.pkl" in str(error.value)
    assert "never loaded" in str(error.value)
