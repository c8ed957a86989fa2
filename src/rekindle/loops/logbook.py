"""What a run has spent, and what stands in each row of its metrics."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rekindle.engine.config import LogConfig, OptimConfig
from rekindle.engine.state import RngState, Scalar, TrainState, restore_rng, rng_state

MICRO_TOKENS = "micro_tokens"  # in TrainState.scalars, once they were halved


@dataclass(frozen=True)
class Budget:
    """Tokens that training may take; what is spent is part of the state, so resume counts on.

    `limits` maps a metric of each row ("tokens/generated") to how many there may be of it.
    """

    limits: Mapping[str, int]
    steps: int

    @classmethod
    def of(cls, optim: OptimConfig) -> "Budget":
        """The budgets that a recipe sets; there may be none."""
        limits = {
            "tokens/generated": optim.max_generated,
            "tokens/trained": optim.max_trained,
        }
        return cls({name: limit for name, limit in limits.items() if limit}, optim.steps)

    def spend(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Count a step's row."""
        for name in self.limits:
            spent = float(state.scalars.get(f"spent {name}") or 0)
            state.scalars[f"spent {name}"] = spent + float(metrics.get(name, 0.0))

    def share(self, state: TrainState) -> float:
        """Spent of the budget that is nearest to its end, from 0; 1 or more: it is over."""
        spent = state.scalars
        shares = [float(spent.get(f"spent {n}") or 0) / most for n, most in self.limits.items()]
        return max(shares, default=0.0)

    def schedule_at(self, state: TrainState) -> int:
        """Where the schedule stands: at the larger of the shares of steps and tokens, so that it
        has come to its end when training ends."""
        return max(state.step, math.floor(self.share(state) * self.steps))


class Logbook:
    """The rows of one training: times of the step under way, and facts of the stage in each row.

    The only part of a world that changes; the world that takes the steps writes it.

    Args:
        config: the recipe's section: how many rollouts are written each step.
        facts: numbers that stand in every row, those of a stage.
    """

    def __init__(self, config: LogConfig, facts: Mapping[str, float] | None = None) -> None:
        self.config, self.facts = config, dict(facts or {})
        self._state: TrainState | None = None
        self._times: dict[str, float] = {}
        self._began = 0.0
        self._before: tuple[dict[str, Scalar], RngState] | None = None
        self._updates = 0  # of the step under way

    def begin(self, state: TrainState) -> None:
        """Training begins or goes on from this state."""
        self._state = state

    def begin_step(self) -> None:
        """A step begins now."""
        self._began, self._updates = time.perf_counter(), 0
        known = self._state
        self._before = None if known is None else (dict(known.scalars), rng_state())

    def count_update(self) -> None:
        """The weights have moved within the step under way."""
        self._updates += 1

    def take_back(self) -> bool:
        """Bring the state back to where the step under way began; False: its weights have moved,
        or no step has begun."""
        if self._before is None or self._updates:
            return False
        scalars, rngs = self._before
        self.state.scalars = dict(scalars)
        restore_rng(rngs)
        return True

    @property
    def halved_tokens(self) -> int | None:
        """The size of micro-batches since the memory did not suffice for larger ones."""
        size = None if self._state is None else self._state.scalars.get(MICRO_TOKENS)
        return None if size is None else int(size)

    @property
    def state(self) -> TrainState:
        """The state that is trained."""
        if self._state is None:
            raise ValueError("no step has begun: rows are written within `world.steps`")
        return self._state

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Add the time of a block to `time/<part>` of this step's row, in seconds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self._times[part] = self._times.get(part, 0.0) + spent

    def row(self, metrics: Mapping[str, float], *, checkpoint: float) -> dict[str, float]:
        """A step's metrics with the facts, and the times since the last row; `checkpoint` is that
        of the checkpoints in between."""
        times = {f"time/{part}": seconds for part, seconds in self._times.items()}
        self._times.clear()
        times["time/checkpoint"] = checkpoint
        times["time/step"] = time.perf_counter() - self._began
        return {**metrics, **self.facts, **times}
