"""Which weak model a phase of WMSS mixes in, and in what form."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rekindle.engine.adapters import Adapters
from rekindle.engine.device import on_main
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.files import remove_tree
from rekindle.loops.world import World
from rekindle.methods import sft
from rekindle.methods.wmss.weak_side import Adapter, Cached, Elsewhere, Live, WeakSide
from rekindle.records import Problem

if TYPE_CHECKING:
    from rekindle.methods.wmss.wmss import Config

_HALF = "half"


class Made(NamedTuple):
    """The models that a phase begins with."""

    strong: Policy
    weak: Policy
    base: Policy | None = None  # None in phase 1, which trains it


def first_weak(config: "Config", base: Policy) -> Policy | None:
    """The weak model of the first iteration, see `wmss.weak`, checked before anything is trained;
    None where phase 1 will make it (`half_of`). Later iterations mix in a strong model.

    Raises:
        ModelError: its logits cannot be mixed with the base's, where they will be.
    """
    known = config.weak in ("base", _HALF)
    name = {"name": config.weak, "revision": None}
    weak = base if known else Policy.load(base.config.model_copy(update=name))
    if config.partner in ("weak", "shuffled") or config.extrapolate:
        check_pair(base, weak)
    return None if config.weak == _HALF else weak


def half_of(strong: Policy) -> Policy:
    """The strong model as it was half-way through the phase that made it."""
    place = Path(strong.config.name).parent / _HALF
    return Policy.load(strong.config.model_copy(update={"name": str(place)}))


def keep_half(name: str, world: World, policy: Policy, step: int) -> None:
    """Half-way through phase 1, keep the model as it is; before this step's checkpoint, so that a
    resume finds it or makes it again."""
    place = world.run.directory / _HALF
    if name != _HALF or step != max(1, world.optim.steps // 2):
        return

    def write() -> None:
        partial = place.with_name(f"{_HALF}.partial")
        remove_tree(partial)
        policy.save(partial)
        remove_tree(place)
        partial.rename(place)

    on_main(world.group, write)


def prepare(config: "Config", world: World, made: Made) -> tuple[Policy, Adapters | None]:
    """The policy that is trained: the world's, with two adapters inside where the config says."""
    if config.lora_rank is None:
        return world.policy, None
    rank = config.lora_rank
    adapters = Adapters(
        world.policy, ("strong", "weak"), rank=rank, alpha=config.lora_alpha or 2.0 * rank
    )
    if made.base is None:
        adapters.require_gradients(("strong",))
        return world.policy, adapters
    for name, model in (("strong", made.strong), ("weak", made.weak)):
        if model is not made.base:  # a fresh adapter is the base
            adapters.load(name, Path(model.config.name) / "adapter")
    adapters.require_gradients(("strong",) if config.partner == "none" else adapters.names)
    return world.policy, adapters


def side_of(
    config: "Config",
    world: World,
    problems: Sequence[Problem],
    made: Made,
    adapters: Adapters | None,
) -> WeakSide:
    """The weak half of the mix."""
    _note_twins(made)
    side: WeakSide
    if adapters is not None:
        side = Adapter(adapters, "weak")
    elif config.cache_weak:
        batch = sft.weigh(sft.Config(), world, list(problems))
        place = world.run.directory / "weak_states"
        micro = world.micro_tokens
        side = Cached.make(place, made.weak, batch, micro_tokens=micro, group=world.group)
    else:
        side = Live.of(made.weak, frozen=config.freeze_weak)
    return Elsewhere(side) if config.partner == "shuffled" else side


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


def _note_twins(made: Made) -> None:
    if weights_fingerprint(made.weak) == weights_fingerprint(made.strong):
        warnings.warn(
            "weak and strong are the same weights: the mix is the model itself, so both are "
            "trained by SFT with lam and 1 - lam of its gradient",
            stacklevel=2,
        )
