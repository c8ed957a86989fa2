"""What a server's reply says: its bytes within bounds, its JSON, and how long to wait."""

from __future__ import annotations

import email.utils
import json
import math
import time
import zlib
from datetime import UTC
from urllib.parse import urljoin, urlsplit

import httpx2

from rekindle.servers.addresses import Mask

_EXHAUSTED = ("insufficient_quota", "insufficient_balance", "billing")  # in an error's code or type


class UnreadableError(Exception):
    """A reply that is not what was asked for; the request is made again."""


class EmptyReplyError(UnreadableError):
    """A reply of the right shape with nothing in it; the caller decides what the last one is."""


async def read_body(reply: httpx2.Response, most: int) -> bytes:
    """Its bytes, up to one more than `most`, decompressed in bounded memory.

    Raises:
        UnreadableError: a coding that was not asked for, or what cannot be decompressed.
    """
    coding = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise UnreadableError(f"a reply in the coding '{coding[:40]}', which was not asked for")
    unpack = None if coding in ("identity", "") else zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    try:
        async for raw in reply.aiter_raw():
            room = most + 1 - len(body)
            body += raw[:room] if unpack is None else unpack.decompress(raw, room)
            if len(body) > most:
                return bytes(body)
    except zlib.error as error:
        raise UnreadableError(f"a reply that cannot be decompressed: {error}") from None
    if unpack is not None and not unpack.eof:
        raise UnreadableError("a compressed reply that ends early")
    return bytes(body)


def parse(body: bytes, mask: Mask) -> object:
    """The JSON of a reply, with secrets hidden.

    Raises:
        UnreadableError: it is no JSON, or nested too deeply.
    """
    try:
        return mask.hide(json.loads(body))
    except RecursionError:
        raise UnreadableError("a reply that is nested too deeply") from None
    except ValueError:  # not UTF-8, an integer of thousands of digits
        raise UnreadableError("a reply that is no JSON") from None


def is_exhausted(body: bytes) -> bool:
    """Whether an error is about money: `{"error": {"code": "insufficient_quota"}}`, or its type."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return False
    error = tree.get("error", tree) if isinstance(tree, dict) else None
    named = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    return any(isinstance(name, str) and sign in name for name in named for sign in _EXHAUSTED)


def redirect_target(address: str, location: str | None) -> str:
    """Where a redirect leads: scheme and host alone, as the rest may be secret."""
    try:
        parts = urlsplit(urljoin(address, location or ""))
        return f"{parts.scheme[:20]}://{(parts.hostname or '')[:100]}" if location else "nowhere"
    except ValueError:
        return "what is no address"


def retry_after(text: str | None) -> float:
    """Seconds, given as a number or as a date in any form of RFC 9110; 0 where it says nothing."""
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(text)
            # asctime's form names no zone, and all are of Greenwich
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
