"""Files of a run directory, read as far as they can be; what cannot be read becomes a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, PlainValidator, TypeAdapter

from rekindle.files import read_json

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class Lenient(BaseModel):
    """Frozen fields of a JSON object, each with a default for what is missing or of another kind.

    A subclass names the fields; every other key of the object is ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


T = TypeVar("T")
L = TypeVar("L", bound=Lenient)


def shipped_table(name: str, kind: type[T]) -> T:
    """The table of texts in `texts/{name}.yaml`, checked to be of its kind."""
    path = files("rekindle.report") / "texts" / f"{name}.yaml"
    return TypeAdapter(kind).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))


def number(value: object) -> float | None:
    """A finite number, or None for anything else (null, nan, text, true)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) else None


def whole(value: object) -> int:
    """A number cut to a whole one; 0 for anything else."""
    return int(number(value) or 0)


def text_of(value: object) -> str:
    """A text as it is, nothing as "", anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def numbers(value: object) -> dict[str, float | None]:
    """The numbers of an object by key, null and nan as None; other entries are left out."""
    tree = value if isinstance(value, Mapping) else {}
    wanted = (type(None), int, float)  # no bool
    return {str(key): number(item) for key, item in tree.items() if type(item) in wanted}


def texts(value: object) -> dict[str, str]:
    """The entries of an object as texts; empty for anything else."""
    tree = value if isinstance(value, Mapping) else {}
    return {str(key): text_of(item) for key, item in tree.items()}


FiniteNumber = Annotated[float | None, PlainValidator(number)]
WholeNumber = Annotated[int, PlainValidator(whole)]
PlainText = Annotated[str, PlainValidator(text_of)]
TextByKey = Annotated[Mapping[str, str], PlainValidator(texts)]


def read_rows(
    path: Path, notes: list[str], parse: Callable[[int, Mapping[str, Json]], T | None]
) -> list[T]:
    """The rows of a JSONL log, as far as they can be read; `notes` counts what is left out.

    `parse` makes something of a line's number and its object; None leaves the row out. A last line
    without a newline is what a kill leaves behind, so it has a sentence of its own.
    """
    rows: list[T] = []
    broken: list[int] = []
    torn = False
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # ValueError: also integers of 5,000 digits
                row = None
            if isinstance(row, dict):
                parsed = parse(line_number, row)
                if parsed is not None:
                    rows.append(parsed)
            elif line.endswith("\n"):
                broken.append(line_number)
            else:
                torn = True
    if torn:
        notes.append(
            f"The last line of {path.name} is cut off and is not shown; the run was probably "
            "killed while it wrote."
        )
    if broken:
        listed = ", ".join(str(n) for n in broken[:5]) + (" …" if len(broken) > 5 else "")
        notes.append(f"{path.name}: {len(broken)} unreadable line(s) left out (line {listed}).")
    return rows


def read_model(
    path: Path, model: type[L], notes: list[str], /, *, missing: str = "", **known: object
) -> L | None:
    """The fields of the JSON object in a file; None, with a note, where it cannot be read.

    `missing`: what is not known without the file. `known`: fields that it does not decide.
    """
    tree = read_object(path, notes, missing)
    return None if tree is None else model.model_validate({**tree, **known})


def read_numbers(path: Path, notes: list[str]) -> dict[str, float | None]:
    """The numbers by key in a JSON object; empty, with a note, where it cannot be read."""
    return numbers(read_object(path, notes)) if path.is_file() else {}


def read_object(path: Path, notes: list[str], missing: str = "") -> Mapping[str, Json] | None:
    """The JSON object in a file, as `read_model` reads it."""
    if not path.is_file():
        notes.append(f"{path.name} is missing: {missing}.")
        return None
    try:
        tree = read_json(path)
    except (ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0].replace(str(path), path.name)
        notes.append(f"{path.name} is left out: {reason}.")
        return None
    if not isinstance(tree, dict):
        notes.append(f"{path.name} is left out: it is not a JSON object.")
        return None
    return tree
