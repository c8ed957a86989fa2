"""Where a text states its answer: one rule for every verifier, before anything is compared.

    1  thoughts are no answer: <think>, <thinking>, <thought>, <reasoning>, [THINK], channels; one
       that the prompt's template opened; one that is never closed
    2  the last closed <answer>; one that is unclosed where the text ended by itself counts
    3  inside it, or without one: the last mark by position: a box (boxes joined by "and", "or",
       commas are one answer), ####, a cue ("the answer is", "answer:"). A last mark that is empty
       is no answer, never the one before
    4  without a mark: a last line that is one value, or one value behind "hence", "so", "it is", "="

A text that was cut at the token limit states what a closed <answer> or a closed box holds, else
nothing. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from rekindle.thoughts import without_thoughts

Rule = Literal["answer_tag", "box", "hashes", "cue", "last_line", "conclusion", "none"]

_TAGS = re.compile(r"<(?P<close>/)?(?:final_|final )?answer\s{0,3}>", re.IGNORECASE)
_BOXES = re.compile(r"\\(?:boxed|fbox)\s{0,20}\{|\\.|[{}]", re.DOTALL)
_BLANKS = r"[ \t*_`\"'“”)\]]{0,9}"
_IS = (
    r"(?:is|are|was|must be|should be|would be|will be|has to be|equals|comes? (?:out )?to|becomes|"
    r"works out to be|turns out to be)\b"
)
_CUE = re.compile(
    r"(?:[aA]nswers?|ANSWERS?)"
    rf"(?:{_BLANKS}\s?[:：=]|(?:{_BLANKS}(?:\([^()\n]{{1,30}}\))?(?:[ ](?:to|for|of|in|we)[ ][^\n.:=?,]{{1,60}}?)?"
    rf"(?:,?[ ](?:here|therefore|then|thus|hence|so))?,?[ ]{{1,3}}{_IS})[ ]{{0,3}}[:：]?)"
)
_OTHER_CUES = re.compile(
    rf"(?:[cC]orrect|[rR]ight|[bB]est)[ ](?:option|choice|letter|statement)(?:[ ]{_IS}[ ]?:?|{_BLANKS}:)"
    r"|答案[ ]{0,3}(?:是|为|[:：])"
    r"|(?:[rR]espuesta|[rR]éponse|[aA]ntwort|[rR]isposta|[rR]esposta|[оО]твет)(?:[ ](?:final|finale))?"
    rf"{_BLANKS}\s?[:：]"
)
_OTHER_HINTS = (
    "orrect ",
    "ight ",
    "est ",
    "答案",
    "espuesta",
    "éponse",
    "ntwort",
    "isposta",
    "esposta",
    "твет",
)
_HEADED = re.compile(
    r"[#>*_ \t]{0,9}(?:[fF]inal[ ]|FINAL[ ])?(?:[aA]nswer|ANSWER)[*_ \t]{0,9}(?=\n|$)"
)
_JOIN = re.compile(
    r"[\s$\\,;()]{0,9}(?:\b(?:and|or)\b|[,;&]|\\text\{\s{0,3}(?:and|or)\s{0,3}\})?[\s$\\,;()]{0,9}"
    r"(?:[A-Za-z]\w{0,3}\s?=\s?)?[\s$\\(]{0,5}"
)
_SENTENCE_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\b[Ss]t)(?<!\b[DMJS]r)(?<!\bMrs)(?<!\bMs)(?<!\bMt)(?<!\bNo)(?<!\bRs)(?<!\bvs)(?<!\bca)(?<!approx)(?<!\bProf)"
    r"(?<!\ba\.m)(?<!\bp\.m)(?<!\b[A-Z]\.[A-Z])\.(?=[*_`\"')\]$]{0,5}(?:\s|$))"
    r"|[。；]|(?<!&nbsp)(?<!&amp)(?<!&lt)(?<!&gt)(?<!&thinsp)(?<!&minus)(?<!&times);|[!?](?=\s+[A-Z\W]|\s*$)"
)
_INITIALS = re.compile(r"\b[A-Z]\.(?=\s[A-Z]\.|\s[A-Z][a-z]+\s*[.$]?$)")
_DISPLAY = re.compile(r"\s*(\\\[|\$\$)")
_AFTER_BOX = re.compile(
    r"\s{0,2}(?:\\?%|(?:\\text\{\s?)?(?:hundred|thousand|million|billion|trillion|dozen|percent|per cent)\b\}?)",
    re.IGNORECASE,
)
_BEFORE_BOX = re.compile(
    r"(?:^|[^\w)\]}.\s])\s{0,3}([-−–]\s{0,2}(?:\\?\$)?)$|(?:=|\bis)\s{0,3}\$?\s{0,3}([-−–]\s{0,2})$"
)
_EDGES = " \t\r\n*_`"
_LONGEST_LINE = 2_000
_LONGEST_CLAUSE = 300
_CONCLUSION = re.compile(
    r"(?:\b(?:hence|so|thus|therefore|consequently|it is|it's|that is|that's|this is|is|are|was|were|be|"
    r"equals?|gives?|get|gets|makes|totals?|yields?|leaves|leaving|giving|making|total of)\b|[=≈:]|\\implies|\\Rightarrow|⇒|→)",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:(?:so|hence|thus|therefore),?\s+)?(?:it is|it's|it must be|that is|that's|this is)\s+"
    r"|(?:so|hence|thus|therefore),?\s+",
    re.IGNORECASE,
)
# A line that begins with words and then has a number is no value: `Step 3`, `Room 12 is free`.
_LED = re.compile(
    r"[^\w\\$]*(?!(?:about|exactly|approximately|minus|negative|plus|USD|EUR|GBP|Rs)\b)"
    r"[A-Za-z]{2,}(?!\w*\s?=)[^\d=]*\d"
)
_NEGATED = re.compile(r"(?:\b(?:not|never|cannot|neither|nor)|n't)\b[^,;:]*$", re.IGNORECASE)
_SINCE = re.compile(r"\b(?:hence|so|thus|therefore|consequently)\b", re.IGNORECASE)


class Reading(NamedTuple):
    """The answer of a text, as it is written there: `text[start:end]`, "" where there is none."""

    rule: Rule
    start: int
    end: int
    answer: str


_NOTHING = Reading("none", 0, 0, "")


def read_answer(
    text: str,
    is_value: Callable[[str], bool],
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
    mark = _last_mark(shown, begin, end, is_value, cut=cut and not tagged)
    if mark is not None:
        return _trimmed(shown, *mark)
    if cut and not tagged:
        return _NOTHING
    if tagged:
        whole = _trimmed(shown, "answer_tag", begin, end)
        if "\n" not in whole.answer or is_value(whole.answer):
            return whole
    elif marked:
        return _NOTHING
    return _unmarked(shown, begin, end, is_value)


def boxed(text: str) -> str | None:
    """What the last closed box of a text holds, None when there is none."""
    boxes = _boxes(text, 0, len(text))
    closed = [box for box in boxes if box[2] >= 0]
    return text[closed[-1][1] : closed[-1][2]] if closed else None


def _tagged(text: str, *, cut: bool) -> tuple[int, int] | None:
    """The region that the last <answer> holds; the whole text without one; None: cut inside one."""
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


def _last_mark(
    text: str, begin: int, end: int, is_value: Callable[[str], bool], *, cut: bool
) -> tuple[Rule, int, int] | None:
    """(rule, start, end) of what the last mark holds; None without a mark."""
    boxes = _boxes(text, begin, end)
    place = boxes[-1][0] if boxes else -1
    best: tuple[Rule, int, int] | None = _of_boxes(text, boxes) if boxes else None
    if cut:
        return best
    after = boxes[-1][2] if boxes and boxes[-1][2] >= 0 else max(place, begin)
    cue = _last_cue(text, max(after, begin), end)
    if cue is not None:
        place, best = cue[0], _of_cue(text, cue[1], end)
    return _last_hashes(text, max(begin, place + 1), end, is_value) or best


def _last_cue(text: str, begin: int, end: int) -> tuple[int, int] | None:
    """(start, end) of the last cue, searched from the end."""
    found: tuple[int, int] | None = None
    if any(hint in text for hint in _OTHER_HINTS):
        for other in _OTHER_CUES.finditer(text, begin, end):
            found = other.span()
    for word in ("nswer", "NSWER"):
        at = text.rfind(word, begin, end)
        while at > begin - 1 and at >= 0 and (found is None or at > found[0]):
            cue = _CUE.match(text, max(at - 1, begin), end) or _headed(text, at, begin, end)
            if cue is not None:
                found = (at - 1, cue.end())
                break
            at = text.rfind(word, begin, at)
    return found


def _headed(text: str, at: int, begin: int, end: int) -> re.Match[str] | None:
    """A line that is nothing but `Final answer`, as a heading is."""
    line = max(text.rfind("\n", max(begin, at - 30), at) + 1, begin)
    return _HEADED.match(text, line, end) if line >= at - 30 else None


def _last_hashes(
    text: str, begin: int, end: int, is_value: Callable[[str], bool]
) -> tuple[Rule, int, int] | None:
    """The last line that begins with four hashes, but headings: with text below and no value."""
    at = text.rfind("####", begin, end)
    while at >= 0:
        while at > begin and text[at - 1] == "#":
            at -= 1
        mark = at + 4
        line = _line_end(text, mark, end)
        if text[mark : mark + 1] != "#" and (
            not text[line:end].strip(_EDGES) or is_value(text[mark:line].strip(_EDGES))
        ):
            return ("hashes", mark, line)
        at = text.rfind("####", begin, at)
    return None


def _of_boxes(text: str, boxes: list[tuple[int, int, int]]) -> tuple[Rule, int, int]:
    """The last box, with those that are joined to it and what belongs to its number outside."""
    start, inside, close = boxes[-1]
    if close < 0:
        return "box", inside, inside
    first = len(boxes) - 1
    while first > 0 and boxes[first - 1][2] >= 0:
        between = text[boxes[first - 1][2] + 1 : boxes[first][0]]
        if len(between) > 40 or "\n" in between or not _JOIN.fullmatch(between):
            break
        first -= 1
    if first < len(boxes) - 1 and len({text[b[1] : b[2]].strip() for b in boxes[first:]}) > 1:
        return "box", boxes[first][0], close + 1
    before = _BEFORE_BOX.search(text[max(0, start - 12) : start])
    after = _AFTER_BOX.match(text, close + 1)
    if before is not None or after is not None:
        sign = 0 if before is None else len(before[1] or before[2])
        return "box", start - sign, close + 1 if after is None else after.end()
    return "box", inside, close


def _boxes(text: str, begin: int, end: int) -> list[tuple[int, int, int]]:
    """(start, inside, close) of each outermost box in order; close is -1 where it is not closed."""
    found: list[tuple[int, int, int]] = []
    first = min(
        (
            at
            for at in (text.find("\\boxed", begin, end), text.find("\\fbox", begin, end))
            if at >= 0
        ),
        default=-1,
    )
    if first < 0:
        return found
    stack: list[int] = []  # of open braces: the index of its box, or -1
    for token in _BOXES.finditer(text, first, end):
        mark = token[0]
        if mark == "{":
            stack.append(-1)
        elif mark == "}":
            if stack:
                index = stack.pop()
                if index >= 0:
                    found[index] = (*found[index][:2], token.start())
        elif mark[-1] == "{" and len(mark) > 2:
            stack.append(len(found))
            found.append((token.start(), token.end(), -1))
    outer: list[tuple[int, int, int]] = []
    for box in found:
        if not (outer and box[2] >= 0 and box[0] < outer[-1][2]):
            outer.append(box)
    return outer


def _of_cue(text: str, at: int, end: int) -> tuple[Rule, int, int]:
    """The clause behind a cue: on its line, or on the next that is not empty."""
    display = _DISPLAY.match(text, at, end)
    line = _line_end(text, at, end)
    while not text[at:line].strip(" \t\r*_`:") and line < end:
        at, line = line + 1, _line_end(text, line + 1, end)
    if display is None:
        display = _DISPLAY.match(text, at, end)
    if display is not None:
        close = text.find("\\]" if display[1] == "\\[" else "$$", display.end(), end)
        if close >= 0:
            return "cue", display.end(), close
    return "cue", at, _clause_end(text, at, line)


def _clause_end(text: str, begin: int, end: int) -> int:
    """Where the first sentence of a line ends."""
    initials = {m.end() - 1 for m in _INITIALS.finditer(text, begin, end)}
    for stop in _SENTENCE_END.finditer(text, begin, end):
        if stop.start() not in initials and text[begin : stop.start()].strip(_EDGES):
            return stop.start()
    return end


def _line_end(text: str, begin: int, end: int) -> int:
    at = text.find("\n", begin, end)
    return end if at < 0 else at


def _unmarked(text: str, begin: int, end: int, is_value: Callable[[str], bool]) -> Reading:
    """The last line where it is one value, or one value behind a word that concludes."""
    stop = begin + len(text[begin:end].rstrip())
    while True:
        start = max(begin, text.rfind("\n", begin, stop) + 1)
        line = text[start:stop].strip()
        if line.strip("`$\\[]() ") or start <= begin:
            break
        stop = begin + len(text[begin : start - 1].rstrip()) if start > begin else begin
    start = max(start, stop - _LONGEST_LINE)
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
    behind: int | None = None
    for word in _CONCLUSION.finditer(text, sentence, stop):
        if _NEGATED.search(text[sentence : word.end()]):
            return _NOTHING
        candidate = _trimmed(text, "conclusion", word.end(), stop)
        if candidate.answer and is_value(candidate.answer) and _is_short(candidate.answer):
            return candidate
        behind = word.end()
    for word in _SINCE.finditer(text, sentence, stop):
        behind = word.end()
    return _NOTHING if behind is None else _loose(text, sentence, stop, is_value)


def _loose(text: str, sentence: int, stop: int, is_value: Callable[[str], bool]) -> Reading:
    """Behind "so" and its kin a whole clause may state the value: `so Tina earned 48 coins`."""
    last = None
    for last in _SINCE.finditer(text, sentence, stop):  # noqa: B007 - the last one
        pass
    if last is None:
        return _NOTHING
    candidate = _trimmed(text, "conclusion", last.end(), stop)
    return candidate if candidate.answer and is_value(candidate.answer) else _NOTHING


def _is_short(answer: str) -> bool:
    """A value and at most three words of its unit: no clause in which a number occurs."""
    tail = re.split(r",\s|\s\(|\bnot\b", answer, maxsplit=1)[0]
    return len(re.findall(r"[A-Za-z]{2,}", tail)) <= 3 and not re.search(
        r"\b(?:in|at|on|of|for|with|that|which|to|by|from|is|are|was|were|has|have)\b", tail
    )


def _last_sentence(text: str, begin: int, end: int) -> int:
    start = begin
    for stop in _SENTENCE_END.finditer(text, begin, end):
        if text[stop.end() : end].strip(_EDGES + ".)\"'"):
            start = stop.end()
    return start


def _trimmed(text: str, rule: Rule, start: int, end: int) -> Reading:
    while start < end and text[start] in _EDGES + ":>":
        start += 1
    while end > start and text[end - 1] in _EDGES:
        end -= 1
    if (
        end - start > 2
        and text[start] == "$" == text[end - 1]
        and "$" not in text[start + 1 : end - 1]
    ):
        return _trimmed(text, rule, start + 1, end - 1)
    return Reading(rule, start, end, text[start:end])
