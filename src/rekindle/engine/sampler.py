"""Where rollouts come from: what a sampler is, and the only place that makes one.

    sampler_for(policy)         the library's own sampler, for a policy in this process
    Samplers(source)            the samplers of a run; `source` is what the caller brought
    samplers.of(policy)         samples from the policy's weights as they are now

A caller brings one sampler for the whole run (a server that serves one model at a time), or a
function that makes one for a policy. Either way `sync(policy)` is called before the first sample of
each `of(policy)`, and again when another policy has been sampled from in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

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


def sampler_for(policy: Policy) -> Sampler:
    """The library's sampler for a policy; its weights are read anew at each call."""
    return CachedSampler(policy)


class Samplers:
    """The samplers of a run: one at a time is alive, and it has the weights that were asked for.

    Args:
        source: one sampler for all policies of the run, or a function that makes one for a policy.

    Raises:
        ConfigError: the source is neither; also when it makes something else.
    """

    def __init__(self, source: object) -> None:
        if not isinstance(source, Sampler) and not callable(source):
            raise _no_sampler(source)
        # A class has the attributes of a sampler, and is a function that makes one.
        one = isinstance(source, Sampler) and not isinstance(source, type)
        make = (lambda policy: source) if one else source
        self._make = cast(Callable[[Policy], object], make)
        self.release()

    def of(self, policy: Policy) -> Sampler:
        """A sampler of this policy's weights as they are now; ask again after each update."""
        return PolicySampler(self, policy)

    def release(self) -> None:
        """Forget the last policy, so that its memory is free when its training is over."""
        self._alive: tuple[Policy, Sampler] | None = None
        self._synced: PolicySampler | None = None

    def ready(self, asking: PolicySampler, *, again: bool = False) -> Sampler:
        """The sampler, with the weights of `asking`'s policy; `again`: brought anew."""
        if self._alive is None or self._alive[0] is not asking.policy:
            self.release()  # before the next one is made: there may be no room for two
            sampler = self._make(asking.policy)
            if not isinstance(sampler, Sampler):
                raise _no_sampler(sampler)
            self._alive = (asking.policy, sampler)
        if again or self._synced is not asking:
            self._alive[1].sync(asking.policy)
            self._synced = asking
        return self._alive[1]


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
            TrainingError: as `check_rollouts`.
        """
        sampler = self._samplers.ready(self)
        given: object = sampler.sample(problems, samples=samples, config=config, seed=seed)
        return check_rollouts(given, problems, samples)


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


def check_rollouts(given: object, problems: Sequence[Problem], samples: int) -> list[Rollout]:
    """The rollouts that a sampler returned, which must be those that were asked for.

    Raises:
        TrainingError: too few or too many, another problem or sample in some place, or a token
            without its log-prob; the first such place is named.
    """
    listed = list(given) if isinstance(given, Iterable) else [given]
    rollouts = [one for one in listed if isinstance(one, Rollout)]
    if len(rollouts) < len(listed):
        raise _other_rollouts("what it returned", given, "a list of rekindle.Rollout")
    expected = [(problem, sample) for problem in problems for sample in range(samples)]
    if len(rollouts) != len(expected):
        wanted = f"{len(expected)}: {samples} of each of {len(problems)} problems"
        raise _other_rollouts("their number", len(rollouts), wanted)
    for i, (rollout, (problem, sample)) in enumerate(zip(rollouts, expected, strict=True)):
        same = rollout.problem is problem or rollout.problem == problem
        if not same or rollout.sample != sample:
            got = f"sample {rollout.sample} of problem '{rollout.problem.id}'"
            wanted = f"sample {sample} of problem '{problem.id}', the problem as it was given"
            raise _other_rollouts(f"rollout {i + 1}", got, wanted)
        tokens, logprobs = len(rollout.tokens), len(rollout.sampled_logprobs)
        if tokens != logprobs:
            wanted = f"{tokens} for as many tokens"
            raise _other_rollouts(f"the log-probs of rollout {i + 1}", logprobs, wanted)
    return rollouts


def _other_rollouts(what: str, got: object, wanted: str) -> TrainingError:
    return TrainingError(
        f"the sampler returned other rollouts than were asked for: {what}",
        got=got,
        wanted=wanted,
        why="each is scored, and trained on, as an answer to the problem in its place",
        fix="return `samples` rollouts of each problem, in the order of the problems, numbered "
        "from 0, with one log-prob a token",
    )


def _no_sampler(source: object) -> ConfigError:
    return ConfigError(
        "this is no sampler",
        got=source,
        wanted="an object with sync(policy) and sample(problems, samples=, config=, seed=), or a "
        "function from a policy to such an object",
        why="every rollout of a run comes from it",
    )
