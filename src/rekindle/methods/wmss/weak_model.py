"""The weak model of WMSS's mix: which one a phase has, and where its hidden states come from.

    LiveWeak       its own forward on each micro-batch, trained or frozen
    CachedWeak     frozen, its hidden states computed once and read from disk
    ShuffledWeak   a control: states of another place in the answer

Axes: T completion tokens of a sample, N of all samples (of a micro-batch), E width.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rekindle.engine.adapters.policies import reopened, save_trained, second_adapter
from rekindle.engine.batch import Batch, MicroBatch
from rekindle.engine.device import Group, on_main
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError, RunDirectoryError
from rekindle.files import read_json, remove_tree, sha256_file, write_json
from rekindle.loops.stages import hash_rows
from rekindle.loops.world import World
from rekindle.methods import sft
from rekindle.ops.heads import Head
from rekindle.records import Problem

_HALF = "half"
_STATES, _RECORD = "states.bin", "states.json"
Sequences = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]  # prompt and completion of a sample

# --- which model


class PhaseModels(NamedTuple):
    """The models that a phase begins with."""

    strong: Policy
    weak: Policy
    base: Policy | None = None  # None in phase 1, which trains it


def first_weak(base: Policy, name: str, *, mixed: bool, frozen: bool) -> Policy | None:
    """The weak model of the first iteration, see `wmss.weak`, checked before anything is trained;
    None where phase 1 will make it (`half_of`). Later iterations mix in a strong model.

    Args:
        mixed: its logits will be added to the base's.
        frozen: it will not be trained.

    Raises:
        ModelError: its logits cannot be mixed with the base's.
        ConfigError: it would be trained as a whole beside an adapter of the base.
    """
    weak = base
    if name not in ("base", _HALF):
        if mixed and base.adapter is not None and not frozen:
            raise ConfigError(
                "wmss.weak is another model, and LoRA trains adapters on one base",
                got=f"weak: {name}, a base with an adapter",
                why="the weak model is trained too, and would be trained as a whole",
                fix="--set wmss.freeze_weak=true, or wmss.weak=base, or train without LoRA",
            )
        weak = Policy.load(base.config.with_name(name))
    if mixed:
        check_pair(base, weak)
    return None if name == _HALF else weak


def half_of(strong: Policy) -> Policy:
    """The strong model as it was half-way through the phase that made it."""
    directory = Path(strong.config.name).parent / _HALF
    return reopened(strong, directory)


def keep_half(name: str, world: World, policy: Policy, step: int) -> None:
    """Half-way through phase 1, keep the model as it is; before this step's checkpoint, so that a
    resume finds it or makes it again."""
    directory = world.run.directory / _HALF
    if name != _HALF or step != max(1, world.optim.steps // 2):
        return

    def write() -> None:
        partial = directory.with_name(f"{_HALF}.partial")
        remove_tree(partial)
        save_trained(policy, partial)
        remove_tree(directory)
        partial.rename(directory)

    on_main(world.group, write)


def weak_side(
    world: World,
    models: PhaseModels,
    problems: Sequence[Problem],
    *,
    frozen: bool,
    cached: bool,
    shuffled: bool,
) -> "WeakSide":
    """The weak half of the mix."""
    if weights_fingerprint(models.weak) == weights_fingerprint(models.strong):
        warnings.warn(
            "weak and strong are the same weights: the mix is the model itself, so both are "
            "trained by SFT with lam and 1 - lam of its gradient",
            stacklevel=2,
        )
    side: WeakSide
    if cached:
        batch = sft.weigh(sft.Config(), world, list(problems))
        directory, micro = world.run.directory / "weak_states", world.micro_tokens
        side = CachedWeak.load_or_compute(
            directory, models.weak, batch, micro_tokens=micro, group=world.group
        )
    else:
        side = LiveWeak.of(models.weak, frozen=frozen, seed=world.seed)
    return ShuffledWeak(side) if shuffled else side


def note_no_op(lam: float, partner: str) -> None:
    """Say so where the settings make WMSS plain SFT."""
    if partner != "none" and lam in (0, 1):
        warnings.warn(
            "wmss.lam is 1: the weak model has no share in the logits, so this is sft_restart, and "
            "is run as such"
            if lam == 1
            else "wmss.lam is 0: only the weak model is trained, and the strong one is kept as "
            "phase 1 left it",
            stacklevel=2,
        )


# --- where its hidden states come from


@runtime_checkable
class WeakSide(Protocol):
    """Where the weak hidden states of a micro-batch come from."""

    def hidden(self, micro: MicroBatch) -> Float[Tensor, "N E"]:
        """Last hidden states in front of each completion token, sequence by sequence."""

    def head(self) -> Head:
        """The weak model's output embedding."""

    def models(self) -> dict[str, nn.Module]:
        """What is trained beside the policy; nothing if frozen, or part of the policy itself."""
        return {}


class LiveWeak(WeakSide):
    """The weak model, run on each micro-batch; frozen, it keeps no graph."""

    def __init__(self, policy: Policy, *, frozen: bool) -> None:
        self.policy, self.frozen = policy, frozen

    @classmethod
    def of(cls, weak: Policy, *, frozen: bool, seed: int) -> "LiveWeak":
        """A copy of `weak`, made now; of one with an adapter a second adapter on the same base."""
        copied = weak.frozen_copy() if frozen else second_adapter(weak, seed=seed)
        return cls(copied, frozen=frozen)

    def hidden(self, micro: MicroBatch) -> Float[Tensor, "N E"]:
        """By the weak model's own forward."""
        with torch.set_grad_enabled(not self.frozen):
            return self.policy.hidden(micro.layout)

    def head(self) -> Head:
        """As it is now; without a graph when frozen."""
        return self.policy.head().detach() if self.frozen else self.policy.head()

    def models(self) -> dict[str, nn.Module]:
        """The weak model, unless it is frozen."""
        return {} if self.frozen else {"weak": self.policy.model}


