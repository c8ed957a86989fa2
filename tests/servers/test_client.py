"""The client of servers: what is tried again, what ends at once, and in what bounds."""

import asyncio
import gzip
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from email.utils import formatdate
from pathlib import Path

import pytest

from rekindle.errors import (
    ConfigError,
    RunDirectoryError,
    ServerRefusedError,
    ServerUnavailableError,
)
from rekindle.servers.client import LONGEST_WAIT, Role, Server
from rekindle.servers.replies import UnreadableError, retry_after
from socket_server import dripping, reply, speaking

ROLE = Role("the oracle", "omen", "oracle", "oracle.url and oracle.key_env")
FINE = reply(b'{"is": "fine"}')


async def no_pause(seconds, stopped):
    """Between two tries no time passes."""


def post(url, bodies=(b"{}",), read=lambda i, tree: tree, **settings):
    fixed = {"timeout": 20, "retries": 1, "pause": no_pause, "jitter": random.Random(0)}
    server = Server(ROLE, url, **{**fixed, **settings})

    def refuse(i, why):
        raise server.refusal(why)

    return server.post_all(list(bodies), read=read, refuse=refuse)


def unavailable(match):
    return pytest.raises(ServerUnavailableError, match=match)


def refused(match):
    return pytest.raises(ServerRefusedError, match=match)


# --- a deadline for the whole request

HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "nothing": dripping(b"", b""),
    "status": dripping(b"HTTP/1.1 2", b"0"),
    "headers": dripping(HEAD, b"X-More: 1\r\n"),
    "early hints": dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "body": dripping(HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "chunks": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("talk", DRIPS.values(), ids=DRIPS)
def test_a_server_that_drips_ends_at_the_deadline(talk):
    """Each byte comes well within the time that a limit per read would give it."""
    began = time.monotonic()
    with speaking(talk) as (url, seen), unavailable("no complete reply within 0.3 s.*tried 1 time"):
        post(url, timeout=0.3, retries=0)
    assert time.monotonic() - began < 3
    assert len(seen) == 1


def test_a_server_that_is_slow_once_is_asked_again():
    with speaking(DRIPS["body"], FINE) as (url, seen):
        assert post(url, timeout=0.3) == [{"is": "fine"}]
    assert len(seen) == 2


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found"])
def test_the_words_of_a_refusal_are_not_waited_for(status):
    drip = dripping(f"HTTP/1.1 {status}\r\nContent-Length: 99999\r\n\r\n".encode(), b"x")
    with speaking(drip) as (url, seen), refused(f"HTTP {status[:3]}"):
        post(url, timeout=1.0)
    assert len(seen) == 1


# --- sizes

LIMIT = 20_000


def chunks(pieces):
    def talk(send, closing, request):
        send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while send(b"%x\r\n%s\r\n" % (len(pieces), pieces)) and not closing.is_set():
            pass

    return talk


BOMB = zlib.compress(bytes(64 * 2**20))  # 64 kB
LARGE = {
    "length": reply(b'"' + b"a" * LIMIT + b'"'),
    "chunks without end": chunks(b" " * 10_000),
    "gzip": reply(gzip.compress(b" " * LIMIT + b"{}"), Content_Encoding="gzip"),
    "a bomb": reply(BOMB, Content_Encoding="deflate"),
}


@pytest.mark.parametrize("talk", LARGE.values(), ids=LARGE)
def test_a_reply_over_the_limit_is_not_read(talk):
    with speaking(talk) as (url, _), unavailable(f"more than {LIMIT:,} bytes"):
        post(url, largest=LIMIT)


def test_a_reply_of_the_limit_is_read_also_compressed():
    body = b'"' + b"a" * (LIMIT - 2) + b'"'
    for whole in (
        reply(body),
        reply(gzip.compress(body), Content_Encoding="gzip"),
        reply(zlib.compress(body), Content_Encoding="deflate"),
    ):
        with speaking(whole) as (url, _):
            assert post(url, largest=LIMIT) == [json.loads(body)]


def test_a_bomb_takes_no_memory():
    with speaking(LARGE["a bomb"]) as (url, _):
        tracemalloc.start()
        with unavailable("more than"):
            post(url, largest=LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20  # of 64


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd", "x" * 500])
def test_a_coding_that_was_not_asked_for_is_not_unpacked(coding):
    with (
        speaking(reply(b"{}", Content_Encoding=coding)) as (url, seen),
        unavailable(f"the coding '{coding[:40]}'"),
    ):
        post(url)
    assert "accept-encoding: identity" in seen[0].lower()


@pytest.mark.parametrize("status", ["500 Oops", "404 Not Found"])
def test_of_an_errors_text_the_beginning_is_read(status):
    talk = dripping(f"HTTP/1.1 {status}\r\n\r\n".encode(), b"so long " * 1000, pause=0)
    began = time.monotonic()
    with speaking(talk) as (url, _), pytest.raises((ServerUnavailableError, ServerRefusedError)):
        post(url, retries=0)
    assert time.monotonic() - began < 2


# --- what a reply is

BROKEN = {
    "half a JSON": (reply(b'{"is": '), "no JSON"),
    "HTML": (reply(b"<html>busy</html>"), "no JSON: <html>busy"),
    "nothing": (reply(b""), "no JSON"),
    "not UTF-8": (reply(b'"\xff\xfe"'), "no JSON"),
    "a number without end": (reply(b"1" * 10_000), "no JSON"),
    "deep": (reply(b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
    "deep objects": (reply(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "nested too deeply"),
    "half a body": (HEAD + b"Content-Length: 100\r\n\r\n{}", "without sending complete|incomplete"),
    "half of gzip": (reply(gzip.compress(b"{}")[:-9], Content_Encoding="gzip"), "ends early"),
    "no gzip": (reply(b"{}", Content_Encoding="gzip"), "cannot be decompressed"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "RemoteProtocolError"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x28", "RemoteProtocolError"),
    "closed": (b"", "RemoteProtocolError|ReadError"),
}


@pytest.mark.parametrize(("talk", "words"), BROKEN.values(), ids=BROKEN)
def test_a_reply_that_cannot_be_read_is_asked_for_again_and_then_ends_clearly(talk, words):
    with speaking(talk, FINE) as (url, seen):
        assert post(url) == [{"is": "fine"}]
    assert len(seen) == 2
    with speaking(talk) as (url, seen), unavailable(f"returns no omen(.|\n)*({words})") as caught:
        post(url, retries=2)
    assert len(seen) == 3
    assert "tried 3 times" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_reply_of_another_shape_is_asked_for_again():
    def read(i, tree):
        if "is" not in tree:
            raise UnreadableError("no omen in it")
        return tree["is"]

    with speaking(reply(b'{"isnt": 1}'), FINE) as (url, seen):
        assert post(url, read=read) == ["fine"]
    with speaking(reply(b'{"isnt": 1}')) as (url, _), unavailable('no omen in it: {"isnt": 1}'):
        post(url, read=read)
    assert len(seen) == 2


def test_a_connection_that_is_reset_in_the_body_is_asked_for_again():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for talk in (HEAD + b"Content-Length: 100\r\n\r\n{", FINE):
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(talk)
                if talk != FINE:
                    connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                connection.close()

        serving = threading.Thread(target=serve)
        serving.start()
        assert post(f"http://127.0.0.1:{listener.getsockname()[1]}") == [{"is": "fine"}]
        serving.join()


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"http://localhost:{port}", f"http://[::1]:{port}"):
        with unavailable("ConnectError"):
            post(url)


def test_a_name_that_nobody_knows(monkeypatch):
    def unknown(*args, **settings):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with unavailable("Name or service not known"):
        post("http://nobody.invalid/v1")


def test_tls_to_a_plain_port():
    with speaking(FINE) as (url, _), unavailable("SSL"):
        post(url.replace("http:", "https:"))


def test_a_server_that_is_silent_where_tls_begins_ends_and_no_connection_stays_open():
    closed = threading.Event()

    def serve():
        connection, _ = listener.accept()
        with connection:
            while connection.recv(65536):
                pass
        closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        with unavailable("no connection within 0.1 s"):
            post(f"https://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2, retries=0)
        assert closed.wait(20)
        serving.join()


# --- statuses


def status(code, text=b"", **headers):
    return reply(text, f"{code} Because", **headers)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 501, 502, 503, 504, 529, 599])
def test_statuses_that_may_pass_are_tried_again(code):
    with speaking(status(code), status(code), FINE) as (url, seen):
        assert post(url, retries=2) == [{"is": "fine"}]
    assert len(seen) == 3
    with speaking(status(code, b"too busy")) as (url, _), unavailable(f"HTTP {code}: too busy"):
        post(url)


@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 405, 409, 410, 413, 422, 451, 499])
def test_other_statuses_end_at_once(code):
    with speaking(status(code, b"no\x1b[2J way")) as (url, seen):
        with refused(f"HTTP {code}: no .2J way") as caught:
            post(url)
        assert len(seen) == 1
    assert "\x1b" not in str(caught.value)
    assert "oracle.key_env" in str(caught.value)


QUOTA = [
    {"error": {"code": "insufficient_quota", "type": "x"}},
    {"error": {"code": None, "type": "insufficient_quota"}},
    {"error": {"code": "billing_hard_limit_reached"}},
    {"error": {"type": "billing_not_active", "code": 429}},
    {"code": "insufficient_balance", "message": "pay"},
]


@pytest.mark.parametrize("tree", QUOTA)
@pytest.mark.parametrize("code", [429, 400, 403, 503])
def test_an_exhausted_quota_ends_at_once(tree, code):
    body = json.dumps(tree).encode()
    with speaking(status(code, body)) as (url, seen), refused("quota is exhausted"):
        post(url)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"code": "rate_limit_exceeded", "message": "insufficient_quota? no"}}',
        b'{"error": "insufficient_quota"}',
        b'["insufficient_quota"]',
        b"insufficient_quota",
        b'{"error": {"code": ["insufficient_quota"]}}',
        b"[" * 10_000,
    ],
)
def test_a_rate_limit_is_no_exhausted_quota(body):
    with speaking(status(429, body), FINE) as (url, _):
        assert post(url) == [{"is": "fine"}]


