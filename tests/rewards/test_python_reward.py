"""A reward in Python: what it may return, what is said where it fails, and what identifies it."""

import functools
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from rekindle.errors import ConfigError, RewardFunctionError
from rekindle.records import Problem, Score
from rekindle.rewards.python_reward import PythonReward, is_place, load_reward

ASKED = [(Problem(id=f"p{i}", prompt=f"{i}?"), text) for i, text in enumerate(["a", "bb", "ccc"])]


def graded(function):
    return PythonReward.of(function).grade_many(ASKED)


@pytest.mark.parametrize(
    "returned",
    [
        [0, 0.5, 1],
        (False, 0.5, True),
        np.array([0.0, 0.5, 1.0], dtype=np.float32),
        torch.tensor([0.0, 0.5, 1.0]),
        [np.float64(0), torch.tensor(0.5), np.bool_(True)],
    ],
    ids=["list", "tuple", "numpy", "tensor", "scalars"],
)
def test_scores_come_in_order_as_any_list_of_numbers(returned):
    assert [score.value for score in graded(lambda problems, texts: returned)] == [0.0, 0.5, 1.0]


def test_it_gets_a_problem_and_a_text_an_answer():
    def reward(problems, texts):
        return [float(f"{p.id}:{t}" == "p1:bb") for p, t in zip(problems, texts, strict=True)]

    assert [score.value for score in graded(reward)] == [0.0, 1.0, 0.0]


def test_none_is_missing_with_a_reason_and_never_0():
    first, *rest = graded(lambda problems, texts: [None, 0.0, 1.0])
    assert first.value is None
    assert "gave none" in first.reason
    assert [score.value for score in rest] == [0.0, 1.0]


def test_nothing_asked_is_not_asked():
    def reward(problems, texts):
        raise AssertionError("called")

    assert PythonReward.of(reward).grade_many([]) == []


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ([1.0, 0.0], "returned too few scores"),
        ([1.0] * 4, "returned too many scores"),
        (1.0, "returned no list of scores"),
        (None, "returned no list of scores"),
        ("100", "returned no list of scores"),
        ({"p0": 1, "p1": 0, "p2": 0}, "returned no list of scores"),
        ({0.0, 1.0, 2.0}, "returned no list of scores"),
        ([1.0, "right", 0.0], "for answer 2 (problem 'p1')"),
        ([1.0, 0.0, float("nan")], "returned nan for answer 3 (problem 'p2')"),
        ([1.0, float("inf"), 0.0], "returned inf for answer 2"),
        (np.array([0, np.nan, 1]), "returned nan for answer 2"),
        (np.zeros((3, 2)), "raised TypeError"),
    ],
)
def test_what_is_not_one_finite_number_an_answer_is_refused_in_four_parts(returned, says):
    with pytest.raises(RewardFunctionError) as caught:
        graded(lambda problems, texts: returned)
    text = str(caught.value)
    assert says in text
    assert all(part in text for part in ("got:", "wanted:", "why:", "do:")) or returned is None


def test_a_reward_that_raises_is_named_with_the_line_and_its_cause():
    def reward(problems, texts):
        return [1 / (len(text) - 1) for text in texts]

    with pytest.raises(RewardFunctionError) as caught:
        graded(reward)
    text = str(caught.value)
    assert "raised ZeroDivisionError" in text
    assert re.search(r"test_python_reward\.py:\d+, in ", text)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_interrupts_are_not_the_rewards():
    def reward(problems, texts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graded(reward)


# --- what it is


@pytest.mark.parametrize(
    ("bad", "says"), [(3, "no callable"), ("f", "no callable"), (dict, "class")]
)
def test_what_cannot_be_called_as_it_is_is_refused(bad, says):
    with pytest.raises(ConfigError, match=says):
        PythonReward.of(bad)


class Versioned:
    def __init__(self, version):
        self.version = version

    def __call__(self, problems, texts):
        return [0.0] * len(texts)

    def fingerprint(self):
        return self.version


class Anonymous:
    def __call__(self, problems, texts):
        return [0.0] * len(texts)


def test_an_object_says_itself_what_identifies_it():
    one, same, other = (PythonReward.of(Versioned(v)).fingerprint() for v in ("1", "1", "2"))
    assert one == same != other
    with pytest.raises(ConfigError, match=r"fingerprint\(\)"):
        PythonReward.of(Anonymous())


MODULE = '''
import re
from math import floor

WORD = "{word}"
PATTERN = re.compile(r"{pattern}")

def helper(text):
    """{doc}"""
    return WORD in text and bool(PATTERN.search(text)) and floor(1.5) == 1

def unused():
    return {unused}

def reward(problems, texts):
    return [float(helper(text)) for text in texts]

class Rewards:
    @staticmethod
    def best(problems, texts):
        return reward(problems, texts)

partial_count = {unused}
'''
PLAIN = {"word": "a", "pattern": "b", "doc": "one", "unused": "1"}


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])

    def written(place="own_rewards:reward", **changes):
        name = place.partition(":")[0]
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(MODULE.format(**{**PLAIN, **changes}))
        for known in [key for key in sys.modules if key.split(".")[0] == name.split(".")[0]]:
            del sys.modules[known]
        import importlib
        import linecache

        importlib.invalidate_caches()
        linecache.clearcache()
        return load_reward(place)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield written
    sys.modules.pop("own_rewards", None)


