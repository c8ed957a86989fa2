"""Generated tasks: true solutions, honest verifiers, disjoint splits, seeded lists."""

import random
import re
import time

import pytest

from rekindle.errors import ConfigError, DataError
from rekindle.records import Problem
from rekindle.tasks import KNOWN, load_task
from rekindle.tasks.countdown import check
from rekindle.tasks.task import split_of, stable_hash

GENERATED = ("countdown", "chain", "addition", "sums")


@pytest.mark.parametrize("name", GENERATED)
def test_every_solution_is_right_and_fits(name):
    task = load_task(name=name)
    problems = task.draw(step=0, count=300, seed=0)
    assert {p.level for p in problems} == set(task.levels)
    for problem in problems:
        assert task.grade(problem, problem.solution).value == 1.0, problem
        assert problem.task == name


@pytest.mark.parametrize("name", GENERATED)
def test_a_damaged_solution_is_wrong(name):
    """Changing the last digit that is graded can never stay right."""
    task = load_task(name=name)
    for problem in task.draw(step=1, count=100, seed=0):
        last = problem.solution[-1]
        other = str((int(last) + 1) % 10)
        assert task.grade(problem, problem.solution[:-1] + other).value == 0.0


def sorted_sum(prompt):
    """Of a prompt of `sums`: the two numbers that are asked, whatever their order."""
    asked = prompt.splitlines()[-1].removesuffix(" =")
    return tuple(sorted(int(number) for number in asked.split(" + ")))


@pytest.mark.parametrize("name", GENERATED)
def test_splits_are_disjoint_however_a_problem_is_written(name):
    task = load_task(name=name)

    def key(problem):
        left, _, right = problem.prompt.rstrip(":").partition(">")
        if name == "countdown":
            return ",".join(sorted(left.split(","))) + ">" + right
        if name == "addition":
            return "+".join(sorted(problem.prompt.rstrip(":").split("+")))
        if name == "sums":
            return sorted_sum(problem.prompt)
        return problem.prompt

    keys = {
        split: {key(p) for p in task.problems(split, count=100, seed=1)}
        for split in ("dev", "test")
    }
    keys["train"] = {key(p) for step in range(20) for p in task.draw(step=step, count=100, seed=1)}
    assert not keys["train"] & keys["dev"]
    assert not keys["train"] & keys["test"]
    assert not keys["dev"] & keys["test"]


@pytest.mark.parametrize("name", GENERATED)
def test_lists_and_draws_are_functions_of_their_arguments(name):
    task = load_task(name=name)
    assert task.problems("dev", count=20, seed=3) == task.problems("dev", count=20, seed=3)
    assert task.problems("dev", count=20, seed=3) != task.problems("dev", count=20, seed=4)
    assert task.draw(step=5, count=9, seed=3) == task.draw(step=5, count=9, seed=3)
    assert task.draw(step=5, count=9, seed=3) != task.draw(step=6, count=9, seed=3)
    listed = task.problems("test", count=150, seed=0)
    assert len({p.id for p in listed}) == len(listed) == 150 * len(task.levels)


def test_the_mix_weighs_the_levels_of_training():
    task = load_task(name="countdown", args={"mix": {"3": 0.5, "5": 0.5}})
    levels = [p.level for p in task.draw(step=0, count=400, seed=0)]
    assert set(levels) == {"3", "5"}
    assert 150 < levels.count("3") < 250
    assert task.fingerprint() != load_task(name="countdown").fingerprint()


def test_a_mix_that_cannot_be_meant_is_refused():
    for mix in ({"3": -1}, {"3": 0.0}, {"3": "much"}, [3, 4], {"3": float("nan")}):
        with pytest.raises(ConfigError, match="not a mix of levels"):
            load_task(name="countdown", args={"mix": mix})
    with pytest.raises(ConfigError, match="no level '9'"):
        load_task(name="countdown", args={"mix": {9: 1.0}})
    task = load_task(name="countdown", args={"mix": {3: 1}})
    with pytest.raises(ConfigError, match="nothing to draw from"):
        task.draw(step=0, count=1, seed=0, levels=["4", "5"])


