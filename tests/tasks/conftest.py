"""What tests of reasoning-gym tasks share."""

from dataclasses import dataclass

import pytest

from rekindle.tasks import load_task


@pytest.fixture
def gym():
    """Load a reasoning-gym dataset as a task."""
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    return lambda dataset, **settings: load_task("gym", args={"dataset": dataset, **settings})


@pytest.fixture
def stand_in(monkeypatch):
    """A dataset of questions such as `12+3=`, whose scorer is given."""
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    from reasoning_gym.dataset import ProceduralDataset
    from reasoning_gym.factory import DATASETS

    def register(score=right, gold=lambda index: "7", name="stand_in"):
        @dataclass
        class Config:
            seed: int = 0
            size: int = 1

        class StandIn(ProceduralDataset):
            def __init__(self, config):
                super().__init__(config, config.seed, config.size)

            def __getitem__(self, index):
                question = f"{self.seed % 90}{index}+3="
                meta = {"source_dataset": name}
                return {"question": question, "answer": gold(index), "metadata": meta}

            def score_answer(self, answer, entry):
                return score(answer, entry)

        monkeypatch.setitem(DATASETS, name, (StandIn, Config))

    return register


def right(answer, entry):
    return float(answer == entry["answer"])
