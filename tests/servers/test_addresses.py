"""Secrets: which addresses and names of keys are refused, and what of a key is ever shown."""

import base64
import html
import json
import logging
import traceback
from urllib.parse import quote

import pytest

from rekindle.errors import ConfigError, ServerError
from rekindle.servers.addresses import Mask, check_address, check_key_name, read_key, shown_address
from rekindle.servers.client import Role, Server
from socket_server import reply, speaking

ROLE = Role("the oracle", "omen", "oracle", "oracle.url")
KEY = "sk-ab/c+d&e\"f'12=<zz>"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "https://host.example",
        "HTTPS://host.example/v1/",
        "http://[::1]:80/v1",
        "https://host.example/v1?api-version=2024-02&keyboard=1&monkey=2&max_tokens=3&author=4",
        "https://host.example/accounts/@cf/v1",
    ],
)
def test_addresses_without_secrets_are_accepted(url):
    check_address("judge", url)


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "ftp://h", "file:///etc", "http://", "http:///v1", "//h/v1", ""),
        *("http://h:x", "http://h:99999", "http://[::1", "http://h/a b", "http://h/\n"),
        *("http://h\\@i", "http://\x00"),
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match=r"judge\.url is not an address"):
        check_address("judge", url)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:HUSH@host.example/v1",
        "http://HUSH@host.example/v1",
        "http://:HUSH@host.example",
        "http://me:HU@HUSH@host.example/v1",
        "http://me:1/HUSH?HUSH#HUSH@host.example/v1",
        "me:HUSH@host.example/v1",
        "http://me:HUSH@host.example:port/v1",
        *(
            f"https://host.example/v1?version=1&{name}=HUSH"
            for name in ("api_key", "apikey", "apiKey", "api-key", "key", "token", "access_token")
        ),
        *(
            f"https://host.example/v1?{name}=HUSH"
            for name in ("sig", "X-Amz-Signature", "auth", "password", "client_secret", "code")
        ),
        "https://host.example/v1?a=1;token=HUSH",
        "https://host.example/v1?t%6Fken=HUSH",
        "https://host.example/v1?mail=a@b&token=HUSH",
        "https://host.example/v1#HUSH",
    ],
)
def test_an_address_with_a_secret_is_refused_and_the_secret_not_shown(url):
    with pytest.raises(ConfigError) as caught:
        check_address("judge", url)
    assert "HU" not in str(caught.value)
    assert "HU" not in shown_address(url)
    with pytest.raises(ConfigError) as caught:
        Server(ROLE, url)
    assert "HU" not in str(caught.value)


def test_the_advice_is_the_variable_of_the_key():
    with pytest.raises(ConfigError, match=r"judge\.key_env: NAME"):
        check_address("judge", "http://me:x@host.example/v1")


@pytest.mark.parametrize("name", ["MY_KEY", "_K1", "OPENAI_API_KEY"])
def test_names_of_variables(name):
    check_key_name("judge", name)


@pytest.mark.parametrize("name", ["sk-HUSH12345", "hf_HUSHabcdef", "gsk_HUSH", "", "1K", "MY KEY"])
def test_a_key_in_place_of_its_variable_is_refused_and_not_shown(name):
    with pytest.raises(ConfigError, match="not the name of a variable") as caught:
        check_key_name("judge", name)
    assert "HUSH" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-HUSH\n", "sk HUSH", "sk-HUSH\r", "sk-HÜSH", "\tHUSH"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ConfigError, match="MY_KEY holds no key") as caught:
        read_key("judge", "MY_KEY")
    assert "SH" not in str(caught.value)


def escapes(key):
    yield key
    yield key.upper()
    yield quote(key, safe="")
    yield quote(key, safe="").lower()
    yield json.dumps(key)[1:-1]
    yield json.dumps(key)[1:-1].replace("/", "\\/")
    yield "".join(f"\\u{ord(sign):04X}" for sign in key)
    yield html.escape(key)
    yield "".join(f"&#{ord(sign)};" for sign in key)
    yield repr(key.encode())
    yield key.encode().hex()
    yield base64.b64encode(key.encode()).decode()
    yield base64.urlsafe_b64encode(key.encode()).decode()
    yield quote(base64.b64encode(key.encode()).decode(), safe="")
    for before in ("u:", "ab:", "abc:"):
        yield base64.b64encode(f"{before}{key}".encode()).decode()


