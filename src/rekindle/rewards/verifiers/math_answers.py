"""When two answers are equal as mathematics: math-verify's parser, with guards of our own.

Its equality is not ours in these places, which are decided here before or after it:

    containers   \\{1, 2\\} is a set, (1, 2) a tuple or an open interval, [1, 2] a closed one, 1, 2
                 a list without order but with repetitions; none is another; elements are compared
    texts        words and runs of letters are texts: `live` is not `evil`, TA not AT
    numbers      exact: 0.3333 is not 1/3, 3.14159 not pi; 1e3 is 1000; units, magnitudes, per cent
                 and currency as `rewards.verifiers.numbers` reads them
    equations    2x = 10 is not 5; y = 2x + 1 equals 2x - y + 1 = 0; `x = 5` is 5
    literal      clock times, ratios, bases (`1011_2`): the same or not

math-verify 0.9 hangs on towers of powers, whatever time limit it is given, and may fill the memory:
`rewards.workers` runs this in processes that can be killed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rekindle.records import Score
from rekindle.rewards.verifiers.latex_text import tidy_formula
from rekindle.rewards.verifiers.math_formulas import (
    NO_VALUE,
    is_readable,
    is_same_equation,
    is_same_formula,
)
from rekindle.rewards.verifiers.math_names import (
    have_different_marks,
    have_same_units,
    is_asked_for,
    name_different_unknowns,
    number_of,
    split_unit,
)
from rekindle.rewards.verifiers.math_shapes import (
    CLOSE,
    DEPTH,
    OPEN,
    Shape,
    is_word,
    shape_of,
    squeezed,
)
from rekindle.rewards.verifiers.number_words import same_number
from rekindle.rewards.verifiers.texts import same_text

_PRODUCT = re.compile(r"[a-zA-Z]{1,3}")
_WORKED = re.compile(r"[\\^*/+\d]")
_MIXED = re.compile("(?=[A-Za-z]*[a-z][A-Z])[A-Za-z]{2,3}")  # kT; not DNE, not No
_OPTIONS = "abcdefghij"  # letters whose case says nothing


def compare(gold: str, answer: str, *, evaluate: bool = True) -> Score:
    """1 where they are equal, else 0; missing where the gold cannot be read.

    Args:
        gold: the answer that is right, without marks.
        answer: the answer of a text, without marks.
        evaluate: whether an unevaluated form counts where the gold is a number.

    Raises:
        MissingExtraError: math-verify is not installed.
    """
    wanted, stated = number_of(gold), number_of(answer)
    if name_different_unknowns(gold, answer) or have_different_marks(gold, answer):
        return Score(0.0)
    if wanted is not None and stated is not None:
        return Score(float(same_number(stated, wanted)))
    (gold, one), (answer, other) = split_unit(gold), split_unit(answer)
    if not have_same_units(one, other):
        return Score(0.0)
    is_bare = wanted is not None and not wanted.unit
    formula = str(wanted.value) if wanted is not None and is_bare else tidy_formula(gold)
    if not formula:
        return Score.missing("parse: the gold answer cannot be read")
    try:
        return Score(float(_is_equal(formula, tidy_formula(answer), evaluate, 0)))
    except NO_VALUE:
        if _is_readable(formula):
            return Score(0.0)
        raise


def _is_readable(gold: str) -> bool:
    """Whether the gold has a value by itself, so that what failed is the answer."""
    try:
        shape = shape_of(gold, 0)
        return shape.kind != "formula" or is_readable(shape.parts[0])
    except NO_VALUE:
        return False


def _is_equal(gold: str, answer: str, evaluate: bool, depth: int) -> bool:
    if gold.replace(" ", "") == answer.replace(" ", ""):
        return True
    if name_different_unknowns(gold, answer):
        return False
    wanted, stated = number_of(gold), number_of(answer)
    if wanted is not None and stated is not None:
        return same_number(stated, wanted)
    if wanted is not None and not evaluate:
        return False
    if is_word(gold) or is_word(answer):
        return _is_same_word(gold, answer)
    one, other = _comparable(shape_of(gold, depth), shape_of(answer, depth))
    if one.kind == "formula" and other.kind == "equation" and is_asked_for(other.parts):
        other = Shape("formula", other.parts[1:])
    return one.kind == other.kind and _is_same_shape(one, other, evaluate, depth)


def _is_same_word(gold: str, answer: str) -> bool:
    """Of texts; a product of letters may be worked out: ab is a \\cdot b, n is 2n / 2."""
    bare = [text.strip("()$. ") for text in (gold, answer)]
    if all(len(each.rstrip("!'")) == 1 for each in bare):
        one, other = bare
        return one == other or (one.lower() == other.lower() and one.lower() in _OPTIONS)
    if _MIXED.fullmatch(bare[0]) and _PRODUCT.fullmatch(bare[1]):
        return is_same_formula(*bare)
    if same_text(gold, answer):
        return True
    word, formula = bare if is_word(gold) else bare[::-1]
    is_worked = _PRODUCT.fullmatch(word) and _WORKED.search(formula) and not is_word(formula)
    return bool(is_worked) and is_same_formula(*bare)


def _comparable(gold: Shape, answer: Shape) -> tuple[Shape, Shape]:
    """Both shapes as one kind, where one may be meant as the other."""
    if {gold.kind, answer.kind} == {"list", "set"}:
        return gold, Shape(gold.kind, answer.parts)
    return _as_interval(gold, answer), _as_interval(answer, gold)


def _as_interval(pair: Shape, other: Shape) -> Shape:
    """(1, 2) as an open interval, where the other answer is an interval."""
    if pair.kind == "tuple" and other.kind == "interval" and len(pair.parts) == 2:
        return Shape("interval", ("(", *pair.parts, ")"))
    return pair


# --- shapes


def _is_same_shape(one: Shape, other: Shape, evaluate: bool, depth: int) -> bool:
    """Of two shapes of one kind."""
    golds, answers = one.parts, other.parts
    if one.kind == "literal":
        return squeezed(golds[0]) == squeezed(answers[0])
    if one.kind == "formula":
        return is_same_formula(golds[0], answers[0])
    if one.kind == "equation":
        return is_same_equation(golds, answers)
    if depth >= DEPTH:
        return False
    if one.kind == "matrix":
        return _is_same_matrix(golds, answers, evaluate, depth)
    if one.kind in ("tuple", "interval"):
        return len(golds) == len(answers) and all(
            _is_same_part(gold, answer, evaluate, depth)
            for gold, answer in zip(golds, answers, strict=True)
        )
    if one.kind == "set":
        return _covers(golds, answers, evaluate, depth) and _covers(answers, golds, evaluate, depth)
    return _is_same_list(golds, answers, evaluate, depth)


def _is_same_part(gold: str, answer: str, evaluate: bool, depth: int) -> bool:
    if gold in OPEN + CLOSE or answer in OPEN + CLOSE:
        return gold == answer
    return _is_equal(gold, answer, evaluate, depth + 1)


def _covers(some: Sequence[str], others: Sequence[str], evaluate: bool, depth: int) -> bool:
    """Whether each of some is among the others."""
    return all(any(_is_same_part(a, b, evaluate, depth) for b in others) for a in some)


def _is_same_list(golds: Sequence[str], answers: Sequence[str], evaluate: bool, depth: int) -> bool:
    """In any order, each once."""
    left = list(answers)
    if len(golds) != len(left):
        return False
    for gold in golds:
        partner = next((a for a in left if _is_same_part(gold, a, evaluate, depth)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True


def _is_same_matrix(
    golds: Sequence[str], answers: Sequence[str], evaluate: bool, depth: int
) -> bool:
    wanted, stated = ([row.split("&") for row in rows] for rows in (golds, answers))
    if [len(row) for row in wanted] != [len(row) for row in stated]:
        return False
    return all(
        _is_equal(tidy_formula(gold), tidy_formula(cell), evaluate, depth + 1)
        for row, other in zip(wanted, stated, strict=True)
        for gold, cell in zip(row, other, strict=True)
    )
