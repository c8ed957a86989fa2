"""What metrics alone bound, against groups of which everything is known."""

import json
import math
from itertools import product

import numpy as np
import pytest

from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from rekindle.signals.run_diagnosis.metrics_only import (
    batch_size,
    bound_shares,
    groups_a_step,
    groups_needed,
)
from signals.run_diagnosis.planted import by_name

SIZE = 4


def step_of(rng, groups, chance, size=SIZE):
    """What TRL logs of a step, and the true shares; prompts are as hard as `chance` says."""
    right = rng.binomial(size, np.broadcast_to(chance, groups))
    scores = np.concatenate([[1.0] * k + [0.0] * (size - k) for k in right])
    wrong, solved = float((right == 0).mean()), float((right == size).mean())
    metrics = {
        "reward": float(scores.mean()),
        "reward_std": float(scores.std(ddof=1)),
        "frac_reward_zero_std": wrong + solved,
        "rewards/verifier/mean": float(scores.mean()),
        "rewards/verifier/std": float(scores.std(ddof=1)),
    }
    return metrics, wrong, solved


def run_of(steps, groups=8, chance=0.3, seed=0, **more):
    rng = np.random.default_rng(seed)
    made = [step_of(rng, groups, chance) for _ in range(steps)]
    rows = [{"step": i, "grad_norm": 0.5, **more, **one[0]} for i, one in enumerate(made, 1)]
    return rows, np.mean([one[1] for one in made]), np.mean([one[2] for one in made])


def diagnose(path, rows):
    content = {"log_history": rows, "global_step": len(rows)}
    (path / "trainer_state.json").write_text(json.dumps(content))
    return diagnose_log(path)


@pytest.mark.parametrize("size", [2, 4, None])
@pytest.mark.parametrize("with_equal", [True, False])
def test_bounds_hold_for_every_step_that_there_can_be(size, with_equal):
    """All ways to have three groups of two or four answers."""
    for real in (2, 4) if size is None else (size,):
        for right in product(range(real + 1), repeat=3):
            mean = np.array([sum(right) / (3 * real)])
            wrong, solved = right.count(0) / 3, right.count(real) / 3
            equal = np.array([wrong + solved]) if with_equal else None
            low_w, high_w, low_r, high_r = (b[0] for b in bound_shares(mean, equal, size))
            assert low_w - 1e-9 <= wrong <= high_w + 1e-9
            assert low_r - 1e-9 <= solved <= high_r + 1e-9


def test_bounds_are_tight_where_no_group_is_mixed():
    low_w, high_w, low_r, high_r = bound_shares(np.array([0.25]), np.array([1.0]), None)
    assert (low_w, high_w, low_r, high_r) == (0.75, 0.75, 0.25, 0.25)


def test_the_bounds_of_a_run_have_the_true_shares_between_them(tmp_path):
    rows, wrong, solved = run_of(60, chance=np.array([0.02] * 6 + [0.9] * 2))
    found = by_name(diagnose(tmp_path, rows).findings)
    for kind, share in (("all_wrong", wrong), ("all_right", solved)):
        least, most = (found[f"metrics/{kind}/{side}"].value for side in ("least", "most"))
        assert least <= share <= most
        assert most - least < 0.35


def test_a_run_that_is_too_hard_is_named_by_its_bounds(tmp_path):
    rows, _, _ = run_of(60, chance=np.array([0.001] * 7 + [0.5]))
    assert diagnose(tmp_path, rows).cause.name == "too_hard"


def test_a_run_that_is_too_easy_is_named_by_its_bounds(tmp_path):
    rows, _, _ = run_of(60, chance=np.array([0.999] * 7 + [0.5]))
    assert diagnose(tmp_path, rows).cause.name == "too_easy"


@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_is_well_has_no_cause(tmp_path, seed):
    rows, _, _ = run_of(60, chance=0.5, seed=seed)
    assert diagnose(tmp_path, rows).cause is None


def test_several_rewards_bound_nothing(tmp_path):
    rows, _, _ = run_of(20, **{"rewards/length/mean": 0.1})
    found = by_name(diagnose(tmp_path, rows).findings)
    assert "several rewards are summed" in found["metrics/bounds"].says
    assert "metrics/all_wrong/least" not in found


def test_rewards_that_are_not_0_or_1_bound_nothing(tmp_path):
    rows, _, _ = run_of(20)
    rng = np.random.default_rng(0)
    for row in rows:
        row["reward_std"] *= rng.uniform(0.5, 0.9)
    assert "metrics/bounds" in by_name(diagnose(tmp_path, rows).findings)


@pytest.mark.parametrize("count", [8, 64])
def test_the_batch_follows_from_the_variance(count):
    rng = np.random.default_rng(0)
    batches = rng.random((30, count)) < 0.4
    means, stds = batches.mean(axis=1), batches.std(axis=1, ddof=1)
    assert batch_size(means, stds) == pytest.approx(count, rel=1e-6)
    assert batch_size(means, stds * rng.uniform(0.9, 1.1, 30)) is None


