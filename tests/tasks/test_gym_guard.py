"""Which texts the scorers of reasoning-gym may evaluate."""

import sys

import pytest

from rekindle.tasks.gym_guard import dangerous, reader_of

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "dataset", ["n_queens", "binary_matrix", "countdown", "simple_integration"]
)
def test_code_in_an_answer_is_not_run(gym, dataset, tmp_path):
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
    assert task.grade(problem, "2**2**2").value is not None


def test_the_scorer_would_have_run_it(gym):
    """The guard is needed: the scorer takes a call for its value, so it runs what it is shown."""
    task = gym("n_queens")
    problem = task.problems("test", count=1, seed=0)[0]
    called = f"list({problem.meta['entry']['metadata']['solutions'][0]!r})"
    score = task.scorer.dataset.score_answer
    assert score(called, problem.meta["entry"]) == 0.5  # a board in another form
    assert score("list", problem.meta["entry"]) < 0.5
    assert task.grade(problem, called).value == 0.0


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
        ("2**2**2", "sympy", True),
        ("((2**3)**2)", "sympy", True),
        ("2**100", "sympy", True),
        ("2**x", "sympy", True),
        ("[0]*10", "python", True),
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
