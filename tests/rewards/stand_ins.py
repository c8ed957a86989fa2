"""Verifiers for tests of the pool: what a text says is done instead of what a library might do.

math-verify 0.9 (with latex2sympy2-extended 1.11) never returns from towers of powers, whatever time
limit it is given, and fills the memory on powers whose exponent is itself a large power. No such
input stands in a file here.
"""

import os
import time

from rekindle.records import Score


def hostile(gold, text, settings):
    """1 where the text is the gold; `loop`, `sleep`, `fill`, `exit`, `nest`, `raise` are done."""
    if text == "loop":
        while True:
            pass
    if text == "sleep":
        time.sleep(3600)
    if text == "fill":
        return Score(float(len(bytearray(2**34))))
    if text == "exit":
        os._exit(3)
    if text == "nest":
        return hostile(gold, text, settings)
    if text == "raise":
        raise ZeroDivisionError(text)
    return Score(float(gold == text))