REDIRECTS = [
    ("https://evil.example/steal?key=1", "https://evil.example,"),
    ("https://me:pw@evil.example:81/steal#x", "https://evil.example,"),
    ("//evil.example/x", "http://evil.example,"),
    ("/elsewhere?token=1", "http://127.0.0.1,"),
    ("file:///etc/passwd", "file://,"),
    ("ftp://evil.example/x", "ftp://evil.example,"),
    ("http://[::1", "what is no address,"),
    ("http://" + "a" * 5000, "http://" + "a" * 100 + ","),
]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("target", "named"), REDIRECTS)
def test_a_redirect_is_not_followed_and_named_by_scheme_and_host(target, named, code):
    with speaking(status(code, Location=target)) as (url, seen):
        with refused(f"HTTP {code}: a redirect to ") as caught:
            post(url)
        assert len(seen) == 1
    assert f"a redirect to {named} not followed" in str(caught.value)
    for secret in ("steal", "key=1", "pw", "elsewhere", "token", "passwd"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("code", [300, 304, 305, 399])
def test_a_redirect_to_nowhere_ends_at_once_too(code):
    with speaking(status(code)) as (url, _), refused("a redirect to nowhere, not followed"):
        post(url)


# --- waiting


def waits_of(*headers, backoff=1.0):
    waits = []

    async def pause(seconds, stopped):
        waits.append(seconds)

    with speaking(*[status(503, **each) for each in headers], FINE) as (url, _):
        post(url, retries=len(headers), backoff=backoff, pause=pause)
    return waits


def test_waits_double_carry_jitter_and_are_capped():
    waits = waits_of(*[{}] * 12)
    for k, seconds in enumerate(waits):
        assert min(0.5 * 2**k, LONGEST_WAIT) <= seconds <= min(1.5 * 2**k, LONGEST_WAIT)
    assert waits[-1] == LONGEST_WAIT
    assert len({seconds / 2**k for k, seconds in enumerate(waits[:6])}) == 6


def test_what_the_server_asks_for_is_the_least_and_capped():
    waits = waits_of({"Retry_After": "7"}, {"Retry_After": "1e9"}, {"Retry_After": "0"})
    assert waits[0] == 7
    assert waits[1] == LONGEST_WAIT
    assert 2 <= waits[2] <= 6


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_retry_after_in_every_form_of_a_date(monkeypatch, zone):
    """RFC 9110, 5.6.7: all three are of Greenwich, whatever this machine's clock shows."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        then = time.time() + 50
        at = time.gmtime(then)
        for form in (
            formatdate(then, usegmt=True),
            time.strftime("%A, %d-%b-%y %H:%M:%S GMT", at),
            time.strftime("%a %b %e %H:%M:%S %Y", at),
        ):
            assert 48 < retry_after(form) <= 50
        assert retry_after(formatdate(then - 100, usegmt=True)) == 0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", " ", "soon", "nan", "inf", "-5", "0x10", "Sun", "99 Foo 99999", "12:", ", , ,"),
        *("Mon, 32 Jan 2040", "Sun, 06 Nov 999999 08:49:37 GMT", "\x00", "Sun Nov  6 08:49:37"),
    ],
)
def test_a_retry_after_that_says_nothing_is_no_wait(text):
    assert retry_after(text) == 0


def test_a_pause_ends_when_another_request_has_failed():
    """One waits for a minute, as the server asks; the other is refused a moment later."""
    first = threading.Event()

    def busy(send, closing, request):
        send(status(503, Retry_After="60"))
        first.set()

    def no(send, closing, request):
        first.wait(20)
        send(status(401))

    began = time.monotonic()
    server = Server(ROLE, "http://x", parallel=2, retries=3)
    with speaking(busy, no) as (url, seen), refused("HTTP 401"):
        server.url = url
        server.post_all([b"1", b"2"], read=lambda i, tree: tree, refuse=lambda i, why: why)
    assert time.monotonic() - began < 10
    assert len(seen) == 2


# --- many requests


def test_at_most_so_many_at_a_time_and_all_of_them():
    lock, under_way, most = threading.Lock(), 0, 0
    meeting = threading.Barrier(3, timeout=20)

    def talk(send, closing, request):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        meeting.wait()
        closing.wait(0.05)  # for one too many to come
        with lock:
            under_way -= 1
        send(reply(request.partition(b"\r\n\r\n")[2]))

    with speaking(talk) as (url, seen):
        assert post(url, [b"%d" % i for i in range(12)], parallel=3) == list(range(12))
    assert (most, len(seen)) == (3, 12)


def test_after_a_failure_none_begins_and_what_is_under_way_is_read():
    failed, came = threading.Event(), []

    def slow(send, closing, request):
        failed.wait(20)
        send(FINE)

    def refuse(i, why):
        failed.set()
        raise RunDirectoryError(why)

    with speaking(slow, status(400), FINE) as (url, seen):
        server = Server(ROLE, url, parallel=2)
        with pytest.raises(RunDirectoryError, match="HTTP 400"):
            server.post_all([b"{}"] * 9, read=lambda i, tree: came.append(tree), refuse=refuse)
    assert (len(seen), came) == (2, [{"is": "fine"}])


def test_a_reply_that_cannot_be_kept_ends_the_rest():
    def full(i, tree):
        raise RunDirectoryError("no space left")

    with speaking(FINE) as (url, seen), pytest.raises(RunDirectoryError, match="no space left"):
        post(url, [b"{}"] * 5, read=full)
    assert len(seen) == 1


def test_no_requests_at_all():
    assert post("http://nobody.invalid", []) == []


def test_where_a_loop_runs_already():
    """As in a notebook's cell."""

    async def cell():
        with speaking(FINE) as (url, _):
            return post(url)

    assert asyncio.run(cell()) == [{"is": "fine"}]


def test_a_query_stays_behind_the_path():
    with speaking(FINE) as (url, seen):
        server = Server(ROLE, f"{url}/?api-version=2")
        server.post_all([b"{}"], path="/chat", read=lambda i, t: t, refuse=lambda i, why: why)
    assert seen[0].startswith("POST /v1/chat?api-version=2 HTTP/1.1")


# --- Ctrl-C

INTERRUPTED = """
import sys
from pathlib import Path
from rekindle.servers import client
from rekindle.servers.client import Role, Server
client.GRACE = float(sys.argv[2])
def keep(i, tree):
    with open(sys.argv[3], "a") as file:
        file.write(f"{i}\\n")
server = Server(Role("x", "x", "x", "x"), sys.argv[1], parallel=2, timeout=600)
print("ready", flush=True)
try:
    server.post_all([b"{}"] * 50, read=keep, refuse=lambda i, why: None)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("comes", [True, False])
def test_ctrl_c_ends_promptly_and_keeps_what_comes(tmp_path, comes):
    """Two requests are under way: one hangs, one is answered after the signal, in its grace."""
    under_way, pressed = threading.Barrier(3, timeout=60), threading.Event()

    def slow(send, closing, request):
        under_way.wait()
        pressed.wait(60)
        closing.wait(0.3)  # the signal comes first
        if comes:
            send(FINE)
        else:
            closing.wait(60)

    def hang(send, closing, request):
        under_way.wait()
        closing.wait(60)

    place, grace = tmp_path / "kept", "1.0" if comes else "0.1"
    with speaking(FINE, slow, hang) as (url, seen):
        child = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, url, grace, str(place)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        under_way.wait()
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        pressed.set()
        said, _ = child.communicate(timeout=60)
        assert time.monotonic() - began < 8
        assert len(seen) == 3
    assert "interrupted" in said
    assert (child.returncode, len(place.read_text().splitlines())) == (0, 2 if comes else 1)


# --- the environment


def test_nothing_is_read_from_a_netrc_file(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hush\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with speaking(FINE) as (url, seen):
        post(url)
    assert "authorization" not in seen[0].lower()


@pytest.fixture
def proxied(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return lambda value: monkeypatch.setenv("HTTP_PROXY", value)


def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(proxied):
    with speaking(FINE) as (proxy, asked), speaking(FINE) as (url, seen):
        proxied(proxy.replace("http://", "http://me:hush-hush@"))
        assert post("http://far.example/v1") == [{"is": "fine"}]
        assert asked[0].startswith("POST http://far.example/v1 HTTP/1.1")
        post(url)
        post(url.replace("127.0.0.1", "localhost"))
    assert (len(asked), len(seen)) == (1, 2)


def test_a_proxys_password_is_masked(proxied):
    talk = lambda send, closing, request: send(status(407, request))  # noqa: E731
    with speaking(talk) as (proxy, _):
        proxied(proxy.replace("http://", "http://me:hush%2Dhush@"))
        with refused("HTTP 407") as caught:
            post("http://far.example/v1")
    assert "hush" not in str(caught.value)
    assert "aHVzaC1odXNo" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://me:hush@h:1", "ftp://me:hush@h", "http://me:hush@h:x"])
def test_a_proxy_that_cannot_be_used_is_named(proxied, proxy):
    proxied(proxy)
    with pytest.raises(ConfigError, match="HTTP_PROXY") as caught:
        post("http://far.example/v1")
    assert "hush" not in str(caught.value)


def test_the_other_servers_of_the_package_go_through_this_client():
    """Hub downloads keep huggingface_hub's."""
    package = Path(sys.modules["rekindle"].__file__).parent
    libraries = ("urllib.request", "http.client", "httpx", "requests", "aiohttp")
    using = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import ", "from ")) and line.split()[1].startswith(libraries)
    }
    assert using == {"servers/client.py", "servers/replies.py"}
