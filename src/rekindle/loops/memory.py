"""An update that does not fit into the memory: smaller micro-batches once, then a clear end.

The reduction weights are final before a batch is split, so its step is the same in any pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rekindle.engine.batch import MicroBatch
from rekindle.engine.device import Group
from rekindle.engine.progress import say
from rekindle.engine.run import Run
from rekindle.engine.state import TrainState
from rekindle.errors import MemoryExhaustedError
from rekindle.loops.logbook import MICRO_TOKENS, Logbook


def update_within_memory(
    update: Callable[[Sequence[MicroBatch]], dict[str, float]],
    state: TrainState,
    split: Callable[[int], Sequence[MicroBatch]],
    micro_tokens: int,
    logbook: Logbook,
    run: Run,
) -> dict[str, float]:
    """Update on a batch, split into pieces of `micro_tokens`; of half as many where it must be.

    Once in a session. The size is part of the state, so a resumed run goes on with it.

    Raises:
        MemoryExhaustedError: the halves do not fit either, or were in use; a checkpoint of the last
            finished step is written, unless weights have moved since.
    """
    size = micro_tokens
    metrics: dict[str, float] | None = None
    while metrics is None:
        parts = split(size)
        try:
            metrics = update(parts)
        except MemoryExhaustedError:
            if state.halved or size < 2:
                _keep_last_step(state, size, logbook, run)
                raise
        if metrics is None:  # by now the error is gone, and what it held
            size = _halve(state, min(size, _largest(parts, run.group)), run)
    logbook.count_update()
    return metrics


def _halve(state: TrainState, size: int, run: Run) -> int:
    half = size // 2
    state.halved, state.scalars[MICRO_TOKENS] = True, half
    if run.group.is_main:
        say(
            f"out of memory in step {state.step + 1}: micro-batches are halved, from {size} to "
            f"{half} padded tokens (optim.micro_tokens)"
        )
    return half


def _largest(parts: Sequence[MicroBatch], group: Group) -> int:
    """Padded tokens of the largest micro-batch that was tried, in any process."""
    sizes = [part.layout.tokens_RS.numel() for part in parts]
    return max([2, *group.gather_objects(sizes)])


def _keep_last_step(state: TrainState, size: int, logbook: Logbook, run: Run) -> None:
    if logbook.take_back():
        state.scalars[MICRO_TOKENS] = size
        run.keep(state)
