"""A judge behind an OpenAI-compatible address, and a server that fails on a script."""

import json
import random
import re
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

MAX = "max_completion_tokens"
KEY = "c8497ee94d7e8cb9d0947344c2eccaa524c407cedc64372236556d995f7a1596"
FINGERPRINT = "9c9e4854f441b798cdd8e3f2f6c9a6af89433992c69f31c2fb718aef2b78cbae"
ASKED = [(Problem(id=f"p{i}", prompt=f"{i}?"), "yes" * (i + 1)) for i in range(6)]


def chat(text, finish="stop", tokens=3, **more):
    def said(body):
        content = text(body) if callable(text) else text
        choice = {"message": {"content": content, **more}, "finish_reason": finish}
        return {"choices": [choice], "usage": {"completion_tokens": tokens}}

    return said


def by_length(body):
    """The longer the answer the better: 0 to 5."""
    answer = body["messages"][1]["content"].split("<response>\n")[1].split("\n</response>")[0]
    return f"Fine.\nScore: {len(answer) // 3 - 1}"


def judge(url, place, waits=None, samples=1, how=None, **settings):
    async def pause(seconds, stopped):
        if waits is not None:
            waits.append(seconds)

    settings = {"parallel": 1, "backoff": 0.001, "retries": 6, "pause": pause, **settings}
    asked = Server(JUDGE, url.rsplit("/", 1)[0], jitter=random.Random(0), **settings)
    form = format_of("additive")
    cache = ReplyCache(place)
    return EndpointJudge(asked, model="m", format=form, cache=cache, samples=samples, **(how or {}))


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


# --- how a reply ended


def told(place, reply):
    """The judgement of a reply, and how often the server was asked."""
    with server(answer=reply) as (url, seen):
        (found,) = judge(url, place, retries=2).judge(ASKED[:1], seed=0)
    return found.score, len(seen)


@pytest.mark.parametrize(
    "finish", ["stop", "STOP", "end_turn", "eos", "FINISH_REASON_STOP", "stop_sequence", None, ""]
)
def test_a_reply_that_ended_by_itself_counts(tmp_path, finish):
    assert told(tmp_path / "c.jsonl", chat("Score: 4", finish))[0].value == 4


@pytest.mark.parametrize(
    "finish",
    [
        *("length", "max_tokens", "MAX_TOKENS", "maxTokens", "model_length", "max_output_tokens"),
        *("FINISH_REASON_MAX_TOKENS", "model_context_window_exceeded", "error", "abort", "no idea"),
    ],
)
def test_a_reply_that_was_cut_off_counts_only_where_its_score_is_complete(tmp_path, finish):
    score, asked = told(tmp_path / "a.jsonl", chat("Score: 4", finish))
    assert "cut off in the score" in str(score.reason)
    assert "cut off before" in str(told(tmp_path / "b.jsonl", chat("It is", finish))[0].reason)
    assert told(tmp_path / "c.jsonl", chat("Score: 4\nsince", finish))[0].value == 4
    nothing, _ = told(tmp_path / "d.jsonl", chat(None, finish, reasoning_content="Score: 2"))
    assert "cut off before" in str(nothing.reason)
    assert asked == 1


@pytest.mark.parametrize(
    "finish",
    [
        *("content_filter", "contentFilter", "SAFETY", "RECITATION", "refusal", "tool_calls"),
        *("function_call", "tool_use", "PROHIBITED_CONTENT", "MALFORMED_FUNCTION_CALL"),
    ],
)
@pytest.mark.parametrize("text", ["Score: 4\n", None])
def test_a_reply_that_a_filter_or_a_call_ended_is_no_judgement(tmp_path, finish, text):
    score, asked = told(tmp_path / "c.jsonl", chat(text, finish))
    assert score.value is None
    assert finish in str(score.reason)
    assert asked == 1


# --- what is in a message


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Score: 1"}]},
    {"type": "text", "text": "Fine.\nScore: "},
    {"type": "image_url", "image_url": {"url": "Score: 2"}},
    {"type": "text", "text": "4"},
]


@pytest.mark.parametrize(
    "content", [PARTS, PARTS[1:], [{"text": "Score: 4"}], ["Score: 4"], {"text": "Score: 4"}]
)
def test_the_texts_of_parts_are_one_text(tmp_path, content):
    assert told(tmp_path / "c.jsonl", chat(content))[0].value == 4


def test_reasoning_beside_the_content_is_not_read(tmp_path):
    reply = chat("Score: 4", reasoning_content="Score: 1", reasoning="Score: 2")
    assert told(tmp_path / "c.jsonl", reply)[0].value == 4


@pytest.mark.parametrize(
    "reply",
    [
        chat(None, refusal="I cannot judge this."),
        chat([{"type": "refusal", "refusal": "I cannot judge this."}]),
    ],
)
def test_a_refusal_is_a_reason_and_is_not_asked_again(tmp_path, reply):
    score, asked = told(tmp_path / "c.jsonl", reply)
    assert score.reason == "the judge refused: I cannot judge this."
    assert asked == 1


@pytest.mark.parametrize("content", [None, [], PARTS[:1]])
def test_a_reply_without_a_text_is_asked_again(tmp_path, content):
    nothing = chat(content, reasoning_content="Score: 1")
    with server([nothing, nothing], answer=chat(by_length)) as (url, seen):
        found = judge(url, tmp_path / "c.jsonl", retries=2).judge(ASKED[:2], seed=0)
    assert [one.score.value for one in found] == [0, 1]
    assert len(seen) == 4


