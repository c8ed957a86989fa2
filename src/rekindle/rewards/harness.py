"""Runs an untrusted program inside the sandbox, one fresh process for each test case.

The source of this file is handed to a bare Python (`-I -S -c`): it imports the standard library
alone, and nothing of rekindle exists where it runs. It is given the program and the inputs, never
the expected outputs: what it reports are values, which are compared outside.

In: one JSON object on standard input, read to its end before anything untrusted runs. Out: lines
that begin with the nonce of that object; whatever else is written to standard output is ignored.
"""

import ctypes
import json
import os
import resource
import select
import signal
import site
import sys
import time


def serve() -> None:
    """Read the request, run each case, report."""
    request = json.loads(sys.stdin.buffer.read())
    for name_them in (site.setquit, site.setcopyright, site.sethelper):  # left out by -S
        name_them()
    nonce = request["nonce"]
    # Nobody of the same user may read this memory, or write to these files by way of /proc.
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    _report(nonce, {"ready": True})
    for number, case in enumerate(request["cases"]):
        _report(nonce, {"case": number, **_run_case(request["program"], case, request["limits"])})
        _end_others()


def _report(nonce: str, value: dict) -> None:  # type: ignore[type-arg]
    line = (nonce + json.dumps(value) + "\n").encode()
    while line:
        line = line[os.write(1, line) :]


def _run_case(program: str, case: dict, limits: dict) -> dict:  # type: ignore[type-arg]
    """What the program answered: its value or its standard output, or why there is none."""
    out_read, out_write = os.pipe()
    in_read, in_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out_read)
        os.close(in_write)
        _become_untrusted(in_read, out_write, limits)
        _answer(program, case)
        os._exit(0)
    os.close(out_write)
    os.close(in_read)
    output, why = _talk(out_read, in_write, case.get("stdin", "").encode(), limits)
    _kill(child)
    status = os.waitpid(child, 0)[1]
    if why:
        return {"failed": why}
    if "stdin" in case:
        return {"stdout": output.decode("utf-8", "replace")} if status == 0 else _died(status)
    if status != 0:
        return _died(status)
    return {"value": output.decode("utf-8", "replace")}


def _talk(out: int, to: int, text: bytes, limits: dict) -> tuple:  # type: ignore[type-arg]
    """Feed the program and read what it says, until it closes, is late, or says too much."""
    deadline = time.monotonic() + limits["seconds"]
    output = b""
    os.set_blocking(to, False)
    writing = [to] if text else []
    if not text:
        os.close(to)
    why = ""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            why = "timeout"
            break
        readable, writable, _ = select.select([out], writing, [], left)
        if writable:
            try:
                text = text[os.write(to, text[:65536]) :]
            except (BrokenPipeError, BlockingIOError):
                text = b""
            if not text:
                os.close(to)
                writing = []
        if readable:
            part = os.read(out, 65536)
            if not part:
                break
            output += part
            if len(output) > limits["output"]:
                why = "too much output"
                break
    if writing:
        os.close(to)
    os.close(out)
    return output, why


def _become_untrusted(stdin: int, stdout: int, limits: dict) -> None:  # type: ignore[type-arg]
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.closerange(3, 4096)
    os.setsid()
    for kind, value in (
        (resource.RLIMIT_CPU, int(limits["seconds"]) + 1),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    if os.getuid() == 0 and limits["uid"]:
        os.setgroups([])
        os.setgid(limits["uid"])
        os.setuid(limits["uid"])
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


def _answer(program: str, case: dict) -> None:  # type: ignore[type-arg]
    """Run the program; a function's value is written as JSON to what was standard output."""
    space = {"__name__": "__main__" if "stdin" in case else "answer"}
    if "stdin" in case:
        exec(compile(program, "answer.py", "exec"), space)
        sys.stdout.flush()
        return
    write, dumps = os.write, json.dumps
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        exec(compile(program, "answer.py", "exec"), space)
    except SystemExit as end:  # exit() below its definitions
        if end.code not in (None, 0):
            raise
    function = space[case["function"]]
    value = function(*case["input"])  # type: ignore[operator]
    line = dumps(value).encode()
    while line:
        line = line[write(out, line) :]


def _died(status: int) -> dict:  # type: ignore[type-arg]
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {"failed": f"ended by signal {number}" if number else "an error"}


def _kill(child: int) -> None:
    # Its whole session: what it started and left behind counts as it.
    for target in (-child, child):
        try:
            os.kill(target, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _end_others() -> None:
    """Kill whatever else runs in this process namespace but its first process and this one."""
    if not os.path.isdir("/proc/self"):
        return
    for _ in range(50):
        others = [int(n) for n in os.listdir("/proc") if n.isdigit()]
        others = [pid for pid in others if pid not in (1, os.getpid(), os.getppid())]
        if not others:
            return
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.01)


if __name__ == "__main__":
    serve()
