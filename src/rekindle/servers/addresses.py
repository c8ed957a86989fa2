"""Addresses and keys of servers: what a recipe may hold, and what may be written down.

A recipe is copied into every run directory, so it holds no secret: an address with a password or a
key in it is refused, and a key is named by the variable of the environment that holds it. What a
server sends is written to caches, logs and errors, so a key that the server repeats is masked.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from urllib.parse import parse_qsl, urlsplit

from rekindle.errors import ConfigError

MASK = "***"
_SCHEMES = ("http", "https")
_SECRET = re.compile(  # a word of a query's name
    r"(api|access|auth|subscription)?key|token|secret|passw(or)?d|pwd|pass|auth(orization)?"
    r"|bearer|credentials?|sig|signature|code|jwt|sas"
)
_PASSWORD = re.compile(r"(?<=://)[^\s/@]+@")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
# A shorter "key" is a placeholder, as servers without keys want one: it may occur in any text.
_LEAST = 8


def check_address(section: str, url: str) -> None:
    """Refuse what is no address of a server, or holds a secret.

    Args:
        section: of the recipe, `reward` or `judge`, whose `url` and `key_env` are meant.

    Raises:
        ConfigError: it shows no user name, password or query.
    """
    try:
        parts = urlsplit(url)
        readable = parts.port is None or parts.port > 0
    except ValueError:
        parts, readable = urlsplit(""), False
    plain = url.isprintable() and " " not in url and "\\" not in url
    if not (readable and plain and parts.scheme in _SCHEMES and parts.hostname):
        raise ConfigError(
            f"{section}.url is not an address",
            got=shown_address(url),
            wanted="http://... or https://...",
        )
    secret = "a user name or password" if "@" in parts.netloc else _secret_in(parts.query)
    if secret is not None:
        raise ConfigError(
            f"{section}.url holds {secret}",
            got=shown_address(url),
            wanted="an address without secrets",
            why="a recipe is copied into every run directory",
            fix=f"export NAME=... and set {section}.key_env: NAME; the key is sent as "
            "'Authorization: Bearer'",
        )
    if parts.fragment:
        raise ConfigError(
            f"{section}.url holds a fragment",
            got=shown_address(url),
            why="what follows '#' is never sent",
            fix="remove it",
        )


def _secret_in(query: str) -> str | None:
    for name, _ in parse_qsl(query.replace(";", "&"), keep_blank_values=True):
        words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
        if any(_SECRET.fullmatch(word) for word in re.split(r"[^a-z]+", words)):
            return "a key in its query"
    return None


def shown_address(url: str) -> str:
    """An address as an error may show it: without user name, password, query and fragment."""
    scheme = next((f"{name}://" for name in _SCHEMES if url.startswith(f"{name}://")), "")
    if "@" in url:  # an unescaped password may hold any of / ? #
        return f"{scheme}{MASK}@{re.split('[/?#&;=]', url.rpartition('@')[2])[0]}"
    kept = re.split("[?#]", url, maxsplit=1)[0]
    return kept if kept == url else f"{kept}?{MASK}"


def check_key_name(section: str, name: str) -> None:
    """Refuse what is no name of a variable, such as a key that was pasted in its place.

    Raises:
        ConfigError: it does not show the value.
    """
    if not _VARIABLE.fullmatch(name):
        raise ConfigError(
            f"{section}.key_env is not the name of a variable",
            wanted="the name of a variable of the environment: capitals, digits and underscores",
            why="the value is not shown, since it may be the key itself",
            fix=f"export NAME=..., then {section}.key_env: NAME",
        )


def read_key(section: str, name: str) -> str:
    """The key that a variable of the environment holds.

    Raises:
        ConfigError: the variable is not set, or what it holds cannot be sent in a header.
    """
    check_key_name(section, name)
    key = os.environ.get(name, "")
    if not key:
        raise ConfigError(
            f"the environment variable {name} is not set",
            wanted=f"the server's key, as {section}.key_env names it",
            fix=f"export {name}=..., or leave {section}.key_env out",
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"the environment variable {name} holds no key",
            wanted="letters, digits and signs of ASCII, without spaces and ends of lines",
            fix=f"export {name} again; its value is not shown",
        )
    return key


@dataclass(frozen=True, repr=False)
class Mask:
    """Hides secrets in text that a server sent, in every form in which it may repeat them.

    Each character may stand as it is, behind a backslash, percent-encoded, or as an escape of JSON
    or HTML; the whole may be hexadecimal, or base64 at any place of what was encoded.
    """

    secrets: tuple[str, ...]

    @classmethod
    def of(cls, secrets: Iterable[str | None]) -> Mask:
        """For the secrets that there are."""
        return cls(tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True)))

    def quote(self, raw: bytes | str, *, longest: int = 200, complete: bool = True) -> str:
        """The beginning of a text for an error: secrets hidden, in one printable line.

        Args:
            complete: False where `raw` was cut off, maybe within a secret.
        """
        if isinstance(raw, bytes):
            raw = raw.decode(json.detect_encoding(raw), "replace")
        text = _PASSWORD.sub(f"{MASK}@", _hide(raw, self.secrets))
        if not complete and self.secrets:
            text = text[: -12 * len(self.secrets[0])]  # the longest form of one
        line = "".join(c if c.isprintable() else " " for c in text)
        return " ".join(line.split())[:longest]

    def hide(self, tree: object) -> object:
        """A reply's values, with secrets hidden in all texts; placeholders are no secrets."""
        secrets = tuple(secret for secret in self.secrets if len(secret) >= _LEAST)
        return _hide_in(tree, secrets) if secrets else tree


def _hide_in(tree: object, secrets: tuple[str, ...]) -> object:
    if isinstance(tree, str):
        return _hide(tree, secrets)
    if isinstance(tree, list):
        return [_hide_in(item, secrets) for item in tree]
    if isinstance(tree, dict):
        return {_hide(str(key), secrets): _hide_in(item, secrets) for key, item in tree.items()}
    return tree


def _hide(text: str, secrets: tuple[str, ...]) -> str:
    return _pattern(secrets).sub(MASK, text) if secrets else text


@cache
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = [form for secret in secrets for form in (_spelled(secret), *_encoded(secret))]
    return re.compile("|".join(forms), re.IGNORECASE)


def _spelled(secret: str) -> str:
    signs = []
    for sign in secret:
        code, named = ord(sign), re.escape(html.escape(sign))
        forms = [named, rf"\\?{re.escape(sign)}", f"%{code:02x}", rf"\\u{code:04x}"]
        signs.append("|".join([*forms, rf"\\x{code:02x}", f"&#0*{code};", f"&#x0*{code:x};"]))
    return "".join(f"(?:{forms})" for forms in signs)


def _encoded(secret: str) -> Iterator[str]:
    raw = secret.encode()
    if len(raw) < _LEAST:
        return
    yield raw.hex()
    signs = {"+": "(?:[+-]|%2b)", "/": r"(?:\\?/|_|%2f)"}
    for before in range(3):  # bytes that share the first letter's group of three
        whole = base64.b64encode(bytes(before) + raw).decode()
        first, last = -(-before * 4 // 3), (before + len(raw)) * 4 // 3
        yield "".join(signs.get(sign, sign) for sign in whole[first:last])
