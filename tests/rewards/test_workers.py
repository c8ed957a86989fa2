"""Verifiers in processes: hostile answers end in a reason, the pool and the machine stay whole.

What hangs, fills the memory or ends the process is done by a verifier of our own (stand_ins.py).
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rekindle.cli.grade import grade
from rekindle.errors import ConfigError, DataError
from rekindle.rewards.workers import VerifierPool
from rekindle.tasks import load_task

pytest.importorskip("math_verify")

TOUCH = "__import__('os').system('touch {}')"
RIGHT = [
    ("4", r"so it is \boxed{4}"),
    (r"\frac{1}{2}", "the answer is $0.5$"),
    ("x^2+2x+1", "$(x+1)^2$"),
    (r"\{1,2\}", r"\boxed{\{2,1\}}"),
    ("4", "x" * 1_000_000 + r"\boxed{4}"),
    ("$4$", r"\boxed{4}"),
]
WRONG = [
    ("4", r"\boxed{5}"),
    ("4", ""),
    ("4", "1" * 1_000_000),
    ("4", r"\boxed{" + "1" * 1_000_000 + "}"),
    ("4", "\ud800 half a pair"),
    (r"(1,2)", r"\boxed{(2,1)}"),
]
HANGING = [("4", "loop"), ("4", "sleep")]
DEEP = [
    ("4", r"\boxed{" + "(" * 900 + "4" + ")" * 900 + "}"),
    ("4", r"\boxed{" + r"\sqrt{" * 300 + "4" + "}" * 300 + "}"),
    ("4", "{" * 100_000),
]


@pytest.fixture(scope="module")
def pool():
    with_two = VerifierPool("math", workers=2, timeout=30.0)  # nothing here hangs
    yield with_two
    with_two.close()


@pytest.fixture
def hostile(monkeypatch):
    """Makes a pool whose verifier does what a text says."""
    pools = []

    def make(**settings):
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        pools.append(VerifierPool("stand_ins:hostile", **settings))
        return pools[-1]

    yield make
    for each in pools:
        each.close()


def test_verdicts(pool):
    assert [s.value for s in pool.grade(RIGHT)] == [1.0] * len(RIGHT)
    assert [s.value for s in pool.grade(WRONG)] == [0.0] * len(WRONG)


def test_what_hangs_is_missing_and_what_stands_beside_it_is_not(hostile):
    pool = hostile(workers=2, timeout=0.5)
    right = ("4", "4")
    scores = pool.grade([HANGING[0], right, HANGING[1], right, HANGING[0], right])
    assert [s.reason for s in scores[::2]] == ["timeout"] * 3
    assert [s.value for s in scores[1::2]] == [1.0] * 3
    assert len(pool.pids) <= 2
    assert [s.value for s in pool.grade([right] * 4)] == [1.0] * 4, "capacity is back"


def test_what_a_verifier_does_to_its_process_is_said(hostile):
    pool = hostile(workers=1, timeout=20, memory=400)
    asked = [("4", text) for text in ("fill", "exit", "nest", "raise", "4", "5")]
    assert [(s.value, s.reason) for s in pool.grade(asked)] == [
        (None, "memory"),
        (None, "error: the process ended"),
        (None, "parse: too deeply nested"),
        (None, "error: ZeroDivisionError"),
        (1.0, None),
        (0.0, None),
    ]


def test_deep_nesting_does_no_harm(pool):
    in_brackets, roots, open_ended = pool.grade(DEEP)
    assert in_brackets.value in (1.0, 0.0, None)  # it is 4, if it can be read
    assert roots.value in (0.0, None)
    assert open_ended.value in (0.0, None)
    assert [s.value for s in pool.grade(RIGHT)] == [1.0] * len(RIGHT)


def test_nothing_that_an_answer_says_is_run(pool, tmp_path):
    mark = tmp_path / "run"
    texts = [TOUCH.format(mark), r"\boxed{" + TOUCH.format(mark) + "}", f"$eval({TOUCH})$"]
    assert all(s.value in (0.0, None) for s in pool.grade([("4", text) for text in texts]))
    assert not mark.exists()


def test_a_gold_that_cannot_be_read_is_missing(pool):
    (score,) = pool.grade([("", r"\boxed{4}")])
    assert (score.value, score.reason) == (None, "parse: the gold answer cannot be read")


def test_order_and_many(pool):
    asked = [(str(i), rf"\boxed{{{i if i % 3 else i + 1}}}") for i in range(120)]
    assert [s.value for s in pool.grade(asked)] == [float(bool(i % 3)) for i in range(120)]
    assert pool.grade([]) == []


def test_processes_are_recycled_and_leave_nothing_behind():
    pool = VerifierPool("numeric", workers=1, recycle=3)
    seen = set()
    for i in range(10):
        (score,) = pool.grade([(str(i), f"the answer is {i}")])
        assert score.value == 1
        seen |= set(pool.pids)
    assert len(seen) == 4
    pool.close()
    for pid in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_someone_kills_costs_one_answer(pool):
    pool.grade(RIGHT)
    os.kill(pool.pids[0], signal.SIGKILL)
    scores = pool.grade(RIGHT * 3)
    lost = [s for s in scores if s.value is None]
    assert len(lost) <= 1
    assert all(s.reason == "error: the process ended" for s in lost)
    assert all(s.value == 1 for s in scores if s.value is not None)


def test_an_abandoned_batch_leaves_nothing_to_the_next(monkeypatch):
    """Ctrl-C in the middle of a batch: a late verdict of it must not become one of the next."""
    pool = VerifierPool("math", workers=2, timeout=30)
    pool.grade(RIGHT)
    for pid in pool.pids:
        os.kill(pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:

        def interrupted():
            raise KeyboardInterrupt

        patch.setattr(pool, "_look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.grade(RIGHT)
    for pid in pool.pids:
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.2)
    assert [s.value for s in pool.grade(WRONG)] == [0.0] * len(WRONG)
    pool.close()


def test_workers_that_cannot_start_are_an_error():
    for name in ("no-such-verifier", "no_such_module:verify"):
        with pytest.raises(ConfigError, match="do not start"):
            VerifierPool(name, workers=1).grade([("4", "4")])


def test_workers_leave_with_a_parent_that_is_killed(monkeypatch):
    """Also one that hangs in an answer."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    script = (
        "from rekindle.rewards.workers import VerifierPool\n"
        "pool = VerifierPool('stand_ins:hostile', workers=1, timeout=60)\n"
        "pool.grade([('4', '4')])\n"
        "print(pool.pids[0], flush=True)\n"
        "pool.grade([('4', 'loop')])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        state = Path(f"/proc/{worker}/stat").read_text().split()[2]
        if state == "Z":
            break  # dead; whoever took it over has not waited for it yet
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
def test_a_thousand_hostile_answers_leave_the_run_alive_and_its_memory_flat(hostile):
    """Texts of a million characters among them: requests are written one at a time."""
    long = ("4", "x" * 1_000_000)
    items = [*HANGING, ("4", "4"), ("4", "nest"), long, ("4", "raise"), ("4", "exit")] * 150
    pool = hostile(timeout=0.3)
    pool.grade(items[:70])
    before = int(Path("/proc/self/statm").read_text().split()[1])
    scores = pool.grade(items[:1000])
    after = int(Path("/proc/self/statm").read_text().split()[1])
    assert (after - before) * os.sysconf("SC_PAGE_SIZE") < 50 * 2**20
    expected = {"loop": "timeout", "sleep": "timeout", "nest": "parse: too deeply nested"}
    for (_, text), score in zip(items, scores, strict=False):
        if text in ("4", long[1]):
            assert score.value == float(text == "4") or score.reason == "timeout"
        elif text in expected:
            assert score.reason == expected[text]
        else:
            assert (score.reason or "").startswith("error: ")


