"""Which map makes a model's logits of its last hidden states, and gradients of that map in place.

What a config says of its head (a scale, a soft cap) is tried on a few tokens before it is relied
on: where logits are not those of the head, they are taken from the model itself.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from rekindle.engine.progress import say
from rekindle.errors import ModelError
from rekindle.ops.heads import Head, gradients_in_place, is_without_data

LARGE_VOCABULARY = 16_384  # from here on, [N, V] is not held, and no second [V, D] is made
_REFUSALS = (ModelError, TypeError, ValueError, RuntimeError, LookupError, AttributeError)
_LOW = (torch.bfloat16, torch.float16)
# As families name them; a scale of logits is multiplied with, or divided by.
_TIMES, _DIVIDES = ("logit_scale", "lm_head_multiplier"), ("logits_scaling",)
_CAPS = ("final_logit_softcapping", "logits_soft_cap")


class Form(NamedTuple):
    """What a head does beside its linear map; see `ops.heads.Head`."""

    scale: float = 1.0
    cap: float | None = None


_forms: dict[str, Form | None] = {}  # by a model's config
_known: WeakKeyDictionary[Any, Form | None] = WeakKeyDictionary()  # by model: see `attention`


def head_of(
    model: Any,
    outputs: Callable[[], tuple[Tensor, Tensor]],
    *,
    product: torch.dtype | None,
    name: str,
) -> Head | None:
    """The head of a causal model; None, and a word once, where its logits are not those of one.

    Args:
        outputs: last hidden states [N, D] and logits [N, V] of a few tokens. Called once for a kind
            of model; that its body refuses to run is an answer too.
        product: see `Head`.
        name: of the model, for the user.
    """
    output = model.get_output_embeddings()
    if isinstance(output, nn.Linear) and is_without_data(output.weight):
        said = form_in(model.config.get_text_config().to_dict())
        return Head(output.weight, output.bias, *said, product)  # there is nothing to compare
    if model not in _known:
        key = f"{product} {model.dtype} {model.config.to_json_string()}"
        if key not in _forms:
            plain = isinstance(output, nn.Linear)
            _forms[key] = _form(model, output, outputs, product) if plain else None
            if _forms[key] is None:
                say(f"the logits of '{name}' are not those of a linear head: all are held")
        _known[model] = _forms[key]
    form = _known[model]
    return None if form is None else Head(output.weight, output.bias, *form, product)


def not_mixable(name: str, kind: str) -> ModelError:
    """The error for logits that are not those of a head."""
    return ModelError(
        f"the logits of '{name}' cannot be mixed",
        got=f"model type {kind}",
        wanted="a linear map of the last hidden states, with a scale or soft cap or none",
        why="logits are mixed a few at a time, from hidden states",
        fix="use a model of another family",
    )


def no_hidden_states(name: str, kind: str) -> ModelError:
    """The error for a model whose last hidden states cannot be had."""
    return ModelError(
        f"'{name}' gives no last hidden states",
        got=f"model type {kind}",
        why="it has no body apart from its head",
    )


def _form(
    model: Any,
    output: nn.Linear,
    outputs: Callable[[], tuple[Tensor, Tensor]],
    product: torch.dtype | None,
) -> Form | None:
    said = form_in(model.config.get_text_config().to_dict())
    try:
        with torch.no_grad():
            hidden_ND, logits_NV = outputs()
            for form in dict.fromkeys((said, Form())):
                head = Head(output.weight, output.bias, *form, product)
                if _agree(head.logits(hidden_ND), logits_NV, low=product in _LOW):
                    return form
    except _REFUSALS:
        return None
    return None


def form_in(config: dict[str, object]) -> Form:
    """Scale and soft cap of the logits, by the names that transformers' families give them."""

    def numbers(names: Iterable[str]) -> list[float]:
        values = (config.get(name) for name in names)
        return [float(value) for value in values if isinstance(value, int | float) and value]

    scale = 1.0
    for value in numbers(_TIMES):
        scale *= value
    for value in numbers(_DIVIDES):
        scale /= value
    return Form(scale, next(iter(numbers(_CAPS)), None))


def _agree(ours_NV: Tensor, theirs_NV: Tensor, *, low: bool) -> bool:
    """To rounding, which counts from the largest logit."""
    if ours_NV.shape != theirs_NV.shape:
        return False
    most = 0.05 if low or theirs_NV.dtype in _LOW else 1e-4
    gap = (ours_NV - theirs_NV).abs().max()
    return bool(gap <= most * theirs_NV.abs().max().clamp(min=1e-6))


@contextmanager
def updated_in_place(models: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block, gradients of large heads and embeddings are added into `.grad`.

    Only where there is a `.grad`, and with the same numbers. An embedding then passes on the rows
    that it read; autograd adds them into the dense `.grad`.
    """
    read = [
        module
        for model in models
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and module.num_embeddings > LARGE_VOCABULARY
        and module.weight.grad is not None
        and not (module.sparse or module.scale_grad_by_freq)
    ]
    for module in read:
        module.sparse = True
    try:
        with gradients_in_place():
            yield
    finally:
        for module in read:
            module.sparse = False
