"""SignalCallback in real runs of TRL: what it counts is what training used, each batch once.

The reward functions write down what they were asked, so that the truth comes from outside TRL.
"""

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("trl", reason="extra [oracle]: pip install 'rekindle[oracle]'")

from rekindle.errors import ConfigError, DataError, MissingExtraError  # noqa: E402
from rekindle.integrations import trl as integration  # noqa: E402
from rekindle.integrations.trl import SignalCallback  # noqa: E402

GROUP = 4
WEIGHTS = [1.0, 0.5]
TIMES = ("time", "runtime", "per_second", "signal/")
# several generations a step; one generation for two steps, each used twice; tensors of two steps
SETTINGS = {
    "accumulated": {"gradient_accumulation_steps": 2, "steps_per_generation": 1},
    "repeated": {"steps_per_generation": 2, "num_iterations": 2},
    "together": {"gradient_accumulation_steps": 2, "logging_steps": 2},
}


class Rewards:
    """A verifier that does not know some answers, a length reward, and what they were asked."""

    def __init__(self):
        self.batches = []

    def verifier(self, prompts, completions, **_):
        given = [None if len(text) % 3 == 2 else float(len(text) % 3) for text in completions]
        if "1" in prompts[0]:  # the prompts of training; those of the evaluation have a 2
            self.batches.append(list(zip(prompts, completions, given, strict=True)))
        return given

    def brevity(self, completions, **_):
        return [-len(text) / 10 for text in completions]

    @property
    def functions(self):
        verifier, brevity = (lambda **k: self.verifier(**k)), (lambda **k: self.brevity(**k))
        verifier.__name__, brevity.__name__ = "verifier", "brevity"
        return [verifier, brevity]


def train(out, functions, callbacks, *, trainer_class="GRPOTrainer", **settings):
    """A run of six steps with evaluations."""
    import trl
    from datasets import Dataset

    os.environ["HF_HUB_OFFLINE"] = "1"
    given = {
        "output_dir": str(out),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 4,
        "num_generations": GROUP,
        "max_completion_length": 4,
        "max_steps": 6,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "eval_on_start": True,
        "save_strategy": "no",
        "beta": 0.0,
        "reward_weights": WEIGHTS[: len(functions)],
        **settings,
    }
    config = getattr(trl, trainer_class.replace("Trainer", "Config"))
    trainer = getattr(trl, trainer_class)(
        model=tiny.model(),
        processing_class=tiny.tokenizer(),
        reward_funcs=functions,
        train_dataset=Dataset.from_dict({"prompt": [f"1+{n}=" for n in (3, 4, 5, 6, 7, 8)] * 8}),
        eval_dataset=Dataset.from_dict({"prompt": ["2+3=", "2+4="]}),
        args=config(**given),
        callbacks=callbacks,
    )
    trainer.train()
    return trainer


@pytest.fixture(scope="module", params=SETTINGS)
def run(request, tmp_path_factory):
    rewards, callback = Rewards(), SignalCallback(keep=1000)
    out = tmp_path_factory.mktemp(request.param)
    trainer = train(out, rewards.functions, [callback], **SETTINGS[request.param])
    return trainer, callback, rewards


