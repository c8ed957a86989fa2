"""Weak-to-strong reasoning: `weak_to_strong.py` has the paper, the rest is what only it needs."""
