"""LaTeX, markdown and typography as plain text: what an answer says, without how it is set.

`plain_text` writes it as a person would type it:

    \\text{ cm}    cm        \\frac{3}{4}, ¾     3/4        10^{-3}, 10⁻³    10^-3
    1\\,234       1 234     3\\frac12, 3½       3 1/2      \\left( \\right)  ( )

`tidy_formula` leaves LaTeX that a parser of formulas reads, in one spelling:

    x ≤ ½    x \\le \\frac{1}{2}        \\left\\lbrace 1 \\right\\rbrace    \\{ 1 \\}

Nothing is evaluated and nothing is judged. Time is linear in the length.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

ROW = "\x02"  # stands for the double backslash between rows
_ROUNDS = 6  # commands within commands that are unwrapped
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"), "-")
_SHIELD = "\uff04"  # an escaped dollar, which no pairing of dollars may take

# --- commands that both drop

_FONTS = (
    "text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|mathtt|mbox|hbox|emph|"
    "underline|boldsymbol|bm|boxed|fbox|textnormal|pmb"
)
_SPACES = re.compile(
    r"\\(?:[ ,;:>]|q?quad(?![a-zA-Z])|thinspace(?![a-zA-Z])|enspace(?![a-zA-Z]))|~"
)
_SILENT = re.compile(
    r"\\(?:!|(?:left|right)(?![a-z])\.?|(?:display|text|script)style(?![a-z])"
    r"|[bB]igg?[lr]?(?![a-z])|limits(?![a-z])|bf(?![a-z])|rm(?![a-z])|it(?![a-z]))"
)
_OVER = re.compile(r"\{([^{}]{1,60})\\over(?![a-zA-Z])([^{}]{1,60})\}")  # {1 \over 2}

# --- signs: what plain text has for a command, and formulas a command for

_SIGNS = (
    ("\\times", "×"), ("\\div", "÷"), ("\\pm", "±"), ("\\le", "≤"), ("\\ge", "≥"),
    ("\\ne", "≠"), ("\\infty", "∞"), ("\\pi", "π"),
)  # fmt: skip
_PLAIN_SIGNS = (
    *_SIGNS, ("\\cdot", "×"), ("\\leq", "≤"), ("\\geq", "≥"), ("\\neq", "≠"),
    ("\\approx", "≈"), ("\\sim", "≈"), ("\\lt", "<"), ("\\gt", ">"), ("\\euro", "€"),
    ("\\pounds", "£"), ("\\ldots", "…"), ("\\dots", "…"), ("\\cdots", "…"), ("\\mid", "|"),
    ("\\colon", ":"), ("\\lvert", "|"), ("\\rvert", "|"), ("\\mu", "µ"),
)  # fmt: skip
_APART = "×÷≤≥≠≈"  # signs that stand between blanks
_COMMANDS = {command: f" {sign} " if sign in _APART else sign for command, sign in _PLAIN_SIGNS}
_COMMAND = re.compile(r"\\[a-zA-Z]+")

# --- plain text

_WRAPPED = re.compile(rf"\\(?:{_FONTS}|mathcal|mathbb|operatorname)\s{{0,9}}\{{([^{{}}]*)\}}")
_COLOURED = re.compile(r"\\(?:textcolor|color)\s{0,9}\{[^{}]*\}\s{0,9}(?:\{([^{}]*)\})?")
_DELIMITERS = re.compile(r"\\[()\[\]]")
_DEGREE = re.compile(r"\^\s{0,3}(?:\{\s{0,3}\\circ\s{0,3}\}|\\circ)|\\degree(?![a-z])")
_PLAIN = r"[-+]?\s?\d[\d,]{0,60}(?:\.\d{1,60})?"  # a number, as fractions hold it
_FRACTION = re.compile(
    rf"(?P<whole>\d)?\s{{0,9}}\\(?:[dtc]|nice|s)?frac\s{{0,9}}"
    rf"(?:\{{\s{{0,9}}(?P<over>{_PLAIN})\s{{0,9}}\}}|(?P<o>\d))\s{{0,9}}"
    rf"(?:\{{\s{{0,9}}(?P<under>{_PLAIN})\s{{0,9}}\}}|(?P<u>\d))"
)
_INDEX = re.compile(r"([\^_])\s{0,3}\{\s{0,9}([-+]?\d{1,20})\s{0,9}\}")  # 10^{-3}
_BRACED = re.compile(rf"(?<![\w}}])\{{\s{{0,9}}({_PLAIN}(?:\s?/\s?{_PLAIN})?)\s{{0,9}}\}}")  # {3/4}
_REPEATING = re.compile(r"\\(?:overline|bar|dot)\s{0,9}(?:\{(\d{1,60})\}|(\d))")
_DOTTED = re.compile(  # 0.\dot{1}4285\dot{7}
    r"\\dot\s?(?:\{(\d)\}|(\d))(\d{0,60})\\dot\s?(?:\{(\d)\}|(\d))"
)
_LINED = re.compile("(?:\\d[\u0304\u0305]){1,60}")  # 0.3̅
_DOTS_ABOVE = re.compile("(\\d)\u0307(?:(\\d{0,60})(\\d)\u0307)?")
_MARKS_ABOVE = re.compile("[\u0304\u0305\u0307]")
_MICRO = re.compile(r"(?<=\d)\s{0,3}\\mu\s{0,3}(?=(?:[gmslLAVWFJNT]|mol)(?![A-Za-z]))")  # 5 \mu m
_SLASHED = re.compile("(?<![⁰¹²³⁴-⁹])([⁰¹²³⁴-⁹]++)[⁄/]([₀-₉]+)")  # ²⁄₃
_ESCAPED = re.compile(r"\\([%#&_$])")
_STARS = re.compile(r"(?<=\d)\s{0,3}\*\*\s{0,3}(?=[-+]?\d)")  # 2**3 is a power, **3** is bold
_MARKDOWN = re.compile(r"\*\*|__|`+|(?<![\w*])\*(?=\S)|(?<=\S)\*(?![\w*])")
_TIE = re.compile(r"(?<=\d)~(?=\d)")
_SIGNED = re.compile(r"\{\s{0,3}([-+.,:])\s{0,3}\}")  # 1{,}234
_UNITS_OVER = re.compile(
    r"\\[dtc]?frac\s?\{\s{0,3}([A-Za-z]+)\s{0,3}\}\s?\{\s{0,3}([A-Za-z]+)\s{0,3}\}"
)
_PAIRED = re.compile(r"\$([^$]*)\$")

# --- what both drop of pages and of displays

_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6});")
_TAG = re.compile(
    r"</?(?:b|i|u|p|br|em|strong|span|div|code|pre|sup|sub|small|big|font|h[1-6]|li|ul|ol|td|tr|th"
    r"|table|tbody|hr|center)\s{0,3}/?>",
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\{(?:aligned|align|alignat|alignedat|equation|gather|gathered|split|multline)\*?\}"
    r"(?:\{\d\})?"
)


def plain_text(text: str) -> str:
    """The text without LaTeX's, markdown's and HTML's setting; what is unknown stays as it is."""
    text = _without_html(text)
    if not text.isascii():
        text = _plain_unicode(text)
    if "~" in text:
        text = _TIE.sub(" ", text)
    text = _MARKDOWN.sub("", _STARS.sub("^", text))
    if "$" in text:
        text = text.replace("\\$", _SHIELD).replace("$$", " ")
        text = _PAIRED.sub(r" \1 ", text).replace(_SHIELD, "$")
    return _without_latex(text) if "\\" in text or "{" in text else text


