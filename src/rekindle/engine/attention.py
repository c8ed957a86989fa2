"""What a token may look at, where a row of a forward pass is more than one sequence.

A token sees those before it in its document: the prompt's, and those of its own branch. The mask
goes through transformers' own `attention_mask`, four-dimensional; models with sliding windows get
one mask for each kind of layer. Plain rows need none: they are causal, and padded on the right.

Axes: R rows, S columns.
"""

from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from torch import Tensor

from rekindle.engine.layout import Layout, lay_out
from rekindle.engine.progress import say_once

_FULL, _SLIDING = "full_attention", "sliding_attention"
_REFUSALS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError)
_tried: dict[str, bool] = {}  # by a model's config
_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # by model: a config is slow to write


def visible(layout: Layout, window: int | None = None) -> Bool[Tensor, "R S S"]:
    """Whether the token of the first column may look at that of the second; `window`: only so many
    positions back, itself included. Padding sees itself, so that no row of the mask is empty."""
    document_RS, branch_RS, position_RS = layout.document_RS, layout.branch_RS, layout.position_RS
    size = document_RS.shape[1]
    column_S = torch.arange(size, device=document_RS.device)
    seen_RSS = document_RS[:, :, None] == document_RS[:, None, :]
    seen_RSS &= column_S[:, None] >= column_S[None, :]
    seen_RSS &= (branch_RS[:, None, :] == 0) | (branch_RS[:, :, None] == branch_RS[:, None, :])
    if window is not None:
        seen_RSS &= position_RS[:, :, None] - position_RS[:, None, :] < window
    return seen_RSS


def inputs_of(model: Any, layout: Layout) -> dict[str, object]:
    """The arguments of the model's forward pass on a layout."""
    inputs: dict[str, object] = {"input_ids": layout.tokens_RS, "use_cache": False}
    if layout.is_plain:
        return inputs  # causal, padded on the right: no mask is needed, and none is made
    kinds = _kinds(model.config)
    masks = {
        kind: _for_kernel(model, visible(layout, _window(model.config, kind))) for kind in kinds
    }
    mask = masks if len(masks) > 1 else masks[kinds[0]]
    return {**inputs, "attention_mask": mask, "position_ids": layout.position_RS}


def supports_branches(model: Any) -> bool:
    """Whether a prompt may stand once in front of several completions, and documents in one row:
    tried on a few tokens, once for a kind of model; under autocast, for that."""
    if model not in _known:
        _known[model] = _supported(model)
    return _known[model]


def _supported(model: Any) -> bool:
    attention = model.config._attn_implementation
    if attention not in ("sdpa", "eager") or not set(_kinds(model.config)) <= {_FULL, _SLIDING}:
        return False
    key = _kind(model)
    if key not in _tried:
        _tried[key] = _same_states(model)
        if not _tried[key]:
            say_once(
                f"a prompt is read once for each answer: {type(model).__name__} does not keep "
                "answers that share a prompt apart"
            )
    return _tried[key]


def assume_branches(model: Any, supported: bool) -> None:
    """Of a model without weights, on which it cannot be tried: as a small one of its kind."""
    _tried[_kind(model)] = supported


def _kind(model: Any) -> str:
    return f"{model.config._attn_implementation} {model.config.to_json_string()}"


@torch.no_grad()
def _same_states(model: Any) -> bool:
    prompts, completions = [(1, 2, 3)] * 2 + [(3, 1)], [(2, 3, 1, 1), (3, 3, 2), (1, 2, 3)]
    body, states = model.base_model, list[Tensor]()
    for rows in (None, [[[0, 1], [2]]]):
        layout = lay_out(prompts, completions, rows).to(model.device)
        try:
            states.append(layout.gather(body(**inputs_of(model, layout)).last_hidden_state).float())
        except _REFUSALS:
            return False
    plain_ND, other_ND = states
    return bool((plain_ND - other_ND).norm() <= _tolerance(_product_dtype(model)) * plain_ND.norm())


def _product_dtype(model: Any) -> torch.dtype:
    kind = model.device.type
    cast: torch.dtype = torch.get_autocast_dtype(kind)
    return cast if torch.is_autocast_enabled(kind) else model.dtype


def _tolerance(dtype: torch.dtype) -> float:
    return min(100 * torch.finfo(dtype).eps, 0.05)


def _kinds(config: Any) -> list[str]:
    """The kinds of attention layers, as transformers names them."""
    listed = config.to_dict().get("layer_types")
    if listed:
        return sorted(set(listed))
    return [_SLIDING if _window(config, _SLIDING) is not None else _FULL]


def _window(config: Any, kind: str) -> int | None:
    if kind != _SLIDING:
        return None
    facts = config.to_dict()
    return facts.get("sliding_window") if facts.get("use_sliding_window", True) else None


@cache
def _lowest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).min


def _for_kernel(model: Any, seen_RSS: Bool[Tensor, "R S S"]) -> Tensor:
    seen_R1SS = seen_RSS[:, None]
    if model.config._attn_implementation == "sdpa":
        return seen_R1SS
    return torch.zeros_like(seen_R1SS, dtype=model.dtype).masked_fill(
        ~seen_R1SS, _lowest(model.dtype)
    )
