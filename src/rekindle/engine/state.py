"""What a run is at a moment: weights, optimizer, schedule, random sources, step, and the method's
own running numbers. Saved as safetensors and JSON, never as pickle; restored to the bit.

JSON has no tensors, no tuples, no nan, and only text as keys; what it lacks is marked by a `$` key:

    {"$tensor": "optimizer/state/0/exp_avg"}  {"$tuple": [0.9, 0.95]}  {"$float": "nan"}
    {"$dict": [[0, ...], [1, ...]]}
"""

import errno
import math
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rekindle.errors import CheckpointError
from rekindle.files import read_json, write_json

Scalar = float | int | str | None


class RngState(TypedDict):
    """The global random sources of a process; of CUDA each device that is used."""

    torch: Tensor
    cuda: list[Tensor]
    mps: Tensor | None
    numpy: Mapping[str, Any]  # an MT19937: key, pos, has_gauss, gauss
    python: Mapping[str, Any]  # version, words, gauss


@dataclass
class TrainState:
    """Everything that the next step depends on.

    Attributes:
        models: by role, `policy` first.
        optimizer: over the parameters of all models.
        schedule: finished steps -> learning rate; a pure function, so it is not saved.
        step: finished steps.
        scalars: the method's own running numbers, and the sampler's position.
        tensors: what the run has measured once and reads again, by name.
        schedule_at: where in the schedule the next update is when something other than the number
            of steps says so (a budget of tokens); set anew before each step, so it is not saved.
        halved: whether micro-batches were halved for want of memory since this process began.
    """

    models: dict[str, torch.nn.Module]
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    step: int = 0
    scalars: dict[str, Scalar] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    schedule_at: int | None = None
    halved: bool = False

    def save(self, directory: Path, *, rngs: Sequence[RngState] | None = None) -> None:
        """Write the state into an existing directory.

        `<role>.safetensors` for each model, `optimizer.safetensors`, `rng.safetensors`, and
        `state.json` for all that is no tensor.

        Args:
            rngs: `rng_state()` of every process in order of rank; None: this process alone.

        Raises:
            OSError: what the operating system refused.
            TypeError: something that only pickle could save.
        """
        moments: dict[str, Tensor] = {}
        draws: dict[str, Tensor] = {}
        kind = {"class": type(self.optimizer).__name__}
        slots = self.optimizer.state_dict()
        plain = {
            "step": self.step,
            "scalars": to_plain(self.scalars, moments, "scalars"),
            "tensors": to_plain(self.tensors, moments, "tensors"),
            "optimizer": to_plain({**kind, **slots}, moments, "optimizer"),
            "rng": to_plain(list(rngs or [rng_state()]), draws, "rank"),
        }
        with safetensors_as_oserror():
            for role, model in self.models.items():
                save_file(_own_tensors(model), directory / f"{role}.safetensors")
            save_file(_apart(moments), directory / "optimizer.safetensors")
            save_file(_apart(draws), directory / "rng.safetensors")
        write_json(directory / "state.json", plain)

    def load(self, directory: Path, *, rank: int = 0) -> None:
        """Restore in place what `save` wrote.

        Args:
            directory: a verified checkpoint.
            rank: of this process; one that was not there when it was saved takes rank 0's draws.

        Raises:
            CheckpointError: names, shapes, dtypes or the kind of optimizer differ from this run's.
        """
        roles = {path.stem for path in directory.glob("*.safetensors")} - {"optimizer", "rng"}
        if roles != self.models.keys():
            raise CheckpointError(
                f"{directory.name} has other models than this run",
                got=sorted(roles),
                wanted=sorted(self.models),
            )
        for role, model in self.models.items():
            _fill(model, directory / f"{role}.safetensors", role)
        plain = read_json(directory / "state.json")
        moments = _read_all(directory / "optimizer.safetensors")
        saved = plain["optimizer"]
        slots, groups = (from_plain(saved[name], moments) for name in ("state", "param_groups"))
        _fill_optimizer(self.optimizer, saved["class"], slots, groups)
        self.step = plain["step"]
        self.scalars = from_plain(plain["scalars"], moments)
        self.tensors = from_plain(plain.get("tensors", {}), moments)
        rngs = from_plain(plain["rng"], _read_all(directory / "rng.safetensors"))
        restore_rng(rngs[rank if rank < len(rngs) else 0])

    def nbytes(self) -> int:
        """What a save takes on disk, about."""
        weights = sum(t.nbytes for m in self.models.values() for t in _own_tensors(m).values())
        slots = self.optimizer.state.values()
        moments = sum(v.nbytes for slot in slots for v in slot.values() if isinstance(v, Tensor))
        return weights + moments + 65_536


def rng_state() -> RngState:
    """The global random sources of this process: torch (CPU and used devices), numpy, python."""
    version, state, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "numpy": {
            "key": key,
            "pos": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        },
        "python": {"version": version, "words": torch.tensor(state), "gauss": gauss},
    }


def restore_rng(state: RngState) -> None:
    """Put the global random sources where `rng_state` found them; devices that are gone are left
    out.
    """
    torch.set_rng_state(state["torch"])
    for index, device in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device, index)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
    numpy, python = state["numpy"], state["python"]
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": numpy["key"].numpy().astype(np.uint32), "pos": numpy["pos"]},
            "has_gauss": numpy["has_gauss"],
            "gauss": numpy["gauss"],
        }
    )
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))


