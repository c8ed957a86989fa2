"""One optimizer step: the only place that calls `backward()` or `step()`.

    loss = sum over micro-batches of (loss_BT * weight_BT).sum(), summed over processes

The weights are final before the split, so neither the micro-batches nor the processes change it.
"""

import gc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rekindle.engine.batch import Batch, MicroBatch
from rekindle.engine.config import OptimConfig
from rekindle.engine.device import Group
from rekindle.engine.heads import updated_in_place
from rekindle.engine.optimizers import make_optimizer
from rekindle.engine.policy import Policy
from rekindle.engine.state import TrainState
from rekindle.errors import MemoryExhaustedError, TrainingError
from rekindle.ops.logprobs import TokenScores
from rekindle.ops.schedules import schedule
from rekindle.ops.weights import weighted_sum


class LossTerms(NamedTuple):
    """What a method's formula returns for one micro-batch.

    `stats` maps a metric to per-token values; they are averaged over the step's loss tokens.
    """

    loss_BT: Float[Tensor, "B T"]
    stats: Mapping[str, Float[Tensor, "B T"]]


LossFn = Callable[[MicroBatch], LossTerms]
_NO_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory")


def fresh_state(models: Mapping[str, torch.nn.Module], optim: OptimConfig) -> TrainState:
    """The recipe's optimizer over all parameters that require a gradient, at step 0.

    Raises:
        ConfigError: as `make_optimizer`.
    """
    factor = schedule(optim.schedule, steps=optim.steps, warmup=optim.warmup)
    return TrainState(
        models=dict(models),
        optimizer=make_optimizer(models, optim),
        schedule=lambda step: optim.lr * factor(step),
    )


def update(
    state: TrainState,
    micro_batches: Sequence[MicroBatch],
    loss: LossFn,
    *,
    clip: float,
    group: Group,
    device: torch.device,
    stats: Sequence[str] = (),
) -> dict[str, float]:
    """Accumulate, clip, check, step. No micro-batch at all is a step with a gradient of 0.

    Returns:
        `loss`, `grad_norm` (before clipping), `lr`, and the means of the method's stats; those
        named in `stats` are there in any case, nan when no token was trained.

    Raises:
        TrainingError: loss or gradient is not finite; the weights are untouched.
        MemoryExhaustedError: the gradient of a micro-batch does not fit into the memory, in some
            process; the weights are untouched.
    """
    parameters = [p for part in state.optimizer.param_groups for p in part["params"]]
    local = _gradient_sums(state, parameters, micro_batches, loss, device=device, stats=stats)
    if any(group.gather_objects([local is None])) or local is None:
        _free_gradients(parameters)
        raise _exhausted(state.step + 1, micro_batches)
    group.sum_gradients(parameters)
    sums = group.sum(local)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip))
    lr = state.schedule(state.step if state.schedule_at is None else state.schedule_at)
    if not (math.isfinite(norm) and math.isfinite(sums["loss"])):
        raise TrainingError(
            f"step {state.step + 1} is not finite, so it was not applied",
            got=f"loss {sums['loss']}, gradient norm {norm}",
            why="weights and optimizer are unchanged since the last step",
            fix="lower optim.lr, or look at the last rows of metrics.jsonl for what grew",
        )
    for part in state.optimizer.param_groups:
        part["lr"] = lr
    _step(state)
    tokens = sums.pop("tokens")
    loss_sum = sums.pop("loss")
    means = {name: value / tokens if tokens else math.nan for name, value in sums.items()}
    return {"loss": loss_sum, "grad_norm": norm, "lr": lr, **means}


def _gradient_sums(
    state: TrainState,
    parameters: Sequence[torch.nn.Parameter],
    micro_batches: Sequence[MicroBatch],
    loss: LossFn,
    *,
    device: torch.device,
    stats: Sequence[str],
) -> dict[str, float] | None:
    """Gradients into `.grad`, and the sums of loss, tokens and stats; None: out of memory."""
    sums: dict[str, float] = {"loss": 0.0, "tokens": 0.0, **dict.fromkeys(stats, 0.0)}
    try:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        for micro in micro_batches:
            terms, value = add_gradient(state.models.values(), loss, micro.to(device))
            sums["loss"] += float(value)
            sums["tokens"] += float(micro.mask_BT.sum())
            for name, stat_BT in terms.stats.items():
                masked = stat_BT.detach().to(micro.mask_BT.device)[micro.mask_BT]
                sums[name] = sums.get(name, 0.0) + float(masked.double().sum())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None  # what the failed micro-batch held is free once the error is gone
    return sums


def add_gradient(
    models: Iterable[torch.nn.Module], loss: LossFn, micro: MicroBatch
) -> tuple[LossTerms, Tensor]:
    """Add a micro-batch's gradient to the models' `.grad`; its terms, and its weighted loss."""
    with updated_in_place(models):
        terms = loss(micro)
    value = weighted_sum(terms.loss_BT, micro.weight_BT.to(terms.loss_BT))
    value.backward()
    return terms, value.detach()


def take_step(state: TrainState) -> None:
    """Step the weights by the gradients that are there."""
    state.optimizer.step()


def _step(state: TrainState) -> None:
    try:
        take_step(state)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"the optimizer does not fit into the memory at step {state.step + 1}",
            why="some weights may have been stepped, so this state is not saved",
            fix="set optim.name=adafactor, which keeps next to nothing, or train an adapter "
            "(model.lora); --resume goes on from the last checkpoint",
        ) from error
    state.optimizer.zero_grad(set_to_none=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: of a GPU, or of the machine."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(text in str(error) for text in _NO_MEMORY)


def _free_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _exhausted(step: int, micro_batches: Sequence[MicroBatch]) -> MemoryExhaustedError:
    largest = max((micro.layout.tokens_RS.numel() for micro in micro_batches), default=0)
    return MemoryExhaustedError(
        f"step {step} does not fit into the memory",
        got=f"micro-batches of up to {largest} padded tokens",
        why="weights and optimizer are unchanged since the last step",
        fix="lower optim.micro_tokens, or set model.activation_checkpointing=true, or train an "
        "adapter (model.lora)",
    )


@torch.no_grad()
def measure_batch(
    policy: Policy, batch: Batch, *, micro_tokens: int, temperature: float
) -> TokenScores:
    """Log-probs and entropies of a batch's completions, [B, T] in fp64; nan as padding."""
    shape = batch.old_logprobs_BT
    out = TokenScores(*(torch.full_like(shape, torch.nan) for _ in TokenScores._fields))
    for micro in batch.split(micro_tokens, policy.arrangement()):
        on_device = micro.to(policy.device)
        scores = policy.logprobs(on_device.layout, temperature=temperature)
        rows, width = torch.tensor(micro.rows), micro.mask_BT.shape[1]
        for target_BT, values_BT in zip(out, scores, strict=True):
            values = values_BT.double().cpu().masked_fill(~micro.mask_BT, torch.nan)
            target_BT[rows, :width] = values
    return out
