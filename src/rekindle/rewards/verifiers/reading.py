"""Where a text states its answer: one rule for every verifier, before anything is compared.

    1  thoughts are no answer: <think>, <thinking>, <thought>, <reasoning>, [THINK], channels; one
       that the prompt's template opened; one that is never closed
    2  the last closed <answer>; one that is unclosed where the text ended by itself counts
    3  inside it, or without one: the last mark by position: a box (boxes joined by "and", "or",
       commas are one answer), ####, a cue ("the answer is", "answer:"). A last mark that is empty
       is no answer, never the one before
    4  without a mark: a last line that is one value, or a value behind "hence", "so", "it is", "="

A text that was cut at the token limit states what a closed <answer> or a closed box holds, else
nothing. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from rekindle.rewards.verifiers.boxes import Box, find_boxes, span_of_answer
from rekindle.rewards.verifiers.cues import Clause, clauses_from_the_end
from rekindle.rewards.verifiers.sentences import is_denied, is_disbelieved, last_sentence
from rekindle.thoughts import without_thoughts

Rule = Literal["answer_tag", "box", "hashes", "cue", "last_line", "conclusion", "none"]

_TAGS = re.compile(
    r"<(?P<close>/)?(?:final_|final )?answer"
    r"(?:\s{1,3}\w{1,20}\s?=\s?(?:\"[^\"<>\n]{0,40}\"|'[^'<>\n]{0,40}')){0,4}\s{0,3}>",
    re.IGNORECASE,
)
# --- sentences and edges

_EDGES = " \t\r\n*_`"
_LEFT_EDGES = _EDGES + ":"
_QUOTE = " \t>"
_LONGEST_QUOTE = 20
_STARS_BEFORE = re.compile(r"(?<!\*)\*{1,2}$|(?<!_)_{1,2}$")
_STARS_BEHIND = re.compile(r"\*{1,2}(?!\*)|_{1,2}(?!_)")
_NAME = re.compile(r"[a-z]\w{0,40}")
_MOST_REMARKS = 8  # on an answer, behind it, that are passed over
_LINE_EDGES = "`$\\[]() "  # what a line of nothing but delimiters is made of
# --- without a mark

_LONGEST_LINE = 2_000
_LONGEST_CLAUSE = 300
_CONCLUSION = re.compile(
    r"(?:\b(?:hence|so|thus|therefore|consequently|it is|it's|that is|that's|this is|is|are|was"
    r"|were|be|equals?|gives?|get|gets|makes|totals?|yields?|leaves|leaving|giving|making"
    r"|total of)\b|[=≈:]|\\implies|\\Rightarrow|⇒|→)",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:(?:so|hence|thus|therefore),?\s+)?(?:it is|it's|it must be|that is|that's|this is)\s+"
    r"|(?:so|hence|thus|therefore),?\s+",
    re.IGNORECASE,
)
# A line that begins with words and then has a number is no value: `Step 3`, `Room 12 is free`.
_LED = re.compile(
    r"[^\w\\$]*+(?!(?:about|exactly|approximately|minus|negative|plus|USD|EUR|GBP|Rs)\b)"
    r"[A-Za-z]{2}(?!\w*\s?=)[^\d=]*+\d"
)
_NEGATED = re.compile(r"(?:\b(?:not|never|cannot|neither|nor)|n't)\b[^,;:]*$", re.IGNORECASE)
# x = 3, x = 5 states two values
_SECOND = re.compile(
    r"(?<![\w'])([A-Za-z]\w{0,9})\s?=[^=,;]{1,60}(?:[,;]|\b(?:and|or)\b)\$?\s{0,3}"
    r"(?:(?:and|or)\s)?\$?\s{0,3}\1\s{0,3}=$"
)
_SINCE = re.compile(r"\b(?:hence|so|thus|therefore|consequently)\b", re.IGNORECASE)
_UNIT_END = re.compile(r",\s|\s\(|\bnot\b")
_LONG_WORD = re.compile(r"[A-Za-z]{2,}")
_PROSE = re.compile(r"\b(?:in|at|on|of|for|with|that|which|to|by|from|is|are|was|were|has|have)\b")
_MOST_UNIT_WORDS = 3

IsValue = Callable[[str], bool]


class Reading(NamedTuple):
    """The answer of a text, as it is written there: `text[start:end]`, "" where there is none."""

    rule: Rule
    start: int
    end: int
    answer: str


class _Mark(NamedTuple):
    """What a mark holds, before edges are trimmed."""

    rule: Rule
    start: int
    end: int


_NOTHING = Reading("none", 0, 0, "")


def read_answer(
    text: str,
    is_value: IsValue,
    *,
    cut: bool = False,
    thought_open: bool = False,
    marked: bool = False,
) -> Reading:
    """Where a text states its answer, and what it is.

    Args:
        text: what a model wrote.
        is_value: whether a piece of text is one value for the verifier that asks; asked of lines
            and clauses that bear no mark.
        cut: the text ended at the token limit.
        thought_open: the prompt's template had opened a thought before it.
        marked: without a mark there is no answer.
    """
    shown = without_thoughts(text, thought_open=thought_open)
    region = _tagged(shown, cut=cut)
    if region is None:
        return _NOTHING
    begin, end = region
    tagged = (begin, end) != (0, len(shown))
    mark = _last_mark(shown, begin, end, is_value, only_boxes=cut and not tagged)
    if mark is not None:
        return _trimmed(shown, *mark)
    if tagged:
        whole = _trimmed(shown, "answer_tag", begin, end)
        if "\n" not in whole.answer or is_value(whole.answer):
            return whole
    elif cut or marked:
        return _NOTHING
    return _unmarked(shown, begin, end, is_value)


def boxed(text: str) -> str | None:
    """What the last closed box of a text holds, None when there is none."""
    closed = [box for box in find_boxes(text, 0, len(text)) if box.close >= 0]
    return text[closed[-1].inside : closed[-1].close] if closed else None


def _tagged(text: str, *, cut: bool) -> tuple[int, int] | None:
    """What the last <answer> holds; the whole text without one; None: the text was cut inside."""
    if "<" not in text:
        return 0, len(text)
    opened: int | None = None
    region: tuple[int, int] | None = None
    for tag in _TAGS.finditer(text):
        if tag["close"] is None:
            opened = tag.end()
        elif opened is not None:
            region, opened = (opened, tag.start()), None
    if opened is not None:
        return None if cut else (opened, len(text))
    return region or (0, len(text))


# --- marks


def _last_mark(
    text: str, begin: int, end: int, is_value: IsValue, *, only_boxes: bool
) -> _Mark | None:
    """What the last mark of any kind holds; None without a mark."""
    boxes = find_boxes(text, begin, end)
    if only_boxes:
        return _of_boxes(text, [box.if_cut(end) for box in boxes], begin, end)
    best = _of_boxes(text, boxes, begin, end)
    after, behind_boxes = begin, begin
    if boxes:
        after = boxes[-1].start + 1
        behind_boxes = max(boxes[-1].close, boxes[-1].start)
    cue: Clause | None = None
    spares: list[Clause] = []
    for clause in islice(clauses_from_the_end(text, behind_boxes, end, is_value), _MOST_REMARKS):
        if not clause.is_aside and not clause.is_remark:
            cue = clause
            break
        spares.append(clause)
    if cue is not None:
        after, best = max(begin, cue.cue + 1), _Mark("cue", cue.start, cue.end)
    best = _last_hashes(text, after, end, is_value) or best
    return _unless_denied(text, best, spares) if spares else best


def _of_boxes(text: str, boxes: list[Box], begin: int, end: int) -> _Mark | None:
    """The last box that no sentence denies; nothing where it denies the same value."""
    denied: list[str] = []
    while boxes:
        start, stop = span_of_answer(text, boxes, begin, end)
        first, last = min(start, boxes[-1].start), max(stop, boxes[-1].after)
        if not is_denied(text, begin, first, last, end):
            stated = text[start:stop].strip()
            return _Mark("box", start, start if stated and stated in denied else stop)
        denied.append(text[start:stop].strip())
        boxes = boxes[:-1]
        if not boxes or len(denied) == _MOST_REMARKS:
            return _Mark("box", start, start)
    return None


def _unless_denied(text: str, best: _Mark | None, spares: Sequence[Clause]) -> _Mark:
    """The mark in front of remarks and denials; nothing where it is what they deny."""
    if best is None:
        last = spares[0]
        return _Mark("cue", last.start, last.start if last.is_aside else last.end)
    stated = text[best.start : best.end].strip(_LEFT_EDGES + "$.")
    denied = (text[spare.start : spare.end] for spare in spares if spare.is_aside)
    if stated and any(stated in clause for clause in denied):
        return _Mark(best.rule, best.start, best.start)
    return best


def _last_hashes(text: str, begin: int, end: int, is_value: IsValue) -> _Mark | None:
    """The last line that begins with four hashes, but headings: with text below and no value."""
    last_line = _stripped_end(text, begin, end, _EDGES)
    at = text.rfind("####", begin, end)
    while at >= 0:
        while at > begin and text[at - 1] == "#":
            at -= 1
        mark = at + len("####")
        line = _line_end(text, mark, end)
        stated = text[mark:line].strip(_EDGES)
        is_heading = text[mark : mark + 1] == "#" or (
            line < last_line and (_LED.match(stated) is not None or not is_value(stated))
        )
        if not is_heading:
            return _Mark("hashes", mark, line)
        at = text.rfind("####", begin, at)
    return None


# --- without a mark


def _unmarked(text: str, begin: int, end: int, is_value: IsValue) -> Reading:
    """The last line where it is one value, or one value behind a word that concludes."""
    start, stop = _last_line(text, begin, end)
    whole = _trimmed(text, "last_line", start, stop)
    if not whole.answer or whole.answer.endswith("?"):
        return _NOTHING
    stated = _STATED.match(whole.answer)
    if stated is not None:
        rest = _trimmed(text, "conclusion", whole.start + stated.end(), stop)
        if is_value(rest.answer):
            return rest
    elif _LED.match(whole.answer) is None and is_value(whole.answer):
        return whole
    sentence = max(last_sentence(text, start, stop), stop - _LONGEST_CLAUSE)
    return _conclusion(text, sentence, stop, is_value)


def _last_line(text: str, begin: int, end: int) -> tuple[int, int]:
    """(start, end) of the last line that is more than delimiters."""
    stop = _stripped_end(text, begin, end)
    start = max(begin, text.rfind("\n", begin, stop) + 1)
    while start > begin and not text[start:stop].strip().strip(_LINE_EDGES):
        stop = _stripped_end(text, begin, start - 1)
        start = max(begin, text.rfind("\n", begin, stop) + 1)
    return max(start, stop - _LONGEST_LINE), stop


def _conclusion(text: str, sentence: int, stop: int, is_value: IsValue) -> Reading:
    """A short value behind the first word that concludes, or all that stands behind `so`."""
    for word in _CONCLUSION.finditer(text, sentence, stop):
        before = text[sentence : word.end()]
        if _NEGATED.search(before) or is_disbelieved(before):
            return _NOTHING
        short = _trimmed(text, "conclusion", word.end(), stop)
        if short.answer and _is_short(short.answer) and is_value(short.answer):
            return _NOTHING if _SECOND.search(before) else short
    since = list(_SINCE.finditer(text, sentence, stop))
    if not since:
        return _NOTHING
    clause = _trimmed(text, "conclusion", since[-1].end(), stop)  # so Tina earned 48 coins
    return clause if clause.answer and is_value(clause.answer) else _NOTHING


def _is_short(answer: str) -> bool:
    """A value and at most three words of its unit: no clause in which a number occurs."""
    value = _UNIT_END.split(answer, maxsplit=1)[0]
    return len(_LONG_WORD.findall(value)) <= _MOST_UNIT_WORDS and _PROSE.search(value) is None


# --- places


def _line_end(text: str, begin: int, end: int) -> int:
    at = text.find("\n", begin, end)
    return end if at < 0 else at


def _stripped_end(text: str, begin: int, end: int, edges: str = "") -> int:
    """Where a region ends without the edges (default: white space) at its end."""
    while end > begin and (text[end - 1] in edges if edges else text[end - 1].isspace()):
        end -= 1
    return end


def _trimmed(text: str, rule: Rule, start: int, end: int) -> Reading:
    """Without edges, and without dollars around it all."""
    first, last = start, end
    while start < end and (
        text[start] in _LEFT_EDGES or (text[start] == ">" and _is_quoted(text, rule, start))
    ):
        start += 1
    end = _stripped_end(text, start, end, _EDGES)
    in_dollars = end - start > 2 and text[start] == "$" == text[end - 1]
    if in_dollars and "$" not in text[start + 1 : end - 1]:
        return _trimmed(text, rule, start + 1, end - 1)
    start, end = _with_own_marks(text, rule, (first, start), (end, last))
    return Reading(rule, start, end, text[start:end])


def _is_quoted(text: str, rule: Rule, at: int) -> bool:
    """Whether a `>` is a quote's of markdown: first on its line, in no box and in no tag."""
    if rule in ("box", "answer_tag"):
        return False
    line = text.rfind("\n", max(0, at - _LONGEST_QUOTE), at) + 1
    return (line > 0 or at < _LONGEST_QUOTE) and not text[line:at].strip(_QUOTE)


def _with_own_marks(
    text: str, rule: Rule, left: tuple[int, int], right: tuple[int, int]
) -> tuple[int, int]:
    """(start, end) with the stars and underscores at the edges that belong to the text: `A*`,
    `*args`, `__init__`; not those of markdown around it, or around it and its cue."""
    (first, start), (end, last) = left, right
    opening = _STARS_BEFORE.search(text, first, start)
    closing = _STARS_BEHIND.match(text, end, last)
    if start >= end or (opening is None and closing is None):
        return start, end
    if opening is not None and closing is not None:
        is_name = opening[0] == closing[0] == "__" and _NAME.fullmatch(text, start, end)
        return (start - 2, end + 2) if is_name else (start, end)
    if opening is not None:
        is_own = (
            text[start].isalpha() and opening[0] not in text[end : _line_end(text, end, end + 99)]
        )
        return (start - len(opening[0]) if is_own else start), end
    assert closing is not None
    line = text.rfind("\n", max(0, start - _LONGEST_CLAUSE), start) + 1
    is_own = text[end - 1] == "\\" or (
        text[end - 1].isalpha()
        and (rule in ("box", "answer_tag") or closing[0] not in text[line:start])
    )
    return start, (end + len(closing[0]) if is_own else end)
