"""temporary"""

import math


def holm(p):
    """Holm."""
    idx = [i for i, x in enumerate(p) if x is not None and not math.isnan(x)]
    out = [None] * len(p)
    m = len(idx)
    top = 0.0
    for k, i in enumerate(sorted(idx, key=lambda i: p[i])):
        top = max(top, min(1.0, (m - k) * p[i]))
        out[i] = top
    return out
