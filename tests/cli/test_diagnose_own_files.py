"""`rekindle diagnose` on a user's own file: what its rows lack is said, not laid to the model."""

import json
import random

import pytest
import yaml

from rekindle.cli.diagnose import write_studies
from rekindle.errors import DataError
from rekindle.records import Problem
from rekindle.signals.findings import Advice, Finding
from rekindle.tasks.addition import make
from signals.lookups import subject


@pytest.fixture
def own(tmp_path):
    """A directory of splits: additions, as the shipped model writes them."""

    def write(*, answer=str, solution=str, **sizes):
        gen = random.Random(0)
        (tmp_path / "own").mkdir()
        for split, size in sizes.items():
            made = [make("3", gen) for _ in range(size)]
            rows = [
                {"prompt": m.prompt, "answer": answer(m.answer), "solution": solution(m.solution)}
                for m in made
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / "own" / f"{split}.jsonl").write_text(text)
        return tmp_path / "own"

    return write


@pytest.fixture
def diagnose(rekindle):
    def run(task, *words):
        base = ("--model", "testbed/addition-s0", "--task", task, "--samples", 8)
        code, out, err = rekindle("diagnose", *base, *words)
        assert code == 0, err
        return out

    return run


def lines(out, start):
    return [text for text in out.splitlines() if text.startswith(start)]


def marked(solution):
    """`...;1 4 1` with a mark that the numeric verifier reads, which the model has not learnt."""
    return f"{solution}\n#### {solution.rsplit(';', 1)[-1].replace(' ', '')}"


def test_solutions_that_the_verifier_rejects_are_not_recommended(own, diagnose, tmp_path):
    """The answer is 141 and the solutions end in 1 4 1: perfect SFT would score 0."""
    out = diagnose(own(train=40, dev=40), "--write", tmp_path / "s.yaml")
    assert lines(out, "missing:") == ["missing: sft (rejected), groups (all-wrong)"]
    assert "accepts 0 [0, 0.0876] of the reference solutions" in lines(out, "does not fit: sft")[0]
    assert not lines(out, "fits: sft")
    assert lines(out, "fits: a verifier that accepts the solutions")
    assert "easier problems" not in lines(out, "fits: ")[0]
    assert not (tmp_path / "s.yaml").exists()


def test_groups_alone_do_not_lay_it_to_the_model_either(own, diagnose):
    out = diagnose(own(train=40), "--signals", "groups")
    assert not lines(out, "fits: easier problems")
    assert "rejects may be right" in lines(out, "groups ")[0]


def test_solutions_that_are_accepted_are_left_alone(own, diagnose):
    out = diagnose(own(train=40, dev=40, solution=marked), "--signals", "sft")
    assert "1  [0.9124, 1]" in lines(out, "  solutions/accepted")[0]
    assert "rejects" not in out


class Split:
    """A task of which only the dev problems are asked for."""

    name = "own"

    def __init__(self, **levels):
        self.levels = levels

    def problems(self, split, *, count, seed, levels=None):
        return [
            Problem(id=f"{level}-{i}", prompt="1+1=", answer="2", level=level)
            for level, there in self.levels.items()
            for i in range(min(count, there))
        ]


def written(path, task, remedy="sft", asked=200, group_size=8):
    """The study that is written for a remedy."""
    found = Finding("groups", "all-wrong", "out", ".", [], Advice(remedy, "it fits"))
    about = subject(
        "testbed/addition-s0",
        sections={"task": {"name": "addition"}},
        reward={"model": "rm"},
        problems=asked,
        group_size=group_size,
        task=task,
    )
    write_studies(path, [found], about, None)
    return yaml.safe_load(path.read_text()) if path.exists() else None


@pytest.mark.parametrize(
    ("there", "asked", "problems", "said"),
    [
        ({"": 2}, 200, None, "a study on 2 dev problems could not tell; give a dev.jsonl of 100"),
        ({"": 500}, 10, None, "a study on 10 dev problems could not tell; give --problems 100"),
        ({"": 40}, 200, 40, "there are 40 dev problems, fewer than asked for (--problems 200)"),
        ({"a": 40, "b": 12}, 200, 40, "there are 52 dev problems"),
        ({"": 500}, 200, 200, None),
    ],
)
def test_a_study_asks_for_the_dev_problems_that_there_are(
    tmp_path, capsys, there, asked, problems, said
):
    study = written(tmp_path / "s.yaml", Split(**there), asked=asked)
    out = capsys.readouterr().out
    assert (None if study is None else study["recipe"]["eval"]["problems"]) == problems
    assert "dev problems" not in out if said is None else said in out


class Small(Split):
    """A generated task whose one level has fewer problems than asked for."""

    def problems(self, split, *, count, seed, levels=None):
        raise DataError("level 3 has too few dev problems", wanted="at most 150")


def test_a_level_with_too_few_dev_problems_says_what_to_ask_for(tmp_path, capsys):
    assert written(tmp_path / "s.yaml", Small()) is None
    out = capsys.readouterr().out
    assert "too few dev problems (wanted: at most 150); give a smaller --problems" in out


def test_a_file_with_two_dev_rows_gets_no_study(own, diagnose, tmp_path):
    """The solutions are marked as the answers are, and the model writes 1 4 1."""
    task = own(train=40, dev=2, solution=marked)
    words = ("--signals", "groups,sft", "--write", tmp_path / "s.yaml")
    out = diagnose(task, *words)
    assert lines(out, "fits: sft (groups)")
    assert lines(out, "no study of sft was written: a study on 2 dev problems could not tell")
    assert not (tmp_path / "s.yaml").exists()


@pytest.mark.parametrize(
    ("remedy", "sections"),
    [
        ("sft", {"grpo": "grpo"}),
        ("lens", {"grpo": "grpo", "grpo_kl": "grpo", "lens": "lens"}),
        (
            "hero",
            {"verifier_kl": "blend", "blend": "blend", "hero": "hero", "hero_random": "hero"},
        ),
    ],
)
def test_every_arm_with_groups_has_the_group_size_that_was_diagnosed(tmp_path, remedy, sections):
    study = written(tmp_path / "s.yaml", Split(**{"": 200}), remedy, group_size=16)
    sizes = {arm: study["arms"][arm][section]["group_size"] for arm, section in sections.items()}
    assert sizes == dict.fromkeys(sections, 16)


@pytest.mark.parametrize("remedy", ["sft", "lens", "hero", "temporal"])
def test_a_written_study_has_no_yaml_anchors(tmp_path, remedy):
    written(tmp_path / "s.yaml", Split(**{"": 200}), remedy)
    text = (tmp_path / "s.yaml").read_text()
    assert "&id" not in text
    assert "*id" not in text
