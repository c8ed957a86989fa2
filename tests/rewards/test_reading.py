"""Where a text states its answer: each rule on both sides of its boundary, and its position."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rekindle.rewards.verifiers.numbers import read_number
from rekindle.rewards.verifiers.reading import boxed, read_answer
from rekindle.rewards.verifiers.verify import Settings, exact, numeric


def is_number(text):
    return read_number(text) is not None


def read(text, **how):
    return read_answer(text, is_number, **how)


def stated(text, **how):
    reading = read(text, **how)
    return reading.rule, reading.answer


NOTHING = ("none", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\\boxed{3}</think> The answer is 7.", ("cue", "7")),
        ("<thinking>#### 3</thinking>\n#### 7", ("hashes", "7")),
        ("<reasoning>3</reasoning><answer>7</answer>", ("answer_tag", "7")),
        ("[THINK]\\boxed{3}[/THINK]\\boxed{7}", ("box", "7")),
        ("first 3</think>7", ("last_line", "7")),  # the prompt's template had opened it
        ("3</think>4</think>7", ("last_line", "7")),
        ("The answer is 3. <think>4</think></think>7", ("last_line", "7")),
        ("<think>never closed, \\boxed{3}", NOTHING),
        ("<think>3</think>\n7<think>\\boxed{4}", ("last_line", "7")),
        ("analysis 3 assistantfinal7", ("last_line", "7")),
        ("<|channel|>analysis<|message|>3<|end|><|channel|>final<|message|>7", ("last_line", "7")),
        ("I think: \\boxed{7}", ("box", "7")),  # the word alone opens nothing
        ("a <thinker> says \\boxed{7}", ("box", "7")),
        ("The answer is 7.<|im_end|>", ("cue", "7")),
    ],
)
def test_thoughts_are_no_answer(text, expected):
    assert stated(text) == expected


def test_a_thought_that_the_prompt_opened_lasts_to_its_end():
    assert stated("\\boxed{3} is wrong", thought_open=True) == NOTHING
    assert stated("\\boxed{3}</think>\\boxed{7}", thought_open=True) == ("box", "7")
    assert stated("\\boxed{3} is right", thought_open=False) == ("box", "3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{3} <answer>7</answer> \\boxed{4}", ("answer_tag", "7")),
        ("<answer>3</answer> no: <answer>7</answer>", ("answer_tag", "7")),
        ("<answer>so \\boxed{7}</answer>", ("box", "7")),
        ("<answer>The answer is 7.</answer>", ("cue", "7")),
        ("<answer></answer> \\boxed{4}", ("answer_tag", "")),
        ("<answer>7", ("answer_tag", "7")),  # the stop string took the end away
        ("<ANSWER> 7 </ANSWER>", ("answer_tag", "7")),
        ("<final_answer>7</final_answer>", ("answer_tag", "7")),
        ("</answer> 7", NOTHING),
    ],
)
def test_the_last_answer_tag_decides(text, expected):
    assert stated(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{3}\n#### 7", ("hashes", "7")),
        ("#### 3\n\\boxed{7}", ("box", "7")),
        ("The answer is 3. Check: \\boxed{7}", ("box", "7")),
        ("\\boxed{3}. The answer is 7.", ("cue", "7")),
        ("#### 3\nAnswer: 7", ("cue", "7")),
        ("\\boxed{3} \\boxed{}", ("box", "")),  # an empty last mark is no answer
        ("\\boxed{3} \\boxed{7", ("box", "")),
        ("#### 3\n####", ("hashes", "")),
        ("The answer is 3. The answer is", ("cue", "")),
    ],
)
def test_the_last_mark_of_any_kind_decides(text, expected):
    assert stated(text) == expected


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{7}", "7"),
        ("\\fbox{7}", "7"),
        ("\\boxed {7}", "7"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{a \\boxed{7}}", "a \\boxed{7}"),
        ("\\boxed{\\{7\\}}", "\\{7\\}"),
        ("\\boxed{3} and \\boxed{7}", "\\boxed{3} and \\boxed{7}"),
        ("\\boxed{3}, \\boxed{7}", "\\boxed{3}, \\boxed{7}"),
        ("$\\boxed{3}$ or $\\boxed{7}$", "\\boxed{3}$ or $\\boxed{7}"),
        ("\\boxed{3} but then \\boxed{7}", "7"),
        ("\\boxed{3}\n\\boxed{7}", "7"),
        ("\\boxed{7} and \\boxed{7}", "7"),
        ("it is -\\boxed{7}", "-\\boxed{7}"),
        ("10 - \\boxed{7}", "7"),
        ("\\boxed{7}\\%", "\\boxed{7}\\%"),
        ("\\boxed{7} million", "\\boxed{7} million"),
        ("\\boxed{7} apples", "7"),
    ],
)
def test_boxes(text, answer):
    assert stated(text) == ("box", answer)


def test_the_last_closed_box():
    assert boxed("\\boxed{1} \\boxed{2}") == "2"
    assert boxed("\\boxed{1} \\boxed{2") == "1"
    assert boxed("no box") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed 42", "42"),
        ("\\boxed5.", "5"),
        ("3 \\\\boxed{7}", "7"),
        ("\\\\boxed{3} then \\\\boxed{7}", "7"),
        ("$x = \\boxed{7}\\text{ cm}$", "7"),
        ("$\\therefore\\ {\\boxed{7}}^\\circ$", "7"),
        ("$\\frac{\\boxed{3}}{\\boxed{7}}$", "\\frac{\\boxed{3}}{\\boxed{7}}"),
        ("$A = \\boxed{7}\\pi = 22$", "\\boxed{7}\\pi"),
        ("$2(\\boxed{7})$", "2(\\boxed{7})"),
        ("so \\pm\\boxed{7}", "\\pm\\boxed{7}"),
        ("\\[x > \\boxed{7}\\]", "x > \\boxed{7}"),
        ("$(\\boxed{3}, \\boxed{7})$", "(\\boxed{3}, \\boxed{7})"),
        ("- $\\boxed{7}$", "7"),
        ("Costs $3, so \\boxed{7} and not $3", "7"),
        ("\\boxed{> 7}", "> 7"),
        ("\\boxed{A*}", "A*"),
        ("\\boxed{**7**}", "7"),
    ],
)
def test_a_box_and_the_formula_that_it_is_part_of(text, answer):
    assert stated(text) == ("box", answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is not \\boxed{7}.", ("box", "")),
        ("It is not hard to see that it is \\boxed{7}.", ("box", "7")),
        ("\\boxed{7}, not \\boxed{3}", ("box", "7")),
        ("\\boxed{7} is wrong.", ("box", "")),
        ("\\boxed{7} is odd.", ("box", "7")),
        ("I don't think the answer is 7.", ("cue", "")),
        ("I think the answer is 7.", ("cue", "7")),
        ("The answer is 7. The wrong answer is 3.", ("cue", "7")),
        ("The answer is 7. I doubt that the answer is 7.", ("cue", "")),
        ("If the answer is 7, we stop.", ("cue", "")),
        ("If x = 3, the answer is 7.", ("cue", "7")),
        ("The answer is 7, which is wrong.", ("cue", "")),
        ("The answer is 7, as 3 gives 0 = 1, which is wrong.", ("cue", None)),
        ("\\boxed{7}\n\nThe answer is correct.", ("box", "7")),
        ("\\boxed{7}\n\nThe answer is 3.", ("cue", "3")),
        ("The answer is correct.", ("cue", "correct")),
        ("so x = 3, x = 7", NOTHING),
        ("so y = 3, x = 7", ("conclusion", "7")),
    ],
)
def test_what_a_sentence_denies_or_says_of_an_answer_is_none(text, expected):
    rule, answer = stated(text)
    assert rule == expected[0]
    assert answer == expected[1] if expected[1] is not None else answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 7.", "7"),
        ("Answer: x = 3; x = 7", "x = 3; x = 7"),
        ("Answer: 7; this is odd.", "7"),
        ("Answer: > 7", "> 7"),
        ("The answer is:\n> 7", "7"),
        ('{"answer": 7, "sure": true}', "7"),
        ('{"answer": "7, or so"}', "7, or so"),
        ("**Final Answer** 7", "7"),
        ("The answer is therefore: 7", "7"),
        ("So 7 is the correct answer.", "7"),
        ("Answer: Jan. 7", "Jan. 7"),
        ("Answer: E. coli", "E. coli"),
        ("Answer: A. Paris B. London", "A. Paris B. London"),
        ("The answer is: 7", "7"),
        ("**Answer:** 7", "7"),
        ("answer = 7", "7"),
        ("FINAL ANSWER: 7", "7"),
        ('The answer is "7".', '"7"'),
        ("The answer to the question is 7.", "7"),
        ("The answer is therefore 3? The answer is 7", "7"),
        ("The answer is 7. It was easy; 8 is wrong.", "7"),
        ("The answer is J. R. Smith.", "J. R. Smith"),
        ("The answer is 7, e.g. 7.0.", "7, e.g. 7.0"),
        ("The answer is\n\n7", "7"),
        ("The answer is below:\n\n7", "7"),
        ("The answer is as follows:\n7\n8", "7"),
        ("The answer is\n\\[\n7\n\\]", "7"),
        ("Final answer\n\n7", "7"),
        ("The correct option is B.", "B"),
        ("答案是7。", "7"),
        ("Respuesta: 7", "7"),
    ],
)
def test_cues(text, answer):
    assert stated(text) == ("cue", answer)


@pytest.mark.parametrize(
    "text", ["My answers vary.\n7 or 8", "He answered 7 times 8", "an answer to 7 questions\n"]
)
def test_what_only_looks_like_a_cue(text):
    assert stated(text) == NOTHING


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### 7", ("hashes", "7")),
        ("####7 apples", ("hashes", "7 apples")),
        ("#### 7\nThat is it.", ("hashes", "7")),
        ("#### Step 1\nAdd 3 and 4.\n7", ("last_line", "7")),  # a heading
        ("##### 7\nand more\n8", ("last_line", "8")),
        ("### 7", NOTHING),
    ],
)
def test_hashes(text, expected):
    assert stated(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", ("last_line", "7")),
        ("We add.\n**7**", ("last_line", "7")),
        ("We add.\n$7$", ("last_line", "7")),
        ("\\[\n7\n\\]", ("last_line", "7")),
        ("3 or 7", NOTHING),
        ("Step 7", NOTHING),
        ("There are 3 cats and 7 dogs.", NOTHING),
        ("Is it 7?", NOTHING),
        ("3 + 4 = 7", ("last_line", "3 + 4 = 7")),
        ("Hence 7", ("conclusion", "7")),
        ("So it is 7 apples.", ("conclusion", "7 apples.")),
        ("We have 3 and 4, so Tina earned 7 coins.", ("conclusion", "Tina earned 7 coins.")),
        ("It is not 7", NOTHING),
        ("There are 3. In total we get 7.", ("conclusion", "we get 7.")),
        ("We get 7 in 3 days.", NOTHING),
        ("", NOTHING),
        ("   \n\n", NOTHING),
    ],
)
def test_without_a_mark_one_value_at_the_end(text, expected):
    assert stated(text) == expected


def test_a_mark_may_be_demanded():
    assert stated("so it is 7", marked=True) == NOTHING
    assert stated("so it is \\boxed{7}", marked=True) == ("box", "7")
    assert stated("<answer>7</answer>", marked=True) == ("answer_tag", "7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer>7</answer> and so", ("answer_tag", "7")),
        ("\\boxed{7} and so", ("box", "7")),
        ("\\boxed{3} and \\boxed{7", ("box", "")),
        ("<answer>7", NOTHING),
        ("<answer>\\boxed{7}", NOTHING),
        ("The answer is 7", NOTHING),
        ("#### 7", NOTHING),
        ("7", NOTHING),
        ("<think>\\boxed{7}", NOTHING),
        ("\\boxed{7} The answer is 8", ("box", "7")),
    ],
)
def test_a_text_that_was_cut_states_what_is_closed(text, expected):
    assert stated(text, cut=True) == expected


_MARKS = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "#### ", "answer is "]
_PIECES = st.sampled_from(
    [*_MARKS, "\n", " ", "$", ". ", ", ", "so ", "not ", "7", "-3", "\\frac{1}{2}", "x = ", "and "]
)
_TEXTS = st.one_of(st.text(max_size=80), st.lists(_PIECES, max_size=14).map("".join))
_HOW = st.builds(Settings, cut=st.booleans(), thought_open=st.booleans(), marked=st.booleans())
_QUICK = settings(max_examples=300, deadline=None, derandomize=True, database=None)


@_QUICK
@given(text=_TEXTS, how=_HOW)
def test_the_answer_stands_in_the_text_where_it_is_said_to(text, how):
    """Blanks stand for a thought in its middle."""
    reading = read(text, cut=how.cut, thought_open=how.thought_open, marked=how.marked)
    stands = text[reading.start : reading.end]
    assert len(stands) == len(reading.answer)
    assert all(a in (b, " ") for a, b in zip(reading.answer, stands, strict=True))
    assert reading.rule != "none" or not reading.answer


@_QUICK
@given(text=_TEXTS, gold=st.one_of(st.text(max_size=9), st.just("7")), how=_HOW)
def test_no_text_and_no_gold_raises(text, gold, how):
    for verify in (exact, numeric):
        assert verify(gold, text, how).value in (0.0, 1.0)


FRAGMENTS = [
    *(*_MARKS, "</think>", "[THINK]", "<", "{", "(", "$$\n", "#### a\nb\n", "\\", "\\frac1", "²"),
    *("answer to ", "1", "1,", "1:", "x=1,", "so 3 ", "= ", " ", "!  ", "; ", "not ", "A. "),
]


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_time_is_linear_in_the_length(fragment):
    """Half a million characters: what is quadratic takes minutes."""
    text = fragment * (500_000 // len(fragment))
    start = time.process_time()
    numeric("7", text)
    exact("a", f"The answer is {text}\n")
    assert time.process_time() - start < 10


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_short_answer_takes_no_time(fragment):
    text = fragment * (1_999 // len(fragment))
    start = time.process_time()
    for verify, gold in ((numeric, "7"), (exact, "(b) paris")):
        verify(gold, text)
        verify(gold, f"\\boxed{{{text}}}")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "text",
    [
        "\0" * 1_000,
        "\ud800 half a pair, so 7",
        "\u202e7\u202c",
        "x" * 1_000_000,
        "\\boxed{" * 10_000 + "7" + "}" * 10_000,
        "(" * 10_000 + "7" + ")" * 10_000,
        "The answer is " + "{" * 10_000,
        "\\text{" * 300 + "7" + "}" * 300,
    ],
    ids=["nul", "surrogate", "marks", "long", "boxes", "brackets", "braces", "commands"],
)
def test_hostile_texts_have_an_answer_or_none(text):
    for verify in (exact, numeric):
        assert verify("8", text).value == 0.0
