"""reasoning-gym datasets as tasks, and what their scorers are not shown."""

import sys
from pathlib import Path

import pytest

from rekindle.errors import ConfigError, DataError, MissingExtraError
from rekindle.tasks import load_task
from rekindle.tasks.gym import dangerous, extract, reader_of

pytestmark = pytest.mark.filterwarnings("ignore")


def gym(dataset, **settings):
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    return load_task(name="gym", args={"dataset": dataset, **settings})


def test_any_dataset_with_its_settings():
    task = gym("chain_sum", min_terms=2, max_terms=3)
    problems = task.problems("test", count=10, seed=0)
    assert len({p.id for p in problems}) == 10
    assert task.grade(problems[0], problems[0].answer).value == 1.0
    assert task.grade(problems[0], "nonsense").value == 0.0
    assert task.grade(problems[0], f"hm: <answer>{problems[0].answer}</answer>").value == 1.0
    assert 0.0 < task.grade(problems[0], f"it is {problems[0].answer}").value < 1.0
    assert task.problems("test", count=10, seed=0) == problems
    drawn = task.draw(step=0, count=300, seed=0)
    assert drawn == task.draw(step=0, count=300, seed=0)
    assert drawn != task.draw(step=1, count=300, seed=0)
    dev = task.problems("dev", count=100, seed=0)
    prompts = [{p.prompt for p in split} for split in (drawn, dev, problems)]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]
    assert gym("chain_sum").fingerprint() != task.fingerprint()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("5", "5"),
        ("I think <answer>4</answer>, no: <answer> 5 </answer>", "5"),
        (r"so \boxed{5}.", "5"),
        ("#### is a wall", "#### is a wall"),
        ("<answer>5", "<answer>5"),
    ],
)
def test_the_answer_in_a_text(text, answer):
    assert extract(text) == answer


def test_composites_from_plain_settings(tmp_path, monkeypatch):
    task = gym("composite", datasets=[{"name": "chain_sum"}, {"name": "n_queens", "weight": 2}])
    problems = task.problems("test", count=12, seed=0)
    assert {p.meta["entry"]["metadata"]["source_dataset"] for p in problems} == {
        "chain_sum",
        "n_queens",
    }
    assert all(task.grade(p, p.answer).value == 1.0 for p in problems)
    monkeypatch.chdir(tmp_path)  # by name alone: chain_sum pays in part for a sum that a path holds
    assert all(task.grade(p, "open('canary', 'w')").value == 0.0 for p in problems)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "dataset", ["n_queens", "binary_matrix", "countdown", "simple_integration"]
)
def test_code_in_an_answer_is_not_run(dataset, tmp_path):
    """The scorers of these evaluate the answer: the first two by eval, the others by sympy."""
    task = gym(dataset)
    problem = task.problems("test", count=1, seed=0)[0]
    canary = tmp_path / "canary"
    for code in (
        f"__import__('pathlib').Path({str(canary)!r}).touch()",
        f"open({str(canary)!r}, 'w')",
        f"exec({f'open({str(canary)!r}, chr(119))'!r})",
        f"[open({str(canary)!r}, 'w')]",
        f"3! + len(str(open({str(canary)!r}, 'w')))",
    ):
        assert task.grade(problem, code).value == 0.0
        assert not canary.exists()
    assert task.grade(problem, "9**9**9**9").value is not None


def test_the_scorer_would_have_run_it(tmp_path):
    """The guard is needed: shown the same text, the scorer itself runs it."""
    task = gym("n_queens")
    entry = task.problems("test", count=1, seed=0)[0].meta["entry"]
    canary = tmp_path / "canary"
    task._scorer.score_answer(f"__import__('pathlib').Path({str(canary)!r}).touch()", entry)
    assert canary.exists()