def _without_html(text: str) -> str:
    """Entities as what they stand for; tags of setting removed, indices as in LaTeX."""
    if "&" in text and _ENTITY.search(text):
        text = html.unescape(text)
    if "<" not in text:
        return text
    return _TAG.sub(" ", text.replace("<sup>", "^").replace("<sub>", "_"))


def _without_latex(text: str) -> str:
    if "\\begin" in text:
        text = _ENVIRONMENT.sub(" ", text).replace("&", " ")
    text = _OVER.sub(r"\\frac{\1}{\2}", _SIGNED.sub(r"\1", text))
    text = _SPACES.sub(" ", _SILENT.sub("", _DELIMITERS.sub(" ", text)))
    text = _INDEX.sub(r"\1\2", _DEGREE.sub("°", text))
    for _ in range(_ROUNDS):
        before = text
        text = _COLOURED.sub(r" \1 ", _WRAPPED.sub(r" \1 ", text))
        if text == before:
            break
    text = _UNITS_OVER.sub(r" \1/\2 ", text)
    if "\\dot" in text:
        text = _DOTTED.sub(lambda match: f"({''.join(filter(None, match.groups()))})", text)
    text = _MICRO.sub(" µ", text) if "\\mu" in text else text
    text = _REPEATING.sub(lambda match: f"({match[1] or match[2]})", text)
    text = _INDEX.sub(r"\1\2", text)
    text = _BRACED.sub(r" \1 ", _FRACTION.sub(_fraction, text))
    text = _ESCAPED.sub(r"\1", text)
    return _COMMAND.sub(lambda match: _COMMANDS.get(match[0], match[0]), text)


def _fraction(match: re.Match[str]) -> str:
    over, under = match["over"] or match["o"], match["under"] or match["u"]
    return f" {over}/{under} " if match["whole"] is None else f"{match['whole']} {over}/{under}"


