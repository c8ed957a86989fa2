"""Programs in a sandbox: right and wrong ones, and those that attack what checks them."""

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from rekindle.errors import ConfigError, DataError
from rekindle.records import Response
from rekindle.rewards import code
from rekindle.rewards.code import (
    Case,
    Limits,
    find_sandbox,
    grade_program,
    grade_programs,
    read_tests,
    run_program,
)
from rekindle.tasks import load_task

needs_sandbox = pytest.mark.skipif(
    find_sandbox() is None, reason="no sandbox works here (bubblewrap, podman or docker)"
)
SUM = [
    Case(output=8461, input=[8000, 461], function="f"),
    Case(output=7, input=[3, 4], function="f"),
]
QUICK = Limits(seconds=1.5)
DEFINES = "def f(a, b):\n    return a + b\n"


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    [
        DEFINES,
        "Sure:\n```python\n" + DEFINES + "```\nDone.",
        "```\nnot this\n```\n```python\n" + DEFINES + "```",
        "import math, itertools, collections, functools, re, heapq\n" + DEFINES,
        "print('noise' * 1000)\n" + DEFINES,
        "def f(*x):\n    return sum(x)",
        "f = lambda a, b: a + b",
        DEFINES + "print(f(1, 2))\nexit()",
        DEFINES + "quit(0)",
        DEFINES + "import sys\nsys.exit(0)",
        "help, copyright, credits, license, exit, quit\n" + DEFINES,
        "```c\nint f();\n```\n```python3\n" + DEFINES + "```\n```\n7\n```\n```\nf(3, 4)\n```",
        "<think>\n```python\ndef f(a, b): return a\n```\n</think>\n" + DEFINES,
    ],
)
def test_right_programs(program):
    score = grade_program(program, SUM, limits=QUICK)
    assert (score.value, score.parts) == (1.0, {"passed": 2.0, "cases": 2.0})


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    [
        "def f(a, b):\n    return a - b",
        "def f(a, b):\n    return str(a + b)",
        "def f(a, b):\n    return float('nan')",
        "def f(a, b):\n    return True",
        "def g(a, b):\n    return a + b",
        "def f(a):\n    return a",
        "this is no program",
        "",
        "\x00",
        "def f(a, b):\n    raise ValueError",
        DEFINES + "exit(1)",
        DEFINES + "exit('no')",
        "exit()\n" + DEFINES,
        "def f(a, b):\n    exit()",
        "<think>\n```python\n" + DEFINES + "```\n</think>\nNo idea.",
    ],
)
def test_wrong_programs(program):
    assert grade_program(program, SUM, limits=QUICK).value == 0.0


@needs_sandbox
def test_standard_input_and_output():
    cases = [Case(output="3\n", stdin="1 2\n"), Case(output="11\n", stdin="5 6")]
    right = "a, b = map(int, input().split())\nprint(a + b)"
    assert grade_program(right, cases, limits=QUICK).value == 1
    assert grade_program(right + "\nexit()", cases, limits=QUICK).value == 1
    assert grade_program(right + "\nquit(0)\nprint(9)", cases, limits=QUICK).value == 1
    assert grade_program(right + "\nexit(1)", cases, limits=QUICK).value == 0
    assert grade_program("print(3)", cases, limits=QUICK).parts == {"passed": 1.0, "cases": 2.0}
    big = [Case(output="1000000\n", stdin="x" * 1_000_000)]
    assert grade_program("print(len(input()))", big, limits=QUICK).value == 1


@needs_sandbox
def test_values_are_compared_by_type_and_floats_with_a_tolerance():
    def passes(output, program):
        return grade_program(program, [Case(output=output, input=[], function="f")]).value == 1

    assert passes([1, [2.0, "x"], {"a": None}], "def f(): return [1, (2.0, 'x'), {'a': None}]")
    assert passes(0.3, "def f(): return 0.1 + 0.2")
    assert not passes(1, "def f(): return True")
    assert not passes("1", "def f(): return 1")
    assert not passes([1, 2], "def f(): return [1, 2, 3]")


