"""Programs as answers: run against test cases in an OS sandbox, or not at all.

    outside, trusted     expected outputs, comparison, the verdict
    inside               a harness (`rewards.harness`), the program, the inputs

What comes back are values, so nothing that a program prints, patches or forges can pass a test that
its values do not pass. The sandbox has no network, a read-only system without the user's files, an
empty environment, process ids and a /tmp of its own, and limits on time, memory, processes and
output. It is bubblewrap, else a container engine; where neither works, programs are refused.

Whatever a program does is 0: a wrong value, an error, a hang, too much output, killing the harness.
Missing is only what the machine does: the sandbox did not start.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, TypedDict

from rekindle.errors import ConfigError, DataError
from rekindle.records import Score
from rekindle.rewards.program_text import program_of

_STARTING = 10.0  # seconds that a sandbox may take to be ready
_CONTAINER = (
    "run --rm -i --network none --read-only --cap-drop ALL --security-opt no-new-privileges "
    "--pids-limit 32 --memory 1g --user 65534 --tmpfs /tmp:size=64m --workdir /tmp"
)
_ENGINES = ("podman", "docker")
_IMAGE = "python:3.11-slim"


@dataclass(frozen=True)
class Limits:
    """For one test case."""

    seconds: float = 4.0  # of wall clock; CPU time has a second more
    memory: int = 512 * 2**20  # bytes of address space of each process
    processes: int = 16  # and threads, at once
    output: int = 2**20  # bytes that are read of what it says
    file: int = 2**24  # bytes of the largest file it may write (in its own /tmp)


@dataclass(frozen=True)
class Case:
    """One test: `function(*input)` gives `output`, or `stdin` gives `stdout`."""

    output: object
    input: Sequence[object] = ()
    function: str | None = None
    stdin: str | None = None


class CaseReply(TypedDict, total=False):
    """What a program said to the test `case`: a value as JSON, standard output, or why neither."""

    case: int
    value: str
    stdout: str
    failed: str


class Answer(NamedTuple):
    """A text that holds a program, and what it must pass."""

    text: str
    cases: Sequence[Case]
    thought_open: bool = False  # the prompt's template had opened a thought before the text


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that works: its name and the command line that `python -c` is appended to."""

    name: str
    command: tuple[str, ...]


def read_tests(tests: object, *, where: str) -> list[Case]:
    """Test cases from data.

    `{"function": name, "cases": [{"input": [...], "output": value}, ...]}`, or
    `{"cases": [{"stdin": text, "stdout": text}, ...]}`.

    Raises:
        DataError: anything else; `where` names the place.
    """
    wanted = '{"function": "f", "cases": [{"input": [1, 2], "output": 3}]} or ' + (
        '{"cases": [{"stdin": "1 2", "stdout": "3"}]}'
    )
    body: Mapping[str, object] = tests if isinstance(tests, Mapping) else {}
    cases = body.get("cases")
    if not isinstance(cases, Sequence) or isinstance(cases, str) or not cases:
        raise DataError(f"{where}: 'tests' has no cases", got=tests, wanted=wanted)
    function = body.get("function")
    out = []
    for case in cases:
        if not isinstance(case, Mapping):
            raise DataError(f"{where}: a test case is not an object", got=case, wanted=wanted)
        by_text = isinstance(case.get("stdin"), str) and isinstance(case.get("stdout"), str)
        by_call = isinstance(case.get("input"), list) and "output" in case
        if by_call and isinstance(function, str):
            out.append(Case(output=case["output"], input=case["input"], function=function))
        elif function is None and by_text:
            out.append(Case(output=case["stdout"], stdin=case["stdin"]))
        else:
            raise DataError(f"{where}: a test case cannot be run", got=dict(case), wanted=wanted)
    return out


