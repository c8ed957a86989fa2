"""Device, dtype, threads, seeds, and the group of processes: the only file that knows accelerate.

Start several processes with `accelerate launch` or `torchrun`; one process needs neither.
"""

import os
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
import torch

from rekindle.errors import ConfigError, RekindleError

T = TypeVar("T")

_SMALL_MODEL = 20_000_000  # parameters below which a second thread costs more than it brings


def set_threads(threads: int | Literal["auto"], *, parameters: int) -> int:
    """Set torch's CPU threads; auto: one for small models, else OMP_NUM_THREADS where it is set,
    else all cores of the process."""
    if threads == "auto":
        chosen = 1 if parameters < _SMALL_MODEL else _threads_of_environment() or _own_cores()
    else:
        chosen = int(threads)
    if chosen < 1:
        raise ConfigError("device.threads is too small", got=threads, wanted="at least 1, or auto")
    torch.set_num_threads(chosen)
    return chosen


def _threads_of_environment() -> int | None:
    # "4,2" is for nested regions, the outermost first
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _own_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count()
    return max(1, (cores or 1) // int(os.environ.get("WORLD_SIZE", "1")))


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA (this process's card), then MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            "model.device is not a device", got=name, wanted="auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "model.device is not available",
            got=name,
            wanted="a CUDA device",
            why="torch sees none on this machine",
            fix="--set model.device=auto",
        )
    return device


def micro_tokens(chosen: int | None, device: torch.device) -> int:
    """Padded tokens in one forward pass: as chosen, else what the device does best.

    On a CPU small pieces keep activations in cache (1024 was measured 12 % faster than 16384 for
    1M parameters); a GPU wants large ones.
    """
    return chosen or (1024 if device.type == "cpu" else 16_384)


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; of a CPU, within its container's limit."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    table = Path("/proc/meminfo")
    if table.exists():  # counts what the file cache would give up, too
        lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    return min(available, _container_bytes())


def _container_bytes() -> int:
    """What cgroup v2 still allows; more than any machine has, where it sets no limit."""
    most, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if not most.exists() or most.read_text().strip() == "max":
        return 2**63
    return int(most.read_text()) - int(used.read_text())


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed python, numpy and torch; ask torch for deterministic kernels where it has them: once
    asked, it stays so."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())


class Group:
    """The processes of one run, all of which call every method; as it is, a group of one."""

    rank: int = 0  # of this process
    size: int = 1
    is_main: bool = True  # whether this one writes and speaks

    def gather_objects(self, items: list[T]) -> list[T]:
        """The lists of all processes, in order of rank, joined."""
        return items

    def broadcast_object(self, item: T) -> T:
        """The main process's object, everywhere."""
        return item

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Key-wise sums in fp64; keys may differ between processes."""
        return dict(values)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over processes."""


class Accelerated(Group):
    """Data parallel processes through accelerate: gloo on CPUs, nccl on GPUs.

    Gradients are summed once a step, in flat buckets, after all micro-batches: the loss weights
    already count the tokens of all processes, so the sum is the global gradient, and processes may
    have different numbers of micro-batches.
    """

    bucket_elements = 32 * 1024 * 1024

    def __init__(self, *, cpu: bool) -> None:
        from accelerate import PartialState, utils

        self._state, self._utils = PartialState(cpu=cpu), utils
        self.rank, self.size = self._state.process_index, self._state.num_processes
        self.is_main = self._state.is_main_process

    def gather_objects(self, items: list[T]) -> list[T]:
        """Pickled, by accelerate."""
        return list(self._utils.gather_object(items))

    def broadcast_object(self, item: T) -> T:
        """Pickled, by accelerate."""
        sent: T = self._utils.broadcast_object_list([item])[0]
        return sent

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Gathered, then added in order of rank."""
        total: dict[str, float] = {}
        for part in self.gather_objects([dict(values)]):
            for key, value in part.items():
                total[key] = total.get(key, 0.0) + value
        return total

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """In flat buckets, each of one dtype."""
        grads = [p.grad for p in parameters if p.grad is not None]
        bucket: list[torch.Tensor] = []
        filled = 0
        for grad in grads:
            if bucket and (
                filled + grad.numel() > self.bucket_elements or grad.dtype != bucket[0].dtype
            ):
                self._sum_bucket(bucket)
                bucket, filled = [], 0
            bucket.append(grad)
            filled += grad.numel()
        if bucket:
            self._sum_bucket(bucket)

    def _sum_bucket(self, grads: list[torch.Tensor]) -> None:
        flat = self._utils.reduce(torch.cat([grad.flatten() for grad in grads]), reduction="sum")
        for grad, summed in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(summed.view_as(grad))


def process_group(device: str) -> Group:
    """The group that the launcher's environment describes; a lone process costs nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Group()
    return Accelerated(cpu=pick_device(device).type == "cpu")


def on_main(group: Group, work: Callable[[], T]) -> T:
    """What `work` gives in the main process, everywhere; its error, too, so that nobody waits."""
    result: T | None = None
    failure: RekindleError | None = None
    if group.is_main:
        try:
            result = work()
        except RekindleError as error:
            failure = error
    result, failure = group.broadcast_object((result, failure))
    if failure is not None:
        raise failure
    return cast(T, result)
