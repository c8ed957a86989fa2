#!/usr/bin/env bash
# math-verify 0.9.0 (with latex2sympy2-extended 1.11.0) takes letters at the end of a product for units and drops them, so that
# other products are equal to what is left of them.
#
# Guess: parse(r"\boxed{3ab}") is 3*a*b, and verify says that it is not 3.
# Seen:  3ab is read as 3, 2ab as 2 and 12 t as 12; 2 v m is read as 2*v and m g h as m. The verdict for the gold 3 is True.
#        6abc and 9cd are read whole: it depends on which letters stand last.
# Why:   the default LatexExtractionConfig normalises with units=True, whose pattern has single letters and words such as "a b".
# Source: math_verify/parser.py (LatexExtractionConfig), latex2sympy2_extended/math_normalization.py (units_regex).
# With NormalizationConfig(units=False) all of them are read whole.
#
# Fails when the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "math-verify==0.9.0" "latex2sympy2-extended==1.11.0" "sympy==1.14.0" "antlr4-python3-runtime==4.13.2"
"$place/venv/bin/python" - <<'PYTHON'
from latex2sympy2_extended.math_normalization import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

READ = {"3ab": "3", "2ab": "2", "12 t": "12", "2 v m": "2*v", "m g h": "m", "6abc": "6*a*b*c", "9cd": "9*c*d"}
seen = {text: str(parse(rf"\boxed{{{text}}}")[0]) for text in READ}
for text, value in seen.items():
    print(f"{text:8} read as {value}")
verdict = verify(parse("$3$"), parse(r"\boxed{3ab}"))
print(f"gold 3, answer 3ab: {verdict}")
whole = [LatexExtractionConfig(normalization_config=NormalizationConfig(units=False, malformed_operators=True, nits=True))]
kept = str(parse(r"\boxed{3ab}", whole)[0])
print(f"3ab without units: {kept}")
assert seen == READ, seen
assert verdict is True
assert kept == "3*a*b"
print("as it was")
PYTHON