FORMS = list(dict.fromkeys(escapes(KEY)))


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_masked_in_every_form(form):
    shown = Mask.of([KEY]).quote(f"before {form} after")
    assert shown.startswith("before")
    assert shown.endswith("after")
    assert "***" in shown
    left = shown.removeprefix("before ").removesuffix(" after").replace("***", "")
    assert len(left) <= 9  # of a base64 text, the letters that belong to other bytes too


def test_a_key_is_masked_where_it_was_cut_off():
    """A text of many keys shrinks, so that the torn last one comes into view."""
    raw = KEY * 40
    for cut in range(len(raw) - 3 * len(KEY), len(raw)):
        shown = Mask.of([KEY]).quote(raw[:cut], complete=False)
        assert set(shown) <= {"*"}


def test_masks_change_nothing_else():
    tree = {"a": ["sk-ab", 1, None, True, 2.5, "http://me:pw@host"], "b": {"c": "x"}}
    assert Mask.of([KEY]).hide(tree) == tree
    assert Mask.of(["EMPTY"]).hide({"a": "EMPTY"}) == {"a": "EMPTY"}  # a placeholder
    assert Mask.of(["LONG-ENOUGH"]).hide({"LONG-ENOUGH": ["xLONG-ENOUGHx"]}) == {"***": ["x***x"]}
    assert Mask.of([None, ""]).secrets == ()
    assert "secret" not in repr(Mask.of(["secret"]))


def test_passwords_of_other_addresses_are_masked_too():
    assert Mask.of([]).quote("see http://me:pw@host/x now") == "see http://***@host/x now"


# --- what a server may do with the key


def echo(status, body=b"", **headers):
    return reply(body, status, **headers)


def echoes(key):
    raw = key.encode()
    location = quote(key, safe="")
    return {
        "an error's text": echo("500 Oops", b"you sent " + raw),
        "a refusal's text": echo("401 No", b'{"error": "Bearer ' + raw + b'"}'),
        "the reason": echo(f"403 {key}"),
        "an error's headers": echo("404 No", X_Echo=key, Retry_After=key, Set_Cookie=key),
        "a redirect's host": echo("302 Found", Location=f"https://{key}.example/"),
        "a redirect's scheme": echo("307 Found", Location=f"{key}://h/"),
        "a redirect's path": echo("301 Found", Location=f"https://h/{location}?k={location}"),
        "a redirect of no form": echo("302 Found", Location=f"http://[{key}"),
        "no JSON": echo("200 OK", b"<p>" + raw),
        "another shape": echo("200 OK", json.dumps({key: [key]}).encode()),
        "the status line": f"HTTP/1.1 2{key} OK\r\n\r\n".encode(),
        "no header": f"HTTP/1.1 200 OK\r\n{key} {key}\r\n\r\n".encode(),
        "a coding": echo("200 OK", b"{}", Content_Encoding=key),
        "no length": f"HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n".encode(),
        "UTF-16": echo("500 Oops", key.encode("utf-16")),
    }


SECRET = "sk-Secret0123456789"


@pytest.mark.parametrize("how", echoes(SECRET))
def test_a_key_that_the_server_repeats_is_in_no_error_log_or_traceback(monkeypatch, caplog, how):
    monkeypatch.setenv("MY_KEY", SECRET)
    caplog.set_level(logging.DEBUG)

    def read(i, tree):
        assert "Secret0123" not in str(tree)
        return tree["rewards"] if "rewards" in tree else refuse(i, "another shape")

    async def pause(seconds, stopped):
        pass

    with speaking(echoes(SECRET)[how]) as (url, seen):
        server = Server(ROLE, url, key_env="MY_KEY", retries=1, pause=pause)

        def refuse(i, why):
            raise server.refusal(why)

        with pytest.raises(ServerError) as caught:
            server.post_all([b"{}"], read=read, refuse=refuse)
    assert f"authorization: bearer {SECRET}".lower() in seen[0].lower()
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(server)
    assert "secret0123" not in shown.lower()
    assert quote(SECRET, safe="").lower() not in shown.lower()


def test_a_key_that_a_good_reply_repeats_is_masked_in_it(monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    with speaking(reply(json.dumps({"text": f"hello {SECRET}"}).encode())) as (url, _):
        server = Server(ROLE, url, key_env="MY_KEY")
        said = server.post_all([b"{}"], read=lambda i, t: t, refuse=lambda i, why: why)
    assert said == [{"text": "hello ***"}]
