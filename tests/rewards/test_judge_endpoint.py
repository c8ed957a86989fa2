"""A judge behind an OpenAI-compatible address, and a server that fails on a script."""

import json
import random
import threading

import pytest

from rekindle.errors import (
    ConfigError,
    RunDirectoryError,
    ServerRefusedError,
    ServerUnavailableError,
)
from rekindle.records import Problem
from rekindle.rewards.judge import format_of
from rekindle.rewards.judge_endpoint import JUDGE, EndpointJudge, ReplyCache
from rekindle.servers.client import Server
from scripted_server import server

ASKED = [(Problem(id=f"p{i}", prompt=f"{i}?"), "yes" * (i + 1)) for i in range(6)]


def chat(text, finish="stop", tokens=3):
    def said(body):
        content = text(body) if callable(text) else text
        choice = {"message": {"content": content}, "finish_reason": finish}
        return {"choices": [choice], "usage": {"completion_tokens": tokens}}

    return said


def by_length(body):
    """The longer the answer the better: 0 to 5."""
    answer = body["messages"][1]["content"].split("<response>\n")[1].split("\n</response>")[0]
    return f"Fine.\nScore: {len(answer) // 3 - 1}"


def judge(url, place, waits=None, samples=1, **settings):
    async def pause(seconds, stopped):
        if waits is not None:
            waits.append(seconds)

    settings = {"parallel": 1, "backoff": 0.001, "retries": 6, "pause": pause, **settings}
    asked = Server(JUDGE, url.rsplit("/", 1)[0], jitter=random.Random(0), **settings)
    form = format_of("additive")
    return EndpointJudge(asked, model="m", format=form, cache=ReplyCache(place), samples=samples)


def test_judgements_come_in_order_and_each_sample_is_a_call_of_its_own(tmp_path):
    with server(answer=chat(by_length)) as (url, seen):
        found = judge(url, tmp_path / "c.jsonl", samples=2, parallel=4).judge(ASKED, seed=5)
    assert [one.score.value for one in found] == [0, 1, 2, 3, 4, 5]
    assert [len(one.marks) for one in found] == [2] * 6
    assert len(seen) == 12
    assert len({body["seed"] for body in seen}) == 2
    body = seen[0]
    assert body["model"] == "m"
    assert [m["role"] for m in body["messages"]] == ["system", "user"]


def test_nothing_is_asked_twice(tmp_path):
    with server(answer=chat(by_length)) as (url, seen):
        one = judge(url, tmp_path / "c.jsonl").judge(ASKED, seed=5)
        two = judge(url, tmp_path / "c.jsonl").judge(ASKED, seed=5)
    assert one == two
    assert len(seen) == 6


@pytest.mark.parametrize(
    "entry",
    [
        (429, {"Retry-After": "0"}),
        (500, {}),
        (503, {}),
        (408, {}),
        "hang up",
        lambda body: b"<html>busy</html>",
        lambda body: {"choices": []},
    ],
)
def test_what_may_pass_is_tried_again(tmp_path, entry):
    with server([entry, entry], answer=chat(by_length)) as (url, seen):
        found = judge(url, tmp_path / "c.jsonl").judge(ASKED[:2], seed=0)
    assert [one.score.value for one in found] == [0, 1]
    assert len(seen) == 4


def test_a_server_that_hangs_is_tried_again(tmp_path):
    with server(["hang"], answer=chat(by_length)) as (url, _):
        found = judge(url, tmp_path / "c.jsonl", timeout=0.2).judge(ASKED[:1], seed=0)
    assert found[0].score.value == 0


def test_waits_grow_carry_jitter_and_heed_the_server(tmp_path):
    waits = []
    script = [(500, {}), (500, {}), (429, {"Retry-After": "7"})]
    with server(script, answer=chat(by_length)) as (url, _):
        asked = judge(url, tmp_path / "c.jsonl", waits, backoff=1.0)
        asked.judge(ASKED[:1], seed=0)
    assert 0.5 <= waits[0] <= 1.5
    assert 1.0 <= waits[1] <= 3.0
    assert waits[2] == 7.0


def test_a_server_that_stays_away_loses_nothing_that_was_said(tmp_path):
    place = tmp_path / "c.jsonl"
    dead = [chat(by_length)] * 3 + [(503, {})] * 50
    gone = pytest.raises(ServerUnavailableError, match=r"tried 3 times(.|\n)*3 replies")
    with server(dead) as (url, seen), gone:
        judge(url, place, retries=2).judge(ASKED, seed=0)
    assert len(seen) == 6
    assert len(place.read_text().splitlines()) == 3


def test_after_an_error_no_call_begins_that_nobody_would_read(tmp_path, monkeypatch):
    asked = judge("http://x/y", tmp_path / "c.jsonl")

    def full(key, reply):
        raise RunDirectoryError("no space left")

    monkeypatch.setattr(asked.cache, "put", full)
    with server(answer=chat(by_length)) as (url, seen):
        asked.server.url = url.rsplit("/", 1)[0]
        with pytest.raises(RunDirectoryError):
            asked.judge(ASKED, seed=0)
    assert len(seen) == 1


