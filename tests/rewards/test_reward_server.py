"""A reward server that fails on a script: what is retried, what is missing, what gives up."""

import random
import time

import pytest

from rekindle.errors import ConfigError, ServerRefusedError, ServerUnavailableError
from rekindle.records import Problem, Score
from rekindle.rewards.reward_server import REWARD, RewardServer
from rekindle.servers.client import LONGEST_WAIT, Server
from scripted_server import server

ASKED = [(Problem(id=f"p{i}", prompt=f"{i}+1="), "7" * i) for i in range(5)]


def client(url, waits=None, batch=64, protocol="openrlhf", served=None, **settings):
    async def pause(seconds, stopped):
        if waits is not None:
            waits.append(seconds)

    asked = Server(REWARD, url, pause=pause, jitter=random.Random(0), **settings)
    return RewardServer(asked, protocol, served, batch)


def test_answers_come_in_order_over_several_requests():
    with server() as (url, seen):
        scores = client(url, batch=2).score(ASKED)
    assert [s.value for s in scores] == [4.0, 5.0, 6.0, 7.0, 8.0]
    assert seen[0] == {"query": ["0+1=", "1+1=7"], "prompts": ["0+1=", "1+1="]}
    assert len(seen) == 3


def test_classify_and_score_as_vllm_speaks_them():
    def classify(body):
        assert body["use_activation"] is False
        rows = [{"index": i, "probs": [float(len(t))]} for i, t in enumerate(body["input"])]
        return {"data": rows[::-1]}

    def score(body):
        texts = zip(body["text_1"], body["text_2"], strict=True)
        return {"data": [{"index": i, "score": len(a) - len(b)} for i, (a, b) in enumerate(texts)]}

    with server(answer=classify) as (url, seen):
        scores = client(url, protocol="classify", served="rm").score(ASKED)
        assert [s.value for s in scores] == [4.0, 5.0, 6.0, 7.0, 8.0]
        assert seen[0]["model"] == "rm"
    with server(answer=score) as (url, _):
        scores = client(url, protocol="score").score(ASKED)
        assert [s.value for s in scores] == [4.0, 3.0, 2.0, 1.0, 0.0]


@pytest.mark.parametrize("failure", [(429, {}), (500, {}), (503, {}), "hang", "hang up"])
def test_what_may_pass_is_tried_again(failure):
    waits = []
    with server([failure, failure]) as (url, seen):
        scores = client(url, waits, timeout=0.3).score(ASKED)
    assert [s.value for s in scores] == [4.0, 5.0, 6.0, 7.0, 8.0]
    assert len(seen) == 3
    assert 0.5 <= waits[0] <= 1.5  # backoff, with jitter
    assert 1.0 <= waits[1] <= 3.0


def test_retry_after_is_honoured_within_limits():
    waits = []
    script = [
        (429, {"Retry-After": "7"}),
        (429, {"Retry-After": "1e9"}),
        (503, {"Retry-After": "x"}),
    ]
    with server(script) as (url, _):
        client(url, waits).score(ASKED)
    assert waits[0] == 7.0
    assert waits[1] == LONGEST_WAIT
    assert waits[2] <= 6.0


def test_retry_after_may_be_a_date():
    from email.utils import formatdate

    waits = []
    with server([(429, {"Retry-After": formatdate(time.time() + 30)})]) as (url, _):
        client(url, waits).score(ASKED)
    assert 25 < waits[0] <= 30


def test_after_the_last_try_it_says_so():
    gives_up = pytest.raises(ServerUnavailableError, match="tried 4 times")
    with server([(503, {})] * 4) as (url, seen), gives_up as caught:
        client(url, retries=3).score(ASKED)
    assert len(seen) == 4
    assert "503" in str(caught.value)


def test_no_server_at_all():
    with server() as (url, _):
        pass
    with pytest.raises(ServerUnavailableError, match="returns no scores"):
        client(url, retries=1).score(ASKED)


def test_a_refused_request_is_not_repeated():
    gives_up = pytest.raises(ServerRefusedError, match="refuses")
    with server([(400, {})]) as (url, seen), gives_up:
        client(url).score(ASKED)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "bad", [b"<html>", b"[1, 2]", b'{"rewards": 3}', b"\xff\xfe", b'{"rewards": [1]}', b""]
)
def test_an_answer_that_makes_no_sense_is_never_a_score(bad):
    with server([lambda body: bad] * 2) as (url, _), pytest.raises(ServerUnavailableError):
        client(url, retries=1).score(ASKED)


def test_a_null_a_string_or_a_nan_is_missing_and_the_others_count():
    odd = b'{"rewards": [1, null, NaN, "0.5", [2.5]]}'
    with server([lambda body: odd]) as (url, _):
        scores = client(url).score(ASKED)
    assert [s.value for s in scores] == [1.0, None, None, None, 2.5]
    assert scores[1] == Score.missing("the reward server gave null")
    assert scores[3].reason == "the reward server gave a str for a number"


@pytest.mark.parametrize("value", [b"1" + b"0" * 400, b"1e999", b"true", b"{}", b"[1, 2]"])
def test_other_odd_values_are_missing(value):
    with server([lambda body: b'{"rewards": [%s]}' % value]) as (url, _):
        assert client(url).score(ASKED[:1])[0].value is None


def test_an_address_that_is_none():
    with pytest.raises(ConfigError, match="not an address"):
        Server(REWARD, "file:///etc/passwd")
