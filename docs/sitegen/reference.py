"""Pages that are read off the program: its commands, its Python names, a recipe's sections."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

import typer
import typer.main
from pydantic import BaseModel
from typer.core import TyperGroup

import rekindle
from rekindle.cli.main import app
from rekindle.study.plan.study_file import Study
from rekindle.training.recipe import Shared
from rekindle.training.reward_training import RewardTraining
from sitegen.markdown import code, of_docstring, prose, table
from sitegen.methods import settings


def command_line() -> str:
    """Every command with its arguments and options, as typer knows them."""
    parts = ["# Command line\n", "`rekindle COMMAND -h` prints the same.\n"]
    for name, command in _commands(typer.main.get_command(app), "rekindle"):
        parts += [f"## `{name}`\n", of_docstring(command.help or "")]
        context = typer.Context(command)
        rows = [_parameter(parameter, context) for parameter in command.params]
        if rows:
            parts.append(table(("", "default", "what it is"), rows))
    return "\n\n".join(parts)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    context = typer.Context(command)
    for word in sorted(command.list_commands(context)):
        yield from _commands(command.get_command(context, word), f"{name} {word}")


def _parameter(parameter: Any, context: typer.Context) -> tuple[str, str, str]:
    """Its names and what it takes, its default, its help."""
    is_flag = vars(parameter).get("is_flag", False)
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        shown = f"{name}..." if parameter.nargs == -1 else name
    else:
        takes = "" if is_flag else f" {parameter.metavar or parameter.display_type(context)}"
        shown = ", ".join(parameter.opts) + takes
    default = "none" if parameter.default is None else code(str(parameter.default))
    if is_flag:
        default = "on" if parameter.default else "off"
    return code(shown), "required" if parameter.required else default, prose(parameter.help or "")


def python_names() -> str:
    """Every name of `rekindle.__all__` with its signature and docstring, below what is by hand."""
    parts = [
        "## Every public name\n",
        f"`rekindle.__version__` is `{rekindle.__version__}`.\n",
    ]
    for name in rekindle.__all__:
        if name == "__version__":
            continue
        thing = getattr(rekindle, name)
        parts += _thing(name, thing)
    return "\n\n".join(parts)


def _thing(name: str, thing: Any) -> Iterator[str]:
    yield f"## `{name}`\n"
    yield f"From `{thing.__module__}`.\n"
    yield _signature(name, thing)
    yield of_docstring(inspect.getdoc(thing) or "")
    if not isinstance(thing, type):
        return
    for key, item in vars(thing).items():
        function = item.__func__ if isinstance(item, staticmethod | classmethod) else item
        if isinstance(function, property) and not key.startswith("_"):
            yield f"### `{name}.{key}`\n"
            yield of_docstring(inspect.getdoc(function) or "")
        elif inspect.isfunction(function) and not key.startswith("_"):
            yield f"### `{name}.{key}`\n"
            yield _signature(key, function)
            yield of_docstring(inspect.getdoc(function) or "")


def _signature(name: str, thing: Any) -> str:
    """As it stands in the source, but for self: annotations keep their shapes."""
    node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    back = ""
    if isinstance(node, ast.ClassDef):
        arguments = _of_class(node)
    else:
        assert isinstance(node, ast.FunctionDef)
        arguments = _arguments(node.args)
        back = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    shown = f"{name}({', '.join(arguments)}){back}"
    if len(shown) > 80:
        lines = "".join(f"    {argument},\n" for argument in arguments)
        shown = f"{name}(\n{lines}){back}"
    return f"```python\n{shown}\n```\n"


def _of_class(node: ast.ClassDef) -> list[str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _arguments(item.args)
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    return [ast.unparse(field) for field in fields if not ast.unparse(field.target).startswith("_")]


def _arguments(given: ast.arguments) -> list[str]:
    plain = [*given.posonlyargs, *given.args]
    none: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults))
    pairs = list(zip(plain, [*none, *given.defaults], strict=True))
    out = [_argument(one, default) for one, default in pairs if one.arg not in ("self", "cls")]
    if given.vararg:
        out.append(f"*{_argument(given.vararg, None)}")
    elif given.kwonlyargs:
        out.append("*")
    out += [_argument(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [*out, *([f"**{_argument(given.kwarg, None)}"] if given.kwarg else [])]


def _argument(one: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(one) + ("" if default is None else f" = {ast.unparse(default)}")


def recipe_sections() -> str:
    """Every shared key of a recipe, a reward model's training, and a study file."""
    files: list[tuple[str, str, type[BaseModel]]] = [
        ("A recipe", "Read by `rekindle train`. The method's own section is on its page.", Shared),
        ("A reward model's training", "Read by `rekindle reward train --set`.", RewardTraining),
        ("A study", "Read by `rekindle study`; see [Studies](study.md).", Study),
    ]
    parts = ["# Recipes\n"]
    for title, text, model in files:
        parts += [f"## {title}\n", text, settings(model)]
    return "\n\n".join(parts)
