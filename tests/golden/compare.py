"""What differs between what is stored and what is found, and the words that say so."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

RELATIVE = 1e-5  # on another machine or version; the rounding of fp32 over three steps is below
ABSOLUTE = 1e-6  # of numbers that are rounding alone, such as the KL of a first step
SHOWN = 6
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")

WHEN_TO_RENEW = """\
Renew with `make golden-renew` only when the change is meant to alter these numbers or a page's
words; say in the commit message and in CHANGELOG.md which differ, why, and the largest difference.
A change that is not meant to alter them is wrong: mend it instead."""


class Difference(NamedTuple):
    """One value that is not as stored."""

    key: str
    stored: Any
    found: Any

    @property
    def size(self) -> float:
        """Relative to the stored value; inf for what is no number."""
        if not (_is_number(self.stored) and _is_number(self.found)):
            return math.inf
        return abs(self.found - self.stored) / max(abs(self.stored), ABSOLUTE)


def differences(stored: Any, found: Any, *, exact: bool, key: str = "") -> Iterator[Difference]:
    """Every difference, in the order of the keys.

    Args:
        stored, found: plain data.
        exact: bitwise; else numbers to `RELATIVE`, weights by the summaries of their tensors, and
            hashes of what holds numbers (`sha256`) not at all.
        key: where the two are.
    """
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        for name in sorted(stored.keys() | found.keys()):
            here = f"{key}/{name}" if key else name
            if name not in stored or name not in found:
                absent = "(absent)"
                yield Difference(here, stored.get(name, absent), found.get(name, absent))
            elif not exact and name == "tensors":
                yield from _of_tensors(stored[name], found[name], here)
            elif exact or name != "sha256":
                yield from differences(stored[name], found[name], exact=exact, key=here)
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        for i, (old, new) in enumerate(zip(stored, found, strict=True)):
            yield from differences(old, new, exact=exact, key=f"{key}[{i}]")
    elif isinstance(stored, list) and isinstance(found, list):
        yield _of_lengths(stored, found, key)
    elif not _alike(stored, found, exact=exact):
        yield Difference(key, stored, found)


def _of_lengths(stored: list[Any], found: list[Any], key: str) -> Difference:
    pairs = zip(stored, found, strict=False)
    first = next(
        (i for i, (old, new) in enumerate(pairs) if old != new), min(len(stored), len(found))
    )
    sizes = f"{len(stored)} and {len(found)} items, the first that differs"
    return Difference(
        f"{key}[{first}] ({sizes})", stored[first : first + 2], found[first : first + 2]
    )


def _of_tensors(
    stored: Mapping[str, Sequence[float]], found: Mapping[str, Sequence[float]], key: str
) -> Iterator[Difference]:
    """Sums and projections can cancel: what counts is the difference beside the tensor's norm."""
    for name in sorted(stored.keys() | found.keys()):
        old, new = stored.get(name), found.get(name)
        if old is None or new is None or old[3] != new[3]:
            yield Difference(f"{key}/{name}", old, new)
            continue
        norm, root = max(old[1], ABSOLUTE), math.sqrt(old[3])
        scales = {"sum": norm * root, "norm": norm, "projection": norm}
        for i, (what, scale) in enumerate(scales.items()):
            if abs(old[i] - new[i]) > RELATIVE * scale:
                yield Difference(f"{key}/{name} ({what})", old[i], new[i])


def _alike(stored: Any, found: Any, *, exact: bool) -> bool:
    if exact or not (_is_number(stored) and _is_number(found)):
        return type(stored) is type(found) and stored == found
    return math.isclose(stored, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def differing_pieces(stored: list[str], found: list[str], *, exact: bool) -> list[Difference]:
    """Of a page's text; unless exact, a number may differ by one in its last place."""
    if exact or len(stored) != len(found):
        return list(differences(stored, found, exact=True, key="piece"))
    pairs = enumerate(zip(stored, found, strict=True))
    return [Difference(f"piece[{i}]", old, new) for i, (old, new) in pairs if not _reads(old, new)]


def _reads(old: str, new: str) -> bool:
    if _NUMBER.sub("#", old) != _NUMBER.sub("#", new):
        return False
    pairs = zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True)
    return all(_within_last_place(*pair) for pair in pairs)


def _within_last_place(old: str, new: str) -> bool:
    digits = len(old.partition(".")[2])
    one = 1.001 * 10.0**-digits if digits else 0.0
    return abs(float(old.replace(",", "")) - float(new.replace(",", ""))) <= one


def how_compared(stored: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Whether numbers are compared bitwise, else why not."""
    other = [f"{k} {here.get(k)} (recorded: {v})" for k, v in stored.items() if here.get(k) != v]
    if not other:
        return "bitwise"
    return f"to {RELATIVE:g} relative, not bitwise, for this is another {', another '.join(other)}"


def told(section: str, name: str, found: list[Difference], compared: str) -> str:
    """What a failing test says."""
    lines = [f"golden set, {section}.json, {name}: {len(found)} values differ ({compared})."]
    for difference in found[:SHOWN]:
        lines += [f"  {difference.key}", f"    stored {_short(difference.stored)}"]
        lines += [f"    found  {_short(difference.found)}"]
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN} more")
    finite = [difference for difference in found if math.isfinite(difference.size)]
    if finite:
        largest = max(finite, key=lambda difference: difference.size)
        lines.append(
            f"The largest relative difference of a number: {largest.size:.2g}, {largest.key}"
        )
    return "\n".join([*lines, WHEN_TO_RENEW])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}..."
