"""Words that introduce an answer, and the clause behind them that holds it.

    the answer is 7 | Answer: 7 | **Final Answer** 7 | the correct option is B | 答案是7
    {"answer": 7} | option B is the correct answer | 7 is the answer
    no cue: the answer is correct, behind a mark | the wrong answer is 7 | if the answer is 7

The last one decides. One that is denied or put aside, or only a remark on the answer, gives way to
a mark that stands before it. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rekindle.rewards.verifiers.sentences import clause_end, is_cue_denied

_BLANKS = r"[ \t*_`\"'“”)\]]{0,9}"
_IS = (
    r"(?:is|are|was|were|must be|should be|would be|will be|has to be|equals"
    r"|comes? (?:out )?to|becomes|works out to be|turns out to be)\b"
)
_THEN = r"(?:,?[ ]{1,3}(?:therefore|thus|hence|then|indeed|clearly|simply|now),?)?"
_CUE = re.compile(  # `answer:`, `answer (in cm) is`, `answer to the question, then, is:`
    rf"(?:[aA]nswers?|ANSWERS?)(?:{_BLANKS}\s?[:：=]"
    rf"|(?:{_BLANKS}(?:\([^()\n]{{1,30}}\))?(?:[ ](?:to|for|of|in|we)[ ][^\n.:=?,]{{1,60}}?)?"
    rf"(?:,?[ ](?:here|therefore|then|thus|hence|so))?,?[ ]{{1,3}}{_IS}){_THEN}[ ]{{0,3}}[:：]?)"
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
_HEADED = re.compile(  # a line that is nothing but `Final answer`, or `**Final Answer** 7`
    r"[#>*_ \t]{0,9}(?:[fF]inal[ ]|FINAL[ ])?(?:[aA]nswer|ANSWER)[*_ \t]{0,9}(?=\n|$)"
    r"|[#> \t]{0,9}(?:(?:\*\*|__)\s{0,2}(?:[fF]inal[ ]|FINAL[ ])?(?:[aA]nswer|ANSWER)"
    r"\s{0,2}(?:\*\*|__)"
    r"|(?:[fF]inal|FINAL)[ ](?:[aA]nswer|ANSWER))[ \t]{1,3}(?=[-−+$\\(\[\d]|[A-J]\b)"
    r"(?=[^\n:]{1,60}(?:\n|$))"
)
_LONGEST_HEADING = 30
# `option B is the correct answer`, `B is correct.`, `7 is the answer`: what stands behind the value
_SAID_OF = re.compile(
    r"[ ]is[ ](?:(?:the|our|my)[ ](?:(?:only|correct|right|best|final)[ ]){0,2}"
    r"(?:answer|option|choice)|(?P<bare>correct|right))"
    r"(?=[*_$]{0,4}(?:[.!]?[*_$]{0,4}\s{0,9}(?:\n|$)|[.!]\s|,?[ ](?:because|since|as)\b))"
)
_SAID = re.compile(  # and the value, with what may stand in front of it
    r"(?:^|[\n.!?:,])[ \t>*_]{0,6}(?:(?:[sS]o|[tT]hus|[hH]ence|[tT]herefore|[aA]nd)\b,?[ ])?"
    r"[*_$]{0,4}(?:(?:[tT]he[ ])?(?:[oO]ption|[cC]hoice|[aA]nswer)[ ][*_$]{0,4})?"
    r"(?P<value>\(?[A-J]\)?|(?!(?i:this|that|it|here|what|which|there|he|she|so|neither|none|nothing"
    r"|no|not)\b)[^\s,;:?*_$()]{1,40})[*_$]{0,4}$"
)
_LONGEST_SAID = 80
_DISPLAY = re.compile(r"\s*(\\\[|\$\$)")
# The rest of a line that ends in a cue and says that the answer is on the next one.
_BELOW = re.compile(
    r"[ \t\r*_`:]*+(?:(?:shown |given |stated )?below|as follows|the following)?[ \t\r*_`:.]*+"
)
_JSON = re.compile(  # what stands behind the colon of `"answer": 7`
    r"\s{0,9}(?:\"(?P<text>(?:[^\"\\\n]|\\.){0,2000})\"|'(?P<quoted>[^'\n]{0,200})'"
    r"|(?P<bare>[-+]?\d[\d.eE+-]{0,60}|true|false|null|\[[^\[\]{}\n]{0,200}\]))\s{0,9}(?=[,}\]]|$)"
)
_KEY = re.compile(r"[\"']\s?:\s?$")
# What is said of an answer, not what it is; never behind a colon.
_SAID_OF_IT = re.compile(
    r"[\s*_]{0,4}(?:(?:indeed|also|clearly|now|therefore|thus|already|both|quite|very|as)\s+){0,2}"
    r"(?:correct|right|incorrect|wrong|reasonable|verified|confirmed|checked|helpful|clear|obvious"
    r"|consistent|complete|justified|supported|sensible|plausible|accurate|fine|good|useful)\b"
)
_WEAK = re.compile(  # so is this, if the verifier takes it for no value
    r"[\s*_]{0,4}(?:(?:indeed|also|clearly|now|both|quite|very)\s+){0,2}"
    r"(?:already|simplified|rounded|expressed|given|shown|written|based|found|obtained|boxed|stated"
    r"|above|positive|negative|valid|unique|exact|in|what|because|independent|proven|proved|less"
    r"|greater|smaller|larger|within|close|easy|easily|straightforward|known|derived|determined"
    r"|calculated|computed|presented|provided|an? (?:integer|whole|positive|negative|number|real)"
    r"|the (?:same|result|sum|product|one))\b"
)
_LONGEST_REMARK = 300

IsValue = Callable[[str], bool]


class Clause(NamedTuple):
    """A cue and what it introduces, by positions in the text."""

    cue: int
    start: int
    end: int
    is_aside: bool  # denied, or put aside
    is_remark: bool  # said of an answer that stands elsewhere


def clauses_from_the_end(text: str, begin: int, end: int, is_value: IsValue) -> Iterator[Clause]:
    """The cues of a region with their clauses, the last one first."""
    for cue, behind in _cues_from_the_end(text, begin, end, is_value):
        if behind < 0:  # the value stands in front
            start = -behind - 1
            yield Clause(cue, cue, start, is_aside=False, is_remark=False)
            continue
        start, stop = _clause(text, behind, end)
        yield Clause(
            cue,
            start,
            stop,
            is_cue_denied(text, begin, cue, start, end),
            _is_remark(text, cue, behind, start, stop, is_value),
        )


def _cues_from_the_end(
    text: str, begin: int, end: int, is_value: IsValue
) -> Iterator[tuple[int, int]]:
    """(start, end) of each cue; where its value stands in front: (its start, -1 - its end)."""
    others: list[tuple[int, int]] = []
    if any(hint in text for hint in _OTHER_HINTS):
        others += [other.span() for other in _OTHER_CUES.finditer(text, begin, end)]
    others += _said_first(text, begin, end, is_value)
    others.sort()
    words = _words_from_the_end(text, begin, end)
    word = next(words, None)
    while others or word is not None:
        if word is None or (others and others[-1][0] > word[0]):
            yield others.pop()
        else:
            yield word
            word = next(words, None)


def _said_first(text: str, begin: int, end: int, is_value: IsValue) -> list[tuple[int, int]]:
    """The values that sentences begin with and call the answer; of several `B is correct` none."""
    found: list[tuple[int, int]] = []
    letters: dict[tuple[int, int], str] = {}
    for said in _SAID_OF.finditer(text, begin, end):
        earliest = max(begin, said.start() - _LONGEST_SAID)
        value = _SAID.search(text[earliest : said.start()])
        if value is None or (value.start() == 0 and not value[0][0].isspace() and earliest > begin):
            continue
        is_letter = len(value["value"].strip("()")) == 1
        if not is_value(value["value"]) or (said["bare"] and not is_letter):
            continue
        span = earliest + value.start("value"), -1 - earliest - value.end("value")
        found.append(span)
        if said["bare"]:
            letters[span] = value["value"].strip("()")
    return (
        found if len(set(letters.values())) < 2 else [span for span in found if span not in letters]
    )


def _words_from_the_end(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The cues with the word `answer` in them."""
    at = {word: text.rfind(word, begin, end) for word in _CUE_WORDS}
    while True:
        last = max(at, key=lambda word: at[word])
        if at[last] < begin:
            return
        here = at[last]
        cue = _CUE.match(text, max(here - 1, begin), end) or _heading(text, here, begin, end)
        if cue is not None:
            yield here - 1, cue.end()
        at[last] = text.rfind(last, begin, here)


