"""The world that methods work in: small, and nobody changes it under a method's feet."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

import tiny
from rekindle.engine.config import EvalConfig, LogConfig, OptimConfig
from rekindle.engine.update import fresh_state
from rekindle.loops import world as module
from rekindle.loops.evaluation import Evaluation
from rekindle.loops.logbook import Budget, Logbook
from rekindle.loops.world import World

PACKAGE = Path(module.__file__).parents[1]


def test_the_world_is_small_and_frozen():
    assert len(inspect.getsource(module).splitlines()) <= 220
    assert len(dataclasses.fields(World)) <= 12
    assert World.__dataclass_params__.frozen


def test_nobody_assigns_to_a_world():
    """Neither `world.x = ...` nor `object.__setattr__`; the worlds of stages are called inner."""
    for path in (
        p for room in ("loops", "methods", "training") for p in (PACKAGE / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {ast.unparse(t.value) for t in targets if isinstance(t, ast.Attribute)}
                worlds = {"world", "inner", "self.world"}
                assert not names & worlds, f"{path.relative_to(PACKAGE)}:{node.lineno}"
            if isinstance(node, ast.Call):
                assert not ast.unparse(node.func).endswith("__setattr__")


@pytest.mark.parametrize(
    ("when", "every", "due"),
    [
        ("always", 0, [0, 5]),
        ("always", 2, [0, 2, 4, 5]),
        ("after", 0, [5]),
        ("after", 2, [2, 4, 5]),
        ("never", 2, []),
    ],
)
def test_when_a_run_of_five_steps_is_evaluated(when, every, due):
    evaluation = Evaluation(EvalConfig(every=every), when=when)
    assert [step for step in range(6) if evaluation.due(step, last=step == 5)] == due


def test_a_budget_counts_what_its_limits_name_and_carries_the_schedule():
    """3 steps of 30 and 5 tokens: 90 of 100, and 15 of 20, so 0.9 of 10 steps."""
    optim = OptimConfig(steps=10, max_generated=100, max_trained=20)
    state = fresh_state({"policy": tiny.policy().model}, optim)
    budget = Budget.of(optim)
    assert budget.share(state) == 0.0
    for _ in range(3):
        budget.spend(state, {"tokens/generated": 30.0, "tokens/trained": 5.0, "loss": 7.0})
    assert state.scalars == {"spent tokens/generated": 90.0, "spent tokens/trained": 15.0}
    assert budget.share(state) == 0.9
    assert budget.schedule_at(state) == 9
    state.step = 10
    assert budget.schedule_at(state) == 10
    assert Budget.of(OptimConfig(steps=10)).share(state) == 0.0


def test_a_row_has_the_stages_facts_and_the_times_since_the_last_row():
    logbook = Logbook(LogConfig(), {"judge/auc": 0.5})
    with pytest.raises(ValueError, match="no step has begun"):
        _ = logbook.state
    logbook.begin_step()
    for _ in range(2):
        with logbook.clock("score"):
            pass
    row = logbook.row({"loss": 1.0}, checkpoint=2.0)
    assert list(row) == ["loss", "judge/auc", "time/score", "time/checkpoint", "time/step"]
    assert row["time/checkpoint"] == 2.0
    assert "time/score" not in logbook.row({}, checkpoint=0.0)
