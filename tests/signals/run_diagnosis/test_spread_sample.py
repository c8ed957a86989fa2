"""A log whose texts are too many keeps some of them, evenly spread, and never more than it may."""

from itertools import pairwise

import pytest

from rekindle.signals.logs import collect as collecting
from rekindle.signals.logs.record import LogAbout, LoggedRow, Place
from signals.run_diagnosis.planted import Rows

ABOUT = LogAbout("planted", None, ())


def read(texts):
    rows = [
        LoggedRow(Place(0, n), step=1, prompt=str(n // 4), text=text, score=0.0)
        for n, text in enumerate(texts)
    ]
    return collecting.collect(Rows(ABOUT, rows))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(collecting, "KEPT_CHARS", 1000)
    monkeypatch.setattr(collecting, "SAMPLE", 10)


@pytest.mark.parametrize("count", [101, 150, 997, 4000])
def test_a_large_log_keeps_every_kth_answer(small, count):
    log = read([f"{n:010}" for n in range(count)])
    rows = list(log.sample)
    assert log.texts is None
    assert 9 <= len(rows) <= 20
    assert len({b - a for a, b in pairwise(rows)}) == 1
    assert rows[-1] > 0.8 * count
    assert all(log.sample[row] == f"{row:010}" for row in rows)
    assert list(log.spread_sample(5).values()) == [
        log.sample[r] for r in list(log.spread_sample(5))
    ]
    assert len(log.spread_sample(5)) <= 5


def test_a_small_log_keeps_all_and_samples_of_these(small):
    log = read([f"{n:010}" for n in range(100)])
    assert len(log.texts) == 100
    assert not log.sample
    assert list(log.spread_sample(10)) == list(range(0, 100, 10))
    assert len(log.spread_sample(1000)) == 100


def test_one_answer_longer_than_all_that_is_kept_ends(small):
    log = read(["x" * 5000, *["y"] * 50])
    assert log.texts is None
    assert list(log.sample) == [0]
