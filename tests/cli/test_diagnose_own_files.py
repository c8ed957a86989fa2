"""`rekindle diagnose` on a user's own file: what its rows lack is said, not laid to the model."""

import json
import random

import pytest

from rekindle.tasks.addition import make


@pytest.fixture
def own(tmp_path):
    """A directory of splits: additions of three digits, as the shipped model writes them."""

    def write(*, end=None, **sizes):
        gen = random.Random(0)
        (tmp_path / "own").mkdir()
        for split, size in sizes.items():
            made = [make("3", gen) for _ in range(size)]
            rows = [{"prompt": m.prompt, "answer": m.answer, "solution": m.solution} for m in made]
            for row in rows if end is not None else ():
                row["answer"] = end(row["answer"])
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


def last_digit(answer):
    """What the numeric verifier reads of `...;1 4 1`."""
    return answer[-1]


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
    out = diagnose(own(train=40, dev=40, end=last_digit), "--signals", "sft")
    assert "1  [0.9124, 1]" in lines(out, "  solutions/accepted")[0]
    assert "rejects" not in out
