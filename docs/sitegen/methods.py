"""A page for each method file: what was written by hand, what was measured, what the code says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from rekindle.cli.cite import reference
from rekindle.methods.catalog import METHODS, find_method, method_module
from sitegen.markdown import code, of_docstring, prose, table
from sitegen.measured import baseline_in, measured, section


def method_files() -> dict[str, list[str]]:
    """Each method file's name, e.g. "grpo", with the methods that it holds."""
    out: dict[str, list[str]] = {}
    for method in METHODS.values():
        out.setdefault(method.section, []).append(method.name)
    return out


def generated_part(name: str, root: Path) -> str:
    """What follows the hand-written page of a method file.

    Args:
        root: of the repository: recipes and results are read from it.
    """
    methods = method_files()[name]
    module = method_module(methods[0])
    parts = [
        "## What has been measured\n",
        _measured(name, root),
        "## Methods and presets\n",
        _presets(module, methods),
        "## Every setting\n",
        f"Section `{name}:` of a recipe; the shared sections are in [Recipes](../recipes.md).\n",
        settings(module.Config),
        "## Recipes\n",
        _recipes(methods, root),
        "## What the file says\n",
        of_docstring(module.__doc__ or ""),
        "## To cite\n",
        *(
            f"* {reference(paper)}"
            for paper in dict.fromkeys(p for m in methods for p in find_method(m).papers)
        ),
        f"\nAs BibTeX: `rekindle cite {methods[0]}`.\n",
    ]
    return "\n".join(parts)


def settings(config: type[BaseModel], prefix: str = "") -> str:
    """A table of all keys, those of sections within it too."""
    return table(("key", "default", "what it is"), list(_rows(config, None, prefix)))


def _rows(
    config: type[BaseModel], instance: BaseModel | None, prefix: str
) -> Iterator[tuple[str, str, str]]:
    for name, field in config.model_fields.items():
        default: Any = field.default if instance is None else vars(instance)[name]
        if field.default_factory is not None and instance is None:
            default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _rows(type(default), default, f"{prefix}{name}.")
        else:
            shown = "required" if default is PydanticUndefined else code(_plain(default))
            key = code(prefix + name).replace("<code>", '<code class="key">')
            yield key, shown, prose(field.description or "")


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_plain(item) for item in value)}]"
    if isinstance(value, str):
        return value if value.strip() else repr(value)
    return str(value)


def _measured(name: str, root: Path) -> str:
    results = root / "results" / "studies"
    found = measured(results, name)
    if found:
        return "\n".join(section(one) for one in found)
    names = baseline_in(results, name)
    if not names:
        return "No committed study has an arm of this method yet.\n"
    listed = ", ".join(f"`{name}`" for name in names)
    return (
        "No committed study makes a claim about this method. "
        f"It is what others are compared with in {listed}.\n"
    )


def _presets(module: ModuleType, methods: list[str]) -> str:
    plain = module.Config().model_dump()
    rows = []
    for method in methods:
        values = module.PRESETS[method].model_dump()
        other = [f"{key}: {_plain(value)}" for key, value in values.items() if value != plain[key]]
        settings_ = " ".join(code(one) for one in other) or "the defaults"
        rows.append((code(method), find_method(method).sentence, settings_))
    return table(("`method:`", "what it does", "differs from the defaults in"), rows)


def _recipes(methods: list[str], root: Path) -> str:
    out = []
    for path in sorted((root / "recipes").glob("*.yaml")):
        if yaml.safe_load(path.read_text())["method"] in methods:
            command = f"    rekindle train recipes/{path.name} --out runs/{path.stem}\n"
            out.append(f"{command}\n```yaml\n{path.read_text().rstrip()}\n```\n")
    if not out:
        return (
            f"None of its own: take a recipe of a kindred method and set `method: {methods[0]}`.\n"
        )
    return "\n".join(out)
