"""Text as Python-Markdown wants it: docstrings, tables, pages written for the repository."""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Sequence

SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields")
_LIST = re.compile(r"\s*([*-]|\d+\.) ")
_FENCE = re.compile(r"\s*(```|~~~)")
_NAMED = re.compile(r"`((?:docs/)?[\w/.-]+\.md)`")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and line ends in cells are made harmless."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("\n", " ").replace("|", "&#124;") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def code(text: str) -> str:
    """Inline code that may hold bars and angle brackets, in tables too."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (
        f"<code>{plain.replace('|', '&#124;').replace('*', '&#42;').replace('_', '&#95;')}</code>"
    )


def prose(text: str) -> str:
    """A short description: brackets of placeholders are text, not tags."""
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("*", "&#42;")


def of_docstring(doc: str) -> str:
    """A docstring as Markdown: sections become lists, indented blocks stay as they are."""
    lines = inspect.cleandoc(doc).split("\n")
    out: list[str] = []
    inside = False
    for line in lines:
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            out += ["", f"**{line[:-1]}**", ""]
            inside = True
        elif inside and line.startswith("    ") and not line.startswith("     "):
            name, colon, rest = line.strip().partition(": ")
            entry = f"`{name}`: {_angles(rest)}" if colon else _angles(line.strip())
            out.append(f"* {entry}")
        elif inside and line.startswith("     "):
            out.append(f"    {_angles(line.strip())}")
        else:
            inside = inside and not line.strip()
            out.append(line if line.startswith("    ") else _angles(line))
    return spaced("\n".join(out))


def spaced(text: str) -> str:
    """A blank line before every list that follows a paragraph, as GitHub does without one."""
    out: list[str] = []
    fenced = False
    for line in text.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        before = out[-1] if out else ""
        starts = _LIST.match(line) and not line.startswith("    ")
        if starts and not fenced and before.strip() and not _in_list(out):
            out.append("")
        out.append(line)
    return "\n".join(out)


def page_of(text: str, place: str, pages: set[str]) -> str:
    """A page that was written for the repository, as a page of the site.

    Args:
        place: of the page in the site, e.g. "methods/lens.md".
        pages: all that the site has. A page that is named in code becomes a link to it.
    """
    here = posixpath.dirname(place)

    def linked(match: re.Match[str]) -> str:
        name = match[1]
        target = name.removeprefix("docs/") if name.startswith("docs/") else name.lower()
        if target not in pages or target == place or ("/" in name and target == name.lower()):
            return match[0]
        return f"[{match[0]}]({posixpath.relpath(target, here or '.')})"

    out: list[str] = []
    fenced = False
    for line in spaced(text).split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        if not fenced and not line.startswith("    "):
            line = _NAMED.sub(linked, line)
            if line.startswith("|"):
                line = re.sub(r"`[^`]*`", lambda m: m[0].replace("\\|", "|"), line)
        out.append(line)
    return "\n".join(out)


def _in_list(lines: Sequence[str]) -> bool:
    """Whether the last line belongs to a list: an item, or what an item goes on with."""
    for line in reversed(lines):
        if not line.strip():
            return False
        if _LIST.match(line) and not line.startswith("    "):
            return True
    return False


def _angles(text: str) -> str:
    parts = text.split("`")
    return "`".join(
        part if i % 2 else part.replace("<", "&lt;").replace(">", "&gt;")
        for i, part in enumerate(parts)
    )
