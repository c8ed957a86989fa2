"""Nested plain values with tensors in them, as JSON and a flat dict of tensors; and back, exactly.

JSON has no tuples, no nan, and only text as keys; what it lacks is marked by a `$` key:

    {"$tensor": "optimizer/state/0/exp_avg"}  {"$tuple": [0.9, 0.95]}  {"$float": "nan"}
    {"$dict": [[0, ...], [1, ...]]}
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def pack(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """`value` as JSON; its tensors are put into `tensors`, named by their place.

    Raises:
        TypeError: it holds something else than None, bool, int, float, str, list, tuple, dict and
            Tensor; `place` says where.
    """
    if isinstance(value, Tensor):
        while place in tensors:
            place += "+"
        tensors[place] = value.detach().contiguous()
        return {"$tensor": place}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, list | tuple):
        items = [pack(item, tensors, f"{place}/{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        pairs = [(key, pack(item, tensors, f"{place}/{key}")) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(pairs)
        return {"$dict": [[pack(key, tensors, place), item] for key, item in pairs]}
    raise TypeError(f"{place} cannot be saved without pickle: {type(value).__name__}")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("$tensor", place)]:
            return tensors[place]
        case [("$tuple", items)]:
            return tuple(unpack(item, tensors) for item in items)
        case [("$float", text)]:
            return float(text)
        case [("$dict", pairs)]:
            return {unpack(key, tensors): unpack(item, tensors) for key, item in pairs}
    return {key: unpack(item, tensors) for key, item in value.items()}
