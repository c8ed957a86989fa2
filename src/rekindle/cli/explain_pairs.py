"""`rekindle explain pairs`: a method's own pairs, of answers from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.files import read_jsonl, write_jsonl
from rekindle.methods.catalog import METHODS, find_method, method_module
from rekindle.training.recipe import checked, with_overrides

# What decides pairs; the rest of a method's section is about sampling and training.
_SETTINGS = {
    "weak_to_strong": (
        "tau_chosen",
        "tau_rejected",
        "max_pairs",
        "seed",
        "unreadable",
        "equality",
    ),
    "self_rewarding": ("ties", "choose_cut"),
    "temporal": ("past", "future", "ties", "choose_cut"),
}


def run_explain_pairs(method: str, source: Path, target: Path, overrides: Sequence[str]) -> None:
    """Write the pairs, and say on standard error how many there are not, by reason."""
    makers = [name for name, row in METHODS.items() if row.makes_pairs]
    if method not in makers:
        raise ConfigError(f"method '{method}' makes no pairs", fix=did_you_mean(method, makers))
    section = find_method(method).section
    plain = [override.removeprefix(f"{section}.") for override in overrides]
    known = _SETTINGS[section]
    for override in plain:
        name = override.split("=", 1)[0]
        if name not in known:
            raise ConfigError(f"setting '{name}' has no effect here", fix=did_you_mean(name, known))
    module = method_module(method)
    tree = with_overrides(module.PRESETS[method].model_dump(), plain)
    config = checked(module.Config, tree, section)
    rows = []
    for line, row in read_jsonl(source):
        if row.get("id") is None:
            raise DataError(f"{source}:{line} has no 'id'", got=row, wanted="a name of its own")
        rows.append(row)
    out, skipped = module.explain_pairs(rows, config)
    write_jsonl(target, out)
    typer.echo(f"{len(rows)} rows, {len(out)} written", err=True)
    for reason, times in skipped.most_common():
        typer.echo(f"  skipped {times}: {reason}", err=True)