@contextmanager
def safetensors_as_oserror() -> Iterator[None]:
    """A write that the operating system refused, as the `OSError` that safetensors hides."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        code = int(number.group(1)) if number else errno.EIO
        raise OSError(code, f"{os.strerror(code)} ({error})") from error


def _own_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state dict with tied tensors once, under their first name, each in memory of its own; of
    a model that is trained in part (an adapter on a base) what is trained."""
    seen: set[object] = set()
    own = {}
    in_part = any(not parameter.requires_grad for parameter in model.parameters())
    for name, tensor in model.state_dict(keep_vars=True).items():
        if in_part and not (isinstance(tensor, Tensor) and tensor.requires_grad):
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} of {type(model).__name__} is no tensor: {type(tensor)}")
        # Tied weights are one parameter, or several over the same memory.
        same = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        mark = same if tensor.numel() and not tensor.is_meta else id(tensor)
        if mark not in seen:
            seen.add(mark)
            own[name] = tensor.detach().contiguous()
    return _apart(own)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each in memory of its own, as safetensors wants them; copies only those that share."""
    owners = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    return {
        name: t.clone() if owners[t.untyped_storage().data_ptr()] > 1 else t
        for name, t in tensors.items()
    }


@torch.no_grad()
def _fill(model: torch.nn.Module, path: Path, role: str) -> None:
    own = _own_tensors(model)
    targets = model.state_dict(keep_vars=True)
    with safe_open(path, framework="pt") as saved:  # one tensor in memory at a time
        if own.keys() != set(saved.keys()):
            raise CheckpointError(
                f"the checkpoint's {role} has other tensors than the model",
                got=sorted(own.keys() ^ set(saved.keys()))[:5],
                why="it belongs to another architecture",
            )
        for name in own:
            target, tensor = targets[name], saved.get_tensor(name)
            if target.shape != tensor.shape or target.dtype != tensor.dtype:
                raise CheckpointError(
                    f"the checkpoint's {role} differs from the model at {name}",
                    got=f"{tuple(tensor.shape)} {tensor.dtype}",
                    wanted=f"{tuple(target.shape)} {target.dtype}",
                )
            target.copy_(tensor)


def _read_all(path: Path) -> dict[str, Tensor]:
    # Copies: what safetensors returns may be backed by the file, which goes when it is old.
    with safe_open(path, framework="pt") as saved:
        return {name: saved.get_tensor(name).clone() for name in saved.keys()}  # noqa: SIM118


def _fill_optimizer(
    optimizer: torch.optim.Optimizer,
    saved_kind: str,
    slots: Mapping[int, object],
    groups: Sequence[Mapping[str, Any]],
) -> None:
    kind = type(optimizer).__name__
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    saved_sizes = [len(group["params"]) for group in groups]
    if (saved_kind, saved_sizes) != (kind, sizes):
        raise CheckpointError(
            "the checkpoint's optimizer is another one",
            got=f"{saved_kind} over {saved_sizes} parameters",
            wanted=f"{kind} over {sizes}",
        )
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    # load_state_dict casts every moment to its parameter's dtype; bits need the saved one.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, saved in slots.items():
        loaded = optimizer.state[parameters[index]]
        optimizer.state[parameters[index]] = _uncast(loaded, saved)


def _uncast(loaded: Any, saved: Any) -> Any:
    """`saved`, its tensors where those of `loaded` are."""
    if isinstance(saved, Tensor):
        return saved.to(loaded.device)
    if isinstance(saved, dict):
        return {key: _uncast(loaded[key], value) for key, value in saved.items()}
    if isinstance(saved, list | tuple):
        return type(saved)(_uncast(a, b) for a, b in zip(loaded, saved, strict=True))
    return saved


def to_plain(value: object, tensors: dict[str, Tensor], name: str) -> object:
    """`value` as JSON; its tensors are put into `tensors`, named by where they stood.

    Raises:
        TypeError: it holds something else than None, bool, int, float, str, list, tuple, dict and
            Tensor; `name` says where.
    """
    if isinstance(value, Tensor):
        while name in tensors:
            name += "+"
        tensors[name] = value.detach().contiguous()
        return {"$tensor": name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, list | tuple):
        items = [to_plain(item, tensors, f"{name}/{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        pairs = [(key, to_plain(item, tensors, f"{name}/{key}")) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(pairs)
        return {"$dict": [[to_plain(key, tensors, name), item] for key, item in pairs]}
    raise TypeError(f"{name} cannot be saved without pickle: {type(value).__name__}")


def from_plain(value: object, tensors: Mapping[str, Tensor]) -> Any:
    """What `to_plain` was given."""
    if isinstance(value, list):
        return [from_plain(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("$tensor", name)]:
            return tensors[name]
        case [("$tuple", items)]:
            return tuple(from_plain(item, tensors) for item in items)
        case [("$float", text)]:
            return float(text)
        case [("$dict", pairs)]:
            return {from_plain(key, tensors): from_plain(item, tensors) for key, item in pairs}
    return {key: from_plain(item, tensors) for key, item in value.items()}