MARK = "/tmp/rekindle-was-here"
RED_TEAM = {
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "thread bomb": "import threading, time\nwhile True:\n"
    "    threading.Thread(target=time.sleep, args=(99,)).start()",
    "os._exit(0)": "import os\nos._exit(0)",
    "sys.exit at import": "import sys\nsys.exit(0)",
    "kill the parent": "import os\nos.kill(os.getppid(), 9)\n" + "def f(a, b): return 0",
    "kill everyone": "import os, signal\nfor p in range(1, 200):\n"
    "    try:\n        os.kill(p, 9)\n    except OSError:\n        pass\nos.kill(-1, 9)",
    "network": "import socket\ns = socket.create_connection(('1.1.1.1', 53), 1)\n"
    "def f(a, b): return a + b",
    "loopback": "import socket\ns = socket.create_connection(('127.0.0.1', {port}), 1)\n"
    "def f(a, b): return a + b",
    "environment": "import os\n"
    "def f(a, b): return a + b if 'SECRET_FOR_THE_TEST' in os.environ else -1",
    "the parent's environment": "def f(a, b):\n    import os\n"
    "    text = open(f'/proc/{os.getppid()}/environ').read()\n"
    "    return a + b if 'SECRET' in text else -1",
    "the parent's memory": "def f(a, b):\n    import os\n"
    "    open(f'/proc/{os.getppid()}/mem', 'rb').read(1)\n    return a + b",
    "the parent's files": "def f(a, b):\n    import os\n"
    "    open(f'/proc/{os.getppid()}/fd/1', 'w').write('x')\n    return a + b",
    "the expected answers": "import os\ndef f(a, b):\n    for base, _, names in os.walk('/'):\n"
    "        if base.startswith(('/proc', '/dev', '/usr', '/root/.pyenv')): continue\n"
    "        for name in names:\n"
    "            try: text = open(os.path.join(base, name)).read(9999)\n"
    "            except Exception: continue\n            if '8461' in text: return a + b\n"
    "    return -1",
    "write outside": "def f(a, b):\n    open('/usr/evil', 'w').write('x')\n    return a + b",
    "write to the host's tmp": f"open({MARK!r}, 'w').write('x')\ndef f(a, b): return -1",
    "symlink out": "import os\nos.symlink('/usr', '/tmp/out')\n"
    "def f(a, b):\n    open('/tmp/out/evil', 'w').write('x')\n    return a + b",
    "endless output": "while True:\n    print('x' * 100000)",
    "endless output in a function": "def f(a, b):\n    while True: print('x' * 99999, flush=True)",
    "endless result": "def f(a, b): return 'x' * 200_000_000",
    "print the pass token": 'print(\'PASS\'); print(\'{"case": 0, "value": "8461"}\')\n'
    "def f(a, b): return -1",
    "write a result of its own": "import os\nfor fd in range(3, 64):\n"
    '    try: os.write(fd, b\'{"case": 0, "value": "7"}\\n\')\n    except OSError: pass\n'
    "def f(a, b): return -1",
    "patch builtins": "import builtins, json\nbuiltins.len = lambda x: 0\n"
    "builtins.isinstance = lambda *a: True\njson.dumps = lambda x: '8461'\n"
    "json.loads = lambda x: 8461\ndef f(a, b): return -1",
    "equal to everything": "class E(int):\n    def __eq__(self, other): return True\n"
    "    __hash__ = int.__hash__\ndef f(a, b): return E(-1)",
    "a value that is no JSON": "def f(a, b): return object()",
    "a recursive value": "def f(a, b):\n    x = []\n    x.append(x)\n    return x",
    "a pickle": "import pickle\ndef f(a, b): return pickle.dumps(a + b)",
    "memory bomb": "x = bytearray(8 * 2**30)\ndef f(a, b): return a + b",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(a, b): return f(a, b) + 1",
    "endless loop": "while True: pass",
    "sleep": "import time\ntime.sleep(60)\ndef f(a, b): return a + b",
    "ignore signals and stay": "import os, signal, time\n"
    "for s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass\n"
    "if os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\ntime.sleep(60)",
    "become root": "import os\nos.setuid(0)\ndef f(a, b): return a + b",
    "mount": "import ctypes\n"
    "if ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None): raise OSError\n"
    "def f(a, b): return a + b",
    "fill the disk": "with open('/tmp/big', 'wb') as file:\n"
    "    for _ in range(10_000): file.write(b'x' * 2**20)\ndef f(a, b): return a + b",
}


