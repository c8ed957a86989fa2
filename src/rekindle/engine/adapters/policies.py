"""Policies with adapters: making one, and keeping the part of a policy that is trained."""

from dataclasses import replace
from pathlib import Path

from rekindle.engine.adapters.adapter import fresh_adapter, read_adapter
from rekindle.engine.adapters.loading import base_of
from rekindle.engine.config import LoraConfig
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError
from rekindle.ops.precision import round_linear_maps


def with_adapter(policy: Policy, lora: LoraConfig, *, seed: int, draw: int = 0) -> Policy:
    """The policy with a fresh adapter, which alone is trained; the policy's weights are its base.

    Args:
        seed, draw: as in `fresh_adapter`.

    Raises:
        ConfigError: it has an adapter already, or a target is no linear map of it.
        MissingExtraError: PEFT is not installed.
    """
    if policy.adapter is not None:
        raise ConfigError(
            "model.lora has no effect on a model that has an adapter",
            got=f"an adapter of rank {policy.adapter.lora.rank}",
            why="training goes on with that adapter, as it is",
            fix="remove model.lora; or, for a new adapter on top of it, train from the merged "
            "model (the RUN/final that the adapter lies in)",
        )
    base = base_of(policy.config, policy.model)
    model, adapter = fresh_adapter(base, lora, seed=seed, draw=draw)
    return replace(policy, model=model, adapter=adapter)


def hold_base(policy: Policy) -> None:
    """Hold the linear maps of an adapter's base in what products are made in, in place, where that
    loses nothing; DoRA reads the base's weights by itself, and has them as they are."""
    adapter = policy.adapter
    if adapter is None or adapter.lora.dora or adapter.base.plain is not None:
        return
    _ = adapter.base.fingerprint  # of the weights as they were loaded
    round_linear_maps(adapter.base.model, policy.products, if_exact=True)


def second_adapter(policy: Policy, *, seed: int) -> Policy:
    """The policy to be trained beside its like: where its adapter is fresh, one of other draws."""
    adapter = policy.adapter
    if adapter is None or not adapter.is_fresh(policy.model):
        return policy.trainable_copy()
    model, other = fresh_adapter(adapter.base, adapter.lora, seed=seed, draw=1)
    return replace(policy, model=model, adapter=other)


def save_trained(policy: Policy, directory: Path) -> None:
    """Write what `reopened` needs: of a policy with an adapter that alone, else all of it."""
    if policy.adapter is None:
        policy.save(directory)
    else:
        policy.adapter.save(policy.model, directory)


def reopened(policy: Policy, directory: Path) -> Policy:
    """The policy that `save_trained` wrote; of one with an adapter the base is `policy`'s own."""
    config = policy.config.with_name(str(directory))
    if policy.adapter is None:
        return Policy.load(config)
    model, adapter = read_adapter(policy.adapter.base, directory)
    return replace(policy, model=model, adapter=adapter, config=config)
