"""The advantages that TRL writes are those of our formulas: real runs of a tiny model.

Three rewards, one of which is None now and then; their weights are in no file.
"""

import os

import pytest

import tiny

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("trl", reason="extra [oracle]: pip install 'rekindle[oracle]'")

from rekindle.signals.logs.collect import collect  # noqa: E402
from rekindle.signals.logs.formats import open_log  # noqa: E402
from rekindle.signals.run_diagnosis.estimators import (  # noqa: E402
    compare_advantages,
    found_weights,
)

WEIGHTS = {"parity": 1.0, "brevity": 0.2, "letters": 0.5}
SETTINGS = {
    "group_std": {},
    "centred": {"scale_rewards": "none"},
    "batch_std": {"scale_rewards": "batch"},
    "normalise_then_sum": {"multi_objective_aggregation": "normalize_then_sum"},
}


def parity(completions, **_):
    return [float(len(text) % 2) for text in completions]


def brevity(completions, **_):
    return [-len(text) / 100 for text in completions]


def letters(completions, **_):
    return [None if len(text) % 3 == 0 else float(sum(map(ord, text)) % 5) for text in completions]


def log_of(out, **settings):
    """The log of a run of TRL."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    os.environ["HF_HUB_OFFLINE"] = "1"
    GRPOTrainer(
        model=tiny.model(),
        processing_class=tiny.tokenizer(),
        reward_funcs=[parity, brevity, letters],
        train_dataset=Dataset.from_dict({"prompt": [f"{n}+2=" for n in range(40)]}),
        args=GRPOConfig(
            output_dir=str(out),
            use_cpu=True,
            bf16=False,
            report_to="none",
            gradient_checkpointing=False,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=6,
            max_steps=5,
            logging_steps=1,
            log_completions=True,
            save_strategy="no",
            **settings,
        ),
    ).train()
    return collect(open_log(out))


@pytest.mark.parametrize("name", SETTINGS)
def test_trls_own_advantages_are_known_again(name, tmp_path):
    log = log_of(tmp_path, **SETTINGS[name])
    assert log.data_N.sum() == 40
    compared = compare_advantages(log)
    assert compared.best.is_whole
    assert compared.best.name == name
    assert compared.best.weights is None


@pytest.mark.parametrize("name", ["group_std", "centred", "batch_std"])
def test_trls_own_weights_are_found(name, tmp_path):
    log = log_of(tmp_path, reward_weights=list(WEIGHTS.values()), **SETTINGS[name])
    assert compare_advantages(log).best.name == name
    assert found_weights(log) == pytest.approx(WEIGHTS, rel=1e-4)
