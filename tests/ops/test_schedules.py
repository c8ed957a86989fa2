"""Learning-rate schedules at their corners."""

import pytest

from rekindle.ops.schedules import schedule


def test_warm_up_rises_to_one_then_holds():
    factor = schedule("constant", steps=10, warmup=0.4)
    assert [factor(s) for s in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("kind", "middle"), [("linear", 0.5), ("cosine", 0.5)])
def test_decay_starts_at_one_passes_half_way_and_never_reaches_zero_inside_the_run(kind, middle):
    factor = schedule(kind, steps=100)
    assert factor(0) == 1.0
    assert factor(50) == pytest.approx(middle)
    assert 0 < factor(99) < 0.02