def test_a_run_goes_on_with_what_it_has_paid_for(tmp_path):
    place = tmp_path / "c.jsonl"
    script = [chat(by_length)] * 4 + [(503, {})] * 3
    with server(script, answer=chat(by_length)) as (url, seen):
        with pytest.raises(ServerUnavailableError):
            judge(url, place, retries=2).judge(ASKED, seed=0)
        found = judge(url, place, retries=2).judge(ASKED, seed=0)
    assert [one.score.value for one in found] == [0, 1, 2, 3, 4, 5]
    assert len(seen) == 4 + 3 + 2


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("no number here", "stop", "no score"),
        ("Score: 2\nScore: 3", "stop", "two scores"),
        ("Score: 9", "stop", "out of range"),
        ("<html>", "stop", "HTML"),
        ("Because of its", "length", "cut off"),
        (None, "stop", "no score"),
    ],
)
def test_replies_that_cannot_be_read_are_missing_and_kept(tmp_path, text, finish, reason):
    with server(answer=chat(text, finish)) as (url, _):
        found = judge(url, tmp_path / "c.jsonl").judge(ASKED[:1], seed=0)
    assert found[0].score.value is None
    assert reason in str(found[0].score.reason)
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 1


def test_one_text_that_is_refused_is_missing_and_all_refused_is_an_error(tmp_path):
    with server([(400, {})], answer=chat(by_length)) as (url, _):
        found = judge(url, tmp_path / "c.jsonl").judge(ASKED[:3], seed=0)
    assert [one.score.value for one in found] == [None, 1, 2]
    assert "refused" in str(found[0].score.reason)
    refused = pytest.raises(ServerRefusedError, match="refuses the request")
    with server([(400, {})] * 9) as (url, _), refused:
        judge(url, tmp_path / "d.jsonl").judge(ASKED[:3], seed=0)


def test_a_text_that_is_refused_again_does_not_end_a_run_that_goes_on(tmp_path):
    """It is all that is left to ask: the others were answered before a kill."""
    with server([chat(by_length)] * 2, answer=(400, {})) as (url, seen):
        asked = judge(url, tmp_path / "c.jsonl")
        asked.judge(ASKED[:2], seed=0)
        found = asked.judge(ASKED[:3], seed=0)
    assert [one.score.value for one in found] == [0, 1, None]
    assert len(seen) == 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_address_or_key_is_not_tried_again(tmp_path, status):
    refused = pytest.raises(ServerRefusedError, match=f"HTTP {status}")
    with server([(status, {})] * 9) as (url, seen), refused:
        judge(url, tmp_path / "c.jsonl").judge(ASKED[:1], seed=0)
    assert len(seen) == 1


def test_a_torn_line_is_asked_again_and_a_damaged_one_is_not_trusted(tmp_path):
    place = tmp_path / "c.jsonl"
    with server(answer=chat(by_length)) as (url, seen):
        judge(url, place).judge(ASKED[:3], seed=0)
        lines = place.read_text().splitlines()
        place.write_text(lines[0] + "\n" + '{"key": 1}\n' + lines[2][:20])
        found = judge(url, place).judge(ASKED[:3], seed=0)
    assert [one.score.value for one in found] == [0, 1, 2]
    assert len(seen) == 5
    assert all(json.loads(line) for line in place.read_text().splitlines())


def test_the_key_is_sent_and_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-123")
    headers = []
    with server(answer=chat(by_length), headers=headers) as (url, _):
        asked = judge(url, tmp_path / "c.jsonl", key_env="MY_KEY")
        asked.judge(ASKED[:1], seed=0)
    assert [sent["Authorization"] for sent in headers] == ["Bearer secret-123"]
    assert "secret-123" not in (tmp_path / "c.jsonl").read_text() + asked.fingerprint()


def test_a_key_that_the_judge_repeats_is_masked_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-123")
    with server(answer=chat("Your key is secret-123.\nScore: 3")) as (url, _):
        found = judge(url, tmp_path / "c.jsonl", key_env="MY_KEY").judge(ASKED[:1], seed=0)
    assert found[0].replies == ("Your key is ***.\nScore: 3",)
    assert "secret-123" not in (tmp_path / "c.jsonl").read_text()


@pytest.mark.parametrize(
    "body",
    [
        *(b"[]", b"7", b'{"choices": {}}', b'{"choices": [{"message": 1}]}', b'{"choices": [[]]}'),
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": Infinity}}',
    ],
)
def test_what_is_no_chat_completion_is_asked_for_again_and_then_ends(tmp_path, body):
    with server([lambda _: body], answer=chat(by_length)) as (url, seen):
        judge(url, tmp_path / "c.jsonl").judge(ASKED[:1], seed=0)
        assert len(seen) == 2
    ends = pytest.raises(ServerUnavailableError, match="no chat completion")
    with server(answer=lambda _: body) as (url, seen), ends:
        judge(url, tmp_path / "d.jsonl", retries=2).judge(ASKED[:1], seed=0)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"url": "localhost:8000"}, "not an address"), ({"key_env": "NOT_SET_KEY"}, "is not set")],
)
def test_settings_that_cannot_work_are_refused_at_once(settings, words):
    with pytest.raises(ConfigError, match=words):
        Server(JUDGE, **{"url": "http://x", **settings})


def test_calls_run_side_by_side(tmp_path):
    """Nobody is answered before all six have asked."""
    meeting = threading.Barrier(6, timeout=60)

    def together(body):
        meeting.wait()
        return chat(by_length)(body)

    with server(answer=together) as (url, seen):
        judge(url, tmp_path / "c.jsonl", parallel=6).judge(ASKED, seed=0)
    assert len(seen) == 6