def _plain_unicode(text: str) -> str:
    """Digits, signs, fractions and indices of other alphabets and positions, in ASCII."""
    text = _SLASHED.sub(_fraction_of_indices, text.translate(_DASHES))
    if _MARKS_ABOVE.search(text):
        text = _LINED.sub(lambda match: f"({_MARKS_ABOVE.sub('', match[0])})", text)
        text = _DOTS_ABOVE.sub(lambda match: f"({_MARKS_ABOVE.sub('', match[0])})", text)
    written: list[str] = []
    position = ""  # "^" within a run of superscripts, "_" of subscripts
    for character in text:
        if character < "\x80":
            written.append(character)
            position = ""
            continue
        here, plain = _plain_character(character)
        if here and here != position:
            written.append(here)
        position = here
        if "/" in plain and plain[0].isdigit() and written and written[-1][-1:].isdigit():
            written.append(" ")  # 3½ is 3 1/2
        written.append(plain)
    return "".join(written)


def _fraction_of_indices(match: re.Match[str]) -> str:
    over, under = (unicodedata.normalize("NFKC", part) for part in match.groups())
    return f" {over}/{under}"


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> tuple[str, str]:
    """(its position: "^", "_" or "", how it is written in ASCII where there is a way)."""
    kind = unicodedata.decomposition(character).split(" ")[0]
    plain = unicodedata.normalize("NFKC", character)
    if kind == "<super>" and character not in "ºª":
        return "^", plain.translate(_DASHES)
    if kind == "<sub>":
        return "_", plain.translate(_DASHES)
    if kind == "<fraction>" or character == "⁄":
        return "", plain.replace("⁄", "/")
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return "", str(digit)
    if unicodedata.category(character) == "Zs":
        return "", " "
    if kind == "<font>" or (kind in ("<wide>", "<compat>") and not character.isalpha()):
        return "", plain
    return "", _TYPOGRAPHY.get(character, character)


_TYPOGRAPHY = {
    "º": "°",
    "\u2126": "Ω",
    "\u212b": "Å",
    "μ": "µ",
    "≔": "=",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}

# --- formulas

_FORMULA_SIGNS = (
    *((sign, f"{command} ") for command, sign in _SIGNS),
    ("∛", r"\sqrt[3]"), ("∜", r"\sqrt[4]"), ("√", r"\sqrt"), ("·", r"\cdot "),
    ("⌊", r"\lfloor "), ("⌋", r"\rfloor "), ("⌈", r"\lceil "), ("⌉", r"\rceil "),
    ("∪", r"\cup "), ("∩", r"\cap "), ("∅", r"\emptyset "), ("∈", r"\in "), ("°", r"^\circ "),
    ("′", "'"), ("ℝ", r"\mathbb{R}"),
    ("ℤ", r"\mathbb{Z}"), ("ℕ", r"\mathbb{N}"), ("∖", r"\setminus "),
)  # fmt: skip
_IN_FORMULAS: dict[int, str] = {
    **_DASHES,
    **{ord(sign): command for sign, command in _FORMULA_SIGNS},
    **{ord(sign): f"^{{{digit}}}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{ord(sign): f"_{{{digit}}}" for digit, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{
        ord(sign): rf"\frac{{{over}}}{{{under}}}"
        for sign, over, under in zip("½⅓⅔¼¾⅕⅙⅛", "11213111", "23344568", strict=True)
    },
}
_GREEK_LETTERS = (
    ("αβγδεϵζηθικλ", "alpha beta gamma delta epsilon epsilon zeta eta theta iota kappa lambda"),
    ("μµνξρστυφϕχψω", "mu mu nu xi rho sigma tau upsilon phi phi chi psi omega"),
    ("ΓΔΘΛΞΣΦΨΩ", "Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega"),
)
_GREEK_COMMANDS = {
    letter: name
    for letters, names in _GREEK_LETTERS
    for letter, name in zip(letters, names.split(), strict=True)
}
_GREEK = re.compile("(?<![Ͱ-Ͽ])[" + "".join(_GREEK_COMMANDS) + "](?![Ͱ-Ͽ])")  # no word
_FORMULA_SPELLINGS = (
    ("\\\\", ROW), ("\\$", ""), ("$", " "), ("\\(", " "), ("\\)", " "), ("\\[", " "),
    ("\\]", " "), ("{,}", ""), ("\\%", "%"),
)  # fmt: skip
_COMMAND_SPELLINGS = (
    ("\\geqslant", "\\ge "), ("\\leqslant", "\\le "), ("\\lbrace", "\\{"), ("\\rbrace", "\\}"),
    ("\\varnothing", "\\emptyset"), ("\\varphi", "\\phi"),
    ("\\varepsilon", "\\epsilon"), ("\\mathbb R", "\\mathbb{R}"),
    ("\\mathbb Z", "\\mathbb{Z}"), ("\\lparen", "("), ("\\rparen", ")"), ("\\lbrack", "["),
    ("\\rbrack", "]"), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\cfrac", "\\frac"),
)  # fmt: skip
_THIN_GROUP = re.compile(r"(?<=\d)\\[,! ](?=\d{3}(?!\d))")  # 1\,234
_WRAPPED_FORMULA = re.compile(rf"\\(?:{_FONTS})\s?\{{([^{{}}]*)\}}")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s?\^\s?\{?\s?\\circ\s?\}?")
# A name that stands alone under or beside a mark of geometry: \overline{AB}
_SEGMENT = re.compile(
    r"\\(?:(?:overrightarrow|overleftrightarrow|angle|triangle|vec|widehat)"
    r"|(?:overline|bar)(?=\s?\{?\s?[A-Z]{2}))\s?\{?\s?([A-Za-z]{1,4})\s?\}?$"
)
_EMPTY_SET = re.compile(r"\s*\\\{\s*\\\}\s*")
_REAL_LINE = re.compile(r"\s*\(\s*-\s*\\infty\s*,\s*(?:\+\s*)?\\infty\s*\)\s*")
_REMARK = re.compile(
    r"\(\s*(?:check|since|because)\b[^()]*\)"
    r"|(?:[,;(]\s{0,9}(?:and |but )?|\s(?:and|but) )not\b.*"
)
_RAISED = re.compile(  # 2**n and x ** 2 are powers, **2** is bold
    r"(?<=[\w)}\]])(?:\*\*|\s\*\*\s)(?:\{?(-?\d{1,9}(?:\.\d{1,9})?|-?[A-Za-z])\}?(?!\w)|(?=[(\\]))"
)
_BAR = re.compile(r"\\(?:bar|overline)\s?\{?\s?([A-Za-z])(?![A-Za-z])\s?\}?")
_PLAIN_SET = re.compile(
    r"(?<!\\)\{([^{}\\]*[,|:][^{}]*)\}"
)  # {1, 2}, which LaTeX takes for a group
_UNION = re.compile(r"(?<=[)\]])\s?(?:U|union)\s?(?=[(\[])")
_OPERATOR = re.compile(
    r"\\operatorname\*?\s?\{\s?((?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp|gcd|max|min)\s?\}"
)
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z()\[\]{}])")  # escaped once too often
_BINOMIAL = re.compile(r"\\[dt]?binom\s?(\d)\s?(\d)")


