"""The methods and their papers: every other list of methods is read off `METHODS`, when it is used.

A row is one name that a recipe may have for `method:`; presets of one file have a row each, and are
`like` what they share. To add a method, add its row to `methods.json`, with its paper, beside its
file, its page and its test. Papers that rows name stand in `papers.yaml`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from types import ModuleType
from typing import Any, Literal, NamedTuple

from rekindle.errors import ConfigError, did_you_mean

MethodKind = Literal["sft", "group", "pairs", "stages"]
Need = Literal["verifier", "reward model", "pairs file", "solutions", "judge", "weak model"]
SignalName = Literal["sft", "groups", "verifier", "reward", "pairs", "agreement"]


class Paper(NamedTuple):
    """A paper on arXiv: its name in citations, its title and all its authors, comma between."""

    name: str
    arxiv: str
    title: str
    authors: str

    @property
    def year(self) -> int:
        """Of the first version, which the arXiv id begins with."""
        return 2000 + int(self.arxiv[:2])


@dataclass(frozen=True)
class Method:
    """What there is to know of a method without loading it.

    Attributes:
        name: as a recipe, a command and a run directory have it.
        sentence: what it does, or what it shows where it is a baseline or a control.
        module: the paper's file, relative to `rekindle.methods` where it begins with a dot.
        kind: sft learns from given texts, group from groups of scored answers, pairs from given
            pairs, stages from data that it makes stage by stage.
        papers: where it comes from: names in `papers.yaml`, or papers that are not there.
        needs: what its loss is made of, beside a model and problems.
        revives: the signals of `rekindle diagnose` that its paper brings back; baselines and
            controls have those of the paper that they stand beside.
        makes_pairs: whether it makes pairs of answers (`rekindle explain pairs`).
    """

    name: str
    sentence: str
    module: str
    kind: MethodKind
    papers: tuple[str | Paper, ...]
    needs: tuple[Need, ...] = ()
    revives: tuple[SignalName, ...] = ()
    makes_pairs: bool = False

    @property
    def section(self) -> str:
        """The recipe section that configures it: its file's name (`dapo` is set in `grpo:`)."""
        return self.module.rsplit(".", 1)[-1]


def _typed(row: dict[str, Any]) -> dict[str, Any] | Paper:
    if "arxiv" in row:  # a paper that a row has itself
        return Paper(**row)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def _read_rows() -> dict[str, Method]:
    text = files("rekindle.methods").joinpath("methods.json").read_text("utf-8")
    table = json.loads(text, object_hook=_typed)
    shared, own = {None: {}, **table["shared"]}, table["methods"]
    rows = {name: {**shared[row.pop("like", None)], **row} for name, row in own.items()}
    return {name: Method(name, **row) for name, row in rows.items()}


METHODS: dict[str, Method] = _read_rows()


def find_method(name: str) -> Method:
    """The row of a method.

    Raises:
        ConfigError: there is no such method; what exists is listed.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method '{name}'", fix=did_you_mean(name, METHODS))
    return METHODS[name]


def method_module(name: str) -> ModuleType:
    """The file of a method: `Config`, `PRESETS`, `check`, `run`; see `find_method` for errors."""
    return import_module(find_method(name).module, "rekindle.methods")


def methods_of(kind: MethodKind) -> tuple[str, ...]:
    """The names of all methods of a kind."""
    return tuple(method.name for method in METHODS.values() if method.kind == kind)


def section_names() -> set[str]:
    """The sections of all methods; a recipe has at most the one of its own."""
    return {method.section for method in METHODS.values()}


@cache
def papers() -> dict[str, Paper]:
    """All papers of `papers.yaml`, by name."""
    import yaml  # here, so that lists of methods need it not

    text = files("rekindle.methods").joinpath("papers.yaml").read_text("utf-8")
    rows: dict[str, dict[str, str]] = yaml.safe_load(text)
    return {name: Paper(name, **row) for name, row in rows.items()}


def find_paper(paper: str | Paper) -> Paper:
    """The paper of this name in `papers.yaml`, or the one that a row has itself."""
    return paper if isinstance(paper, Paper) else papers()[paper]
