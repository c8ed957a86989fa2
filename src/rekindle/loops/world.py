"""What a method works with: policy, task, sampler and run, and the verbs that join them.

A method's `run` reads as its algorithm box because sampling, scoring, gathering over processes,
logging and evaluation are here. Nothing here knows a formula.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from rekindle.engine.batch import Batch, count, pack
from rekindle.engine.config import EvalConfig, LogConfig, OptimConfig, SampleConfig
from rekindle.engine.device import Group, micro_tokens
from rekindle.engine.policy import Policy
from rekindle.engine.run import Run
from rekindle.engine.sampler import CachedSampler, Sampler
from rekindle.engine.state import RngState, Scalar, TrainState, restore_rng, rng_state
from rekindle.engine.update import measure_batch
from rekindle.errors import RewardUnavailableError
from rekindle.evals.evaluate import evaluate
from rekindle.loops.reward_scores import (
    refuse_too_many_unscored,
    reward_model_metrics,
    reward_scores,
    with_reward,
)
from rekindle.loops.rollouts import (
    Collected,
    Row,
    known,
    refuse_too_many_missing,
    reward_metrics,
    sample_rows,
)
from rekindle.ops.groups import Credit
from rekindle.ops.logprobs import TokenScores
from rekindle.ops.weights import Totals
from rekindle.records import Problem, Rollout, Score
from rekindle.rewards.judge import Judge
from rekindle.rewards.reward_model import Scorer
from rekindle.tasks import Task
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.tasks.task import grade_all

_DRAWS = "draws"  # the sampler's position, kept in TrainState.scalars
_EVAL_SEED = 0  # the same problems and draws whatever the run's seed, so that runs compare in pairs


@dataclass
class World:
    """Everything that a method's `run` may touch."""

    policy: Policy
    task: Task
    sampler: Sampler
    run: Run
    group: Group
    seed: int
    optim: OptimConfig
    sample: SampleConfig
    evaluation: EvalConfig
    logging: LogConfig
    levels: tuple[str, ...] | None
    max_missing: float
    deterministic: bool = True
    evaluates: Literal["always", "after", "never"] = "always"  # "after": not before the first step
    scorer: Scorer | None = None  # the reward model
    verifier: BrittleVerifier | None = None  # of training, where it is not the task's own
    max_missing_rm: float = 1.0
    judge: Judge | None = None  # of the caller's own
    facts: Mapping[str, float] = field(default_factory=dict)  # of this stage, in each of its rows
    evaluated: Policy | None = None  # what evaluation asks; None: the policy
    _begun: tuple[dict[str, Scalar], RngState] = field(default_factory=lambda: ({}, rng_state()))
    _times: dict[str, float] = field(default_factory=dict)
    _step_began: float = 0.0
    _state: TrainState | None = None

    # --- the run

    def restore(self, state: TrainState) -> TrainState:
        """The newest complete checkpoint's state, or this one."""
        return self.run.restore(state)

    def steps(self, state: TrainState) -> Iterator[int]:
        """Step numbers from 1; evaluates before the first. `log` does on cadence and at the end.

        Ends early when a budget of tokens is spent; the schedule then follows the larger of the
        shares of steps and tokens, so that it has come to its end by then.
        """
        self._state = state
        if state.step == 0 and self.evaluates == "always":
            self._evaluate(0)
        enough = lambda: self._share_spent() >= 1  # noqa: E731
        for step in self.run.steps(state, total=self.optim.steps, enough=enough):
            share = self._share_spent()
            state.schedule_at = max(state.step, math.floor(share * self.optim.steps))
            self._step_began = time.perf_counter()
            if self.scorer is not None:
                self._begun = (dict(state.scalars), rng_state())
            yield step

    def _share_spent(self) -> float:
        # Of the budget of tokens that is nearest to its end; 0 where there is none.
        spent = {} if self._state is None else self._state.scalars
        return max(
            float(spent.get(f"spent {name}") or 0) / limit if limit else 0.0
            for name, limit in self._limits().items()
        )

    def _limits(self) -> dict[str, int | None]:
        return {
            "tokens/generated": self.optim.max_generated,
            "tokens/trained": self.optim.max_trained,
        }

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Add the time of a block to `time/<part>` of this step's row, in seconds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self._times[part] = self._times.get(part, 0.0) + spent

    def _evaluate(self, step: int) -> None:
        policy = self.evaluated or self.policy
        sampler = self.sampler if self.evaluated is None else CachedSampler(policy)
        with self.clock("eval"):
            result = evaluate(
                self.task.problems(
                    self.evaluation.split,
                    count=self.evaluation.problems,
                    seed=_EVAL_SEED,
                    levels=self.evaluation.levels or self.levels,
                ),
                sampler=Shared(sampler, self.group),
                task=self.task,
                sample_config=self.sample,
                samples=self.evaluation.samples,
                seed=_EVAL_SEED,
                split=self.evaluation.split,
                model=self.policy.config.name,
                temperatures=self.evaluation.temperatures,
                policy=policy if self.evaluation.likelihood else None,
            )
        self.run.log_eval(step, result)

    # --- problems and answers

    def draw(self, state: TrainState, problems: int) -> list[Problem]:
        """The next training problems; the position is part of the state: resume goes on there."""
        position = int(state.scalars.get(_DRAWS) or 0)
        state.scalars[_DRAWS] = position + 1
        return _distinct(
            self.task.draw(step=position, count=problems, seed=self.seed, levels=self.levels)
        )

    def collect(self, state: TrainState, *, samples: int, extra_rollouts: float = 0.0) -> Collected:
        """Sample `samples` answers to each of a step's problems and score them.

        With `extra_rollouts` (DAPO's dynamic sampling) only mixed groups are kept, and more
        problems are drawn until a step's worth of groups is mixed or the budget is spent.
        """
        want = self.optim.problems
        found = self._ask(state, want, samples, offset=0)
        if extra_rollouts == 0:
            return found
        limit = want + math.floor(want * extra_rollouts)
        while len(found.mixed_groups()) < want and found.asked < limit:
            more = min(want, limit - found.asked)
            found = found.join(self._ask(state, more, samples, offset=found.asked))
        return found.only(found.mixed_groups()[:want])

    def _ask(self, state: TrainState, problems: int, samples: int, *, offset: int) -> Collected:
        drawn = self.draw(state, problems)
        mine = range(self.group.rank, len(drawn), self.group.size)
        with self.clock("sample"):
            rollouts = self.sampler.sample(
                [drawn[p] for p in mine],
                samples=samples,
                config=self.sample,
                seed=self.seed * 1_000_003 + state.step,
            )
        with self.clock("score"):
            scores, rewards = self._grade(state, rollouts)
        groups = [offset + p for p in mine for _ in range(samples)]
        rows = [
            Row(
                group=group,
                sample=rollout.sample,
                correct=known(score.value),
                sum_logprob=sum(rollout.sampled_logprobs),
                tokens=len(rollout.tokens),
                missing=score.reason,
                rm_score=math.nan if reward is None else known(reward.value),
                rm_missing=None if reward is None else reward.reason,
                true=known(score.parts.get("true", score.value)),
            )
            for group, rollout, score, reward in zip(groups, rollouts, scores, rewards, strict=True)
        ]
        gathered = sorted(self.group.gather_objects(rows), key=lambda row: row[:2])
        refuse_too_many_missing(gathered, at_most=self.max_missing)
        refuse_too_many_unscored(gathered, at_most=self.max_missing_rm)
        return Collected(
            rollouts=rollouts,
            scores=[with_reward(*pair) for pair in zip(scores, rewards, strict=True)],
            groups=groups,
            gathered=gathered,
            asked=len(drawn),
            generated=sum(row.tokens for row in gathered),
        )

    def _grade(
        self, state: TrainState, rollouts: Sequence[Rollout]
    ) -> tuple[list[Score], Sequence[Score | None]]:
        """The training verifier's scores, and the reward model's where there is one."""
        grader = self.verifier or self.task
        scores = grade_all(grader, [(rollout.problem, rollout.text) for rollout in rollouts])
        if self.scorer is None:
            return scores, [None] * len(rollouts)
        try:
            return scores, reward_scores(self.scorer, rollouts, self.group)
        except RewardUnavailableError as error:
            # Methods collect before they update, so weights are those of the last finished step.
            scalars, rngs = self._begun
            state.scalars = scalars
            restore_rng(rngs)
            self.run.pause(state, str(error))

    # --- numbers

    @property
    def micro_tokens(self) -> int:
        """Padded tokens in one forward pass."""
        return micro_tokens(self.optim.micro_tokens, self.policy.device)

    def total(self, local: Totals) -> Totals:
        """Sequences and tokens of all processes."""
        return Totals(**self.group.sum(local._asdict()))

    def score(self, policy: Policy, batch: Batch) -> Float[Tensor, "B T"]:
        """Log-probs of a batch under a policy, by the trainer's own forward."""
        return self._measure(policy, batch).logprobs_BT

    def measure(self, collected: Collected) -> TokenScores:
        """Log-probs and entropies of this process's rollouts under the policy as it is now, [B, T],
        nan as padding: what sampled them, by the trainer's own forward."""
        completions = [rollout.tokens for rollout in collected.rollouts]
        prompts = [rollout.prompt_tokens for rollout in collected.rollouts]
        batch = pack(prompts, completions, reduction="token", total=count(completions))
        return self._measure(self.policy, batch)

    def rescored(self, collected: Collected) -> Collected:
        """The same answers with `sum_logprob` by the trainer's own forward, on all processes."""
        with self.clock("update"):
            logprobs_BT = self.measure(collected).logprobs_BT
        sums = logprobs_BT.nansum(dim=1).tolist()
        mine = [
            (group, rollout.sample, value)
            for group, rollout, value in zip(
                collected.groups, collected.rollouts, sums, strict=True
            )
        ]
        found = {item[:2]: item[2] for item in self.group.gather_objects(mine)}
        rows = [row._replace(sum_logprob=found[row[:2]]) for row in collected.gathered]
        return replace(collected, gathered=rows)

    def _measure(self, policy: Policy, batch: Batch) -> TokenScores:
        temperature = self.sample.temperature
        return measure_batch(policy, batch, micro_tokens=self.micro_tokens, temperature=temperature)

    # --- the record

    def log(
        self,
        step: int,
        metrics: Mapping[str, float],
        samples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """One metrics row, with the times since the last one; first the evaluation that is due."""
        self._spend(metrics)
        last = step == self.optim.steps or self._share_spent() >= 1
        due = last or (self.evaluation.every and step % self.evaluation.every == 0)
        if due and self.evaluates != "never":
            self._evaluate(step)
        times = {f"time/{part}": seconds for part, seconds in self._times.items()}
        self._times.clear()
        times["time/checkpoint"] = self.run.checkpoint_seconds()
        times["time/step"] = time.perf_counter() - self._step_began
        self.run.log(step, {**metrics, **self.facts, **times}, samples=samples)

    def _spend(self, metrics: Mapping[str, float]) -> None:
        if self._state is None:
            return
        scalars = self._state.scalars
        for name, limit in self._limits().items():
            if limit is not None:
                scalars[f"spent {name}"] = float(scalars.get(f"spent {name}") or 0) + float(
                    metrics.get(name, 0.0)
                )

    def log_rollouts(
        self,
        step: int,
        updates: Sequence[Mapping[str, float]],
        collected: Collected,
        earned: Credit,
        batches: Sequence[Batch],
        facts: Mapping[str, float] | None = None,
    ) -> None:
        """The metrics row of an RL step, with the method's `facts`, and some of its rollouts."""
        summed = self.group.sum(
            {
                "trained": float(sum(batch.tokens for batch in batches)),
                "truncated": float(sum(r.finish == "length" for r in collected.rollouts)),
            }
        )
        rows = collected.rows
        kept_tokens = float(rows.num_tokens_N.sum())
        metrics = {
            **{name: sum(u[name] for u in updates) / len(updates) for name in updates[-1]},
            **reward_metrics(rows, earned),
            # -log p of what was sampled, averaged: unbiased for the entropy, over all answers
            "entropy": -float(rows.sum_logprob_N.sum()) / kept_tokens if kept_tokens else math.nan,
            "tokens/generated": float(collected.generated),
            "tokens/trained": summed["trained"],
            "length/mean": kept_tokens / len(rows.group) if rows.group else math.nan,
            "length/truncated": summed["truncated"] / len(rows.group) if rows.group else math.nan,
            "problems/asked": float(collected.asked),
            "updates": float(len(updates)),
            **(facts or {}),
        }
        if self.scorer is not None:
            metrics |= reward_model_metrics(collected.gathered)
        if self.verifier is not None:
            true = [row.true for row in collected.gathered if not math.isnan(row.true)]
            metrics["score/true"] = sum(true) / len(true) if true else math.nan
        samples = sample_rows(step, collected, earned, limit=self.logging.samples)
        self.log(step, metrics, samples)


@dataclass(frozen=True)
class Shared:
    """A sampler whose problems are divided over the processes; every one gets all the rollouts."""

    sampler: Sampler
    group: Group

    def sample(
        self, problems: Sequence[Problem], *, samples: int, config: SampleConfig, seed: int
    ) -> list[Rollout]:
        """As the sampler alone would return, whatever the number of processes."""
        mine = range(self.group.rank, len(problems), self.group.size)
        rollouts = self.sampler.sample(
            [problems[p] for p in mine], samples=samples, config=config, seed=seed
        )
        places = [(p, s) for p in mine for s in range(samples)]
        gathered = self.group.gather_objects(list(zip(places, rollouts, strict=True)))
        return [rollout for _, rollout in sorted(gathered, key=lambda item: item[0])]


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    """A problem drawn twice in a step is two groups, with draws of their own."""
    seen: Counter[str] = Counter()
    out = []
    for problem in problems:
        seen[problem.id] += 1
        times = seen[problem.id]
        out.append(problem if times == 1 else replace(problem, id=f"{problem.id}#{times}"))
    return out