def test_every_scorer_that_evaluates_is_known():
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    from reasoning_gym.factory import DATASETS

    readers = {name: reader_of(made_by.score_answer) for name, (made_by, _) in DATASETS.items()}
    python = {"n_queens", "binary_matrix", "spiral_matrix", "string_insertion"}
    sympy = {"countdown", "puzzle24", "simple_integration", "intermediate_integration"}
    assert all(readers[name] == "python" for name in python)
    assert all(readers[name] == "sympy" for name in sympy | {"polynomial_multiplication"})
    assert readers["chain_sum"] is None
    assert readers["propositional_logic"] is None  # a parser of its own


@pytest.mark.parametrize(
    ("text", "reader", "bad"),
    [
        ("[['Q', '_'], ['_', 'Q']]", "python", False),
        ("Q _ _\n_ _ Q", "python", False),  # no Python: eval refuses it
        ("Q _ _\n_ _ Q", "sympy", True),
        ("(3+4)*5 - 8/(3 - 8/3)", "sympy", False),
        ("x**3/3 - exp(-x)*sin(2*x) + C", "sympy", False),
        ("-2*x**-2 + x**(1/2)", "sympy", False),
        ("9**9**9", "sympy", True),
        ("(((9**64)**64)**64)", "sympy", True),
        ("2**100", "sympy", True),
        ("2**x", "sympy", True),
        ("[0]*10**9", "python", True),
        ("'a'*10", "python", True),
        ("('a'+'b')*10", "python", True),
        ("f(x)", "sympy", True),
        ("sin(x, 2)", "sympy", True),
        ("sin.__class__", "sympy", True),
        ("__builtins__", "python", True),
        ("[x for x in y]", "python", True),
        ("lambda: 0", "python", True),
        ("3!", "sympy", True),
        ("(" * 5000, "python", False),
        ("1" * 20_000, "python", True),
    ],
)
def test_what_is_dangerous(text, reader, bad):
    assert dangerous(text, reader) == bad


def test_a_scorer_whose_source_is_hidden_gets_the_strictest_reader():
    space = {"__name__": "hidden"}
    exec("def score(answer): return eval(answer)", space)
    module = type(sys)("hidden")
    module.__file__ = "/nowhere/hidden.py"
    sys.modules["hidden"] = module
    try:
        assert reader_of(space["score"]) == "sympy"
    finally:
        del sys.modules["hidden"]


def test_a_scorer_that_fails_gives_a_missing_score():
    task = gym("prime_factorization")
    problem = task.problems("test", count=1, seed=0)[0]
    score = task.grade(problem, "nonsense")
    assert score.value is None
    assert score.reason == "the dataset's scorer failed: ValueError"
    assert task.grade(problem, problem.answer).value == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "chain_sums"}, "Did you mean 'chain_sum'"),
        ({"dataset": 3}, "no dataset '3'"),
        ({}, "needs a dataset"),
        ({"dataset": "chain_sum", "no_such": 1}, "refuses its settings"),
        ({"dataset": "chain_sum", "min_terms": "two"}, "refuses its settings"),
        ({"dataset": "composite"}, "at least one dataset"),
        ({"dataset": "composite", "datasets": [{"nam": "x"}]}, "refuses its settings"),
    ],
)
def test_mistakes(settings, message):
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    with pytest.raises(ConfigError, match=message):
        load_task(name="gym", args=settings)


def test_a_dataset_with_few_questions_says_so():
    task = gym("chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=1)
    with pytest.raises(DataError, match=r"too few test questions(.|\n)*at most about \d\d?"):
        task.problems("test", count=500, seed=0)


def test_without_the_extra_the_command_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rekindle\[gym\]'"):
        load_task(name="gym", args={"dataset": "chain_sum"})


def test_the_package_itself_needs_no_extra():
    source = Path(__file__).parents[2] / "src" / "rekindle" / "tasks"
    for name in ("__init__", "task", "rows", "stored", "text_files", "gym"):
        text = (source / f"{name}.py").read_text()
        assert "import datasets" not in text
        assert "import torch" not in text
