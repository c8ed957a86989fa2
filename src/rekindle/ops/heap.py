"""Memory that a process has freed and the C library keeps.

Between blocks in use glibc keeps what was freed: after a few passes over activations of many sizes
that is more than the weights of a small model.
"""

import ctypes
from collections.abc import Callable
from functools import cache


def release_heap() -> None:
    """Give freed blocks back to the system, also those between blocks in use: about a millisecond.
    Without glibc nothing happens."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return None
    return found
