"""Which part of an answer is the program: fences of every form, and blocks that are none."""

import warnings

import pytest

from rekindle.rewards.program_text import LONGEST, program_of

F = "def f(a, b):\n    return a + b\n"
WRONG = "def f(a, b):\n    return a - b\n"
READS = "a, b = map(int, input().split())\nprint(a + b)\n"


def fenced(code, name="python", fence="```"):
    return f"{fence}{name}\n{code}{fence}\n"


@pytest.mark.parametrize(
    "text",
    [
        *(
            fenced(F, name)
            for name in ("python", "python3", "py", "Python", " python", "python ", "py3", "")
        ),
        fenced(F, "python title=a.py"),
        fenced(F, "{.python .numberLines}"),
        fenced(F, "{python}"),
        fenced(F, "solution.py"),
        fenced(F, "python", "````"),
        fenced(F, "python", "~~~"),
        fenced(F, "code"),
        fenced(F).replace("\n", "\r\n"),
        fenced(F).replace("\n", "\r"),
        "1. So:\n\n" + "".join(f"   {line}\n" for line in fenced(F).split("\n")),
        "1. So:\n   ```python\n" + F + "   ```\n",
        "So: ```python\n" + F + "```\n",
        "```python\n" + F,
        "```python\n" + F + "\nThis adds the two numbers.\nIt is fast.",
        F + "```\nThis adds them.",
        "<answer>```python\n" + F + "```</answer>",
        "<answer>\n" + F + "</answer>",
        "```python\n" + F.rstrip() + "```\nThis adds them.",
        "[BEGIN]\n" + F + "[DONE]",
        "```python\n%matplotlib inline\n!pip install numpy\n" + F + "```",
        F,
        "Sure, here it is:\n\n" + F + "\nThis adds them. Done.",
        "    def f(a, b):\n        return a + b\n",
        "<think>maybe\n" + fenced(WRONG) + "</think>" + fenced(F),
        "<think>maybe</think>" + F,
    ],
)
def test_a_program_in_every_form_of_fence(text):
    program = program_of(text, "f")
    assert _value(program) == 7
    assert "python" not in program
    assert "This" not in program


def _value(program):
    space = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(program, "p", "exec"), space)
    return space["f"](3, 4)


BLOCKS = {
    "another language before": fenced("int f(int a, int b) { return a; }\n", "c") + fenced(F),
    "another language behind": fenced(F) + fenced("f = lambda: 0\n", "javascript"),
    "two other languages": fenced("ls -la\n", "bash") + fenced("{}\n", "json") + fenced(F),
    "output behind": fenced(F) + "Output:\n" + fenced("7\n", ""),
    "output behind, named": fenced(F) + fenced("7\n", "text"),
    "shell behind": fenced(F) + fenced("python f.py\n", "sh"),
    "usage behind": fenced(F) + "Usage:\n" + fenced("print(f(1, 2))\n"),
    "usage behind, unnamed": fenced(F) + "Usage:\n" + fenced("print(f(1, 2))\n", ""),
    "usage by import behind": fenced(F) + fenced("from solution import f\nprint(f(1, 2))\n"),
    "tests behind": fenced(F) + fenced("def test_f():\n    assert f(1, 2) == 3\n"),
    "usage that names a file f": fenced(F) + fenced("with open('x') as f:\n    print(f)\n"),
    "a session behind": fenced(F) + fenced(">>> f(1, 2)\n3\n"),
    "a draft before": fenced(WRONG) + "Better:\n" + fenced(F),
    "a cut one behind": fenced(F) + "```python\ndef f(a, b):\n    return a -",
    "a broken one behind": fenced(F) + fenced("def f(a, b) return a\n"),
    "never closed, then another": "```python\n" + WRONG + "```python\n" + F + "```",
    "an example in its docstring": fenced(
        'def f(a, b):\n    """Adds.\n\n    ```\n    f(1, 2)\n    ```\n    """\n    return a + b\n'
    ),
    "a longer fence around": "````markdown\n```python\n" + WRONG + "```\n````\n" + fenced(F),
    "the question's block before": fenced("def f(a, b):\n    ...\n") + fenced(F),
    "imports apart": fenced("import math\n")
    + fenced("def f(a, b):\n    return math.ceil(a + b)\n"),
    "a helper before": fenced("def add(a, b):\n    return a + b\n")
    + fenced("def f(a, b):\n    return add(a, b)\n"),
    "a helper behind": fenced("def f(a, b):\n    return add(a, b)\n")
    + fenced("def add(a, b):\n    return a + b\n"),
    "a helper that has one": fenced("import math\n")
    + fenced("def add(a, b):\n    return math.fsum((a, b))\n")
    + fenced("def f(a, b):\n    return int(add(a, b))\n"),
    "a draft that would fail": fenced(WRONG + "assert f(1, 2) == 3\n") + fenced(F),
    "escapes": fenced('import re\nP = re.compile("\\d\\\\ \\" \\\n")\n' + F),
    "a fence in a string": fenced("FENCE = '```'\n" + F),
    "an assignment": fenced("f = lambda a, b: a + b\n"),
    "an import that is the answer": fenced("from operator import add as f\n"),
}