@pytest.mark.parametrize("change", ["word", "pattern", "doc"])
def test_what_a_function_uses_of_its_module_identifies_it(module, change):
    before = module().fingerprint()
    assert module(**{change: "other"}).fingerprint() != before
    assert module().fingerprint() == before


def test_what_it_does_not_use_does_not(module):
    assert module().fingerprint() == module(unused="2").fingerprint()


def test_places_go_into_packages_and_classes(module):
    assert module("own_pack.inner:Rewards.best").grade_many(ASKED)[0].value == 0.0


def test_a_partial_is_identified_by_its_arguments():
    def reward(problems, texts, bonus):
        return [bonus] * len(texts)

    one, same, other = (
        PythonReward.of(functools.partial(reward, bonus=b)).fingerprint() for b in (1.0, 1.0, 2.0)
    )
    assert one == same != other


def test_closures_and_defaults_count():
    def made(limit):
        return lambda problems, texts, scale=1: [float(len(t) > limit) for t in texts]

    assert PythonReward.of(made(1)).fingerprint() != PythonReward.of(made(2)).fingerprint()


def test_what_exec_made_without_a_module_is_identified_by_its_code():
    """Its `__module__` is None."""

    def made(score):
        space = {}
        exec(
            f"def one(): return {score}\ndef f(problems, texts): return [one()] * len(texts)", space
        )
        return PythonReward.of(space["f"])

    assert made(0.5).grade_many(ASKED) == [Score(0.5)] * len(ASKED)
    assert made(0.5).fingerprint() == made(0.5).fingerprint() != made(1.0).fingerprint()


def test_lambdas_of_one_line_are_told_apart():
    zero, one = (lambda problems, texts: [0.0] * len(texts)), (lambda p, texts: [1.0] * len(texts))
    assert PythonReward.of(zero).fingerprint() != PythonReward.of(one).fingerprint()


def test_a_method_is_identified_by_its_object():
    class Owner(Versioned):
        def scores(self, problems, texts):
            return [0.0] * len(texts)

    one, same, other = (PythonReward.of(Owner(v).scores).fingerprint() for v in ("1", "1", "2"))
    assert one == same != other
    assert one != PythonReward.of(Owner("1")).fingerprint()


TYPED = """
from rekindle.rewards.python_reward import PythonReward
def reward(problems, texts):
    return [float(len(text) > 1) for text in texts]
print(PythonReward.of(reward).fingerprint())
"""


def test_a_function_typed_at_a_prompt_is_the_same_in_the_next_process():
    """The loop inside is a code object of its own, whose repr has an address."""
    said = {
        subprocess.run(
            [sys.executable, "-c", TYPED], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(said) == 1


# --- by its place


@pytest.mark.parametrize(
    ("text", "fits"),
    [("a:b", True), ("a.b:c.d", True), ("numeric", False), (":b", False), ("a:", False),
     ("a b:c", False), ("C:/x.py", False), ("a:b:c", False)],
)  # fmt: skip
def test_the_form_of_a_place(text, fits):
    assert is_place(text) is fits


def test_places_that_are_not_there_are_named_with_what_is(module):
    module()
    with pytest.raises(ConfigError, match="no module named 'no_such'"):
        load_reward("no_such:reward")
    with pytest.raises(ConfigError, match="Did you mean 'reward'"):
        load_reward("own_rewards:rewrd")
    with pytest.raises(ConfigError, match="no callable"):
        load_reward("own_rewards:WORD")
    with pytest.raises(ConfigError, match="is a class"):
        load_reward("own_rewards:Rewards")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def reward(:\n", "SyntaxError"),
        ("import no_such_package\n", "no_such_package"),
        ("raise RuntimeError('while importing')\n", "RuntimeError: while importing"),
    ],
)
def test_a_module_that_fails_says_how_and_where(module, tmp_path, body, says):
    module()
    del sys.modules["own_rewards"]
    (tmp_path / "own_rewards.py").write_text(body)
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        load_reward("own_rewards:reward")
    assert "own_rewards.py:1" in str(caught.value)
