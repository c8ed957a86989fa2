"""The signal of a TRL run while it trains: a callback for `GRPOTrainer` and `RLOOTrainer`.

from rekindle.integrations.trl import SignalCallback

trainer = GRPOTrainer(..., callbacks=[SignalCallback(verifier="correct")])

Each generation batch is read once, right after it was used for the first time: `signal/all_wrong`,
`signal/mixed`, `signal/all_right` and `signal/e_value` stand beside TRL's own metrics, and a
warning is logged when the signal goes out, with its cause and what would bring it back as far as
the rows show. `callback.diagnosis()` gives everything that `rekindle diagnose --log` tells of the
last batches. Nothing else is written, and no number of the training is touched.

How it sees what a callback is not given. transformers passes callbacks the model, the state and the
metrics, not the trainer; TRL keeps the newest generation batch of all processes in `trainer._logs`,
from which it writes its own tables, whether or not `log_completions` is on. The trainer is taken
from the call that reaches `on_train_begin` (`SignalCallback(trainer=...)` says it instead). What is
read are `_logs`, `_metrics`, `num_generations`, `reward_weights` and `reward_func_names`; a trainer
that lacks one is refused before the first step. Seen with TRL 1.16.

Read at the end of each micro-step. A batch is new where its last advantage is another object than
at the last look: a batch that is trained on again (`num_iterations`, `steps_per_generation`) keeps
the same ones. An evaluation fills the same queues, and what they hold after it is passed over. All
processes see the same rows, so they come to the same numbers; the main one speaks. After a resume
the evidence starts anew.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Protocol, cast

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rekindle.errors import ConfigError, MissingExtraError
from rekindle.signals.logs.mapped import as_text
from rekindle.signals.run_diagnosis.early_word import ALPHA, FLOOR
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis, verdict
from rekindle.signals.run_diagnosis.watch import KEEP, StepSignal, Watch

_LOG = logging.getLogger(__name__)
_NEEDED = ("_logs", "_metrics", "num_generations", "reward_weights", "reward_func_names")
_SHOWN = ("all_wrong", "mixed", "all_right")


class RolloutTrainer(Protocol):
    """What is read of a TRL trainer that samples."""

    _logs: Mapping[str, Sequence[object]]
    _metrics: Mapping[str, dict[str, list[float]]]
    num_generations: int
    reward_weights: torch.Tensor
    reward_func_names: Sequence[str]


class SignalCallback(TrainerCallback):
    """Watches the groups of a TRL run; see the module.

    Args:
        verifier: the reward function that says right or wrong, by its name; None: the one whose
            name says so, else the total.
        p0: the share of mixed groups below which the signal is going out.
        alpha: the probability of a false word.
        keep: generation batches whose rows are kept.
        trainer: whose rollouts are read; None: the one that calls.

    Attributes:
        watch: the counts and the rows.
        last: what the newest batch showed; None before the first.
        words: what was said so far.

    Raises:
        MissingExtraError: TRL is not installed.
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        verifier: str | None = None,
        p0: float = FLOOR,
        alpha: float = ALPHA,
        keep: int = KEEP,
        trainer: Trainer | None = None,
    ) -> None:
        if find_spec("trl") is None:
            raise MissingExtraError(
                "SignalCallback needs the package 'trl', which is not installed",
                got="no module of that name",
                wanted="trl 1.16 or newer, below 2",
                why="it reads the rollouts of TRL's GRPOTrainer and RLOOTrainer",
                fix="pip install 'trl>=1.16,<2'; for another loop: rekindle.Watch().observe(...)",
            )
        self.watch = Watch(verifier=verifier, p0=p0, alpha=alpha, keep=keep)
        self.last: StepSignal | None = None
        self.words: list[str] = []
        self._trainer = trainer
        self._rollouts: RolloutTrainer | None = None
        self._seen: object = None

    def diagnosis(self, since: int | None = None) -> LogDiagnosis:
        """What the rows of the last batches tell, or those from a step on.

        Raises:
            DataError: there is no batch yet.
        """
        return self.watch.diagnosis(since)

    # --- what transformers calls

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Find the trainer; what its queues hold now is no batch of this training."""
        self._rollouts = _checked(self._trainer if self._trainer is not None else _caller(self))
        self._pass_over()

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Look within a step whose gradients are accumulated."""
        self._look(state, state.global_step + 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Look at the end of a step, before metrics are logged and an evaluation runs."""
        self._look(state, state.global_step)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """What the queues hold now are answers of an evaluation."""
        self._pass_over()

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: object,
        **_: object,
    ) -> None:
        """What the queues hold now are answers of a prediction."""
        self._pass_over()

    # --- reading

    def _newest(self) -> object:
        """The last advantage in the queues: a number object of its own for each batch."""
        held = () if self._rollouts is None else self._rollouts._logs["advantages"]
        return held[-1] if held else None

    def _pass_over(self) -> None:
        self._seen = self._newest()

    def _look(self, state: TrainerState, step: int) -> None:
        rollouts, newest = self._rollouts, self._newest()
        if rollouts is None or newest is self._seen:
            return
        self._seen = newest
        told = _observe(self.watch, rollouts, step)
        self.last = told
        metrics = rollouts._metrics["train"]
        for name in _SHOWN:
            value = cast(float, told._asdict()[name])
            if not math.isnan(value):
                metrics[f"signal/{name}"].append(value)
        metrics["signal/e_value"] = [told.e_value]
        if told.word is not None:
            self._say(state, told)

    def _say(self, state: TrainerState, told: StepSignal) -> None:
        """Log the word; where the signal went out, with what the rows since then show."""
        word = str(told.word)
        self.words.append(word)
        if not state.is_world_process_zero:
            return
        if told.turn == "out":
            diagnosis = self.diagnosis(self.watch.early.below.start)
            fits = [remedy for remedy in diagnosis.remedies if remedy.fits]
            word += f"\n  {verdict(diagnosis)}"
            word += f"\n  next: {fits[0].method}: {fits[0].why}" if fits else ""
        _LOG.warning("%s", word)


def _observe(watch: Watch, rollouts: RolloutTrainer, step: int) -> StepSignal:
    """The newest generation batch as rows: groups are runs of `num_generations`."""
    logs = rollouts._logs
    queues = cast(Mapping[str, Sequence[float]], logs["rewards"])
    parts = {name: np.array(queues[name]) for name in rollouts.reward_func_names}
    weighted = np.stack(list(parts.values()), axis=1) * rollouts.reward_weights.cpu().numpy()
    unknown_N = np.isnan(weighted).all(axis=1)
    rows = len(unknown_N)
    return watch.observe(
        step,
        [row // rollouts.num_generations for row in range(rows)],
        np.where(unknown_N, np.nan, np.nansum(weighted, axis=1)).tolist(),
        texts=[as_text(completion) for completion in logs["completion"]],
        prompts=[as_text(prompt) for prompt in logs["prompt"]],
        parts={name: column.tolist() for name, column in parts.items()},
        advantages=cast(Sequence[float], list(logs["advantages"])),
    )


def _caller(callback: SignalCallback) -> Trainer:
    """The trainer whose call reached the callback."""
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer) and callback in caller.callback_handler.callbacks:
            return caller
        frame = frame.f_back
    raise ConfigError(
        "SignalCallback does not know its trainer",
        got="a call that no transformers.Trainer made",
        wanted="a trainer that has this callback",
        why="transformers does not pass callbacks the trainer",
        fix="trainer.add_callback(SignalCallback(trainer=trainer))",
    )


def _checked(trainer: Trainer) -> RolloutTrainer:
    """The trainer, if it has what is read."""
    missing = [name for name in _NEEDED if name not in vars(trainer)]
    if missing:
        raise ConfigError(
            f"SignalCallback cannot watch a {type(trainer).__name__}",
            got=f"it has no {', '.join(missing)}",
            wanted="GRPOTrainer or RLOOTrainer of TRL 1.16 or newer, below 2",
            why="groups of answers and their rewards are read from the trainer",
            fix="remove the callback; for another loop: rekindle.Watch().observe(...)",
        )
    return cast(RolloutTrainer, trainer)
