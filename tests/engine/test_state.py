"""A state is restored to the bit: dtypes, ties, moments, tuples, nan, and every random source."""

import json
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from rekindle.engine.state import (
    TrainState,
    from_plain,
    restore_rng,
    rng_state,
    safetensors_as_oserror,
    to_plain,
)
from rekindle.errors import CheckpointError

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.95)),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True, momentum=0.5),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
    "tensor lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.1)),
}


def state_of(model, optimizer="adamw", **models):
    parameters = [p for m in (model, *models.values()) for p in m.parameters()]
    return TrainState(
        models={"policy": model, **models},
        optimizer=OPTIMIZERS[optimizer](parameters),
        schedule=lambda step: 0.1,
    )


def mlp(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1)).to(dtype)


def take_step(state, scale=1.0):
    model = state.models["policy"]
    dtype = next(model.parameters()).dtype
    x = torch.randn(16, 4).to(dtype) * (scale + float(np.random.normal()))

    def closure():
        state.optimizer.zero_grad()
        loss = model(x).float().square().mean()
        loss.backward()
        return loss

    state.optimizer.step(closure)
    state.step += 1


def same(a, b):
    """Equal in structure, type, dtype and every bit."""
    if isinstance(a, torch.Tensor):
        bits = a.detach().contiguous().flatten().view(torch.uint8)
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(bits, b.detach().contiguous().flatten().view(torch.uint8))
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def same_state(a, b):
    models = all(
        same(dict(a.models[role].state_dict()), dict(b.models[role].state_dict()))
        for role in a.models
    )
    return models and same(a.optimizer.state_dict(), b.optimizer.state_dict())


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_two_steps_saved_and_loaded_then_two_are_four(optimizer, tmp_path):
    np.random.seed(0)
    straight = state_of(mlp(), optimizer)
    for _ in range(2):
        take_step(straight)
    straight.save(tmp_path)
    for _ in range(2):
        take_step(straight)

    resumed = state_of(mlp(), optimizer)
    take_step(resumed, scale=7.0)  # what it was before does not matter
    resumed.load(tmp_path)
    assert resumed.step == 2
    for _ in range(2):
        take_step(resumed)
    assert same_state(straight, resumed)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
def test_every_bit_of_a_dtype_survives(dtype, tmp_path):
    """Also those that a cast through float32 or text would change: subnormal, -0, nan, inf."""
    state = state_of(mlp(dtype), "sgd")
    take_step(state)
    with torch.no_grad():
        odd = [float("nan"), float("inf"), -0.0, torch.finfo(dtype).smallest_normal / 4]
        state.models["policy"][0].bias[:4] = torch.tensor(odd, dtype=dtype)
    state.save(tmp_path)
    other = state_of(mlp(dtype), "sgd")
    other.load(tmp_path)
    assert same_state(state, other)


def test_moments_wider_than_their_weights_are_not_rounded(tmp_path):
    """torch's load_state_dict would cast float32 moments to a bfloat16 parameter's dtype."""
    state, other = state_of(mlp(torch.bfloat16)), state_of(mlp(torch.bfloat16))
    take_step(state)
    for slots in state.optimizer.state.values():
        slots["exp_avg"] = torch.randn(slots["exp_avg"].shape)
    state.save(tmp_path)
    other.load(tmp_path)
    assert same_state(state, other)
    assert all(s["exp_avg"].dtype == torch.float32 for s in other.optimizer.state.values())


class Tied(nn.Module):
    """Input and output embedding are one parameter, as in most small language models."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(x)


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path):
    state, other = state_of(Tied()), state_of(Tied())
    take_step(state)
    state.save(tmp_path)
    other.load(tmp_path)
    model = other.models["policy"]
    assert model.head.weight is model.embed.weight
    assert same_state(state, other)
    take_step(other)
    assert torch.equal(model.head.weight, model.embed.weight)
    size = (tmp_path / "policy.safetensors").stat().st_size
    assert 6 * 4 * 4 <= size < 2 * 6 * 4 * 4 + 100


def test_parameters_over_one_piece_of_memory_are_kept_apart(tmp_path):
    """Slices of one buffer, as a flattened model has them, and a view of a parameter's part."""

    class Sliced(nn.Module):
        def __init__(self):
            super().__init__()
            flat = torch.randn(12)
            self.a, self.b = nn.Parameter(flat[:8].view(2, 4)), nn.Parameter(flat[8:])
            self.register_buffer("part", flat[2:5])
            self.register_buffer("count", torch.tensor(3))
            self.register_buffer("none", torch.zeros(0))

    state, other = state_of(Sliced(), "plain sgd"), state_of(Sliced(), "plain sgd")
    assert not same_state(state, other)
    state.save(tmp_path)
    other.load(tmp_path)
    assert same_state(state, other)


