"""LaTeX, markdown and typography as plain text: what an answer says, without how it is set.

    \\text{ cm}    cm        \\frac{3}{4}, ¾     3/4        10^{-3}, 10⁻³    10^-3
    1\\,234       1 234     3\\frac12, 3½       3 1/2      \\left( \\right)  ( )

Nothing is evaluated and nothing is judged. Time is linear in the length.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_ROUNDS = 6  # commands within commands that are unwrapped
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"), "-")
_SHIELD = "\uff04"  # an escaped dollar, which no pairing of dollars may take
_FONTS = (
    r"text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|mathtt|mathcal|mbox|"
    r"hbox|operatorname|emph|underline|boldsymbol|bm|boxed|fbox|textnormal|mathbb|pmb"
)
_WRAPPED = re.compile(rf"\\(?:{_FONTS})\s{{0,9}}\{{([^{{}}]*)\}}")
_COLOURED = re.compile(r"\\(?:textcolor|color)\s{0,9}\{[^{}]*\}\s{0,9}(?:\{([^{}]*)\})?")
_SPACES = re.compile(
    r"\\(?:[ ,;:>]|q?quad(?![a-zA-Z])|thinspace(?![a-zA-Z])|enspace(?![a-zA-Z]))|~"
)
_SILENT = re.compile(
    r"\\(?:!|left(?![a-z])|right(?![a-z])|(?:display|text|script)style(?![a-z])|[bB]igg?[lr]?(?![a-z])|"
    r"limits(?![a-z])|bf(?![a-z])|rm(?![a-z])|it(?![a-z]))\.?"
)
_DEGREE = re.compile(r"\^\s{0,3}(?:\{\s{0,3}\\circ\s{0,3}\}|\\circ)|\\degree(?![a-z])")
_PLAIN = r"[-+]?\s?\d[\d,]{0,60}(?:\.\d{1,60})?"
_FRACTION = re.compile(
    rf"(?P<whole>\d)?\s{{0,9}}\\[dtc]?frac\s{{0,9}}(?:\{{\s{{0,9}}(?P<over>{_PLAIN})\s{{0,9}}\}}|(?P<o>\d))"
    rf"\s{{0,9}}(?:\{{\s{{0,9}}(?P<under>{_PLAIN})\s{{0,9}}\}}|(?P<u>\d))"
)
_INDEX = re.compile(r"([\^_])\s{0,3}\{\s{0,9}([-+]?\d{1,20})\s{0,9}\}")
_BRACED = re.compile(rf"(?<![\w}}])\{{\s{{0,9}}({_PLAIN}(?:\s?/\s?{_PLAIN})?)\s{{0,9}}\}}")
_REPEATING = re.compile(r"\\(?:overline|bar|dot)\s{0,9}(?:\{(\d{1,60})\}|(\d))")
_SLASHED = re.compile("([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)[\u2044/]([\u2080-\u2089]+)")
_SIGNS = (
    ("\\cdot", "\u00d7"), ("\\times", "\u00d7"), ("\\div", "\u00f7"), ("\\pm", "\u00b1"),
    ("\\leq", "\u2264"), ("\\le", "\u2264"), ("\\geq", "\u2265"), ("\\ge", "\u2265"),
    ("\\neq", "\u2260"), ("\\ne", "\u2260"), ("\\approx", "\u2248"), ("\\sim", "\u2248"),
    ("\\infty", "\u221e"), ("\\pi", "\u03c0"), ("\\lt", "<"), ("\\gt", ">"),
    ("\\euro", "\u20ac"), ("\\pounds", "\u00a3"), ("\\ldots", "\u2026"), ("\\dots", "\u2026"),
    ("\\cdots", "\u2026"), ("\\mid", "|"), ("\\colon", ":"), ("\\lvert", "|"), ("\\rvert", "|"),
)  # fmt: skip
_COMMANDS = {
    name: f" {sign} " if sign in "\u00d7\u00f7\u2264\u2265\u2260\u2248" else sign
    for name, sign in _SIGNS
}
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ESCAPED = re.compile(r"\\([%#&_$])")
_STARS = re.compile(r"(?<=\d)\s{0,3}\*\*\s{0,3}(?=[-+]?\d)")
_MARKDOWN = re.compile(r"\*\*|__|`+|(?<![\w*])\*(?=\S)|(?<=\S)\*(?![\w*])")
_TIE = re.compile(r"(?<=\d)~(?=\d)")
_SIGNED = re.compile(r"\{\s{0,3}([-+.,:])\s{0,3}\}")
_OVER = re.compile(r"\{([^{}]{1,60})\\over(?![a-zA-Z])([^{}]{1,60})\}")
_UNITS_OVER = re.compile(
    r"\\[dtc]?frac\s?\{\s{0,3}([A-Za-z]+)\s{0,3}\}\s?\{\s{0,3}([A-Za-z]+)\s{0,3}\}"
)
_PAIRED = re.compile(r"\$([^$]*)\$")


def plain_text(text: str) -> str:
    """The text without LaTeX's and markdown's setting; what is unknown stays as it is."""
    if not text.isascii():
        text = _plain_unicode(text)
    if "~" in text:
        text = _TIE.sub(" ", text)
    text = _STARS.sub("^", text)
    text = _MARKDOWN.sub("", text)
    if "$" in text:
        text = text.replace("\\$", _SHIELD).replace("$$", " ")
        text = _PAIRED.sub(r" \1 ", text).replace(_SHIELD, "$")
    if "\\" not in text and "{" not in text:
        return text
    text = _OVER.sub(r"\\frac{\1}{\2}", _SIGNED.sub(r"\1", text))
    text = re.sub(r"\\[()\[\]]", " ", text)
    text = _SILENT.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _INDEX.sub(r"\1\2", _DEGREE.sub("\u00b0", text))
    for _ in range(_ROUNDS):
        before = text
        text = _COLOURED.sub(lambda m: f" {m[1] or ''} ", _WRAPPED.sub(r" \1 ", text))
        if text == before:
            break
    text = _UNITS_OVER.sub(r" \1/\2 ", text)
    text = _REPEATING.sub(lambda m: f"({m[1] or m[2]})", text)
    text = _INDEX.sub(r"\1\2", text)
    text = _FRACTION.sub(_fraction, text)
    text = _BRACED.sub(r" \1 ", text)
    text = _ESCAPED.sub(r"\1", text)
    return _COMMAND.sub(lambda m: _COMMANDS.get(m[0], m[0]), text)


def _fraction(match: re.Match[str]) -> str:
    over, under = match["over"] or match["o"], match["under"] or match["u"]
    whole = "" if match["whole"] is None else f"{match['whole']} "
    return f"{whole}{over}/{under}" if whole else f" {over}/{under} "


def _plain_unicode(text: str) -> str:
    """Digits, signs, fractions and indices of other alphabets and positions, in ASCII."""
    text = _SLASHED.sub(_fraction_of_indices, text.translate(_DASHES))
    out: list[str] = []
    position = ""  # "^" within a run of superscripts, "_" of subscripts
    for character in text:
        if character < "\x80":
            out.append(character)
            position = ""
            continue
        here, written = _written(character)
        if here and here != position:
            out.append(here)
        position = here
        if written[:1].isdigit() and "/" in written and out and out[-1][-1:].isdigit():
            out.append(" ")
        out.append(written)
    return "".join(out)


def _fraction_of_indices(match: re.Match[str]) -> str:
    return " {}/{}".format(*(unicodedata.normalize("NFKC", part) for part in match.groups()))


@lru_cache(maxsize=4096)
def _written(character: str) -> tuple[str, str]:
    """("^" | "_" | "", ASCII where there is one)."""
    kind = unicodedata.decomposition(character).split(" ")[0]
    if kind == "<super>" and character not in "ºª":
        return "^", unicodedata.normalize("NFKC", character).translate(_DASHES)
    if kind == "<sub>":
        return "_", unicodedata.normalize("NFKC", character).translate(_DASHES)
    if character == "º":
        return "", "\u00b0"
    if kind == "<fraction>" or character == "\u2044":
        return "", unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return "", str(digit)
    if unicodedata.category(character) == "Zs":
        return "", " "
    if kind in ("<wide>", "<compat>") and not character.isalpha():
        return "", unicodedata.normalize("NFKC", character)
    if character in "\u2018\u2019":
        return "", "'"
    if character in "\u201c\u201d":
        return "", '"'
    return "", character