@pytest.mark.parametrize("kind", list(BLOCKS))
def test_the_block_that_defines_what_is_asked(kind):
    assert _value(program_of(BLOCKS[kind], "f")) == 7


SCRIPTS = {
    "alone": fenced(READS),
    "unnamed": fenced(READS, ""),
    "input and output behind": fenced(READS) + fenced("1 2\n", "") + fenced("3\n", ""),
    "shell behind": fenced(READS) + fenced("echo 1 2 | python a.py\n", "bash"),
    "its test behind": fenced(READS) + fenced("print('expected 3')\n"),
    "read by sys": fenced("import sys\na, b = map(int, sys.stdin.read().split())\nprint(a + b)\n")
    + fenced("print(1)\n"),
    "read by open": fenced("a, b = map(int, open(0).read().split())\nprint(a + b)\n"),
    "defined, then called": fenced(
        "def solve():\n    a, b = map(int, input().split())\n    print(a + b)\n"
    )
    + "Call it:\n"
    + fenced("solve()\n"),
    "a main guard": fenced(
        "def main():\n    print(sum(map(int, input().split())))\n\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    + fenced("main()\n"),
    "a helper before": fenced("def add(a, b):\n    return a + b\n")
    + fenced("print(add(*map(int, input().split())))\n"),
    "opened by the prompt": READS + "```\nThis reads two numbers.",
    "bare": READS,
    "bare between words": "Here:\n\n" + READS + "\nThat is all there is.",
}


@pytest.mark.parametrize("kind", list(SCRIPTS))
def test_the_block_that_reads_the_input(kind, monkeypatch, capsys):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO("3 4\n"))
    program = program_of(SCRIPTS[kind]).replace("open(0)", "__import__('sys').stdin")
    exec(compile(program, "p", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "7\n"


def test_a_script_that_reads_nothing():
    assert program_of(fenced("print(3)\n") + fenced("3\n", "")) == "print(3)\n"
    assert program_of("a\n```py\nx = 1\n```\nb\n```python\ny = 2\n```") == "y = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        *("", "   ", "there is none", "```", "```python", "~~~\n```\n~~~", "```python\n```"),
        *("x" * LONGEST, "`" * 999, "```\n" * 3_000, "(" * 3_000, "<think>" * 3_000),
        *("if x: y\nelse" * 500, "```python\n" * 2_000, "def f(:\n" * 3_000),
        "```python\n" + "x = (\n" * 3_000,
    ],
)
def test_what_holds_no_program_is_no_error(text):
    assert isinstance(program_of(text, "f"), str)
    assert isinstance(program_of(text), str)


def test_without_a_program_the_text_is_as_it_was():
    assert program_of("x = 1") == "x = 1"
    assert program_of("there is none", "f") == "there is none"
    assert program_of("<think>" + fenced(F) + "</think>\nI cannot.", "f").strip() == "I cannot."
    assert program_of(fenced(F) + "</think>\nno", "f", thought_open=True).strip() == "no"
