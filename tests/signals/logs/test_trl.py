"""TRL's logs: files that TRL 1.16.0 wrote on a CPU (`trl_run.py`), and runs of the TRL at hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.logs.mapped import as_text
from signals.logs.trl_run import EVALUATED, SIZE, Scored, train
from signals.run_diagnosis.planted import by_name

RUN = Path(__file__).parent / "trl_files"


def batches(path):
    return [Scored(**one) for one in json.loads((path / "scored.json").read_text())]


def pairs(made):
    return [
        (as_text(prompt), as_text(completion), right)
        for batch in made
        for prompt, completion, right in zip(
            batch.prompts, batch.completions, batch.right, strict=True
        )
    ]


def data(log):
    rows = np.flatnonzero(log.data_N)
    right = log.parts["verifier"][rows].tolist()
    asked = [log.prompts[i] for i in log.prompt_N[rows].tolist()]
    return list(zip(asked, [log.texts[row] for row in rows], right, strict=True))


@pytest.fixture(scope="module")
def log():
    return collect(open_log(RUN))


def test_each_answer_of_training_is_read_once_and_none_of_an_evaluation(log):
    """160 rows on disk, of 48 that were trained on; 8 of these were pushed out by an evaluation."""
    scored = pairs(batch for batch in batches(RUN) if not batch.evaluating)
    assert (len(log), len(scored)) == (160, 48)
    read = data(log)
    assert len(read) == 40
    assert read == [pair for pair in scored if pair in read]


def test_training_rows_beside_an_evaluation_are_training(log):
    """The batch of step 9 was drawn at a step with an evaluation, and half of it is left."""
    rows = log.data_N & (log.step_N == 9)
    assert rows.sum() == 8


def test_evaluation_rows_stay_in_the_files_of_later_steps(log):
    """Of step 4, 7 and 8 the trainer's state has no evaluation."""
    asked = np.array([log.prompts[i] in EVALUATED for i in log.prompt_N])
    assert set(log.step_N[asked].tolist()) == {3, 4, 6, 7, 8, 9, 10}
    assert not (log.data_N & asked).any()


def test_groups_are_the_runs_of_one_prompt(log):
    numbers, counts = np.unique(log.group_N, return_counts=True)
    assert set(counts.tolist()) == {SIZE}
    assert len(numbers) == 40


def test_columns_that_the_reward_functions_added_are_no_rewards(log):
    """`level` is 3 in every row: it would make the total 3 larger."""
    assert set(log.parts) == {"verifier", "length"}
    total = log.parts["verifier"] + log.parts["length"]
    assert log.score_N.tolist() == pytest.approx(total.tolist())


def test_the_version_steps_and_evaluations_are_the_trainers(log):
    about = log.about
    assert (about.format, about.version, about.steps_taken) == ("trl", "TRL 1.16.0", 10)
    assert about.eval_steps == {3, 6, 9, 10}


def test_shares_are_what_the_trainer_counted(log):
    """Its `frac_reward_zero_std` at the steps whose whole batch is on disk."""
    from rekindle.signals.run_diagnosis.groups import find_verdicts, group_table

    table = group_table(log, find_verdicts(log, "verifier").value_N)
    counted = {
        row["step"]: row["frac_reward_zero_std"]
        for row in log.about.history
        if "frac_reward_zero_std" in row
    }
    for step in (1, 5):
        assert 1 - table.spread_P[table.step_P == step].mean() == pytest.approx(counted[step])


def test_evaluations_behind_the_state_of_a_run_that_goes_on_are_found(tmp_path):
    """Its newest checkpoint is older than its rows."""
    shutil.copytree(RUN / "completions", tmp_path / "completions")
    content = json.loads((RUN / "checkpoint-10" / "trainer_state.json").read_text())
    content["log_history"] = [row for row in content["log_history"] if row["step"] <= 8]
    (tmp_path / "trainer_state.json").write_text(json.dumps({**content, "global_step": 8}))
    log = collect(open_log(tmp_path))
    assert data(log) == data(collect(open_log(RUN)))


def test_the_directory_of_the_tables_is_the_run():
    assert len(collect(open_log(RUN / "completions"))) == 160


def test_a_table_that_is_being_written_is_left_out(tmp_path):
    shutil.copytree(RUN / "completions", tmp_path / "completions")
    last = tmp_path / "completions" / "completions_00010.parquet"
    last.write_bytes(last.read_bytes()[:-20])
    log = collect(open_log(tmp_path))
    assert len(log) == 144
    assert any("left out: 1 file" in note for note in log.about.notes)


def test_how_much_of_the_run_is_on_disk_is_told():
    from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log

    found = by_name(diagnose_log(RUN).findings)
    assert found["coverage/steps"].value == 1
    assert "160 rows" not in found["coverage/repeated"].says
    assert found["coverage/repeated"].value > 0.4


# --- the TRL at hand

oracle = pytest.mark.oracle


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's log and what was scored, by its settings; each once."""
    pytest.importorskip("trl", reason="extra [oracle]: pip install 'rekindle[oracle]'")
    made = {}

    def of(**settings):
        key = json.dumps(settings, sort_keys=True)
        if key not in made:
            place = tmp_path_factory.mktemp("trl")
            made[key] = (train(place, **settings), collect(open_log(place)))
        return made[key]

    return of


@oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chat", [False, True])
def test_rows_of_a_run_are_what_was_scored(trained, chat):
    """Chats too: their prompts and answers are lists of messages."""
    scored, log = trained(chat=chat)
    wanted = pairs(batch for batch in scored if not batch.evaluating)
    read = data(log)
    assert len(log) == 160
    assert len(read) == 40
    assert read == [pair for pair in wanted if pair in read]


@oracle
@pytest.mark.filterwarnings("ignore")
def test_of_a_run_that_logs_every_fifth_step_two_batches_are_on_disk(trained):
    """Ten batches were scored: what was seen is a fifth."""
    scored, log = trained(
        logging_steps=5, steps_per_generation=1, num_iterations=1, eval_strategy="no"
    )
    assert len(scored) == 10
    assert (len(log), sorted(set(log.step_N.tolist()))) == (16, [5, 10])
    assert log.about.steps_taken == 10
    assert data(log) == pairs([scored[4], scored[9]])
