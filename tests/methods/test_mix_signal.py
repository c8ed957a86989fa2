"""What the telemetry of mixing counts."""

import math

import pytest
import torch

from rekindle.engine.device import Group
from rekindle.methods.wmss.telemetry import MixSignal, target_margin

NAMES = {
    "tokens/above_099",
    "mass/non_target",
    "entropy",
    "margin/strong",
    "margin/weak",
    "mix/gradient",
    "mix/amplified",
    "mix/reactivated",
}


def logits(*p):
    return torch.tensor(p, dtype=torch.float64).log()


def test_by_hand():
    """Two tokens, target 0. Strong .995 and .6; weak .5 and .5: the mix at 1/2 is
    sqrt(.995*.5) / (sqrt(.995*.5) + sqrt(.005*.5)), which has gradient where SFT has none."""
    strong, weak = logits([0.995, 0.005], [0.6, 0.4]), logits([0.5, 0.5], [0.5, 0.5])
    signal, target = MixSignal(0.5), torch.tensor([0, 0])
    signal.add(strong[:1], weak[:1], target[:1])
    signal.add(strong[1:], weak[1:], target[1:])
    found = signal.metrics(Group())
    mix = [math.sqrt(p) / (math.sqrt(p) + math.sqrt(1 - p)) for p in (0.995, 0.6)]
    gradient = [0.5 * (1 - p) for p in mix]
    assert found.keys() == NAMES
    assert found["tokens/above_099"] == 0.5
    assert found["mass/non_target"] == pytest.approx((0.005 + 0.4) / 2)
    assert found["margin/strong"] == pytest.approx((math.log(199) + math.log(1.5)) / 2)
    assert found["margin/weak"] == pytest.approx(0, abs=1e-12)
    assert found["mix/gradient"] == pytest.approx(sum(gradient) / 2)
    assert found["mix/amplified"] == 0.5  # the sure token only: P2
    assert found["mix/reactivated"] == pytest.approx(gradient[0] / sum(gradient))


def test_amplified_only_where_p2_allows_it():
    """lam (1 - p_mix) > 1 - p_s iff p_mix < 1 - (1 - p_s) / lam; never where p_s <= 1 - lam."""
    gen = torch.Generator().manual_seed(0)
    for lam in (0.3, 0.5, 0.8):
        strong = 3 * torch.randn(500, 7, generator=gen, dtype=torch.float64)
        weak = torch.randn(500, 7, generator=gen, dtype=torch.float64)
        target = torch.zeros(500, dtype=torch.long)
        p_s = strong.softmax(-1)[:, 0]
        p_mix = (lam * strong + (1 - lam) * weak).softmax(-1)[:, 0]
        wanted = p_mix < 1 - (1 - p_s) / lam
        signal = MixSignal(lam)
        signal.add(strong, weak, target)
        assert signal.metrics(Group())["mix/amplified"] == pytest.approx(
            float(wanted.double().mean())
        )
        assert not bool(wanted[p_s <= 1 - lam].any())


def test_it_begins_anew_and_nothing_counted_is_missing():
    signal = MixSignal(0.5)
    signal.add(logits([0.9, 0.1]), logits([0.5, 0.5]), torch.tensor([0]))
    signal.metrics(Group())
    assert all(math.isnan(value) for value in signal.metrics(Group()).values())


def test_margins_know_who_leads():
    z = torch.tensor([[3.0, 1.0, 2.0], [0.0, 1.0, -1.0]])
    assert target_margin(z, torch.tensor([0, 0])).tolist() == [1.0, -1.0]


def test_low_precision_logits_are_raised_first():
    """bf16 has 3 digits: probabilities near 1 would be rounded to steps of 0.004."""
    z, target = torch.tensor([[5.5, 0.0, 0.0]], dtype=torch.bfloat16), torch.tensor([0])
    signal = MixSignal(0.5)
    signal.add(z, z, target)
    wanted = 1 - math.exp(5.5) / (math.exp(5.5) + 2)
    assert signal.metrics(Group())["mass/non_target"] == pytest.approx(wanted, rel=1e-4)
