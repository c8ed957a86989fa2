"""`rekindle cite`: the papers of methods or of a run, as BibTeX or as text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from rekindle.cli.options import Overwrite, named_paths
from rekindle.errors import ConfigError, RunDirectoryError
from rekindle.methods.catalog import METHODS, Paper, find_method, find_paper
from rekindle.outputs import OutputFile
from rekindle.version import __version__

_TITLE = "Rekindle: bring the learning signal back when post-training has stopped working"
_YEAR = 2026
# BibTeX proper knows ASCII alone; these are the letters that authors' names have
_LATEX = {"é": r"{\'e}", "Ü": r"{\"U}", "ü": r"{\"u}"}


def cite(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="See `rekindle methods`; default: all.", metavar="METHOD"),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Cite what this run or study directory used.")
    ] = None,
    format: Annotated[Literal["bibtex", "text"], typer.Option(help="Output format.")] = "bibtex",
    out: Annotated[Path | None, typer.Option(help="Write them to this file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print citations of the methods' papers and of Rekindle."""
    if run is not None and methods:
        raise ConfigError(
            "methods and --run exclude each other",
            got=", ".join(methods),
            why="--run says itself which methods were used",
            fix="leave one of them out",
        )
    file = OutputFile(out, reads=named_paths(run), overwrite=overwrite) if out else None
    if file is not None:
        file.check()
    known = [find_method(method) for method in methods or METHODS]
    names: Iterable[str | Paper]
    names = _of_run(run) if run else dict.fromkeys(name for row in known for name in row.papers)
    show, own = (bibtex, _OWN_BIBTEX) if format == "bibtex" else (reference, _OWN_TEXT)
    end = "\n\n" if format == "bibtex" else "\n"
    text = end.join([*(show(name) for name in names), own])
    if file is None:
        typer.echo(text)
    else:
        file.write(f"{text}\n")
        typer.echo(f"written: {out}")


def bibtex(paper: str | Paper) -> str:
    """The entry of a paper of `methods/papers.yaml`, or of one of a row's own, in ASCII."""
    paper = find_paper(paper)
    surname = paper.authors.split(", ")[0].rsplit(" ", 1)[-1].lower()
    fields = {
        "title": f"{{{paper.title}}}",  # a second pair of braces keeps its capitals
        "author": paper.authors.replace(", ", " and "),
        "year": str(paper.year),
        "eprint": paper.arxiv,
        "archivePrefix": "arXiv",
        "url": f"https://arxiv.org/abs/{paper.arxiv}",
    }
    return _entry("misc", f"{surname}{paper.year}{paper.name.replace('_', '-')}", fields)


def reference(paper: str | Paper) -> str:
    """The same as a line of a bibliography."""
    paper = find_paper(paper)
    return f"{paper.authors}. {paper.year}. {paper.title}. arXiv:{paper.arxiv}."


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = "".join(f"  {field} = {{{value}}},\n" for field, value in fields.items())
    entry = f"@{kind}{{{key},\n{lines}}}"
    for letter, escape in _LATEX.items():
        entry = entry.replace(letter, escape)
    return entry


_OWN_BIBTEX = _entry(
    "software",
    "rekindle",
    {
        "title": f"{{{_TITLE}}}",
        "author": "{The Rekindle contributors}",
        "year": str(_YEAR),
        "version": __version__,
        "license": "Apache-2.0",
    },
)
_OWN_TEXT = f"The Rekindle contributors. {_YEAR}. {_TITLE}. Version {__version__}."


def _of_run(run: Path) -> Iterable[str | Paper]:
    from rekindle.study.plan.planning import load_study, plan
    from rekindle.training.recipe import load_recipe, papers_of_recipe

    if (run / "study.yaml").exists():
        recipes = [one.recipe for one in plan(load_study(run / "study.yaml"), run)]
    elif (run / "config.yaml").exists():
        recipes = [load_recipe(run / "config.yaml")]
    else:
        raise RunDirectoryError(
            f"{run} holds no run and no study",
            wanted="a directory with config.yaml, or with study.yaml",
            fix="check the path, or name methods: rekindle cite grpo",
        )
    return dict.fromkeys(name for recipe in recipes for name in papers_of_recipe(recipe))