def grade_program(
    text: str,
    cases: Sequence[Case],
    *,
    limits: Limits | None = None,
    thought_open: bool = False,
) -> Score:
    """1 when the program passes every case, else 0; `parts` count the cases that it passed.

    Where the text holds the program: `rewards.program_text`.

    Raises:
        ConfigError: there is no sandbox on this machine; says how to get one.
    """
    sandbox = require_sandbox()
    function = cases[0].function if cases else None
    program = program_of(text, function, thought_open=thought_open)
    replies = run_program(program, cases, sandbox=sandbox, limits=limits or Limits())
    if replies is None:
        return Score.missing(f"sandbox: {sandbox.name} did not start")
    passed = sum(same(case, reply) for case, reply in zip(cases, replies, strict=True))
    parts = {"passed": float(passed), "cases": float(len(cases))}
    return Score(float(passed == len(cases)), parts=parts)


def grade_programs(
    answers: Sequence[Answer] | Sequence[tuple[str, Sequence[Case]]],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
) -> list[Score]:
    """Several programs at once, one to a core; scores in order."""

    def grade(answer: Answer) -> Score:
        return grade_program(
            answer.text, answer.cases, limits=limits, thought_open=answer.thought_open
        )

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(grade, [Answer(*answer) for answer in answers]))


def same(case: Case, reply: CaseReply) -> bool:
    """Whether what a program said is what the case expects: JSON values of equal type and value,
    floats within 1e-6; text without regard to white space at the ends of lines."""
    if case.stdin is not None:
        text = reply.get("stdout")
        return isinstance(text, str) and _lines(text) == _lines(str(case.output))
    raw = reply.get("value")
    if not isinstance(raw, str):
        return False
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return _equal(case.output, value)


def run_program(
    program: str, cases: Sequence[Case], *, sandbox: Sandbox, limits: Limits
) -> list[CaseReply] | None:
    """What the program said to each case; None when the sandbox did not start."""
    nonce = secrets.token_hex(16)
    inputs = [
        {"stdin": case.stdin}
        if case.stdin is not None
        else {"function": case.function, "input": list(case.input)}
        for case in cases
    ]
    uid = 100_000 + secrets.randbelow(400_000)  # one of its own, so that process limits are, too
    request = {
        "nonce": nonce,
        "program": program,
        "cases": inputs,
        "limits": {**asdict(limits), "uid": uid},
    }
    harness = (files("rekindle.rewards") / "harness.py").read_text(encoding="utf-8")
    process = subprocess.Popen(
        [*sandbox.command, "-I", "-S", "-c", harness],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
    )
    seconds = _STARTING + len(cases) * (limits.seconds + 1)
    try:
        # every byte may be an escape in JSON
        most = len(cases) * (6 * limits.output + 200) + 200
        output = _exchange(process, json.dumps(request).encode(), seconds, most)
    finally:
        process.kill()  # the first process of the namespace: all others go with it
        process.wait()
    lines = [line[len(nonce) :] for line in output.split("\n") if line.startswith(nonce)]
    if not lines:
        return None
    replies: list[CaseReply] = [{"failed": "ended before this case"} for _ in cases]
    for line in lines[1:]:
        reply: CaseReply = json.loads(line)
        replies[reply["case"]] = reply
    return replies