@pytest.mark.parametrize("groups", [3, 8, 20])
def test_groups_of_a_step_follow_from_their_shares(groups):
    shares = np.arange(groups + 1) / groups
    assert groups_a_step(np.float32(shares).astype(float)) == groups
    assert groups_a_step(np.array([0.0, 0.5])) is None


def test_groups_for_five_points():
    assert groups_needed(0.5) == 385
    assert groups_needed(0.1) == math.ceil(1.959964**2 * 0.09 / 0.0025)


def test_the_next_step_is_the_trainers_own_setting(tmp_path):
    rows, _, _ = run_of(30)
    remedy = diagnose(tmp_path, rows).remedies[0]
    assert (remedy.method, remedy.fits) == ("log_rollouts", True)
    assert "GRPOConfig(log_completions=True" in remedy.why
    assert "8 groups a step" in remedy.why


def test_verls_metrics_name_verls_setting(tmp_path):
    line = "step:{} - critic/score/mean:0 - critic/score/max:0 - critic/score/min:0 - actor/lr:1e-6"
    (tmp_path / "run.log").write_text("".join(line.format(i) + "\n" for i in range(1, 20)))
    diagnosis = diagnose_log(tmp_path)
    found = by_name(diagnosis.findings)
    assert found["metrics/flat_steps"].value == 1
    assert "trainer.rollout_data_dir" in diagnosis.remedies[0].why


def test_batches_that_dynamic_sampling_drew_bound_what_it_removed(tmp_path):
    lines = [f"step:{i} - train/num_gen_batches:{n} - a:1\n" for i, n in enumerate([1, 3] * 10, 1)]
    (tmp_path / "run.log").write_text("".join(lines))
    found = by_name(diagnose_log(tmp_path).findings)["metrics/removed/least"]
    assert found.value == pytest.approx((0 + 0.5) / 2)


def test_shares_that_the_trainer_counted_are_taken(tmp_path):
    rows = [{"step": i, "train/agg/all/solved_none": 0.7, "a": 1} for i in range(1, 40)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    diagnosis = diagnose_log(tmp_path)
    assert by_name(diagnosis.findings)["metrics/all_wrong"].value == pytest.approx(0.7)
    assert diagnosis.cause.name == "too_hard"


def test_answers_at_the_limit_are_most_wrong_ones(tmp_path):
    rows, _, _ = run_of(40, chance=0.1, **{"completions/clipped_ratio": 0.9})
    found = by_name(diagnose(tmp_path, rows).findings)
    assert 0.85 < found["metrics/cut_of_wrong/least"].value < 0.9


def optimizer(path, *, steps=30, **columns):
    """A run with these metrics, a value or one a step."""
    rows, _, _ = run_of(steps, chance=0.5)
    for i, row in enumerate(rows):
        row.update({n: v[i] if isinstance(v, list) else v for n, v in columns.items()})
    return by_name(diagnose(path, rows).findings)


def test_a_rate_of_0_is_told(tmp_path):
    found = optimizer(tmp_path, learning_rate=0.0)["optimizer/rate_gone"]
    assert (found.value, "is 0 at every logged step" in found.says) == (1, True)


def test_a_rate_that_decayed_is_told_with_its_step(tmp_path):
    found = optimizer(tmp_path, learning_rate=[1e-6] * 20 + [1e-9] * 10)["optimizer/rate_gone"]
    assert found.value == pytest.approx(1 / 3)
    assert "the last step above it is 20 of 30" in found.says


def test_a_gradient_of_0_is_the_optimizers_where_groups_have_spread(tmp_path):
    found = optimizer(tmp_path, grad_norm=0.0, frac_reward_zero_std=[0.5] * 10 + [1.0] * 20)
    one = found["optimizer/no_gradient_with_signal"]
    assert one.value == pytest.approx(1 / 3)
    assert "at 20 more no group has any, which is lost signal" in one.says


def test_gradients_that_are_not_finite_are_counted(tmp_path):
    found = optimizer(tmp_path, grad_norm=[math.nan] * 3 + [2.0] * 27)
    assert found["optimizer/not_finite"].value == pytest.approx(0.1)
    assert found["optimizer/norm_clipped"].value == pytest.approx(0.9)


def test_an_entropy_that_collapsed_is_told_apart_from_one_that_fell(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.99, 1.01, 90)
    gone = optimizer(tmp_path, steps=90, entropy=list(np.geomspace(1, 0.01, 90) * noise))
    fell = optimizer(tmp_path, steps=90, entropy=list(np.linspace(1, 0.5, 90) * noise))
    assert "it has collapsed" in gone["optimizer/entropy"].says
    assert "collapsed" not in fell["optimizer/entropy"].says


def test_metrics_are_told_as_json_and_in_words(tmp_path):
    rows, _, _ = run_of(30)
    diagnosis = diagnose(tmp_path, rows)
    told = diagnosis.as_dict()
    assert (told["format"], told["rows"], told["steps_seen"]) == ("metrics", 0, 30)
    assert told["share"]["all_wrong"] == {
        "value": None, "ci_low": None, "ci_high": None, "n": 0,
    }  # fmt: skip
    assert "no rollouts" in repr(diagnosis)
