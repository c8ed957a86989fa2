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
from collections.abc import Callable
from typing import Literal, NamedTuple

from rekindle.rewards.boxes import find_boxes, span_of_answer
from rekindle.thoughts import without_thoughts

Rule = Literal["answer_tag", "box", "hashes", "cue", "last_line", "conclusion", "none"]

_TAGS = re.compile(r"<(?P<close>/)?(?:final_|final )?answer\s{0,3}>", re.IGNORECASE)
_BLANKS = r"[ \t*_`\"'“”)\]]{0,9}"
_IS = (
    r"(?:is|are|was|must be|should be|would be|will be|has to be|equals|comes? (?:out )?to|becomes|"
    r"works out to be|turns out to be)\b"
)
_CUE = re.compile(  # `answer:`, `answer (in cm) is`, `answer to the question, then, is:`
    rf"(?:[aA]nswers?|ANSWERS?)(?:{_BLANKS}\s?[:：=]"
    rf"|(?:{_BLANKS}(?:\([^()\n]{{1,30}}\))?(?:[ ](?:to|for|of|in|we)[ ][^\n.:=?,]{{1,60}}?)?"
    rf"(?:,?[ ](?:here|therefore|then|thus|hence|so))?,?[ ]{{1,3}}{_IS})[ ]{{0,3}}[:：]?)"
)
_CUE_WORDS = ("nswer", "NSWER")
_OTHER_CUES = re.compile(  # `the correct option is`, and the cue in other languages
    rf"(?:[cC]orrect|[rR]ight|[bB]est)[ ](?:option|choice|letter|statement)"
    rf"(?:[ ]{_IS}[ ]?:?|{_BLANKS}:)"
    r"|答案[ ]{0,3}(?:是|为|[:：])"
    r"|(?:[rR]espuesta|[rR]éponse|[aA]ntwort|[rR]isposta|[rR]esposta|[оO]твет)"
    rf"(?:[ ](?:final|finale))?{_BLANKS}\s?[:：]"
)
_OTHER_HINTS = (  # one of these is in every text with another cue
    *("orrect ", "ight ", "est ", "答案", "espuesta", "éponse", "ntwort", "isposta", "esposta"),
    "твет",
)
_HEADED = re.compile(  # a line that is nothing but `Final answer`
    r"[#>*_ \t]{0,9}(?:[fF]inal[ ]|FINAL[ ])?(?:[aA]nswer|ANSWER)[*_ \t]{0,9}(?=\n|$)"
)
_LONGEST_HEADING = 30
_DISPLAY = re.compile(r"\s*(\\\[|\$\$)")
# The rest of a line that ends in a cue and says that the answer is on the next one.
_BELOW = re.compile(
    r"[ \t\r*_`:]*+(?:(?:shown |given |stated )?below|as follows|the following)?[ \t\r*_`:.]*+"
)

# --- sentences and edges

_EDGES = " \t\r\n*_`"
_LEFT_EDGES = _EDGES + ":>"
_SENTENCE_EDGES = _EDGES + ".)\"'"
_LINE_EDGES = "`$\\[]() "  # what a line of nothing but delimiters is made of
# The stop comes first in what follows, so that a search skips all other characters.
_NO_ABBREVIATION = (
    r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\b[Ss]t\.)(?<!\b[DMJS]r\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bMt\.)"
    r"(?<!\bNo\.)(?<!\bRs\.)(?<!\bvs\.)(?<!\bca\.)(?<!approx\.)(?<!\bProf\.)(?<!\ba\.m\.)(?<!\bp\.m\.)"
    r"(?<!\b[A-Z]\.[A-Z]\.)"
)
_NO_ENTITY = (
    r"(?<!&nbsp;)(?<!&amp;)(?<!&lt;)(?<!&gt;)(?<!&thinsp;)(?<!&minus;)(?<!&times;)"  # 5&nbsp;kg
)
_SENTENCE_END = re.compile(
    rf"[.。；;!?](?:(?<=\.){_NO_ABBREVIATION}(?=[*_`\"')\]$]{{0,5}}(?:\s|$))"
    rf"|(?<=[。；])|(?<=;){_NO_ENTITY}|(?<=[!?])(?=\s+[A-Z\W]|\s*$))"
)
_INITIALS = re.compile(r"\b[A-Z]\.(?=\s[A-Z]\.|\s[A-Z][a-z]+\s*[.$]?$)")  # J. R. Smith

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
    best = _Mark("box", *span_of_answer(text, boxes)) if boxes else None
    if only_boxes:
        return best
    after, behind_boxes = begin, begin
    if boxes:
        after = boxes[-1].start + 1
        behind_boxes = max(boxes[-1].close, boxes[-1].start)
    cue = _last_cue(text, behind_boxes, end)
    if cue is not None:
        after, best = max(begin, cue[0] + 1), _of_cue(text, cue[1], end)
    return _last_hashes(text, after, end, is_value) or best