class CachedWeak(WeakSide):
    """Hidden states of a frozen weak model, computed once for fixed samples and read from disk.

    DIRECTORY/states.bin   [N, E] in the model's own dtype: nothing is rounded
    DIRECTORY/states.json  hashes of weights, samples and file; where each sample begins

    About d / V of what logits would take. Equal to a live pass up to the rounding that the width of
    a padded batch makes. The file is mapped, not read into memory.
    """

    def __init__(self, directory: Path, policy: Policy, samples: Sequences) -> None:
        record = read_json(directory / _RECORD)
        self.width = int(record["width"])
        self._head = policy.head().detach()
        self._starts = dict(zip(samples, record["starts"], strict=True))
        count = int(record["tokens"]) * self.width
        path = str(directory / _STATES)
        flat = torch.from_file(path, shared=False, size=count, dtype=self._head.weight.dtype)
        self._states_NE = flat.view(-1, self.width)

    @classmethod
    def load_or_compute(
        cls,
        directory: Path,
        weak: Policy,
        batch: Batch,
        *,
        micro_tokens: int,
        group: Group,
    ) -> "CachedWeak":
        """Read the states in `directory`, or compute and write them there.

        Raises:
            RunDirectoryError: they are of other weights or samples, or the file was changed since.
        """
        samples = list(dict.fromkeys(zip(batch.prompts, batch.completions, strict=True)))
        hashes = {
            "weights": weights_fingerprint(weak),
            "samples": hash_rows(samples),
        }

        def ensure() -> None:
            if not (directory / _RECORD).exists():
                remove_tree(directory)
                directory.mkdir(parents=True)
                facts = _write_states(directory / _STATES, weak, batch, samples, micro_tokens)
                write_json(directory / _RECORD, {**hashes, **facts})
            _check_states(directory, hashes)

        on_main(group, ensure)
        return cls(directory, weak, samples)

    def hidden(self, micro: MicroBatch) -> Float[Tensor, "N E"]:
        """The stored rows of each sample.

        Raises:
            DataError: a sample that was not among those given to `load_or_compute`.
        """
        states = []
        for sample in zip(micro.layout.prompts, micro.layout.completions, strict=True):
            if sample not in self._starts:
                tokens = [*sample[0], *sample[1]]
                raise DataError(
                    "a sample is not among the cached hidden states",
                    got=f"{len(tokens)} tokens, beginning with {tokens[:8]}",
                    why="the cache holds the samples of the stage that made it",
                    fix="remove the stage's directory to make it again",
                )
            start = self._starts[sample]
            states.append(self._states_NE[start : start + len(sample[1])])
        return torch.cat(states).to(self._head.weight.device)

    def head(self) -> Head:
        """The weak model's, without a graph."""
        return self._head


class ShuffledWeak:
    """A control: states from half an answer's length away. Right statistics, wrong position,
    however the step is split."""

    def __init__(self, side: WeakSide) -> None:
        self.side = side
        self.head, self.models = side.head, side.models

    def hidden(self, micro: MicroBatch) -> Float[Tensor, "N E"]:
        """Each row turned by half of its length."""
        lengths = micro.mask_BT.sum(dim=1).tolist()
        states = self.side.hidden(micro).split(lengths)
        return torch.cat([each_TE.roll(len(each_TE) // 2, dims=0) for each_TE in states])


def _check_states(directory: Path, hashes: Mapping[str, str]) -> None:
    record = read_json(directory / _RECORD)
    for name, value in hashes.items():
        if record[name] != value:
            raise RunDirectoryError(
                f"{directory} holds hidden states of other {name}",
                got=record[name][:12],
                wanted=value[:12],
                why="they would be mixed in as if they were this run's",
                fix=f"remove {directory} to make them again",
            )
    if sha256_file(directory / _STATES) != record["states_sha256"]:
        raise RunDirectoryError(
            f"{directory / _STATES} was changed since it was made",
            fix=f"remove {directory} to make it again",
        )


@torch.no_grad()
def _write_states(
    path: Path, weak: Policy, batch: Batch, samples: Sequences, micro_tokens: int
) -> Mapping[str, int | str | list[int]]:
    lengths = [len(completion) for _, completion in samples]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    start_of = dict(zip(samples, starts, strict=True))
    head_VE, count = weak.head().weight, sum(lengths)
    width = head_VE.shape[1]
    flat = torch.from_file(str(path), shared=True, size=count * width, dtype=head_VE.dtype)
    states_NE = flat.view(-1, width)
    for micro in batch.split(micro_tokens):
        moved = micro.to(weak.device)
        lengths = micro.mask_BT.sum(dim=1).tolist()
        found = weak.hidden(moved.layout).cpu().split(lengths)
        for row, hidden_TE in zip(micro.rows, found, strict=True):
            start = start_of[batch.prompts[row], batch.completions[row]]
            states_NE[start : start + len(hidden_TE)] = hidden_TE
    sha256 = sha256_file(path)
    return {"width": width, "tokens": count, "starts": starts, "states_sha256": sha256}
