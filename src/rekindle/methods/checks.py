"""Settings that no method which samples groups can mean; each refusal says why."""

from __future__ import annotations

from rekindle.engine.config import SampleConfig
from rekindle.errors import ConfigError


def refuse_group_of_one(group_size: int, section: str) -> None:
    """Groups need two answers to compare."""
    if group_size < 2:
        raise ConfigError(
            f"{section}.group_size is too small",
            got=group_size,
            wanted="at least 2",
            why="the baseline is the group's mean, so a group of one always has advantage 0",
            fix=f"--set {section}.group_size=8",
        )


def refuse_sampling_without_ratio(sample: SampleConfig) -> None:
    """Training samples must come from the distribution whose log-probs are trained."""
    if sample.temperature == 0:
        raise ConfigError(
            "sample.temperature is 0 while training samples groups",
            got=0,
            wanted="above 0, usually 1.0",
            why="greedy answers to one problem are all the same, so every advantage is 0",
            fix="--set sample.temperature=1.0",
        )
    if sample.top_p < 1:
        raise ConfigError(
            "sample.top_p below 1 does not go with an importance ratio",
            got=sample.top_p,
            wanted="1.0",
            why="answers then come from a truncated distribution while the ratio is taken between "
            "full ones: the gradient is biased towards what top_p keeps",
            fix="--set sample.top_p=1.0 (evaluation may use any: rekindle eval)",
        )