def _heading(text: str, at: int, begin: int, end: int) -> re.Match[str] | None:
    """The line around `at`, where it is nothing but `Final answer`, as a heading is."""
    earliest = at - _LONGEST_HEADING
    line = max(text.rfind("\n", max(begin, earliest), at) + 1, begin)
    return _HEADED.match(text, line, end) if line >= earliest else None


def _clause(text: str, at: int, end: int) -> tuple[int, int]:
    """The clause behind a cue: on its line, or on the next that is not empty."""
    if _KEY.search(text, max(0, at - 4), at):
        value = _JSON.match(text, at, end)
        if value is not None:
            return value.span(value.lastgroup or 0)
    display = _DISPLAY.match(text, at, end)
    line = _line_end(text, at, end)
    while line < end and _BELOW.fullmatch(text, at, line):
        at, line = line + 1, _line_end(text, line + 1, end)
    display = display or _DISPLAY.match(text, at, end)
    if display is not None:
        close = text.find("\\]" if display[1] == "\\[" else "$$", display.end(), end)
        if close >= 0:
            return display.end(), close
    return at, clause_end(text, at, line)


def _is_remark(text: str, cue: int, behind: int, start: int, stop: int, is_value: IsValue) -> bool:
    """`is correct`, `is already simplified`: a predicate, and no value for the verifier."""
    if text[behind - 1] in ":：=" or start != behind:
        return False
    if _SAID_OF_IT.match(text, start, stop):
        return True
    if not _WEAK.match(text, start, stop):
        return False
    return stop - start > _LONGEST_REMARK or not is_value(text[start:stop].strip(" \t*_`"))


def _line_end(text: str, begin: int, end: int) -> int:
    at = text.find("\n", begin, end)
    return end if at < 0 else at
