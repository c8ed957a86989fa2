"""Stages: made once, taken up by content, resumed inside, and every text by a named model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from rekindle.engine.config import OptimConfig
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.integrity import verify_run
from rekindle.errors import DataError, ModelError, RunDirectoryError
from rekindle.loops import world as world_module
from rekindle.loops.stages import StageRows, Stages, hash_rows, refuse_foreign_texts
from rekindle.methods import sft
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

CALLS: list[str] = []


class Method:
    """A toy of two rounds: answers, a choice among them, and SFT; then a side model."""

    def run(self, config, world):
        stages = Stages(world)
        policy = world.policy
        problems = world.task.problems("train", count=6, seed=0)
        for turn in (1, 2):
            answers = stages.answers(
                f"answers-{turn}", policy, problems, samples=2, config=world.sample, seed=turn
            )

            def choose(answers=answers, turn=turn):
                CALLS.append(f"choose-{turn}")
                return StageRows([row for row in answers if row["sample"] == 0], {"second": 6})

            kept = stages.rows(
                f"choice-{turn}",
                inputs={"answers": hash_rows(answers)},
                sources={"current": weights_fingerprint(policy)},
                make=choose,
            )
            policy = stages.train(
                f"sft-{turn}",
                policy,
                inputs={"kept": hash_rows(kept)},
                body=lambda inner: sft.run(sft.Config(), inner),
            )
        stages.train(
            "side",
            policy,
            inputs={},
            body=lambda inner: sft.run(sft.Config(), inner),
            optim=OptimConfig(steps=2, problems=3),
            evaluates=False,
        )
        return policy


@pytest.fixture
def recipe(tmp_path):
    tiny.policy(dtype="float64").save(tmp_path / "base")
    rows = [{"prompt": f"{i}+{i % 3}=", "answer": "1", "solution": str(i % 5)} for i in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_recipe(
        {
            "method": "sft",
            "model": {"name": str(tmp_path / "base"), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(tmp_path / "data.jsonl")},
            "sample": {"max_new_tokens": 5},
            "optim": {"steps": 3, "problems": 4, "lr": 1e-2},
            "eval": {"problems": 4, "samples": 2},
            "checkpoint": {"every": 2},
        }
    )


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    CALLS.clear()
    monkeypatch.setattr("rekindle.training.train.method_module", lambda name: Method())


def rows_of(path):
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_steps_count_through_and_a_side_model_stays_out_of_the_curve(recipe, tmp_path):
    train(recipe, tmp_path / "run", quiet=True)
    rows = rows_of(tmp_path / "run" / "metrics.jsonl")
    assert [(row["step"], row["stage"]) for row in rows] == [
        *[(step, "sft-1") for step in (1, 2, 3)],
        *[(step, "sft-2") for step in (4, 5, 6)],
        *[(step, "side") for step in (7, 8)],
    ]
    names = sorted(path.name for path in (tmp_path / "run" / "eval").iterdir())
    assert names == ["step-000000.json", "step-000003.json", "step-000006.json"]
    assert json.loads((tmp_path / "run" / "eval.json").read_text())["step"] == 6
    record = json.loads((tmp_path / "run/stages/02-choice-1/stage.json").read_text())
    assert (record["kept"], record["dropped"]) == (6, {"second": 6})
    made = json.loads((tmp_path / "run/stages/01-answers-1/stage.json").read_text())
    assert made["generated"] == sum(
        row["tokens"] for row in rows_of(tmp_path / "run/stages/01-answers-1/rows.jsonl")
    )


@pytest.mark.parametrize("stop", [2, 5, 7])
def test_resumed_inside_any_stage_it_is_the_same_run(recipe, tmp_path, monkeypatch, stop):
    """Stopped at the stop-th update: before and after a checkpoint, in the side model."""
    train(recipe, tmp_path / "straight", quiet=True)
    CALLS.clear()
    real, count = world_module.update, []

    def failing(*args, **kwargs):
        count.append(1)
        if len(count) == stop:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(world_module, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", quiet=True)
    done = list(CALLS)
    train(recipe, tmp_path / "broken", mode="resume", quiet=True)
    assert CALLS == ["choose-1", "choose-2"], f"{done} were made again"
    straight = load_file(tmp_path / "straight/final/model.safetensors")
    broken = load_file(tmp_path / "broken/final/model.safetensors")
    assert all(torch.equal(straight[name], broken[name]) for name in straight)
    assert rows_of(tmp_path / "broken/metrics.jsonl") == rows_of(
        tmp_path / "straight/metrics.jsonl"
    )


def stopped_before_the_second_round(recipe, tmp_path, monkeypatch):
    real = Stages.train

    def failing(self, name, *args, **kwargs):
        if name == "sft-2":
            raise KeyboardInterrupt
        return real(self, name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Stages, "train", failing)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", quiet=True)


def test_rows_changed_behind_its_back_are_refused(recipe, tmp_path, monkeypatch):
    stopped_before_the_second_round(recipe, tmp_path, monkeypatch)
    path = tmp_path / "run/stages/02-choice-1/rows.jsonl"
    path.write_text(path.read_text().replace('"text": "', '"text": "1', 1))
    with pytest.raises(RunDirectoryError, match="was changed since the stage was finished"):
        train(recipe, tmp_path / "run", mode="resume", quiet=True)


def test_a_stage_made_from_other_rows_is_refused(recipe, tmp_path, monkeypatch):
    stopped_before_the_second_round(recipe, tmp_path, monkeypatch)
    path = next((tmp_path / "run/stages").glob("*-choice-2")) / "stage.json"
    record = json.loads(path.read_text())
    record["inputs"]["answers"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(RunDirectoryError, match="made from something else:\n    answers: '0000"):
        train(recipe, tmp_path / "run", mode="resume", quiet=True)


@pytest.mark.parametrize("gone", ["01-answers-1", "02-choice-1", "03-sft-1"])
@pytest.mark.parametrize("how", ["gone", "emptied", "of another run"])
def test_an_earlier_stage_that_is_not_as_it_was_made_is_refused(
    recipe, tmp_path, monkeypatch, gone, how
):
    stopped_before_the_second_round(recipe, tmp_path, monkeypatch)
    place = tmp_path / "run/stages" / gone
    shutil.rmtree(place)
    if how == "emptied":
        place.mkdir()
    if how == "of another run":
        train(recipe, tmp_path / "other", quiet=True)
        shutil.copytree(tmp_path / "other/stages" / gone, place)
    with pytest.raises(RunDirectoryError, match=f"{gone} (is gone|has|is the stage)"):
        train(recipe, tmp_path / "run", mode="resume", quiet=True)
    assert (tmp_path / "run/stages/05-choice-2/rows.jsonl").exists()
    assert any(fault for name, fault in verify_run(tmp_path / "run") if gone in name)


def test_a_stage_and_what_follows_it_may_be_removed_to_make_them_again(
    recipe, tmp_path, monkeypatch, capsys
):
    train(recipe, tmp_path / "straight", quiet=True)
    stopped_before_the_second_round(recipe, tmp_path, monkeypatch)
    for name in ("04-answers-2", "05-choice-2"):
        shutil.rmtree(tmp_path / "run/stages" / name)
    train(recipe, tmp_path / "run", mode="resume", quiet=True)
    assert "04-answers-2 is gone: it is made again" in capsys.readouterr().err
    assert rows_of(tmp_path / "run/metrics.jsonl") == rows_of(tmp_path / "straight/metrics.jsonl")
    parts = verify_run(tmp_path / "run")
    assert [name for name, fault in parts if fault != ""] == []
    assert {"stages/05-choice-2", "stages/06-sft-2/final", "final"} <= {name for name, _ in parts}


def test_a_stage_whose_model_was_changed_is_not_gone_on_from(recipe, tmp_path, monkeypatch):
    stopped_before_the_second_round(recipe, tmp_path, monkeypatch)
    path = tmp_path / "run/stages/03-sft-1/final/tokenizer_config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(ModelError, match=r"(?s)03-sft-1/final was changed.*tokenizer_config"):
        train(recipe, tmp_path / "run", mode="resume", quiet=True)


def test_overwrite_removes_the_stages(recipe, tmp_path):
    train(recipe, tmp_path / "run", quiet=True)
    CALLS.clear()
    train(recipe, tmp_path / "run", mode="overwrite", quiet=True)
    assert CALLS == ["choose-1", "choose-2"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"id": "a", "source": "other"}, "source other"),
        ({"id": "a", "chosen_source": "me", "rejected_source": "other"}, "source other"),
        ({"id": "a"}, "no source"),
    ],
)
def test_a_text_by_an_unnamed_model_is_an_error(row, says):
    refuse_foreign_texts([{"id": "z", "source": "me"}], {"current": "me"}, stage="s")
    with pytest.raises(DataError, match=says) as error:
        refuse_foreign_texts([{"id": "z", "source": "me"}, row], {"current": "me"}, stage="s")
    assert "row 'a'" in str(error.value)


def test_training_copies_its_start(recipe, tmp_path):
    seen = {}

    def run(config, world):
        stages, start = Stages(world), world.policy
        before = weights_fingerprint(start)
        trained = stages.train(
            "sft", start, inputs={}, body=lambda inner: sft.run(sft.Config(), inner)
        )
        seen.update(same=weights_fingerprint(start) == before, moved=weights_fingerprint(trained))
        assert seen["moved"] != before
        return trained

    Method.run, real = lambda self, config, world: run(config, world), Method.run
    try:
        train(recipe, tmp_path / "run", quiet=True)
    finally:
        Method.run = real
    assert seen["same"]