# --- where users meet it


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("verifier", ["exact", "numeric", "math"])
def test_grade_adds_score_and_reason(verifier, tmp_path):
    rows = [
        {"id": 7, "gold": "4", "text": "the answer is 4"},
        {"gold": "4", "text": r"\boxed{5}"},
    ]
    write(tmp_path / "in.jsonl", rows)
    grade(
        verifier, tmp_path / "in.jsonl", tmp_path / "out.jsonl", timeout=5, workers=1, memory=2048
    )
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert out == [{**rows[0], "score": 1, "reason": None}, {**rows[1], "score": 0, "reason": None}]


@pytest.mark.parametrize(
    ("row", "says"),
    [({"text": "4"}, ":1 has no text 'gold'"), ({"gold": 4, "text": "4"}, ":1 has no text 'gold'")],
)
def test_grade_names_the_row_that_it_cannot_use(row, says, tmp_path):
    write(tmp_path / "in.jsonl", [row])
    with pytest.raises(DataError, match=says):
        grade(
            "exact", tmp_path / "in.jsonl", tmp_path / "out.jsonl", timeout=5, workers=1, memory=512
        )
    assert not (tmp_path / "out.jsonl").exists()


def test_a_task_grades_through_the_pool(tmp_path):
    write(tmp_path / "d.jsonl", [{"prompt": f"p{i}", "answer": r"\frac{1}{2}"} for i in range(30)])
    task = load_task(
        name="jsonl", path=str(tmp_path / "d.jsonl"), verifier="math", timeout=3.0, workers=2
    )
    problems = task.problems("train", count=3, seed=0)
    texts = [r"\boxed{0.5}", r"\boxed{2}", r"\boxed{\sqrt{1/4}}"]
    scores = task.grade_many(list(zip(problems, texts, strict=True)))
    assert [(s.value, s.reason) for s in scores] == [(1, None), (0, None), (1, None)]
    with pytest.raises(ConfigError, match=r"task.timeout has no effect"):
        load_task(name="jsonl", path=str(tmp_path / "d.jsonl"), timeout=1.0)


def test_a_task_grades_within_its_time(hostile, tmp_path, monkeypatch):
    hostile()  # its verifier can be imported
    write(tmp_path / "d.jsonl", [{"prompt": f"p{i}", "answer": "4"} for i in range(30)])
    task = load_task(name="jsonl", path=str(tmp_path / "d.jsonl"), verifier="math", timeout=0.5)
    monkeypatch.setattr("rekindle.tasks.rows.POOLED", ("stand_ins:hostile",))
    task = replace(task, verifier="stand_ins:hostile")
    asked = list(zip(task.problems("train", count=3, seed=0), ("4", "5", "sleep"), strict=True))
    assert [(s.value, s.reason) for s in task.grade_many(asked)] == [
        (1, None),
        (0, None),
        (None, "timeout"),
    ]