def test_a_level_named_twice_counts_once():
    task = load_task(name="chain")
    once = task.problems("dev", count=5, seed=0, levels=["3"])
    assert task.problems("dev", count=5, seed=0, levels=["3", "3"]) == once


def test_every_list_is_distinct_however_its_problems_are_written():
    """Nearly all of the level there is: 1,2,3>6 and 3,2,1>6 must not both be in it."""
    task = load_task(name="countdown")
    listed = task.problems("test", count=350, seed=0, levels=["3"])
    keys = set()
    for problem in listed:
        numbers, _, target = problem.prompt.rstrip(":").partition(">")
        keys.add((tuple(sorted(numbers.split(","))), target))
    assert len(keys) == 350


def test_only_misses_in_a_row_exhaust_a_level(monkeypatch):
    monkeypatch.setattr("rekindle.tasks.task._FRUITLESS", 150)
    addition = load_task(name="addition")  # four of five tries belong to another split
    assert len(addition.problems("test", count=200, seed=0, levels=["5"])) == 200


def test_solutions_are_of_the_world_they_are_said_to_be():
    """Countdown: values in 1..49 and all k numbers used; chain: 0..49, one operation a step."""
    for problem in load_task(name="countdown").draw(step=0, count=200, seed=0):
        values = [int(v) for v in re.findall(r"\d+", problem.solution)]
        assert all(1 <= v <= 49 for v in values)
        assert problem.solution.count("=") == int(problem.level) - 1
    for problem in load_task(name="chain").draw(step=0, count=200, seed=0):
        values = [int(v) for v in re.findall(r"\d+", problem.solution)]
        assert all(0 <= v <= 49 for v in values)
        assert problem.solution.count("=") == int(problem.level)
    for problem in load_task(name="addition").draw(step=0, count=200, seed=0):
        left, right = problem.prompt.rstrip(":").replace(" ", "").split("+")
        assert int(left) + int(right) == int(problem.answer)
        assert len(left) == len(right) == int(problem.level)


def test_a_sum_is_asked_after_two_that_are_solved_and_are_never_asked():
    task = load_task(name="sums")
    problems = [p for step in range(30) for p in task.draw(step=step, count=100, seed=0)]
    for problem in problems[:300]:
        *shown, asked = problem.prompt.splitlines()
        assert shown == ["2 + 3 = 5", "6 + 1 = 7"]
        a, b = sorted_sum(problem.prompt)
        assert a + b == int(problem.answer)
        assert max(a, b) < 10 ** int(problem.level)
        assert asked.endswith(" =")
    assert not {sorted_sum(p.prompt) for p in problems} & {(2, 3), (1, 6)}
    assert task.stop == ("\n",)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (" 65", 1.0),
        ("65", 1.0),
        (" 65 ", 1.0),
        (" 065", 1.0),
        (" 65.", 0.0),
        (" 65 or 66", 0.0),
        (" 17 + 48 = 65", 0.0),
        (" 6 5", 0.0),
        (" -65", 0.0),
        (" 66", 0.0),
        (" ٦٥", 0.0),  # ASCII digits only
        ("9" * 10_000, 0.0),
        ("", 0.0),
    ],
)
def test_a_sum_is_right_if_its_line_is_the_number_alone(text, score):
    problem = Problem(id="p", prompt="17 + 48 =", answer="65")
    assert load_task(name="sums").grade(problem, text).value == score


def test_a_step_is_drawn_in_no_time():
    """256 problems in about 10 ms; five times that before it is called slow."""
    task = load_task(name="countdown")
    task.draw(step=0, count=256, seed=0)
    times = []
    for step in range(5):
        start = time.process_time()
        task.draw(step=step, count=256, seed=1)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


