"""Where a sentence of an answer ends, and whether it denies the value that a mark in it holds.

    ends       7. It was easy | 7; this is because | not Jan. 5, e.g. 7, J. R. Smith, x = 3; x = 5
    denied     not 7 | I don't think the answer is 7 | the wrong answer is 7 | 7, which is wrong

Every test looks at a bounded piece of the text.
"""

from __future__ import annotations

import re

_EDGES = " \t\r\n*_`"
_SENTENCE_EDGES = _EDGES + ".)\"'"
# --- ends

# The stop comes first in what follows, so that a search skips all other characters.
_NO_ABBREVIATION = (
    r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\b(?:[Ss]t|[DMJS]r|Ms|Mt|No|Rs|vs|ca)\.)(?<!\bMrs\.)"
    r"(?<!approx\.)(?<!\bProf\.)(?<!\ba\.m\.)(?<!\bp\.m\.)(?<!\b[A-Z]\.[A-Z]\.)"
    r"(?<!\b(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Fig|Vol|Sec|Art)\.(?=\s\d))"
    r"(?<!\b(?:Sept|Figs)\.(?=\s\d))(?<!\b(?:Eq|Ch|pp)\.(?=\s[\d(]))"
    r"(?<!\b(?:Sgt|Gen|Col|Cpl|Sen|Rep|Gov|Rev|Hon|Maj|Adm)\.(?=\s[A-Z]))"
    r"(?<!\b(?:Lt|Fr|Ft|Pt)\.(?=\s[A-Z]))(?<!\b(?:Capt|Pres|Supt)\.(?=\s[A-Z]))"
)
_NO_ENTITY = (
    r"(?<!&nbsp;)(?<!&amp;)(?<!&lt;)(?<!&gt;)(?<!&thinsp;)(?<!&minus;)(?<!&times;)"  # 5&nbsp;kg
)
# Behind a semicolon: a clause on the answer, not another value.
_REMARK = (
    r"(?=\s{0,3}(?:this|that|these|it|its|they|we|i|you|he|she|because|since|so|hence|thus|therefore"
    r"|then|which|while|whereas|where|however|note|see|indeed|there|but|not|all others?"
    r"|any others?|the (?:others?|rest|remaining))\b"
    r"|[^.;\n]{0,60}\b(?:is|are|was|were|would be|cannot be|must be) (?:\w{1,12} )?"
    r"(?:wrong|incorrect|false|extraneous|rejected|discarded|impossible|invalid)\b)"
)
_SENTENCE_END = re.compile(
    rf"[.。；;!?](?:(?<=\.){_NO_ABBREVIATION}(?=[*_`\"')\]$]{{0,5}}(?:\s|$))"
    rf"|(?<=。)|(?<=[;；]){_NO_ENTITY}(?i:{_REMARK})|(?<=[!?])(?=\s+[A-Z\W]|\s*$))"
)
_NEXT_OPTION = re.compile(r"\s[^.:!?]{1,60}\s\(?[A-J][.)]\s")  # A. Paris B. London
_INITIALS = re.compile(  # J. R. Smith, E. coli
    r"\b[A-Z]\.(?=\s[A-Z]\.|\s[A-Z][a-z]+\s*[.$]?$|\s[a-z]{2})"
)


def clause_end(text: str, begin: int, end: int) -> int:
    """Where the first sentence of a line ends."""
    initials = {match.end() - 1 for match in _INITIALS.finditer(text, begin, end)}
    for stop in _SENTENCE_END.finditer(text, begin, end):
        stated = text[begin : stop.start()].strip(_EDGES)
        is_option = len(stated) == 1 and _NEXT_OPTION.match(text, stop.end(), end)
        if stated and stop.start() not in initials and not is_option:
            return stop.start()
    return end


def last_sentence(text: str, begin: int, end: int) -> int:
    """Where the last sentence of a line begins."""
    last = end
    while last > begin and text[last - 1] in _SENTENCE_EDGES:
        last -= 1
    starts = [stop.end() for stop in _SENTENCE_END.finditer(text, begin, end)]
    return max((start for start in starts if start < last), default=begin)


# --- denials