def _exchange(process: subprocess.Popen[bytes], request: bytes, seconds: float, most: int) -> str:
    """Hand the request over and read until the end, the deadline, or `most` bytes."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    deadline = time.monotonic() + seconds
    output = b""
    with stdout, selectors.DefaultSelector() as selector:
        try:
            with stdin:
                stdin.write(request)
        except BrokenPipeError:
            return ""
        selector.register(stdout, selectors.EVENT_READ)
        while len(output) < most and selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(stdout.fileno(), 65536)
            if not part:
                break
            output += part
    return output.decode("utf-8", "replace")


# --- which sandbox


def require_sandbox() -> Sandbox:
    """The sandbox of this machine.

    Raises:
        ConfigError: there is none, and how to get one.
    """
    sandbox = find_sandbox()
    if sandbox is None:
        raise ConfigError(
            "programs cannot be run: there is no sandbox",
            got=f"bubblewrap: {'does not work' if shutil.which('bwrap') else 'not installed'}; "
            "container engine: none that works",
            wanted="bubblewrap (bwrap), docker or podman",
            why="an answer may delete files, use the network, or read the expected answers",
            fix="install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap) where "
            "user namespaces are allowed, or start docker or podman with the image "
            f"{_IMAGE} at hand",
        )
    return sandbox


@cache
def find_sandbox() -> Sandbox | None:
    """The first sandbox that runs a program here; None when there is none."""
    candidates = [_bubblewrap(proc=True), _bubblewrap(proc=False), *_containers()]
    return next((sandbox for sandbox in candidates if sandbox and _works(sandbox)), None)


def _works(sandbox: Sandbox) -> bool:
    """It gives back a value, and inside there is no network and no home directory of ours."""
    probe = (
        "import os, socket\n"
        "def f(x):\n"
        "    names = [name for _, name in socket.if_nameindex()]\n"
        "    return [x + 1, [n for n in names if n != 'lo'], os.path.exists(OURS)]\n"
    ).replace("OURS", repr(str(Path(__file__))))
    case = Case(output=[2, [], False], input=[1], function="f")
    replies = run_program(probe, [case], sandbox=sandbox, limits=Limits())
    return replies is not None and same(case, replies[0])


def _bubblewrap(*, proc: bool) -> Sandbox | None:
    program = shutil.which("bwrap")
    if program is None:
        return None
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--setenv", "PATH", "/usr/bin:/bin", "--ro-bind", "/usr", "/usr"]
    for name in ("/lib", "/lib64", "/bin", "/sbin"):
        directory = Path(name)
        if directory.is_symlink():
            command += ["--symlink", os.readlink(directory), name]
        elif directory.exists():
            command += ["--ro-bind", name, name]
    if Path("/etc/ld.so.cache").exists():
        command += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    python = Path(sys.base_prefix).resolve()
    if not python.is_relative_to("/usr"):
        for parent in reversed(python.parents[:-1]):
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", str(python), str(python)]
    command += ["--proc", "/proc"] if proc else []
    command += ["--dev", "/dev", "--perms", "1777", "--size", str(2**26), "--tmpfs", "/tmp"]
    command += ["--chdir", "/tmp"]
    if os.geteuid() == 0:
        # The program becomes a user of its own, which the harness is not: limits on processes do
        # not hold for root.
        for right in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL"):
            command += ["--cap-add", right]
        command.remove("--unshare-all")
        command[1:1] = [f"--unshare-{name}" for name in ("ipc", "pid", "net", "uts", "cgroup-try")]
    return Sandbox("bubblewrap", (*command, str(Path(sys.executable).resolve())))


def _containers() -> Iterator[Sandbox]:
    for name in _ENGINES:
        program = shutil.which(name)
        if program is None:
            continue
        try:  # an image that is not here would be fetched, or waited for
            done = subprocess.run(
                [program, "image", "inspect", _IMAGE], capture_output=True, timeout=10, check=False
            )
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            yield Sandbox(name, (program, *_CONTAINER.split(), _IMAGE, "python"))


def _equal(wanted: object, value: object) -> bool:
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    if isinstance(wanted, int | float) and isinstance(value, int | float):
        if isinstance(wanted, int) and isinstance(value, int):
            return wanted == value
        return math.isclose(wanted, value, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(wanted, list) and isinstance(value, list):
        return len(wanted) == len(value) and all(map(_equal, wanted, value))
    if isinstance(wanted, dict) and isinstance(value, dict):
        return wanted.keys() == value.keys() and all(_equal(wanted[k], value[k]) for k in wanted)
    return type(wanted) is type(value) and bool(wanted == value)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