def countdown_score(prompt, text):
    return check(Problem(id="p", prompt=prompt), text).value


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7*5=35;35+1=36", 1.0),
        ("1+35=36", 0.0),  # 35 is not there
        ("7*5=35;1+35=36", 1.0),
        ("5*7=35;35+1=36;", 0.0),  # an empty step
        ("7*5=36;36*1=36", 0.0),  # false arithmetic
        ("7*5=35", 0.0),  # a number is left
        ("7+5=12;12*3=36", 0.0),  # 3 is not there
        ("7*5=35;35+1=36 ", 1.0),
        ("", 0.0),
        ("36", 0.0),
        ("7*5=35;35+1=36;36-36=0", 0.0),
        ("7**5=35;35+1=36", 0.0),
        ("__import__('os')", 0.0),
        ("9" * 10_000 + "+1=36", 0.0),
        ("٧*5=35;35+1=36", 0.0),  # ASCII digits only
    ],
)
def test_countdown_replays_every_step(text, score):
    assert countdown_score("1,5,7>36:", text) == score


def test_countdown_uses_each_number_once_and_divides_exactly():
    assert countdown_score("2,2,3>7:", "2+2=4;4+3=7") == 1.0
    assert countdown_score("2,5,3>7:", "2+2=4;4+3=7") == 0.0
    assert countdown_score("1,5,7>35:", "7*5=35") == 0.0  # the target, but 1 is left
    assert countdown_score("7,2,1>3:", "7/2=3;3*1=3") == 0.0
    assert countdown_score("8,2,1>4:", "8/2=4;4*1=4") == 1.0
    assert countdown_score("5,0,1>5:", "5/0=5;5*1=5") == 0.0


def test_chain_and_addition_read_the_last_value():
    chain = load_task(name="chain")
    problem = Problem(id="p", prompt="7+5-3:", answer="9")
    assert chain.grade(problem, "anything=9").value == 1.0
    assert chain.grade(problem, "7+5=12;12-3=9 or so").value == 0.0
    assert chain.answer_of(problem, "7+5=12;12-3=09") == "9"
    assert chain.answer_of(problem, "no idea") is None
    addition = load_task(name="addition")
    problem = Problem(id="p", prompt="4 7+5 8:", answer="105")
    assert addition.grade(problem, "x;1 0 5").value == 1.0
    assert addition.grade(problem, "1 0 5").value == 0.0


def test_hashes_are_the_same_everywhere():
    assert stable_hash("a", 1) == 9331952569449725121
    shares = [split_of(str(i)) for i in range(5000)]
    assert 0.57 < shares.count("train") / 5000 < 0.63


def test_what_does_not_exist_is_listed():
    with pytest.raises(ConfigError, match="Did you mean 'countdown'"):
        load_task(name="countdwn")
    with pytest.raises(ConfigError) as caught:
        load_task(name="zzz")
    assert all(name in str(caught.value) for name in KNOWN)
    with pytest.raises(ConfigError, match="no level '9'"):
        load_task(name="countdown", levels=["9"])
    with pytest.raises(ConfigError, match="no effect"):
        load_task(name="countdown", path="x")
    with pytest.raises(ConfigError, match="no effect"):
        load_task(name="chain", verifier="exact")
    with pytest.raises(ConfigError, match="takes no setting"):
        load_task(name="chain", args={"mixx": {}})
    with pytest.raises(DataError, match=r"too few test problems(.|\n)*at most 3\d\d "):
        load_task(name="countdown").problems("test", count=3000, seed=0, levels=["3"])


def test_random_text_is_never_right_and_never_raises():
    rng = random.Random(0)
    for name in GENERATED:
        task = load_task(name=name)
        for problem in task.draw(step=0, count=50, seed=0):
            text = "".join(rng.choice("0123456789+-*/=; .é\n") for _ in range(30))
            assert task.grade(problem, text).value in (0.0, 1.0)