def _last_cue(text: str, begin: int, end: int) -> tuple[int, int] | None:
    """(start, end) of the last cue, searched from the end."""
    last: tuple[int, int] | None = None
    if any(hint in text for hint in _OTHER_HINTS):
        for other in _OTHER_CUES.finditer(text, begin, end):
            last = other.span()
    for word in _CUE_WORDS:
        at = text.rfind(word, begin, end)
        while at >= begin and (last is None or at > last[0]):
            cue = _CUE.match(text, max(at - 1, begin), end) or _heading(text, at, begin, end)
            if cue is not None:
                last = (at - 1, cue.end())
                break
            at = text.rfind(word, begin, at)
    return last


def _heading(text: str, at: int, begin: int, end: int) -> re.Match[str] | None:
    """The line around `at`, where it is nothing but `Final answer`, as a heading is."""
    earliest = at - _LONGEST_HEADING
    line = max(text.rfind("\n", max(begin, earliest), at) + 1, begin)
    return _HEADED.match(text, line, end) if line >= earliest else None


def _of_cue(text: str, at: int, end: int) -> _Mark:
    """The clause behind a cue: on its line, or on the next that is not empty."""
    display = _DISPLAY.match(text, at, end)
    line = _line_end(text, at, end)
    while line < end and _BELOW.fullmatch(text, at, line):
        at, line = line + 1, _line_end(text, line + 1, end)
    display = display or _DISPLAY.match(text, at, end)
    if display is not None:
        close = text.find("\\]" if display[1] == "\\[" else "$$", display.end(), end)
        if close >= 0:
            return _Mark("cue", display.end(), close)
    return _Mark("cue", at, _clause_end(text, at, line))


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
    sentence = max(_last_sentence(text, start, stop), stop - _LONGEST_CLAUSE)
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
        if _NEGATED.search(text[sentence : word.end()]):
            return _NOTHING
        short = _trimmed(text, "conclusion", word.end(), stop)
        if short.answer and _is_short(short.answer) and is_value(short.answer):
            return short
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


def _clause_end(text: str, begin: int, end: int) -> int:
    """Where the first sentence of a line ends."""
    initials = {match.end() - 1 for match in _INITIALS.finditer(text, begin, end)}
    for stop in _SENTENCE_END.finditer(text, begin, end):
        if stop.start() not in initials and text[begin : stop.start()].strip(_EDGES):
            return stop.start()
    return end


def _last_sentence(text: str, begin: int, end: int) -> int:
    """Where the last sentence of a line begins."""
    last = _stripped_end(text, begin, end, _SENTENCE_EDGES)
    starts = [stop.end() for stop in _SENTENCE_END.finditer(text, begin, end)]
    return max((start for start in starts if start < last), default=begin)


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
    while start < end and text[start] in _LEFT_EDGES:
        start += 1
    end = _stripped_end(text, start, end, _EDGES)
    in_dollars = end - start > 2 and text[start] == "$" == text[end - 1]
    if in_dollars and "$" not in text[start + 1 : end - 1]:
        return _trimmed(text, rule, start + 1, end - 1)
    return Reading(rule, start, end, text[start:end])
