"""Public names without a docstring, settings without a description: read from the source alone.

Public is what has no leading underscore: modules, their classes and functions, methods of public
classes, and fields of settings (subclasses of `Section`). A field that is a section itself is
described by its class, and a method by the protocol of its file that promises it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

_ROOT_OF_SETTINGS = "Section"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def undocumented(package: Path) -> list[str]:
    """`file: name` of all that is missing in a package, in the order of its files."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}
    settings = _settings(trees.values())
    return [
        f"{path.relative_to(package)}: {name}"
        for path, tree in trees.items()
        if path.read_text().strip()
        for name in _missing(tree, settings)
    ]


def _missing(tree: ast.Module, settings: set[str]) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "the module"
    sections = settings | {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname and alias.name in settings
    }
    promised = {
        item.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and "Protocol" in {ast.unparse(b) for b in node.bases}
        for item in node.body
        if isinstance(item, _FUNCTIONS) and ast.get_docstring(item)
    }
    for node in tree.body:
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) and _is_public(node.name):
            if not ast.get_docstring(node):
                yield node.name
            if isinstance(node, ast.ClassDef):
                yield from _missing_in_class(node, sections, promised)


def _missing_in_class(node: ast.ClassDef, sections: set[str], promised: set[str]) -> Iterator[str]:
    is_settings = bool({ast.unparse(base) for base in node.bases} & {*sections, _ROOT_OF_SETTINGS})
    for item in node.body:
        if isinstance(item, _FUNCTIONS) and _is_public(item.name) and not ast.get_docstring(item):
            if item.name not in promised:
                yield f"{node.name}.{item.name}"
        elif (
            isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and is_settings
            and _is_public(item.target.id)
            and not _is_described(item, sections)
        ):
            yield f"{node.name}.{item.target.id} (a description)"


def _is_described(field: ast.AnnAssign, sections: set[str]) -> bool:
    if ast.unparse(field.annotation).removesuffix(" | None") in sections:
        return True
    return isinstance(field.value, ast.Call) and any(
        keyword.arg == "description" for keyword in field.value.keywords
    )


def _settings(trees: Iterable[ast.Module]) -> set[str]:
    """Names of the classes that derive from `Section`, by name, at any distance."""
    bases: dict[str, set[str]] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            bases.setdefault(node.name, set()).update(ast.unparse(base) for base in node.bases)
    known = {_ROOT_OF_SETTINGS}
    while more := {name for name, of in bases.items() if of & known} - known:
        known |= more
    return known - {_ROOT_OF_SETTINGS}


def _is_public(name: str) -> bool:
    return not name.startswith("_")