def processes(mark):
    """Those that were started with this in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in place.read_bytes():
                found.append(place.parent.name)
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


@needs_sandbox
@pytest.mark.parametrize("attack", list(RED_TEAM))
def test_attacks_score_nothing_and_leave_the_host_untouched(attack, monkeypatch):
    monkeypatch.setenv("SECRET_FOR_THE_TEST", "1")
    Path(MARK).unlink(missing_ok=True)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listening:  # there to be reached
        program = RED_TEAM[attack].replace("{port}", str(listening.getsockname()[1]))
        score = grade_program(program, SUM[:1], limits=QUICK)
    assert score.value == 0.0, score
    assert time.monotonic() - began < 15
    assert not Path(MARK).exists()
    assert not Path("/usr/evil").exists()
    assert grade_program(DEFINES, SUM, limits=QUICK).value == 1, "the next answer is fine"


@needs_sandbox
def test_no_process_is_left(monkeypatch):
    real, mark = find_sandbox(), f"rekindle-test-{os.getpid()}"
    words = [*real.command[:-1], "--setenv", "MARK", mark, real.command[-1]]
    if real.name != "bubblewrap":
        pytest.skip("marks processes by bubblewrap's options")
    monkeypatch.setattr(code, "find_sandbox", lambda: code.Sandbox(real.name, tuple(words)))
    asked = threading.Thread(
        target=grade_program, args=(RED_TEAM["sleep"], SUM[:1]), kwargs={"limits": QUICK}
    )
    asked.start()
    deadline = time.monotonic() + 5
    while not processes(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes(mark), "they can be seen"
    asked.join()
    for attack in ("fork bomb", "ignore signals and stay"):
        grade_program(RED_TEAM[attack], SUM[:1], limits=Limits(seconds=0.5))
    deadline = time.monotonic() + 5
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(mark) == []


@needs_sandbox
def test_the_expected_answers_never_go_in(monkeypatch):
    seen = []
    real = code._exchange

    def spied(process, asked, *rest):
        seen.append(asked)
        return real(process, asked, *rest)

    monkeypatch.setattr(code, "_exchange", spied)
    grade_program(DEFINES, [Case(output=12345678, input=[1, 2], function="f")])
    assert seen
    assert b"12345678" not in seen[0]


@needs_sandbox
def test_one_case_cannot_spoil_the_next():
    """A case that kills or writes is on its own: the other still passes."""
    program = (
        "import os\ndef f(a, b):\n    if a == 3:\n        os.kill(os.getpid(), 9)\n    return a + b"
    )
    assert grade_program(program, SUM).parts == {"passed": 1.0, "cases": 2.0}


@needs_sandbox
def test_several_at_once_in_order():
    asked = [(DEFINES if i % 3 else "def f(a, b): return 0", SUM) for i in range(12)]
    scores = grade_programs(asked, limits=QUICK, workers=4)
    assert [s.value for s in scores] == [float(bool(i % 3)) for i in range(12)]


def test_without_a_sandbox_it_refuses_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(code, "find_sandbox", lambda: None)
    with pytest.raises(ConfigError, match="there is no sandbox") as error:
        grade_program(DEFINES, SUM)
    assert "install bubblewrap" in str(error.value)


def test_a_sandbox_that_does_not_start_gives_a_missing_score(monkeypatch):
    broken = code.Sandbox("broken", ("/bin/false",))
    monkeypatch.setattr(code, "find_sandbox", lambda: broken)
    score = grade_program(DEFINES, SUM)
    assert (score.value, score.reason) == (None, "sandbox: broken did not start")
    assert run_program(DEFINES, SUM, sandbox=broken, limits=QUICK) is None


def test_a_container_engine_is_used_as_it_must_be(tmp_path, monkeypatch):
    fake = tmp_path / "podman"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(code, "_ENGINES", ("podman",))
    (sandbox,) = code._containers()
    words = " ".join(sandbox.command)
    for needed in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--pids-limit",
        "--user 65534",
    ):
        assert needed in words


@pytest.mark.parametrize(
    ("tests", "says"),
    [
        (None, "has no cases"),
        ({"cases": []}, "has no cases"),
        ({"cases": "x"}, "has no cases"),
        ({"cases": [3]}, "is not an object"),
        ({"cases": [{"input": [1], "output": 2}]}, "cannot be run"),
        ({"function": "f", "cases": [{"input": 1, "output": 2}]}, "cannot be run"),
        ({"function": "f", "cases": [{"input": [1]}]}, "cannot be run"),
        ({"cases": [{"stdin": "1"}]}, "cannot be run"),
    ],
)
def test_tests_that_cannot_be_meant(tests, says):
    with pytest.raises(DataError, match=says):
        read_tests(tests, where="row 3")


def test_tests_from_data():
    data = json.loads('{"function": "f", "cases": [{"input": [1, 2], "output": null}]}')
    assert read_tests(data, where="r") == [Case(output=None, input=[1, 2], function="f")]
    data = {"cases": [{"stdin": "1", "stdout": "2"}]}
    assert read_tests(data, where="r") == [Case(output="2", stdin="1")]


@needs_sandbox
def test_a_task_of_programs(tmp_path):
    rows = [
        {
            "prompt": f"add {i}",
            "tests": {"function": "f", "cases": [{"input": [i, 1], "output": i + 1}]},
        }
        for i in range(30)
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_task(
        name="jsonl", path=str(tmp_path / "d.jsonl"), verifier="code", timeout=2.0, workers=2
    )
    problems = task.problems("train", count=3, seed=0)
    texts = [DEFINES, "def f(a, b): return a", "import os\nos._exit(0)"]
    scores = task.grade_many(list(zip(problems, texts, strict=True)))
    assert [s.value for s in scores] == [1.0, 0.0, 0.0]
    text = DEFINES + "</think>\n" + DEFINES
    for open_before, answer in ((True, DEFINES), (True, text), (False, text)):
        response = Response(problems[0], answer, thought_open=open_before)
        assert task.grade_responses([response])[0].value == float(answer == text)
    assert task.answer_of(problems[0], DEFINES) is None


def test_a_task_of_programs_is_refused_without_a_sandbox(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "find_sandbox", lambda: None)
    (tmp_path / "d.jsonl").write_text('{"prompt": "p", "answer": "a"}\n')
    with pytest.raises(ConfigError, match="there is no sandbox"):
        load_task(name="jsonl", path=str(tmp_path / "d.jsonl"), verifier="code")
