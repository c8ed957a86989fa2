"""WMSS's curriculum and objectives: hand numbers, limits, twins."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

import tiny
from rekindle.engine.batch import count, pack
from rekindle.engine.config import OptimConfig
from rekindle.engine.device import Group
from rekindle.engine.update import fresh_state, measure_batch, update
from rekindle.errors import DataError
from rekindle.loops.stages import epochs
from rekindle.methods.sft import sft_objective
from rekindle.methods.wmss.curriculum import CurriculumConfig, curriculum, draw_active
from rekindle.methods.wmss.weak_model import LiveWeak
from rekindle.methods.wmss.wmss import damped_objective, mixed_objective
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train as train_recipe

PAPER = CurriculumConfig(mode="paper", alpha=0.1, beta=0.8, gamma=0.1)
CODE = CurriculumConfig(mode="code", alpha=0.1, beta=0.8, gamma=0.1)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_weights_of_both_modes_by_hand():
    """weak 2,1,1; strong 1,1,3: dH = -1,0,2. paper: .1+.8, .8, 2.4+.2 over 4.3; code: .1 H/4 +
    .8, 0, 0 + 0, 0, .1."""
    weak, strong = tensor(2, 1, 1), tensor(1, 1, 3)
    paper = curriculum(weak, strong, PAPER)
    torch.testing.assert_close(paper.weight_N, tensor(0.9, 0.8, 2.6) / 4.3)
    code = curriculum(weak, strong, CODE)
    torch.testing.assert_close(code.weight_N, tensor(0.85, 0.025, 0.125))
    assert paper.class_N == ["consolidation", "stable", "repair"]


def test_no_change_leaves_difficulty_alone():
    h = tensor(1, 2, 5)
    found = curriculum(h, h, PAPER)
    torch.testing.assert_close(found.weight_N, h / 8)


@pytest.mark.parametrize(("weak", "strong"), [((math.nan,), (1,)), ((1,), (-1,)), ((0,), (0,))])
def test_unusable_entropies_are_refused(weak, strong):
    with pytest.raises(DataError):
        curriculum(tensor(*weak), tensor(*strong), PAPER)


def test_draws_are_seeded_and_leave_63_percent_of_uniform_data():
    weight = torch.full((4000,), 1 / 4000, dtype=torch.float64)
    one, two = (draw_active(weight, seed=1, dedup=True) for _ in range(2))
    assert one == two
    assert len(one) / 4000 == pytest.approx(1 - math.exp(-1), abs=0.02)
    assert len(draw_active(weight, seed=1, dedup=False)) == 4000


def test_an_epoch_shows_everything_once():
    shown = [p for step in range(1, 5) for p in epochs(list(range(8)), step=step, count=2, seed=0)]
    assert sorted(shown) == list(range(8))


def rows():
    prompts, completions = [(1, 4, 5), (1, 6)], [(7, 8, 2), (9, 10, 11, 2)]
    return pack(prompts, completions, reduction="token", total=count(completions))


def train(policy, objective, models, steps=20):
    optim = OptimConfig(steps=steps, lr=1e-2)
    state = fresh_state(models, optim)
    for step in range(steps):
        state.step = step
        update(
            state,
            rows().split(10_000),
            objective,
            clip=1e9,
            group=Group(),
            device=policy.device,
        )


def weights(policy):
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def same(a, b, atol):
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=atol, rtol=0)


def mixed(policy, weak, *, lam, frozen=False):
    return mixed_objective(policy, LiveWeak(weak, frozen=frozen), lam=lam, chunk=3)


def test_lam_1_is_sft():
    one, two, weak = tiny.policy(), tiny.policy(), tiny.policy(seed=7)
    train(one, sft_objective(one), {"policy": one.model})
    objective = mixed(two, weak, lam=1.0)
    train(two, objective, {"policy": two.model, "weak": weak.model})
    same(weights(one), weights(two), 1e-10)


def test_twins_stay_twins_and_follow_sft_of_half_the_gradient():
    """z_mix = z_s, so that each gets half of SFT's gradient: the strong one follows SFT of half the
    loss, exactly; with Adam, SFT itself up to its epsilon."""
    half, one, two = tiny.policy(), tiny.policy(), tiny.policy()

    def halved(micro):
        terms = sft_objective(half)(micro)
        return terms._replace(loss_BT=terms.loss_BT / 2)

    train(half, halved, {"policy": half.model})
    train(one, mixed(one, two, lam=0.5), {"policy": one.model, "weak": two.model})
    same(weights(one), weights(two), 1e-8)
    same(weights(one), weights(half), 1e-6)


def test_a_frozen_weak_model_is_left_as_it_was():
    policy, weak = tiny.policy(), tiny.policy(seed=7).frozen_copy()
    before = weights(weak)
    train(policy, mixed(policy, weak, lam=0.5, frozen=True), {"policy": policy.model})
    same(before, weights(weak), 0)
    assert all(p.grad is None for p in weak.model.parameters())


def test_d0_is_what_a_constant_weak_model_gives():
    policy, weak = tiny.policy(), tiny.policy(seed=7)
    weak.model.lm_head.weight.data.zero_()
    micro = rows().split(10_000)[0]
    a = mixed(policy, weak, lam=0.4)(micro).loss_BT[micro.mask_BT]
    b = damped_objective(policy, lam=0.4)(micro).loss_BT[micro.mask_BT]
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_entropies_share_the_loss_mask_and_shift():
    """Mean over supervised tokens of a fresh forward's entropies, prompt left out."""
    policy = tiny.policy()
    found = measure_batch(policy, rows(), micro_tokens=10_000, temperature=1.0).entropy_BT
    tokens = torch.tensor([[1, 4, 5, 7, 8, 2]])
    logp = policy.model(tokens).logits.log_softmax(-1)[0, 2:5]
    wanted = -(logp.exp() * logp).sum(-1).mean()
    torch.testing.assert_close(found[0].nanmean(), wanted.detach(), atol=1e-10, rtol=0)


def test_the_strong_branch_is_what_ships(tmp_path):
    """`final/` holds the last stage's strong model: not the base, not the trained weak one."""
    base, data = tmp_path / "base", tmp_path / "data.jsonl"
    tiny.policy().save(base)
    lines = [{"id": f"p{i}", "prompt": f"{i}=", "answer": "1", "solution": "12"} for i in range(9)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = make_recipe(
        {
            "method": "wmss",
            "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(data)},
            "sample": {"max_new_tokens": 3},
            "optim": {"steps": 4, "problems": 3, "lr": 1e-2},
            "eval": {"problems": 2, "samples": 1},
            "checkpoint": {"keep_finished": True},
        }
    )
    train_recipe(recipe, tmp_path / "run", quiet=True)
    last = tmp_path / "run" / "stages" / "03-mix1"
    shipped = load_file(tmp_path / "run" / "final" / "model.safetensors")
    start = load_file(base / "model.safetensors")
    saved = sorted((last / "checkpoints").iterdir())[-1]
    strong, weak = (load_file(saved / f"{name}.safetensors") for name in ("policy", "weak"))
    assert shipped.keys() == start.keys()
    assert all(torch.equal(shipped[name], strong[name]) for name in shipped)
    assert any(not torch.equal(shipped[name], weak[name]) for name in shipped)
    assert any(not torch.equal(shipped[name], start[name]) for name in shipped)
