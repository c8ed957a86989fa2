"""A model's directory in Hugging Face layout, looked at before anything in it is loaded or run.

Each fault is told by its file. What a look at the files does not show is told where the libraries
that read them give up, see `Reading`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from rekindle.errors import ModelError, RekindleError, did_you_mean
from rekindle.files import read_json

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_LAYOUT = "a directory in Hugging Face layout, such as RUN/final"
_ANY = f"testbed/<name>, {_LAYOUT}, or a hub id"
_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_TOKENIZERS = ("tokenizer*", "vocab*", "merges*", "*.model", "*.tiktoken", "tekken*")
_AGAIN = "copy or download it again"


class Stored(NamedTuple):
    """What weight files hold by their headers."""

    tensors: int
    floats: int  # numbers with a fraction
    integers: int


# --- what is looked at


def check_config(directory: Path, *, trusted: bool = False) -> Mapping[str, object]:
    """config.json of a directory, which names a family that transformers has.

    Args:
        trusted: whether the directory's own code may be run.

    Raises:
        DataError, ModelError: there is none, it is broken, or its family is unknown or has code of
            its own.
    """
    if directory.is_file():
        raise ModelError(f"'{directory}' is a file, not a model", wanted=_LAYOUT)
    path = directory / CONFIG
    if not path.is_file():
        final = directory / "final"
        inside = (final / CONFIG).is_file()
        raise ModelError(
            f"there is no {CONFIG} in '{directory}'",
            got=_listed(directory),
            wanted=_LAYOUT,
            why="it says which architecture the weights are of",
            fix=f"use {final}" if inside else "copy it from the model that the weights are of",
        )
    tree = read_object(path)
    generation = directory / "generation_config.json"
    if generation.is_file():
        read_object(generation)
    _check_family(directory, tree, trusted=trusted)
    return tree


def check_weights(directory: Path) -> Stored:
    """What the weight files of a directory hold; their headers are read.

    Raises:
        DataError, ModelError: there is none, they are pickled, one is missing, or one is broken.
    """
    tensors, floats, integers = 0, 0, 0
    for path in _weight_files(directory):
        for is_float, shape in _header(path):
            tensors += 1
            floats += math.prod(shape) if is_float else 0
            integers += 0 if is_float else math.prod(shape)
    return Stored(tensors, floats, integers)


def check_tokenizer(directory: Path) -> None:
    """Refuse a directory without the files of a tokenizer.

    Raises:
        ModelError: there is none.
    """
    files = {path for pattern in _TOKENIZERS for path in directory.glob(pattern)}
    if not {path.name for path in files} - {"tokenizer_config.json"}:
        raise ModelError(
            f"there is no fast tokenizer in '{directory}'",
            got=_listed(directory),
            wanted="a tokenizer.json beside the weights",
            fix=SAVE_TOKENIZER,
        )


def refuse_slow(tokenizer: object, name: str, *, is_fast: bool) -> None:
    """Refuse a tokenizer in Python."""
    if not is_fast:
        raise ModelError(
            f"'{name}' has no fast tokenizer",
            got=f"{type(tokenizer).__name__}, which is in Python",
            wanted="a tokenizer.json beside the weights",
            why="texts are encoded many times, and slow and fast tokenizers may differ in tokens",
            fix="convert it (transformers.convert_slow_tokenizer), and save it beside the weights",
        )


SAVE_TOKENIZER = (
    "save that of the model it comes from beside the weights: "
    "AutoTokenizer.from_pretrained(BASE).save_pretrained(DIR)"
)


def _check_family(directory: Path, tree: Mapping[str, object], *, trusted: bool) -> None:
    from transformers import CONFIG_MAPPING

    kind = tree.get("model_type")
    if kind in CONFIG_MAPPING or (trusted and "auto_map" in tree):
        return
    path = directory / CONFIG
    if "auto_map" in tree:
        code = ", ".join(sorted(file.name for file in directory.glob("*.py")))
        raise ModelError(
            f"the model in '{directory}' has code of its own",
            got=f"model_type {kind!r}, auto_map, {code or 'no *.py'}",
            wanted="a family that transformers has",
            why="the code of a model may do whatever you may do",
            fix="read it first, then --set model.trust_remote_code=true",
        )
    if not isinstance(kind, str):
        got = "no model_type" if kind is None else f"model_type {kind!r}"
        raise ModelError(f"{path} does not say which family the model is of", got=got, fix=_AGAIN)
    near = did_you_mean(kind, CONFIG_MAPPING).partition("What exists")[0]
    raise ModelError(
        f"{path} names a family that transformers does not know",
        got=f"model_type '{kind}'",
        wanted="a causal language model of transformers",
        fix=f"{near}A newer transformers may have it: pip install -U transformers",
    )


def _weight_files(directory: Path) -> list[Path]:
    if (directory / WEIGHTS).exists():
        return [directory / WEIGHTS]
    index = directory / INDEX
    if not index.is_file():
        raise _no_weights(directory)
    tree = read_object(index)
    shards = tree.get("weight_map")
    if not isinstance(shards, Mapping) or not shards:
        raise ModelError(
            f"{index} has no 'weight_map'",
            got=", ".join(tree) or "nothing",
            wanted="tensor -> file",
            fix=_AGAIN,
        )
    names = sorted({str(name) for name in shards.values()})
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise ModelError(
            f"weight files of '{directory}' are missing",
            got=f"no {', '.join(missing[:5])}",
            wanted=f"the {len(names)} files that {INDEX} names",
            fix="copy or download them again",
        )
    return [directory / name for name in names]


def _no_weights(directory: Path) -> ModelError:
    pickled = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickled:
        return ModelError(
            f"the weights in '{directory}' are pickled",
            got=", ".join(pickled[:5]),
            wanted=WEIGHTS,
            why="loading a pickle runs whatever code is inside",
            fix="convert them where you trust them: "
            "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)",
        )
    return ModelError(
        f"there are no weights in '{directory}'",
        got=_listed(directory),
        wanted=f"{WEIGHTS}, or shards and {INDEX}",
        fix="copy or download them; other formats, such as GGUF, have to be converted",
    )


def _header(path: Path) -> Iterator[tuple[bool, list[int]]]:
    """Whether each tensor of a file has floating point, and its shape."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        pointer = file.read(16).startswith(b"version https://")
    try:
        with safe_open(path, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 it is no mapping
                part = opened.get_slice(name)
                yield "F" in part.get_dtype(), part.get_shape()
    except (SafetensorError, OSError) as error:
        is_pointer = "it is a pointer of git-lfs, not the file: git lfs pull"
        raise ModelError(
            f"{path} cannot be read",
            got=f"{path.stat().st_size:,} bytes; {_one_line(error)}",
            wanted="a whole safetensors file, as long as its header says",
            fix=is_pointer if pointer else _AGAIN,
        ) from error


def read_object(path: Path) -> Mapping[str, object]:
    """The object in a JSON file.

    Raises:
        DataError, ModelError: it is broken, or something else.
    """
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise ModelError(
            f"{path} is no JSON object", got=tree, wanted="keys and values", fix=_AGAIN
        )
    return cast(Mapping[str, object], tree)


def _listed(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "an empty directory"


# --- what only loading shows


def _faults() -> tuple[type[Exception], ...]:
    """What libraries raise over files that say other things than they need."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return (
        OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError,
        ImportError, AssertionError, SafetensorError, StrictDataclassError,
    )  # fmt: skip


class Reading:
    """While a part of a model is read: what goes wrong becomes a `ModelError` of that part.

    Args:
        part: as errors name it, `the weights of 'NAME'`.
        fix, wanted: what to do, and what would have been right.
        files: of JSON, one of which may be why.
    """

    def __init__(
        self, part: str, *, fix: str, wanted: str = _ANY, files: Sequence[Path] = ()
    ) -> None:
        self.part, self.fix, self.wanted, self.files = part, fix, wanted, files

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_fault = kind is Exception or isinstance(
            error, _faults()
        )  # tokenizers raises the bare one
        if not is_fault or isinstance(error, RekindleError):
            return
        for path in self.files:
            if path.is_file():
                read_object(path)
        raise ModelError(
            f"{self.part} cannot be used",
            got=f"{type(error).__name__}: {_one_line(error)}",
            wanted=self.wanted,
            fix="install what it needs" if isinstance(error, ImportError) else self.fix,
        ) from error


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())
