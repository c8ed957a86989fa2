"""What a run is at a moment: weights, optimizer, schedule, random sources, step, and the method's
own running numbers. Saved as safetensors and JSON, never as pickle; restored to the bit.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rekindle.errors import CheckpointError
from rekindle.files import read_json, write_json

Scalar = float | int | str | None


@dataclass
class TrainState:
    """Everything that the next step depends on.

    Attributes:
        models: by role, `policy` first.
        optimizer: over the parameters of all models.
        schedule: finished steps -> learning rate.
        step: finished steps.
        scalars: the method's own running numbers, and the sampler's position.
    """

    models: dict[str, torch.nn.Module]
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    step: int = 0
    scalars: dict[str, Scalar] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write the state into an existing directory: models, optimizer, rng, state.json."""
        for role, model in self.models.items():
            save_file(_own_tensors(model), directory / f"{role}.safetensors")
        packed = self.optimizer.state_dict()
        tensors, rest = _split(packed["state"])
        save_file(tensors, directory / "optimizer.safetensors")
        save_file(_rng_tensors(), directory / "rng.safetensors")
        write_json(
            directory / "state.json",
            {
                "step": self.step,
                "scalars": self.scalars,
                "optimizer": {"rest": rest, "groups": packed["param_groups"]},
                "python_rng": _listed(random.getstate()),
                "numpy_rng": _numpy_rest(),
            },
        )

    def load(self, directory: Path) -> None:
        """Restore in place what `save` wrote.

        Raises:
            CheckpointError: names, shapes or dtypes differ from those of this run.
        """
        for role, model in self.models.items():
            _fill(model, load_file(directory / f"{role}.safetensors"), role)
        plain = read_json(directory / "state.json")
        tensors = load_file(directory / "optimizer.safetensors")
        self.optimizer.load_state_dict(
            {
                "state": _join(tensors, plain["optimizer"]["rest"]),
                "param_groups": [_group(group) for group in plain["optimizer"]["groups"]],
            }
        )
        _restore_rng(load_file(directory / "rng.safetensors"), plain)
        self.step = plain["step"]
        self.scalars = dict(plain["scalars"])

    def nbytes(self) -> int:
        """What a save takes on disk, about."""
        weights = sum(
            tensor.numel() * tensor.element_size()
            for model in self.models.values()
            for tensor in _own_tensors(model).values()
        )
        moments = sum(
            value.numel() * value.element_size()
            for slots in self.optimizer.state.values()
            for value in slots.values()
            if isinstance(value, Tensor)
        )
        return weights + moments + 65_536


def _own_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state dict with tied tensors once, under their first name."""
    seen: set[int] = set()
    own = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor.detach().contiguous()
    return own


@torch.no_grad()
def _fill(model: torch.nn.Module, saved: Mapping[str, Tensor], role: str) -> None:
    own = _own_tensors(model)
    if own.keys() != saved.keys():
        odd = sorted(own.keys() ^ saved.keys())
        raise CheckpointError(
            f"the checkpoint's {role} has other tensors than the model",
            got=odd[:5],
            why="it belongs to another architecture",
        )
    targets = model.state_dict(keep_vars=True)
    for name, tensor in saved.items():
        target = targets[name]
        if target.shape != tensor.shape or target.dtype != tensor.dtype:
            raise CheckpointError(
                f"the checkpoint's {role} differs from the model at {name}",
                got=f"{tuple(tensor.shape)} {tensor.dtype}",
                wanted=f"{tuple(target.shape)} {target.dtype}",
            )
        target.copy_(tensor)


def _split(slots: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, rest = {}, {}
    for index, values in slots.items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{key}"] = value.detach().contiguous()
            else:
                rest[f"{index}/{key}"] = value
    return tensors, rest


def _join(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    slots: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *rest.items()]:
        index, _, key = name.partition("/")
        slots.setdefault(int(index), {})[key] = value
    return slots


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no tuples; torch's betas is one.
    return {k: tuple(v) if k == "betas" else v for k, v in group.items()}


def _rng_tensors() -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state()}
    for index, state in enumerate(torch.cuda.get_rng_state_all() if _has_cuda() else []):
        states[f"cuda{index}"] = state
    keys = np.random.get_state(legacy=False)["state"]["key"]
    states["numpy"] = torch.from_numpy(keys.astype(np.int64))
    return states


def _restore_rng(states: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    cuda = [states[f"cuda{i}"] for i in range(len(states)) if f"cuda{i}" in states]
    if cuda and _has_cuda():
        torch.cuda.set_rng_state_all(cuda)
    rest = plain["numpy_rng"]
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": states["numpy"].numpy().astype(np.uint32), "pos": rest["pos"]},
            "has_gauss": rest["has_gauss"],
            "gauss": float.fromhex(rest["gauss"]),
        }
    )
    version, keys, gauss = plain["python_rng"]
    random.setstate((version, tuple(keys), gauss))


def _numpy_rest() -> dict[str, Any]:
    state: Any = np.random.get_state(legacy=False)
    return {
        "pos": state["state"]["pos"],
        "has_gauss": state["has_gauss"],
        "gauss": float(state["gauss"]).hex(),
    }


def _listed(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _has_cuda() -> bool:
    return torch.cuda.is_available()
