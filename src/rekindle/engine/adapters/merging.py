"""Writing a base with an adapter added into its weights: the base's own format and size.

Maps are merged one at a time, in fp32 at least, and written in parts, so that the merged weights
are never in memory as a whole. A small model is one file, `model.safetensors`.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rekindle.engine.adapters.adapter import Adapter, adapted_layers
from rekindle.engine.holding import save_plain, written_dtype
from rekindle.files import write_json
from rekindle.ops.heap import release_heap

_PART = 2**26  # bytes of a part, at least
_PARTS = 8  # of one model, about
_LARGEST = 5 * 10**9  # what transformers writes


def save_model(
    model: Any, adapter: Adapter | None, directory: Path, dtype: str | None = None
) -> None:
    """Write a model in Hugging Face layout; one with an adapter merged, beside `adapter/`.

    Args:
        dtype: of the weights written; None: as they are held, fp32 at least where merged.
    """
    if adapter is None:
        save_plain(model, directory, dtype)
    else:
        whole, on_plain = adapter.on_plain(model)
        save_merged(on_plain, whole, directory, dtype)
        adapter.save(model, directory / "adapter")


def save_merged(adapter: Adapter, model: Any, directory: Path, dtype: str | None = None) -> None:
    """Write config and weights of the base with `model`'s adapter in it, as transformers does."""
    from transformers.core_model_loading import revert_weight_conversion

    base = adapter.base.model
    kind = merged_dtype(base.dtype) if dtype is None else written_dtype(dtype)
    base.config.architectures = [type(base).__name__]
    config = copy.deepcopy(base.config)
    config.dtype = str(kind).removeprefix("torch.")
    config.save_pretrained(directory)
    if base.can_generate():
        base.generation_config.save_pretrained(directory)
    layers, plain = dict(adapted_layers(model)), _kept(base)
    parts = list(_in_parts(plain))
    places: dict[str, str] = {}
    for i, names in enumerate(parts, 1):
        file = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        file = "model.safetensors" if len(parts) == 1 else file
        release_heap()
        merged = {name: _merged(name, plain[name], layers, base, kind) for name in names}
        written = revert_weight_conversion(base, merged)
        written = {name: tensor.contiguous() for name, tensor in written.items()}
        save_file(written, directory / file, metadata={"format": "pt"})
        places |= dict.fromkeys(written, file)
    if len(parts) > 1:
        size = sum(tensor.nbytes for tensor in plain.values())
        index = {"metadata": {"total_size": size}, "weight_map": places}
        write_json(directory / "model.safetensors.index.json", index)


def merged_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the merged weights are written in: a small change would be lost in less than fp32."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _kept(base: Any) -> dict[str, Tensor]:
    """The base's tensors; tied ones under the name that transformers writes them by."""
    tied = base.all_tied_weights_keys
    return {name: t for name, t in base.state_dict().items() if name not in tied}


def _in_parts(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    total = sum(tensor.nbytes for tensor in tensors.values())
    most = min(max(_PART, total // _PARTS), _LARGEST)
    part, size = list[str](), 0
    for name, tensor in tensors.items():
        if part and size + tensor.nbytes > most:
            yield part
            part, size = [], 0
        part.append(name)
        size += tensor.nbytes
    yield part


@torch.no_grad()
def _merged(
    name: str, plain: Tensor, layers: Mapping[str, Any], base: Any, kind: torch.dtype
) -> Tensor:
    """One of the base's tensors with the adapter's share, added in fp32 at least."""
    path, _, part = name.rpartition(".")
    if path not in layers or part != "weight":
        return plain.detach().cpu().to(kind if plain.is_floating_point() else plain.dtype)
    alone = copy.deepcopy(layers[path]).to(merged_dtype(base.dtype))
    alone.merge()
    weight: Tensor = alone.get_base_layer().weight
    return weight.detach().cpu().to(kind)
