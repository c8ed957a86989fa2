"""WMSS: `wmss.py` has the paper, the rest is what only it needs."""