def test_each_batch_of_training_is_read_once_and_row_by_row(run):
    _, callback, rewards = run
    log = callback.diagnosis().log
    truth = [row for batch in rewards.batches for row in batch]
    assert callback.watch.batches == len(rewards.batches) >= 2
    assert len(log) == len(truth)
    assert [log.prompts[i] for i in log.prompt_N] == [prompt for prompt, *_ in truth]
    assert log.texts == [text for _, text, _ in truth]
    for row, (_, text, verdict) in enumerate(truth):
        known = 0.0 if verdict is None else verdict
        assert log.score_N[row] == pytest.approx(known - 0.5 * len(text) / 10)
        assert math.isnan(log.parts["verifier"][row]) == (verdict is None)
    assert log.data_N.all()
    assert (log.group_N == [row // GROUP for row in range(len(truth))]).all()


def test_the_classes_are_those_of_the_verifier(run):
    _, callback, rewards = run
    counts = [0] * 5
    for batch in rewards.batches:
        for start in range(0, len(batch), GROUP):
            group = batch[start : start + GROUP]
            known = {verdict for *_, verdict in group if verdict is not None}
            spread = len({(text, verdict) for _, text, verdict in group}) > 1
            code = 4 if not known else 0 if known == {0.0} else 3 if known == {1.0} else 2
            assert code != 2 or spread
            counts[code] += 1
    assert callback.watch.count_C.tolist() == counts


def test_its_metrics_stand_beside_trls_own(run):
    trainer, callback, _ = run
    entries = trainer.state.log_history
    with_metrics = [entry for entry in entries if "signal/e_value" in entry]
    assert {entry["step"] for entry in with_metrics} == {
        entry["step"] for entry in entries if "frac_reward_zero_std" in entry
    }
    assert not any(name.startswith("eval_signal") for entry in entries for name in entry)
    assert with_metrics[-1]["signal/e_value"] == pytest.approx(callback.last.e_value)
    json.dumps(with_metrics, allow_nan=False)


def test_no_number_of_the_training_is_touched(run, tmp_path):
    trainer, *_ = run
    settings = {
        name: vars(trainer.args)[name]
        for name in ("gradient_accumulation_steps", "steps_per_generation", "num_iterations")
    }
    settings["logging_steps"] = int(trainer.args.logging_steps)
    alone = train(tmp_path, Rewards().functions, [], **settings)

    def numbers(entries):
        return [
            {name: value for name, value in entry.items() if not any(t in name for t in TIMES)}
            for entry in entries
        ]

    assert numbers(trainer.state.log_history) == numbers(alone.state.log_history)


@pytest.mark.parametrize("trainer_class", ["GRPOTrainer", "RLOOTrainer"])
def test_all_wrong_and_all_right_are_trls_groups_without_spread(trainer_class, tmp_path):
    """With one reward of two values TRL's own count is the sum of the two."""

    def parity(completions, **_):
        return [float(len(text) % 2) for text in completions]

    callback = SignalCallback()
    trainer = train(tmp_path, [parity], [callback], trainer_class=trainer_class)
    seen = [e for e in trainer.state.log_history if "frac_reward_zero_std" in e]
    assert len(seen) == callback.watch.batches == 6
    for entry in seen:
        dead = entry["signal/all_wrong"] + entry["signal/all_right"]
        assert dead == pytest.approx(entry["frac_reward_zero_std"])
        assert dead + entry["signal/mixed"] == pytest.approx(1)


def test_a_lost_signal_is_logged_once_with_its_cause(tmp_path, caplog):
    """Every answer is wrong from the fourth batch on."""
    asked = []

    def correct(completions, prompts, **_):
        asked.append(prompts)
        mixed = [float(i % 2) for i in range(len(completions))]
        return mixed if len(asked) <= 3 else [0.0] * len(completions)

    callback = SignalCallback(p0=0.8, alpha=0.05)
    with caplog.at_level(logging.WARNING, logger=integration.__name__):
        train(
            tmp_path, [correct], [callback], max_steps=16, eval_strategy="no", eval_on_start=False
        )
    assert len(callback.words) == 1
    assert "the signal went out: since step 4 0 % of" in callback.words[0]
    (record,) = [r for r in caplog.records if r.name == integration.__name__]
    assert "too_hard" in record.message
    assert record.message.startswith(callback.words[0])


def test_without_trl_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(integration, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        SignalCallback()
    assert all(part in str(caught.value) for part in ("got:", "wanted:", "why:", "do:", "pip"))


def test_a_trainer_without_rollouts_is_refused_before_its_first_step(tmp_path):
    from transformers import Trainer, TrainingArguments

    trainer = Trainer(
        model=tiny.model(),
        args=TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", max_steps=1),
        train_dataset=[{"input_ids": [1, 2], "labels": [1, 2]}] * 4,
        callbacks=[SignalCallback()],
    )
    with pytest.raises(ConfigError, match=r"cannot watch a Trainer"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_call_from_elsewhere_names_the_way(tmp_path):
    callback = SignalCallback()
    with pytest.raises(ConfigError, match=r"SignalCallback\(trainer=trainer\)"):
        callback.on_train_begin(None, None, None)
    with pytest.raises(DataError, match="no rollout"):
        callback.diagnosis()


@pytest.mark.slow
def test_two_processes_see_the_whole_batch_and_count_the_same(tmp_path):
    """Groups of four are split across processes of six rows each."""
    script = tmp_path / "two.py"
    script.write_text(
        "import json, sys\n"
        "import test_trl_callback as t\n"
        "rewards, callback = t.Rewards(), t.SignalCallback()\n"
        "sizes = dict(per_device_train_batch_size=6, per_device_eval_batch_size=2)\n"
        "trainer = t.train(sys.argv[1], rewards.functions, [callback], **sizes)\n"
        "log = callback.diagnosis().log\n"
        "mine = sum(map(len, rewards.batches))\n"
        "told = [trainer.accelerator.num_processes, mine, len(log), list(log.texts),\n"
        "        callback.watch.count_C.tolist(), callback.last.e_value]\n"
        "print('TOLD', json.dumps(told), flush=True)\n"
    )
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), str(here.parents[1] / "src")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc_per_node", "2", str(script), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    told = [line[5:] for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert len(told) == 2, done.stderr[-3000:]
    assert told[0] == told[1]
    processes, mine, rows, *_ = json.loads(told[0])
    assert (processes, rows) == (2, 2 * mine)
