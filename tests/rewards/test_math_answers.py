"""Equality as mathematics: the places where ours is not math-verify's."""

import pytest

from rekindle.rewards.workers import VerifierPool

pytest.importorskip("math_verify")

EQUAL = {
    "numbers": [
        ("0.5", r"\frac{1}{2}"),
        ("1e3", "1000"),
        ("0.00001", "1e-05"),
        (r"\$18.90", "$18.9"),
        ("10", r"\binom{5}{2}"),
        ("1024", "2^{10}"),
        ("2*sqrt(3)", r"2\sqrt{3}"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt 2}"),
        ("5 m", "500 cm"),
        ("50\\%", "0.5"),
        ("60^\\circ", "60"),
        (r"\pi/2", "π/2"),
    ],
    "containers": [
        (r"\{1, 2\}", r"\{2, 1\}"),
        (r"\{1, 2\}", r"\{1, 2, 2\}"),
        (r"\{1, 2\}", "2, 1"),
        ("(1, 2)", r"\left(1, \frac{4}{2}\right)"),
        ("1, 2", "2 and 1"),
        ("1, 2", "x = 1 or x = 2"),
        ("5, -5", r"\pm 5"),
        ("(1, 2]", r"1 < x \le 2"),
        ("x < 2", r"(-\infty, 2)"),
        (r"(1,2) \cup (3,4)", r"(3, 4) \cup (1, 2)"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1 & 2 \\ 3 & 4\end{bmatrix}"),
        (r"\emptyset", r"\{\}"),
        (r"\mathbb{R}", r"(-\infty, \infty)"),
    ],
    "formulas": [
        ("x^2+2x+1", "(x+1)^2"),
        ("y = 2x + 1", "2x - y + 1 = 0"),
        ("5", "x = 5"),
        ("x^2", "f(x) = x^2"),
        (r"\sin 30^\circ", "0.5"),
        ("2i", r"\sqrt{-4}"),
        ("AB", r"\overline{AB}"),
    ],
    "letters": [
        (r"\frac{R}{r}", r"R \cdot r^{-1}"),
        ("b^2-a^2", "(b-a)(b+a)"),
        ("|x|", r"\sqrt{x^2}"),
        (r"\sqrt{ab}", r"\sqrt{a}\sqrt{b}"),
        ("x^{12}", "x**12"),
        ("ab", r"a \cdot b"),
        ("2<x<5", r"x>2 \text{ and } x<5"),
        (r"12\pi\text{ cm}^2", r"12\pi\text{ square cm}"),
    ],
    "texts": [
        ("live", "Live."),
        (r"\text{DNE}", "DNE"),
        ("(B)", "B"),
        ("3:45 PM", "3:45 pm"),
        ("1011_2", "1011_{2}"),
        ("2:3", "2 : 3"),
    ],
}
DIFFERENT = {
    "numbers": [
        (r"\frac{1}{3}", "0.3333"),
        (r"\pi", "3.14159"),
        ("5", "5 million"),
        ("5 m", "5 cm"),
        ("1.5", "1.5 million"),
        ("0.00001", "0"),
        ("0.00001", "0.000011"),
        ("5", "-5"),
        ("5", "5x"),
    ],
    "containers": [
        ("(1, 2)", r"\{2, 1\}"),
        ("(1, 2)", "(2, 1)"),
        ("(1, 2)", "[1, 2]"),
        ("(1, 2]", "[1, 2)"),
        ("1, 2", "1, 1, 2"),
        ("1, 2", "1"),
        ("1, 2", "1, 3"),
        ("5", r"\{5\}"),
        ("5", r"\pm 5"),
        ("x < 2", r"x \le 2"),
        ("x < 2", "x > 2"),
        ("x = 2, y = 3", "x = 3, y = 2"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    ],
    "formulas": [
        ("x^2+2x+1", "(x-1)^2"),
        ("5", "2x = 10"),
        ("x = -2", "y = -2"),
        ("y = 2x + 1", "2x + 1"),
        ("y = 2x + 1", "y = 2x - 1"),
        ("x", "y"),
    ],
    "letters": [
        (r"\frac{R}{r}", "1"),
        ("b^2-a^2", "a+b"),
        ("|x|", "x"),
        (r"\ln|x|", r"\ln x"),
        ("|x-50|", "50-x"),
        ("2x", "x**2"),
        ("f'(x)", "f(x)"),
        (r"\frac{dy}{dx}=2x", r"\frac{dy}{dx}=3x"),
        ("x<2 or x>3", "x<2 and x>3"),
        (r"12\pi\text{ cm}^2", r"12\pi\text{ cm}^3"),
        (r"\frac{3}{4}", r"\frac{3}{4} minus one"),
        (r"\frac{1}{2}", r"\frac{1}{2}(a+b"),
    ],
    "texts": [
        ("live", "evil"),
        ("TA", "AT"),
        ("3:45 PM", "3:45 AM"),
        ("1011_2", "1011"),
        ("1011_2", "1011_3"),
        ("2:3", "3:2"),
        ("DNE", "0"),
    ],
}


@pytest.fixture(scope="module")
def pool():
    one = VerifierPool("math", workers=1, timeout=30.0)
    yield one
    one.close()


def wrong(pool, pairs, score):
    asked = [(gold, rf"Hence \boxed{{{answer}}}.") for gold, answer in pairs]
    verdicts = pool.grade(asked)
    return [
        (*pair, s.value, s.reason)
        for pair, s in zip(pairs, verdicts, strict=True)
        if s.value != score
    ]


@pytest.mark.parametrize("kind", EQUAL)
def test_equal(kind, pool):
    assert wrong(pool, EQUAL[kind], 1.0) == []


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different(kind, pool):
    assert wrong(pool, DIFFERENT[kind], 0.0) == []


def test_every_answer_equals_itself(pool):
    everything = [
        text for kinds in (EQUAL, DIFFERENT) for pairs in kinds.values() for text in pairs
    ]
    itself = [(text, text) for pair in everything for text in pair]
    assert wrong(pool, itself, 1.0) == []


def test_an_unevaluated_form_may_be_refused(pool):
    from rekindle.rewards.verifiers.verify import AS_READ

    strict = AS_READ._replace(evaluate=False)
    asked = [("10", r"\boxed{\binom{5}{2}}"), ("10", r"\boxed{10}"), ("x+1", r"\boxed{1+x}")]
    assert [s.value for s in pool.grade(asked, [strict] * 3)] == [0.0, 1.0, 1.0]
    assert [s.value for s in pool.grade(asked)] == [1.0, 1.0, 1.0]


def test_deep_and_broken_formulas_have_a_verdict(pool):
    deep = ["(" * 40 + "x" + ")" * 40, "{" * 60 + "x" + "}" * 60, "((((((((((1,2))))))))))", "(x"]
    texts = [*deep, r"\frac{x}", r"\sqrt{", "\\\\", "x^^2", "x=", "=", "<", r"\pm", "1,,2", "\x02"]
    scores = pool.grade([("x+1", rf"\boxed{{{text}}}") for text in texts])
    assert [s.value for s in scores] == [0.0] * len(texts)


def test_an_answer_that_the_library_refuses_is_wrong(pool):
    matrix = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"
    texts = [rf"A{matrix}", rf"{matrix}\vec{{v}}", rf"\frac{{{matrix}}}{{x}}", rf"{matrix}+x"]
    scores = pool.grade([(gold, rf"\boxed{{{t}}}") for gold in (r"\pi", matrix) for t in texts])
    assert [s.value for s in scores] == [0.0] * len(scores)
