"""Means over steps whose neighbours hang together, and how often their intervals err."""

import numpy as np
import pytest

from rekindle.signals.run_diagnosis.series import block_mean, change, find_series, together


def walk(rng, steps, rho):
    """A stationary series with a correlation of rho from step to step."""
    value, values = rng.standard_normal() / np.sqrt(1 - rho**2), []
    for shock in rng.standard_normal(steps):
        value = rho * value + shock
        values.append(value)
    return np.array(values)


@pytest.mark.parametrize(("rho", "most"), [(0.0, 0.07), (0.5, 0.08), (0.8, 0.13)])
def test_a_series_without_a_trend_changes_rarely(rho, most):
    """What the module states, of 1,000 series of 300 steps."""
    rng = np.random.default_rng(0)
    moved = [change(walk(rng, 300, rho)) for _ in range(1000)]
    assert np.mean([one.ci_low > 0 or one.ci_high < 0 for one in moved]) < most


def test_a_fall_is_found():
    rng = np.random.default_rng(1)
    falling = walk(rng, 300, 0.5) - np.linspace(0, 5, 300)
    assert change(falling).ci_high < 0


def test_few_steps_have_no_interval():
    assert np.isnan(block_mean(np.array([1.0, 2.0, 3.0])).ci_low)
    assert block_mean(np.array([1.0, 2.0, 3.0])).value == 2
    assert np.isnan(block_mean(np.array([])).value)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_that_never_moved_is_not_sure(value):
    found = block_mean(np.full(100, value), bounded=True)
    assert found.ci_high - found.ci_low > 0.1
    assert found.ci_low <= value <= found.ci_high


def test_values_that_are_not_finite_are_left_out():
    assert block_mean(np.array([1.0, np.nan, np.inf, 3.0])).value == 2


def test_metrics_of_other_steps_are_matched():
    history = [{"step": 1, "reward": 1.0}, {"step": 2, "train/entropy": 5.0, "reward": 2.0}]
    reward, entropy = find_series(history, "reward"), find_series(history, "entropy")
    assert entropy.name == "train/entropy"
    assert [column.tolist() for column in together(reward, entropy)] == [[2.0], [5.0]]
    assert [len(column) for column in together(reward, find_series(history, "cut"))] == [0, 0]