_LOOK_BACK = 200
_LOOK_AHEAD = 80
_BREAK = re.compile(r"[.!?:;]\s|\n|[。；]")  # in front of the sentence of a mark
_END = re.compile(r"[.!?]\s|\n|。")  # behind it
_SETTING = r"[\s$\\(\[{}*_~&\"'“]{0,12}"
_NOT = (
    r"\b(?:not|never|cannot|neither|nor|no longer|rather than|instead of|other than|except"
    r"|(?:less|greater|more|fewer|smaller|larger|higher|lower|bigger) than)"
)
_DIRECTLY = re.compile(  # not 7, isn't equal to 7, is not x = 7
    rf"(?:{_NOT}|n['’]t|\bexcept for)\s{{1,3}}"
    r"(?:(?:be|is|equal|equals|to|just|simply|exactly|the|actually|really|number|value|answer)"
    r" ){0,3}"
    rf"{_SETTING}(?:[A-Za-z]\w{{0,8}}\s?=\s?)?{_SETTING}$",
    re.IGNORECASE,
)
_DISBELIEVED = re.compile(  # I don't think that the answer is 7
    r"(?:(?:\b(?:not|never|hardly|cannot)|n['’]t)\s+(?:\w+\s+)?(?:think|believe|say|claim|agree"
    r"|conclude|true|mean|imply|suppose|the case|correct to|right to|right that|correct that"
    r"|certain|sure|convinced|possible that)"
    r"|(?<!\bno )(?<!\ba )(?<!\bany )\bdoubt|\b(?:deny|false that|wrong to|wrong that|incorrect to"
    r"|incorrect that|mistake to|untrue that|no way|tempting to \w+|mistakenly \w+"
    r"|(?:first|initially|originally) thought)"
    r"|\b(?:might|may|(?:some|someone|people|students?|many)(?: (?:could|would|might|may))?)\s+"
    r"(?:\w+\s+)?(?:be tempted to\s+)?(?:think|say|guess|expect|believe|conclude|assume|suppose"
    r"|argue|claim)s?"
    r"|\b(?:one|you) (?:could|would) (?:think|expect|guess))\b(?:(?!\bbut\b)[^,;:.])*$",
    re.IGNORECASE,
)
_PUT_ASIDE = re.compile(  # the wrong answer is; if the answer is
    r"(?:\b(?:wrong|incorrect|false|mistaken|previous|earlier|other|others['’]?|tempting|naive|initial)"
    r"\s+(?:final\s+)?"
    r"|\b(?:if|whether|unless|suppose|supposing|assume|assuming|imagine)\s+(?:that\s+)?"
    r"(?:(?:the|my|your|our|his|her|their|this|that|its)\s+)?"
    r"(?:(?:final|correct|right|real|true|actual)\s+)?)$",
    re.IGNORECASE,
)
_FALSE = (
    r"(?:wrong|incorrect|false|impossible|invalid|extraneous|rejected|a mistake|mistaken"
    r"|not (?:right|correct|true|possible|valid|allowed|the case"
    r"|(?:the|an?) (?:\w+ )?(?:answer|solution)))\b"
)
_WAS = r"(?:is|are|was|were|would be|turns out to be|['’]s)\s+(?:\w+ly\s+)?"
_ISNT = r"(?:isn['’]t|wasn['’]t|cannot be|can['’]t be|can not be)\s+"
_ISNT_RIGHT = (
    rf"{_ISNT}(?:right|correct|true|valid|possible|(?:the|an?) (?:\w+ )?(?:answer|solution))\b"
)
_RETRACTED = re.compile(  # 7, which is wrong
    rf"(?:[,;(]\s{{0,3}}|\s[-–—]\s|\s)(?:which|but (?:that|this|it)|and (?:that|this)|this|that"
    rf"|it)\s?(?:{_WAS}{_FALSE}|{_ISNT_RIGHT})",
    re.IGNORECASE,
)
_REFUSED = re.compile(  # \boxed{7} is wrong
    rf"[\s$\\)\]}}*_~.,;\"'”]{{0,8}}(?:\\text\{{\s*)?(?:{_WAS}{_FALSE}|{_ISNT_RIGHT})",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(  # the answer is no longer 7
    r"[\s$\\(*_\"'“]{0,6}(?:no longer|anything but|nowhere near|far from|hardly|never)\s+"
    r"(?:[-−+$\\(\d]|\(?[A-J]\b)"
)
_REASON = re.compile(r"\b(?:since|because|as|so|otherwise|would|if|when|for)\b", re.IGNORECASE)
_CONTINUED = re.compile(r"\bnot only\b", re.IGNORECASE)


def is_denied(text: str, begin: int, start: int, end: int, stop: int) -> bool:
    """Whether the sentence around a marked value `text[start:end]` denies it.

    Args:
        text: what a model wrote.
        begin: where what is read begins.
        start: where the mark begins.
        end: where its value ends.
        stop: where what is read ends.
    """
    before = _sentence_before(text, begin, start)
    if _DIRECTLY.search(before) and not _CONTINUED.search(before):
        return True
    if _DISBELIEVED.search(before):
        return True
    after = text[end : min(stop, end + _LOOK_AHEAD)]
    return _REFUSED.match(after) is not None or _is_retracted(after)


def is_cue_denied(text: str, begin: int, cue: int, start: int, stop: int) -> bool:
    """Whether the sentence of a cue at `cue` denies the value behind it, at `start`, or says it of
    an answer that is put aside: of a wrong one, of a condition."""
    before = _sentence_before(text, begin, cue)
    if _PUT_ASIDE.search(before) or _DISBELIEVED.search(before):
        return True
    if _NO_VALUE.match(text, start, stop):
        return True
    return _is_retracted(text[start : min(stop, start + _LOOK_AHEAD)].lstrip())


def is_disbelieved(clause: str) -> bool:
    """Whether a clause without a mark puts what stands behind it aside: `one might think it is`."""
    return _DISBELIEVED.search(clause) is not None


def _is_retracted(after: str) -> bool:
    """`7, which is wrong`; not `7, since 8 would give 0 = 1, which is impossible`."""
    end = _END.search(after)
    sentence = after if end is None else after[: end.start()]
    retracted = _RETRACTED.search(sentence)
    return retracted is not None and _REASON.search(sentence, 0, retracted.start()) is None


def _sentence_before(text: str, begin: int, start: int) -> str:
    """What stands in front of a mark, in its sentence."""
    before = text[max(begin, start - _LOOK_BACK) : start]
    breaks = list(_BREAK.finditer(before.rstrip()))
    return before[breaks[-1].end() :] if breaks else before
