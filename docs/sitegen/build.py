"""From the repository to the site: check, generate pages, let zensical build, check again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sitegen.links import faults
from sitegen.markdown import page_of
from sitegen.methods import generated_part, method_files
from sitegen.reference import command_line, python_names, recipe_sections
from sitegen.undocumented import undocumented

_SHIM = "https://unpkg.com/iframe-worker/shim"  # zensical's, so that search works from a disk
_OWN_SHIM = "assets/worker_from_disk.js"
_NO_EVIDENCE = (
    "# Evidence\n\nNo summary of the studies has been written yet. What each of them found is on "
    "the page of its [method](methods/index.md).\n"
)


class DocsError(Exception):
    """The site cannot be built as it should be; one fault a line."""


def build(root: Path, work: Path, site: Path, package: Path | None = None) -> None:
    """Build the site.

    Args:
        root: of the repository.
        work: for generated pages; emptied first.
        site: where the site goes; replaced.
        package: whose public names must be documented; rekindle's when None.

    Raises:
        DocsError: something public is undocumented, a method or page of the navigation is missing,
            a link leads nowhere, or a page would load something from the network.
    """
    _refuse("not documented", undocumented(package or root / "src" / "rekindle"))
    _refuse("methods without a page", missing_pages(root))
    shutil.rmtree(work, ignore_errors=True)
    pages = pages_of(root)
    for place, text in pages.items():
        path = work / "docs" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in [*root.glob("docs/*.png"), *root.glob("docs/assets/*")]:
        target = work / "docs" / path.relative_to(root / "docs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    config = yaml.safe_load((root / "mkdocs.yml").read_text())
    _list_methods(config, pages)
    _refuse("pages that are not in mkdocs.yml's nav, or only there", _unlisted(config, set(pages)))
    config |= {"docs_dir": "docs", "site_dir": "site"}
    (work / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    _zensical(work)
    _without_network(work / "site")
    _refuse("broken links, and files from the network", faults(work / "site"))
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(work / "site", site)


def missing_pages(root: Path) -> list[str]:
    """Method files without a hand-written page."""
    return [
        f"{name} (docs/methods/{name}.md)"
        for name in method_files()
        if not (root / "docs" / "methods" / f"{name}.md").exists()
    ]


def pages_of(root: Path) -> dict[str, str]:
    """Every page of the site as Markdown, by its place."""
    docs = root / "docs"
    texts = {
        str(path.relative_to(docs)): path.read_text()
        for path in sorted(docs.rglob("*.md"))
        if "sitegen" not in path.parts
    }
    texts["index.md"] = (root / "README.md").read_text().replace("](docs/", "](")
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        texts[name.lower()] = (root / name).read_text()
    texts.setdefault("evidence.md", _NO_EVIDENCE)
    known = {*texts, "methods/index.md", "recipes.md", "cli.md", "python.md"}
    out = {place: page_of(text, place, known) for place, text in texts.items()}
    for name in method_files():
        out[f"methods/{name}.md"] += "\n" + generated_part(name, root)
    out["methods/index.md"] = _overview(texts)
    out["recipes.md"] = recipe_sections()
    out["cli.md"] = command_line()
    out["python.md"] = out.get("python.md", "# Python\n") + "\n" + python_names()
    return out


def _overview(texts: dict[str, str]) -> str:
    lines = ["# Methods\n", "One file a paper, one page a file.\n", "| | methods |", "|---|---|"]
    for name, methods in method_files().items():
        title = _title(texts[f"methods/{name}.md"])
        lines.append(f"| [{title}]({name}.md) | {', '.join(f'`{m}`' for m in methods)} |")
    return "\n".join(lines) + "\n"


def _title(page: str) -> str:
    """The heading of a method's page, up to the names that it lists."""
    return page.split("\n", 1)[0].removeprefix("# ").split(":")[0]


def _list_methods(config: dict[str, Any], pages: Mapping[str, str]) -> None:
    """The nav's methods, in the catalog's order."""
    [listed] = [part["Methods"] for part in config["nav"] if "Methods" in part]
    for name in method_files():
        page = f"methods/{name}.md"
        listed.append({_title(pages[page]): page})


def _unlisted(config: dict[str, Any], pages: set[str]) -> list[str]:
    listed = set(_places(config["nav"]))
    return sorted(listed ^ pages)


def _places(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for item in nav.values() if isinstance(nav, dict) else nav:
        yield from _places(item)


def _zensical(work: Path) -> None:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "mkdocs.yml"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode or not (work / "site" / "index.html").exists():
        told = (done.stdout + done.stderr).strip()
        raise DocsError(f"zensical failed (it is in the extra [docs]):\n{told}")


def _without_network(site: Path) -> None:
    """Zensical's pages load its search shim from a CDN; ours is in the site."""
    for path in site.rglob("*.html"):
        text = path.read_text()
        if _SHIM in text:
            up = "../" * (len(path.relative_to(site).parts) - 1)
            path.write_text(text.replace(_SHIM, up + _OWN_SHIM))


def _refuse(what: str, found: list[str]) -> None:
    if found:
        raise DocsError("\n".join([f"{what}:", *(f"  {one}" for one in found)]))
