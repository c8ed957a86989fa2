"""Freed memory goes back to the system where glibc is; elsewhere nothing happens."""

import ctypes

from rekindle.ops import heap


def test_giving_the_heap_back_trims_all_of_it(monkeypatch):
    asked = []
    monkeypatch.setattr(heap, "_trim", lambda: asked.append)
    heap.release_heap()
    assert asked == [0]


def test_without_glibc_nothing_happens(monkeypatch):
    heap._trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    heap.release_heap()
    heap._trim.cache_clear()