def test_draws_go_on_where_they_were():
    """All sources; numpy and python also keep half of a pair of Gaussians. Through JSON and a flat
    dict, as in a file; `load` itself is under shape checks here, which draw from `random`.
    """

    def draw():
        return [
            torch.randn(3).tolist(),
            np.random.normal(),
            np.random.rand(2).tolist(),
            random.gauss(0, 1),
            random.random(),
        ]

    np.random.seed(0)
    random.seed(0)
    draw()  # one Gaussian of each pair is used now
    now = random.getstate()
    state, tensors = rng_state(), {}
    text = json.dumps(to_plain(state, tensors, "rng"))
    state = from_plain(json.loads(text), tensors)
    random.setstate(now)
    expected = [draw() for _ in range(3)]
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    restore_rng(state)
    assert [draw() for _ in range(3)] == expected


def test_every_process_takes_up_its_own_draws(tmp_path):
    rngs, expected = [], []
    for rank in range(3):
        torch.manual_seed(rank)
        rngs.append(rng_state())
        expected.append(torch.rand(2).tolist())
    state = state_of(mlp())
    state.save(tmp_path, rngs=rngs)
    for rank in (2, 0, 1):
        state.load(tmp_path, rank=rank)
        assert torch.rand(2).tolist() == expected[rank]
    state.load(tmp_path, rank=7)  # there were fewer processes
    assert torch.rand(2).tolist() == expected[0]


@pytest.mark.gpu
def test_cuda_draws_and_moments_go_on_where_they_were(tmp_path):
    state = state_of(mlp().cuda(), "adamw")
    state.models["policy"](torch.randn(2, 4, device="cuda")).sum().backward()
    state.optimizer.step()
    state.save(tmp_path)
    expected = torch.rand(4, device="cuda").tolist()
    other = state_of(mlp().cuda(), "adamw")
    other.load(tmp_path)
    assert torch.rand(4, device="cuda").tolist() == expected
    assert same_state(state, other)


def test_draws_of_devices_that_are_gone_are_left_out():
    """Saved with two GPUs, loaded on a machine with none."""
    restore_rng({**rng_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * 2})


def test_scalars_keep_type_and_value(tmp_path):
    scalars = {
        "third": 1 / 3,
        "tiny": 5e-324,
        "nan": float("nan"),
        "down": -math.inf,
        "zero": -0.0,
        "count": 2**70,
        "name": "é\u2028\ud800",
        "none": None,
    }
    state = state_of(mlp())
    state.scalars = dict(scalars)
    state.save(tmp_path)
    other = state_of(mlp())
    other.load(tmp_path)
    assert same(other.scalars, scalars)
    assert math.copysign(1, other.scalars["zero"]) == -1


def test_several_models_and_nothing_pickled(tmp_path):
    state = state_of(mlp(), weak=nn.Linear(2, 2))
    take_step(state)
    state.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "optimizer.safetensors",
        "policy.safetensors",
        "rng.safetensors",
        "state.json",
        "weak.safetensors",
    ]
    json.loads((tmp_path / "state.json").read_text(), parse_constant=pytest.fail)
    other = state_of(mlp(), weak=nn.Linear(2, 2))
    other.load(tmp_path)
    assert same_state(state, other)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: state_of(nn.Linear(4, 1)), "has other tensors"),
        (lambda: state_of(mlp(torch.float64)), "differs from the model at 0.weight"),
        (lambda: state_of(mlp(), weak=nn.Linear(2, 2)), "has other models"),
        (lambda: state_of(mlp(), "sgd"), "AdamW over"),
        (
            lambda: TrainState(
                {"policy": mlp()}, torch.optim.AdamW(list(mlp().parameters())[:3]), float
            ),
            r"AdamW over \[3\]",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(other, said, tmp_path):
    state = state_of(mlp())
    take_step(state)
    state.save(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        other().load(tmp_path)


def test_what_only_pickle_could_save_is_named(tmp_path):
    state = state_of(mlp())
    take_step(state)
    next(iter(state.optimizer.state.values()))["hook"] = print
    with pytest.raises(TypeError, match="optimizer/state/0/hook"):
        state.save(tmp_path)


def test_what_a_save_takes_is_known_before(tmp_path):
    state = state_of(nn.Linear(200, 300))
    state.models["policy"](torch.randn(1, 200)).sum().backward()
    state.optimizer.step()
    state.save(tmp_path)
    real = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert real <= state.nbytes() <= real + 65_536


def test_loaded_moments_do_not_live_in_the_file(tmp_path):
    """The file goes when it is old; overwriting it must not reach the optimizer."""
    state = state_of(mlp())
    take_step(state)
    state.save(tmp_path)
    other = state_of(mlp())
    other.load(tmp_path)
    file = tmp_path / "optimizer.safetensors"
    with open(file, "r+b") as raw:
        raw.write(b"\xff" * file.stat().st_size)
    assert same_state(state, other)


def test_packing_returns_what_it_was_given():
    value = {
        "plain": [1, 2.5, True, None, "x", (1, (2,))],
        "$odd": {1: torch.ones(2), "1": torch.zeros(2), (2, 3): float("inf")},
        "empty": [{}, [], ()],
        "view": torch.arange(6).view(2, 3).T,
    }
    tensors = {}
    text = json.dumps(to_plain(value, tensors, "root"), allow_nan=False)
    assert same(from_plain(json.loads(text), tensors), value)


def test_errors_of_safetensors_keep_the_systems_reason(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError), safetensors_as_oserror():
        save_file({"a": torch.zeros(2)}, tmp_path / "missing" / "file")
