"""What a method works with: policy, task, samplers and run, and the verbs that join them.

A method's `run` reads as its algorithm box because sampling, scoring, gathering over processes,
logging and evaluation are here. Nothing here knows a formula.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from rekindle.engine.batch import Batch
from rekindle.engine.config import OptimConfig, SampleConfig
from rekindle.engine.device import Group, micro_tokens
from rekindle.engine.policy import Policy
from rekindle.engine.prompt_limit import Scope
from rekindle.engine.run import Run
from rekindle.engine.sampler import Sampler, Samplers, SharedSampler
from rekindle.engine.state import TrainState
from rekindle.engine.update import LossFn, fresh_state, measure_batch, update
from rekindle.errors import RewardFunctionError, ServerError, ServerUnavailableError
from rekindle.evals.evaluate import evaluate
from rekindle.loops.evaluation import EVALUATION_SEED, Evaluation, When
from rekindle.loops.logbook import Budget, Logbook
from rekindle.loops.memory import update_within_memory
from rekindle.loops.reward_scores import Graders
from rekindle.loops.rollouts import Collected, SampleRow, answer_rows, distinct
from rekindle.ops.logprobs import TokenScores
from rekindle.ops.weights import Totals
from rekindle.records import Problem
from rekindle.tasks import Task

_DRAWS = "draws"  # the sampler's position, kept in TrainState.scalars


@dataclass(frozen=True)
class World:
    """Everything that a method's `run` may touch. Nobody assigns to it: `dataclasses.replace`."""

    policy: Policy
    task: Task
    scope: Scope
    run: Run
    group: Group
    seed: int
    optim: OptimConfig
    sample: SampleConfig
    samplers: Samplers
    graders: Graders
    evaluation: Evaluation
    logbook: Logbook

    # --- the run

    def begin(self, beside: Mapping[str, nn.Module] | None = None) -> TrainState:
        """The newest complete checkpoint's state, or a fresh one: of all trained models."""
        models = {"policy": self.policy.model, **(beside or {})}
        return self.run.restore(fresh_state(models, self.optim))

    def steps(self, state: TrainState) -> Iterator[int]:
        """Step numbers from 1; evaluates before the first. `log` does on cadence and at the end.

        Ends early when a budget of tokens is spent; the schedule then follows the larger of the
        shares of steps and tokens, so that it has come to its end by then.
        """
        self.logbook.begin(state)
        if state.step == 0 and self.evaluation.due(0, last=False):
            self._evaluate(0)
        budget = Budget.of(self.optim)
        enough = lambda: budget.share(state) >= 1  # noqa: E731
        for step in self.run.steps(state, total=self.optim.steps, enough=enough):
            state.schedule_at = budget.schedule_at(state)
            self.logbook.begin_step()
            yield step

    def log(
        self, step: int, metrics: Mapping[str, float], samples: Sequence[SampleRow] = ()
    ) -> None:
        """One metrics row, with the times since the last one; first the evaluation that is due."""
        budget, state = Budget.of(self.optim), self.logbook.state
        budget.spend(state, metrics)
        last = step == self.optim.steps or budget.share(state) >= 1
        if self.evaluation.due(step, last=last):
            self._evaluate(step)
        row = self.logbook.row(metrics, checkpoint=self.run.checkpoint_seconds())
        self.run.log(step, row, samples=samples)

    def _evaluate(self, step: int) -> None:
        what, policy = self.evaluation, self.evaluation.policy or self.policy
        with self.logbook.clock("eval"):
            result = evaluate(
                what.problems(self.task, self.scope.levels),
                sampler=what.around(self.shared_sampler_for(policy)),
                task=self.task,
                sample_config=self.sample,
                samples=what.config.samples,
                seed=EVALUATION_SEED,
                split=what.config.split,
                model=policy.config.name,
                temperatures=what.config.temperatures,
                policy=policy if what.config.likelihood else None,
                quiet=self.run.quiet if self.group.is_main else True,
            )
        self.run.log_eval(step, result)

    def update(
        self, state: TrainState, batch: Batch, loss: LossFn, *, stats: Sequence[str] = ()
    ) -> dict[str, float]:
        """One update of all processes on this process's batch, see `loops.memory`."""
        clip, group, device = self.optim.clip, self.group, self.policy.device
        step = partial(update, state, loss=loss, clip=clip, group=group, device=device, stats=stats)
        split = partial(batch.split, arrangement=self.policy.arrangement())
        return update_within_memory(step, state, split, self.micro_tokens, self.logbook, self.run)

    @contextmanager
    def stage(
        self,
        run: Run,
        policy: Policy,
        *,
        optim: OptimConfig,
        seed: int,
        when: When = "always",
        facts: Mapping[str, float] | None = None,
    ) -> "Iterator[World]":
        """A stage's world: a run, a policy and rows of its own, with `facts` in each of these."""
        own = Logbook(self.logbook.config, facts)
        inner = replace(self, run=run, policy=policy, optim=optim, seed=seed, logbook=own)
        try:
            yield replace(inner, evaluation=replace(self.evaluation, when=when))
        finally:
            self.samplers.release()

    # --- problems and answers

    def sampler_for(self, policy: Policy) -> Sampler:
        """Samples from this policy's weights as they are now: where every rollout comes from."""
        return self.samplers.of(policy)

    def shared_sampler_for(self, policy: Policy) -> Sampler:
        """The same, the problems divided over the processes, and all the rollouts in each."""
        return SharedSampler(self.sampler_for(policy), self.group)

    def draw(self, state: TrainState, problems: int) -> list[Problem]:
        """The next training problems; the position is part of the state: resume goes on there."""
        position = int(state.scalars.get(_DRAWS) or 0)
        state.scalars[_DRAWS] = position + 1
        levels, seed = self.scope.levels, self.seed
        return distinct(self.task.draw(step=position, count=problems, seed=seed, levels=levels))

    def collect(self, state: TrainState, *, samples: int, extra_rollouts: float = 0.0) -> Collected:
        """Sample `samples` answers to each of a step's problems and score them.

        With `extra_rollouts` (DAPO's dynamic sampling) only groups of different scores are kept,
        and more problems are drawn until these are a step's worth or the budget is spent. A reward
        that fails leaves a checkpoint of the last step: call it before the step's update.
        """
        wanted = self.optim.problems
        try:
            collected = self._sampled(state, wanted, samples, offset=0)
            if extra_rollouts == 0:
                return collected
            limit = wanted + math.floor(wanted * extra_rollouts)
            while len(collected.mixed_groups()) < wanted and (at := collected.problems) < limit:
                more = self._sampled(state, min(wanted, limit - at), samples, offset=at)
                collected = collected.join(more)
            return collected.only(collected.mixed_groups()[:wanted])
        except (ServerError, RewardFunctionError) as error:
            self.logbook.take_back()
            if isinstance(error, ServerUnavailableError):
                self.run.pause(state, str(error))
            self.run.keep(state)
            raise

    def _sampled(self, state: TrainState, problems: int, samples: int, *, offset: int) -> Collected:
        drawn = self.draw(state, problems)
        mine = range(self.group.rank, len(drawn), self.group.size)
        with self.logbook.clock("sample"):
            rollouts = self.sampler_for(self.policy).sample(
                [drawn[p] for p in mine],
                samples=samples,
                config=self.sample,
                seed=self.seed * 1_000_003 + state.step,
            )
        with self.logbook.clock("score"):
            grades = self.graders.grade(self.task, rollouts, self.group)
        groups = [offset + p for p in mine for _ in range(samples)]
        rows = self.group.gather_objects(answer_rows(groups, rollouts, grades))
        gathered = sorted(rows, key=lambda row: row[:2])
        self.graders.check_missing(gathered)
        return Collected(
            rollouts=rollouts,
            scores=[grade.score for grade in grades],
            groups=groups,
            gathered=gathered,
            problems=len(drawn),
            generated=sum(row.tokens for row in gathered),
        )

    # --- numbers

    @property
    def micro_tokens(self) -> int:
        """Padded tokens in one forward pass."""
        size = self.logbook.halved_tokens or self.optim.micro_tokens
        return micro_tokens(size, self.policy.device)

    def total(self, local: Totals) -> Totals:
        """Sequences and tokens of all processes."""
        return Totals(**self.group.sum(local._asdict()))

    def measure(
        self, policy: Policy, batch: Batch, *, temperature: float | None = None
    ) -> TokenScores:
        """Log-probs and entropies of a batch, [B, T], nan as padding; None: as in sampling."""
        warm = self.sample.temperature if temperature is None else temperature
        return measure_batch(policy, batch, micro_tokens=self.micro_tokens, temperature=warm)