def test_a_judge_that_stays_without_a_text_is_missing_and_ends_no_run(tmp_path):
    """It is written down, so that a resumed run does not ask it again."""
    with server([chat(None)] * 3, answer=chat(by_length)) as (url, seen):
        for _ in range(2):
            found = judge(url, tmp_path / "c.jsonl", retries=2).judge(ASKED[:3], seed=0)
    assert [one.score.value for one in found] == [None, 1, 2]
    assert found[0].score.reason == "no score: the reply has no text"
    assert len(seen) == 3 + 2


def test_a_server_that_fails_while_it_has_no_text_is_away(tmp_path):
    with (
        server([chat(None), chat(None), (503, {})]) as (url, _),
        pytest.raises(ServerUnavailableError, match="HTTP 503"),
    ):
        judge(url, tmp_path / "c.jsonl", retries=2).judge(ASKED[:1], seed=0)


@pytest.mark.parametrize(
    "content", [4, True, [4], [{"type": "text"}], [{"type": "text", "text": 4}]]
)
def test_a_content_that_is_no_text_is_no_chat_completion(tmp_path, content):
    with (
        server(answer=chat(content)) as (url, seen),
        pytest.raises(ServerUnavailableError, match="no chat completion"),
    ):
        judge(url, tmp_path / "c.jsonl", retries=1).judge(ASKED[:1], seed=0)
    assert len(seen) == 2


def test_replies_that_were_written_before_are_read(tmp_path):
    """Lines of runs before `unusable` was there, under the keys that they have."""
    place = tmp_path / "c.jsonl"
    with server(answer=chat(by_length)) as (url, _):
        judge(url, place).judge(ASKED[:1], seed=0)
        row = json.loads(place.read_text())
        assert set(row) == {"key", "text", "cut", "tokens"}
        assert judge(url, place).judge(ASKED[:1], seed=0)[0].score.value == 0


def test_the_key_and_the_hash_of_a_judge_that_is_asked_as_ever_stay(tmp_path):
    """Recorded before the request had settings: replies that were paid for are found again."""
    asked = judge("http://judge.test/v1/x", tmp_path / "c.jsonl")
    assert asked._call_of(*ASKED[0], 7)[0] == KEY
    assert asked.fingerprint() == FINGERPRINT


# --- what is sent


@pytest.mark.parametrize(
    ("how", "lacks", "has"),
    [
        ({}, "max_completion_tokens", {"max_tokens": 512, "seed": 0}),
        (
            {"max_tokens_field": "max_completion_tokens"},
            "max_tokens",
            {"max_completion_tokens": 512, "seed": 0},
        ),
        ({"max_tokens_field": "none"}, "max_tokens", {"seed": 0}),
        ({"send_seed": False}, "seed", {"max_tokens": 512}),
    ],
)
def test_what_a_server_does_not_take_is_not_sent(tmp_path, how, lacks, has):
    with server(answer=chat(by_length)) as (url, seen):
        judge(url, tmp_path / "c.jsonl", how=how).judge(ASKED[:1], seed=0)
    assert lacks not in seen[0]
    assert has.items() <= seen[0].items()


def test_the_system_message_can_have_another_role_or_stand_before_the_users(tmp_path):
    roles = {}
    for role in ("system", "developer", "user"):
        with server(answer=chat("Score: 3")) as (url, seen):
            judge(url, tmp_path / role, how={"system_role": role}).judge(ASKED[:1], seed=0)
        roles[role] = [turn["role"] for turn in seen[0]["messages"]]
        texts = [turn["content"] for turn in seen[0]["messages"]]
        assert texts[0].startswith("You judge answers")
        assert "<response>\nyes\n</response>" in texts[-1]
    assert roles == {
        "system": ["system", "user"],
        "developer": ["developer", "user"],
        "user": ["user"],
    }


def test_without_a_seed_each_sample_is_a_call_of_its_own(tmp_path):
    with server(answer=chat(by_length)) as (url, seen):
        asked = judge(url, tmp_path / "c.jsonl", samples=3, how={"send_seed": False})
        assert len(asked.judge(ASKED[:1], seed=0)[0].marks) == 3
        asked.judge(ASKED[:1], seed=0)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("words", "how", "setting"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", {}, MAX),
        (
            "unknown field max_completion_tokens",
            {"max_tokens_field": MAX},
            "max_tokens_field: max_t",
        ),
        (
            '{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}',
            {},
            "send_seed: false",
        ),
        ("System role not supported", {}, "system_role: user"),
        ("Conversation roles must alternate", {}, "system_role: user"),
        ("the maximum context length is 10; max_tokens is 512", {}, "check judge.url"),
        ("bad request", {}, "judge.max_tokens_field, judge.send_seed and judge.system_role"),
    ],
)
def test_a_refusal_says_which_setting_to_change(tmp_path, monkeypatch, words, how, setting):
    asked = judge("http://judge.test/v1/x", tmp_path / "c.jsonl", how=how)

    def refuses(bodies, *, refuse, **_):
        return [refuse(i, f"HTTP 400: {words}") for i in range(len(bodies))]

    monkeypatch.setattr(asked.server, "post_all", refuses)
    with pytest.raises(ServerRefusedError, match=rf"do: .*{re.escape(setting)}"):
        asked.judge(ASKED[:2], seed=0)
