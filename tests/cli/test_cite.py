"""`rekindle cite`: every method has its papers, and what is printed is BibTeX."""

import ast
import inspect
import re

import pytest

from rekindle.cli.cite import bibtex
from rekindle.methods.catalog import METHODS, find_paper, method_module, papers
from rekindle.training.recipe import make_recipe, papers_of_recipe

FIELDS = {"title", "author", "year", "eprint", "archivePrefix", "url"}


def parsed(text):
    """{key: {field: value}} of BibTeX whose values are in braces; braces must balance."""
    entries, rest = {}, text.strip()
    while rest:
        head = re.match(r"@(\w+)\{([\w:-]+),\s*", rest)
        assert head, f"no entry at {rest[:60]!r}"
        fields, at = {}, head.end()
        while rest[at] != "}":
            name = re.compile(r"(\w+)\s*=\s*\{").match(rest, at)
            assert name, f"no field at {rest[at : at + 60]!r}"
            depth, end = 1, name.end()
            while depth:
                depth += {"{": 1, "}": -1}.get(rest[end], 0)
                end += 1
            assert name[1] not in fields
            fields[name[1]] = rest[name.end() : end - 1]
            at = re.compile(r",?\s*").match(rest, end).end()
        assert head[2] not in entries, f"{head[2]} is there twice"
        entries[head[2]] = fields
        rest = rest[at + 1 :].strip()
    return entries


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_cited(method):
    names = METHODS[method].papers
    assert names
    for name in names:
        ((_, fields),) = parsed(bibtex(name)).items()
        assert set(fields) == FIELDS
        assert all(fields.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_file_and_its_citation_say_the_same(method):
    doc = " ".join(ast.get_docstring(ast.parse(inspect.getsource(method_module(method)))).split())
    for name in METHODS[method].papers:
        paper = find_paper(name)
        assert f"arXiv {paper.arxiv}" in doc, f"{method} comes from {paper.arxiv}"
        surname = paper.authors.split(", ")[0].rsplit(" ", 1)[-1]
        before = doc[: doc.index(f"arXiv {paper.arxiv}")]
        assert re.search(rf"{surname}(,| et al\.)[\w ,]* {paper.year}, $", before), before[-90:]


def test_entries_are_ascii_and_keep_what_letters_were(rekindle):
    assert bibtex("rloo").isascii()
    assert r"Gall{\'e}" in bibtex("rloo")
    assert r"{\"U}st{\"u}n" in bibtex("rloo")
    assert all(bibtex(name).isascii() for name in papers())


def test_all_papers_and_rekindle_once(rekindle):
    code, out, err = rekindle("cite")
    assert code == 0, err
    entries = parsed(out)
    wanted = {find_paper(name).arxiv for method in METHODS.values() for name in method.papers}
    assert {e["eprint"] for e in entries.values() if "eprint" in e} == wanted
    assert list(entries)[-1] == "rekindle"
    assert len(entries) == len(wanted) + 1


def test_presets_share_or_have_their_own_paper(rekindle):
    of = {method.name: method.papers for method in METHODS.values()}
    assert of["dapo"] == ("dapo",)
    assert of["lens_shuffled"] == of["lens"] == ("lens",)
    assert of["w_reinforce"] == of["psr"] == of["nsr"]
    assert of["sft_neftune"] == ("neftune",)
    code, out, _ = rekindle("cite", "lens", "lens_mixed", "--format", "text")
    assert code == 0
    assert out.count("arXiv:2510.08696") == 1


def test_an_unknown_method_is_refused_with_what_was_meant(rekindle):
    code, out, err = rekindle("cite", "lans")
    assert (code, out) == (2, "")
    assert "Did you mean 'lens'?" in err


def test_a_runs_settings_are_cited_too(rekindle, tmp_path):
    (tmp_path / "config.yaml").write_text("method: grpo\ngrpo: {extra_rollouts: 1.0}\n")
    code, out, err = rekindle("cite", "--run", tmp_path)
    assert code == 0, err
    assert {e.get("eprint") for e in parsed(out).values()} == {"2402.03300", "2503.14476", None}


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"method": "self_rewarding"}, ["self_rewarding", "dpo"]),
        (
            {"method": "temporal", "temporal": {"ties": "shortest", "dpo": {"nll": 1.0}}},
            ["temporal", "dpo", "rpo", "meta_rewarding"],
        ),
        ({"method": "weak_to_strong"}, ["weak_to_strong", "dpo"]),
        ({"method": "weak_to_strong", "weak_to_strong": {"loss": "orpo"}}, None),
        ({"method": "w2s_floor"}, ["weak_to_strong"]),
        ({"method": "sft", "sft": {"neftune_noise_alpha": 5.0}}, ["instructgpt", "neftune"]),
        ({"method": "sft_label_smoothing"}, ["label_smoothing"]),
    ],
)
def test_what_settings_switch_on(tree, names):
    assert papers_of_recipe(make_recipe(tree)) == (names or ["weak_to_strong", "orpo"])


def test_a_study_is_cited_by_its_arms(rekindle):
    code, out, err = rekindle("cite", "--run", "results/studies/hero", "--format", "text")
    assert code == 0, err
    assert "arXiv:2510.07242" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--run", "results"), "holds no run and no study"),
        (("grpo", "--run", "results/studies/hero"), "exclude each other"),
    ],
)
def test_what_cannot_be_meant_is_refused(rekindle, words, says):
    code, _, err = rekindle("cite", *words)
    assert code == 2
    assert says in err