def tidy_formula(text: str) -> str:
    """The formula in one spelling, in LaTeX; rows end in `ROW`."""
    text = _without_html(text).strip().rstrip(".").strip()
    if "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    elif _ENVIRONMENT.search(text):
        text = _ENVIRONMENT.sub(" ", text).replace("&", " ")
    if not text.isascii():
        text = _GREEK.sub(lambda letter: f"\\{_GREEK_COMMANDS[letter[0]]} ", text)
        text = text.translate(_IN_FORMULAS)
    for other, one in _FORMULA_SPELLINGS:
        text = text.replace(other, one)
    if "**" in text:
        text = _RAISED.sub(_power, text).replace("**", "")
    text = _SPACES.sub(" ", _SILENT.sub(" ", _THIN_GROUP.sub("", text)))
    text = _in_one_spelling(text)
    for _ in range(_ROUNDS):
        before = text
        text = _WRAPPED_FORMULA.sub(r" \1 ", text)
        if text == before:
            break
    text = _REMARK.sub("", text)
    text = " ".join(text.split()).strip('`*_" ').rstrip(".").strip()
    return text[1:-1] if text.startswith("'") and text.endswith("'") else text.lstrip("'")


def _power(match: re.Match[str]) -> str:
    return f"^{{{match[1]}}}" if match[1] else "^"


def _in_one_spelling(text: str) -> str:
    for other, one in _COMMAND_SPELLINGS:
        text = text.replace(other, one)
    text = _BINOMIAL.sub(r"\\binom{\1}{\2}", _OVER.sub(r"\\frac{\1}{\2}", text))
    text = _OPERATOR.sub(r"\\\1 ", _UNION.sub(r" \\cup ", text))
    text = _BAR.sub(r"\\bar{\1}", text)
    plain_set = _PLAIN_SET.fullmatch(text.strip())
    if plain_set is not None:
        return rf"\{{{plain_set[1]}\}}"
    if _EMPTY_SET.fullmatch(text):
        return "\\emptyset"
    if _REAL_LINE.fullmatch(text):
        return "\\mathbb{R}"
    if _TRIGONOMETRIC.search(text):
        return _DEGREES.sub(r"{(\1 \\pi / 180)}", text)
    return _SEGMENT.sub(r"\1", text.strip())
