"""Where rollouts come from: what a sampler is, and the only place that makes one.

    sampler_for(policy)         the library's own sampler, for a policy in this process
    Samplers(source)            the samplers of a run; `source` is what the caller brought
    samplers.of(policy)         samples from the policy's weights as they are now

A caller brings one sampler for the whole run (a server that serves one model at a time), or a
function that makes one for a policy. Either way `sync(policy)` is called before the first sample of
each `of(policy)`, and again when another policy has been sampled from in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rekindle.engine.cached_sampler import CachedSampler
from rekindle.engine.config import SampleConfig
from rekindle.engine.device import Group
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, TrainingError
from rekindle.records import Problem, Rollout


@runtime_checkable
class Sampler(Protocol):
    """Something that answers problems with the weights of a policy."""

    def sync(self, policy: Policy) -> None:
        """Bring this policy's weights, as they are now, to wherever the sampler lives."""

    def sample(
        self, problems: Sequence[Problem], *, samples: int, config: SampleConfig, seed: int
    ) -> list[Rollout]:
        """`samples` rollouts of each problem, problem by problem, numbered from 0."""


SamplerSource = Sampler | Callable[[Policy], Sampler]
_WANTED = "an object with sync(policy) and sample(problems, samples, config, seed)"
_WHY = "every rollout of the run comes from it"


def sampler_for(policy: Policy) -> Sampler:
    """The library's sampler for a policy; its weights are read anew at each call."""
    return CachedSampler(policy)


class Samplers:
    """The samplers of a run: one at a time is alive, and it has the weights that were asked for.

    Args:
        source: one sampler for all policies of the run, or a function that makes one for a policy.

    Raises:
        ConfigError: the source is neither.
    """

    def __init__(self, source: SamplerSource = sampler_for) -> None:
        # A class has the attributes of a sampler and is a function that makes one.
        self._one = source if isinstance(source, Sampler) and not isinstance(source, type) else None
        self._make = None if self._one is not None else source
        if self._one is None and not callable(source):
            raise ConfigError(
                "this is no sampler",
                got=source,
                wanted=f"{_WANTED}, or a function from a policy to such an object",
                why=_WHY,
            )
        self._made: tuple[Policy, Sampler] | None = None
        self._synced: PolicySampler | None = None

    def of(self, policy: Policy) -> Sampler:
        """A sampler of this policy's weights as they are now; ask again after each update."""
        return PolicySampler(self, policy)

    def release(self) -> None:
        """Forget the last policy, so that its memory is free when its training is over."""
        self._made = self._synced = None

    def ready(self, asking: PolicySampler, *, again: bool = False) -> Sampler:
        """The sampler that has the weights of `asking`'s policy; `again`: bring them anew."""
        sampler = self._sampler_of(asking.policy)
        if again or self._synced is not asking:
            sampler.sync(asking.policy)
            self._synced = asking
        return sampler

    def _sampler_of(self, policy: Policy) -> Sampler:
        if self._one is not None:
            return self._one
        if self._made is None or self._made[0] is not policy:
            assert callable(self._make)
            self._made = None  # before the next one is made: two may not fit
            made = self._make(policy)
            if not isinstance(made, Sampler):
                raise ConfigError(
                    "the function for samplers made something else",
                    got=made,
                    wanted=_WANTED,
                    why=_WHY,
                )
            self._made = (policy, made)
        return self._made[1]


class PolicySampler:
    """What `Samplers.of` gives: a policy's sampler, whose rollouts are checked as they come in."""

    def __init__(self, samplers: Samplers, policy: Policy) -> None:
        self._samplers, self.policy = samplers, policy

    def sync(self, policy: Policy) -> None:
        """Sample from this policy, with its weights as they are now, from the next call on."""
        self.policy = policy
        self._samplers.ready(self, again=True)

    def sample(
        self, problems: Sequence[Problem], *, samples: int, config: SampleConfig, seed: int
    ) -> list[Rollout]:
        """As the sampler's own.

        Raises:
            TrainingError: rollouts are too few or too many, of other problems, or in another order.
        """
        sampler = self._samplers.ready(self)
        rollouts = sampler.sample(problems, samples=samples, config=config, seed=seed)
        check_rollouts(rollouts, problems, samples)
        return rollouts


@dataclass(frozen=True)
class SharedSampler:
    """A sampler whose problems are divided over the processes; every one gets all the rollouts."""

    sampler: Sampler
    group: Group

    def sync(self, policy: Policy) -> None:
        """In each process."""
        self.sampler.sync(policy)

    def sample(
        self, problems: Sequence[Problem], *, samples: int, config: SampleConfig, seed: int
    ) -> list[Rollout]:
        """As the sampler alone would return, whatever the number of processes."""
        mine = range(self.group.rank, len(problems), self.group.size)
        rollouts = self.sampler.sample(
            [problems[p] for p in mine], samples=samples, config=config, seed=seed
        )
        order = [(p, s) for p in mine for s in range(samples)]
        gathered = self.group.gather_objects(list(zip(order, rollouts, strict=True)))
        return [rollout for _, rollout in sorted(gathered, key=lambda item: item[0])]


def check_rollouts(rollouts: Sequence[Rollout], problems: Sequence[Problem], samples: int) -> None:
    """Refuse rollouts that are not what was asked for.

    Raises:
        TrainingError: too few or too many, another problem or sample in some place, or log-probs
            that do not match the tokens; the first such place is named.
    """
    wanted = len(problems) * samples
    fix = "return `samples` rollouts of each problem, in the order of the problems, numbered from 0"
    if len(rollouts) != wanted:
        raise TrainingError(
            "the sampler returned another number of rollouts than were asked for",
            got=len(rollouts),
            wanted=f"{wanted}: {samples} of each of {len(problems)} problems",
            why="an answer is scored and trained on as the answer to the problem in its place",
            fix=fix,
        )
    for i, rollout in enumerate(rollouts):
        problem, sample = problems[i // samples], i % samples
        other = rollout.problem is not problem and rollout.problem != problem
        if other or rollout.sample != sample:
            raise TrainingError(
                f"the sampler's rollout {i} is of another problem or sample",
                got=f"problem '{rollout.problem.id}', sample {rollout.sample}",
                wanted=f"problem '{problem.id}' as it was given, sample {sample}",
                why="an answer is scored and trained on as the answer to the problem in its place",
                fix=fix,
            )
        if len(rollout.tokens) != len(rollout.sampled_logprobs):
            raise TrainingError(
                f"the sampler's rollout {i} does not have one log-prob a token",
                got=f"{len(rollout.tokens)} tokens, {len(rollout.sampled_logprobs)} log-probs",
                wanted="as many",
                why="their sum is the answer's log-prob, which methods read",
                fix="return the log-prob of each sampled token at the sampling temperature",
            )
