#!/usr/bin/env bash
# transformers 5.23.0: apply_chat_template turns every extra argument into plain data before the template sees it. A function that is
# meant to stand for one of the template's own (strftime_now, the clock of Llama's templates) arrives as the text "<function>".
#
# Guess: apply_chat_template(..., strftime_now=lambda form: "1 Jan 2025") fixes the date of a template that calls strftime_now(form).
# Seen:  the template fails with "'str' object is not callable".
# What works: a macro of that name in front of the template's text.
# Source: transformers/tokenization_utils_base.py and utils/chat_template_utils.py of the installed package.
#
# Fails when the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "transformers==5.23.0" "jinja2==3.1.6"
"$place/venv/bin/python" - 2> /dev/null <<'PYTHON'
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")))
DATED = "{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"
turns = [{"role": "user", "content": "hi"}]


def render(template: str, **extra: object) -> str:
    try:
        return tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, **extra)
    except TypeError as error:
        return f"TypeError: {error}"


given = render(DATED, strftime_now=lambda form: "1 Jan 2025")
macro = render("{% macro strftime_now(form) %}1 Jan 2025{% endmacro %}" + DATED)
seen = render("{{ probe }}", probe=lambda form: "x")
print(f"a function given: {given}")
print(f"what a function arrives as: {seen}")
print(f"a macro in front: {macro}")
assert given == "TypeError: 'str' object is not callable"
assert macro == "1 Jan 2025: hi"
print("as it was")
PYTHON
