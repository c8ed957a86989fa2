"""What a built site asks of the world: links that lead nowhere, and files from the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_STYLE = re.compile(r"""(?:@import\s+|url\()\s*["']?(https?:|//)""")
_POINTERS = {"canonical", "next", "prev", "alternate"}


class _Page(HTMLParser):
    """Anchors, links and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in _LOADED and _LOADED[tag] in given and given.get("rel") not in _POINTERS:
            self.loaded.append(given[_LOADED[tag]])


def faults(site: Path) -> list[str]:
    """Broken links within the site, by page, and all that is loaded from elsewhere."""
    site = site.resolve()
    pages = {path: _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    out = []
    for path, page in pages.items():
        place = path.relative_to(site)
        if place.name == "404.html":  # it is served from any address
            continue
        out += [f"{place}: {link} leads nowhere" for link in _broken(path, page, pages, site)]
        out += [f"{place}: {url} is not in the site" for url in page.loaded if _is_remote(url)]
    for path in sorted(site.rglob("*.css")):
        if _STYLE.search(path.read_text()):
            out.append(f"{path.relative_to(site)}: loads from the network")
    return list(dict.fromkeys(out))


def _is_remote(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https") or url.startswith("//")


def _broken(path: Path, page: _Page, pages: dict[Path, _Page], site: Path) -> Iterator[str]:
    for link in [*page.links, *page.loaded]:
        parts = urlsplit(link)
        if parts.scheme or link.startswith("//") or link in ("", "#"):
            continue
        target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
        if target.is_dir():
            target /= "index.html"
        is_there = target.is_relative_to(site) and target.exists()
        anchor = unquote(parts.fragment)
        if not is_there or (anchor and target in pages and anchor not in pages[target].anchors):
            yield link
