"""The client of all servers: one POST of JSON a request, bounded in time, size and tries.

    connection, name lookup, deadline, 408, 425, 429, 5xx, a reply   tried again, then
    that cannot be read                                              `ServerUnavailableError` (75)
    400, 413, 422                                                    the caller's: maybe one text's
    401, 402, 403, 404, an exhausted quota, redirects, other codes   `ServerRefusedError` (2)

`timeout` is the time of a whole request, from the connection (half of it at most) to the last byte
of the reply, so that a server that sends a byte a second ends too. Between two tries passes an
exponential time with jitter, or what Retry-After says, at most `LONGEST_WAIT`. Proxies are those of
the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), but for addresses of this machine.
Nothing is read from a netrc file. Keys are masked in whatever a server sends.

The requests run on an event loop in a thread of their own: also where a loop runs already, as in a
notebook.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import anyio
import httpx2
import tenacity
from anyio.from_thread import start_blocking_portal

from rekindle.errors import ConfigError, RekindleError, ServerRefusedError, ServerUnavailableError
from rekindle.servers.addresses import Mask, check_address, read_key
from rekindle.servers.replies import (
    EmptyReplyError,
    UnreadableError,
    is_exhausted,
    parse,
    read_body,
    redirect_target,
    retry_after,
)

LONGEST_WAIT = 120.0  # seconds between two tries, whatever the server asks for
GRACE = 2.0  # seconds that requests under way have to end after Ctrl-C
LARGEST = 16 * 2**20  # bytes of a reply, decompressed
_QUOTED = 16 * 2**10  # bytes that are read of an error's text
_RETRIED = (408, 425, 429)  # HTTP statuses that may pass, beside 5xx
_OF_ONE_REQUEST = (400, 413, 422)  # may be due to one text, e.g. one that is too long
_HERE = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_LOGGERS = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "proxy", "socks")))

T = TypeVar("T")


class _PassingError(Exception):
    """One try failed in a way that may pass.

    `wait` is what the server asked for, seconds; `said`: it did reply, with nothing to read.
    """

    def __init__(self, why: str, wait: float = 0.0, *, said: bool = False) -> None:
        super().__init__(why)
        self.wait, self.said = wait, said


class Role(NamedTuple):
    """What a server is to its user, in the words of errors."""

    subject: str  # e.g. "the judge"
    product: str  # e.g. "judgement": what it returns
    section: str  # of the recipe, with its url and key_env
    settings: str  # that may be wrong where it refuses a request


async def wait_unless_stopped(seconds: float, stopped: anyio.Event) -> None:
    """Let time pass between two tries, until another request has failed for good."""
    with anyio.move_on_after(seconds):
        await stopped.wait()


@dataclass
class Server:
    """An address that takes JSON by POST.

    `retries` tries follow the first of each request; before the k-th of them
    `backoff * 2**(k-1)` seconds, times a factor drawn from 0.5 to 1.5 so that many clients do not
    come back together. The key is read from the environment variable `key_env`, sent as
    `Authorization: Bearer`, and written nowhere.

    Raises:
        ConfigError: the address or the key cannot be used.
    """

    role: Role
    url: str
    key_env: str | None = None
    timeout: float = 60.0
    retries: int = 5
    backoff: float = 1.0
    parallel: int = 1
    largest: int = LARGEST
    pause: Callable[[float, anyio.Event], Awaitable[None]] = wait_unless_stopped
    # Jitter only: apart from the sources that a run saves, so that waiting changes no result.
    jitter: random.Random = field(default_factory=lambda: random.Random(time.time_ns()))

    def __post_init__(self) -> None:
        check_address(self.role.section, self.url)
        try:
            httpx2.URL(self.url)
        except httpx2.InvalidURL:
            raise ConfigError(f"{self.role.section}.url is not an address", got=self.url) from None
        self._key = read_key(self.role.section, self.key_env) if self.key_env else None
        self.mask = Mask.of([self._key, *_proxy_passwords()])

    def post_all(
        self,
        bodies: Sequence[bytes],
        *,
        path: str = "",
        read: Callable[[int, object], T],
        refuse: Callable[[int, str], T],
        give_up: Callable[[int, str], T] | None = None,
        kept: Callable[[], str] | None = None,
    ) -> list[T]:
        """What `read` makes of the reply to each body, in their order; `parallel` at a time.

        When one request fails for good none begins any more; those under way end, and are read.
        After Ctrl-C or SIGTERM they have `GRACE` seconds to do so.

        Args:
            path: what follows the address's own.
            read: index of the body and the reply's JSON -> result; called as replies come, in
                another thread, one at a time. `UnreadableError` makes the request again.
            refuse: index and the server's words -> the result where the server takes one request
                for a wrong one; `refusal` is the error for it.
            give_up: index and what `EmptyReplyError` says -> the result where the last try ends
                with it; None: an error as for other replies that cannot be read.
            kept: what an error says of the replies that came.

        Raises:
            ServerUnavailableError: no usable reply after all tries.
            ServerRefusedError: a retry would not help.
        """
        address = self._address(path)
        with _masked_logs(self.mask), start_blocking_portal() as portal:
            calls = _Calls(read, refuse, give_up, kept)
            work: _Work[T] = portal.call(_Work, self, bodies, address, calls)
            ended = portal.start_task_soon(work.run)
            try:
                ended.result()
            finally:
                if not ended.done():  # a signal; leaving the portal ends what is left
                    portal.call(work.stop)
                    wait([ended], timeout=GRACE)
        return [work.results[i] for i in range(len(bodies))]

    def refusal(self, why: str, fix: str | None = None) -> ServerRefusedError:
        """The error where a retry would not help; `fix`: what to check, by default all settings."""
        return ServerRefusedError(
            f"{self.role.subject} at {self.url} refuses the request",
            got=why,
            why="a retry would not help",
            fix=f"{fix or f'check {self.role.settings}'}, then --resume",
        )

    def client(self) -> httpx2.AsyncClient:
        """A client of this server's settings; of time it limits the connection alone."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            return httpx2.AsyncClient(
                headers=headers,
                verify=_certificates(),
                mounts=dict.fromkeys(_HERE),
                event_hooks={"response": [self._refuse_redirect]},
                # Each of TCP and TLS: httpcore2 2.16 leaves the socket open where it is cancelled
                # within TLS, so this limit has to come before the deadline.
                timeout=httpx2.Timeout(None, connect=self.timeout / 2),
                limits=httpx2.Limits(),  # none: there are `parallel` workers
            )
        except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
            raise ConfigError(
                "the proxy or the certificates that the environment names cannot be used",
                got=self.mask.quote(f"{type(error).__name__}: {error}"),
                fix="check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
            ) from None

    async def _refuse_redirect(self, reply: httpx2.Response) -> None:
        # Before the client reads where it leads: it refuses some targets in words of its own.
        if 300 <= reply.status_code < 400:
            target = redirect_target(self.url, reply.headers.get("Location"))
            where = self.mask.quote(target)
            raise self.refusal(f"HTTP {reply.status_code}: a redirect to {where}, not followed")

    def _address(self, path: str) -> str:
        parts = urlsplit(self.url)
        return parts._replace(path=parts.path.rstrip("/") + path).geturl() if path else self.url


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # takes 40 ms


def _proxy_passwords() -> Iterator[str]:
    for address in getproxies().values():
        user, at, _ = address.rpartition("@")
        if at:
            yield unquote(user.partition("://")[2].partition(":")[2])


@contextmanager
def _masked_logs(mask: Mask) -> Iterator[None]:
    """The libraries log headers and reasons as the server sends them."""

    def hide(record: logging.LogRecord) -> bool:
        record.msg, record.args = mask.quote(record.getMessage(), longest=2000), ()
        return True

    loggers = [logging.getLogger(name) for name in _LOGGERS] if mask.secrets else []
    for logger in loggers:
        logger.addFilter(hide)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(hide)


class _Reply(NamedTuple):
    status: int
    headers: httpx2.Headers
    body: bytes

    @property
    def success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class _Calls(Generic[T]):
    """What a caller of `post_all` makes of replies."""

    read: Callable[[int, object], T]
    refuse: Callable[[int, str], T]
    give_up: Callable[[int, str], T] | None
    kept: Callable[[], str] | None


class _Work(Generic[T]):
    """The requests of one `post_all`, on its event loop."""

    def __init__(
        self, server: Server, bodies: Sequence[bytes], address: str, calls: _Calls[T]
    ) -> None:
        self.server, self.bodies, self.address, self.calls = server, bodies, address, calls
        self.results: dict[int, T] = {}
        self.failure: RekindleError | None = None
        self.stopped, self.waiting = anyio.Event(), iter(range(len(bodies)))

    async def run(self) -> None:
        """Make all requests, or those before a failure."""
        async with self.server.client() as client, anyio.create_task_group() as workers:
            for _ in range(min(self.server.parallel, len(self.bodies))):
                workers.start_soon(self._work, client)
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Begin no more requests."""
        self.stopped.set()

    async def _work(self, client: httpx2.AsyncClient) -> None:
        for index in self.waiting:  # of all workers
            try:
                self.results[index] = await self._request(client, index)
            except RekindleError as error:
                self.failure = self.failure or error
                self.stop()
            if self.stopped.is_set():
                return

    async def _request(self, client: httpx2.AsyncClient, index: int) -> T:
        server, tries = self.server, self.server.retries + 1
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_PassingError),
            stop=lambda call: call.attempt_number >= tries or self.stopped.is_set(),
            wait=self._seconds,
            sleep=lambda seconds: server.pause(seconds, self.stopped),
            reraise=True,
        )
        try:
            return await retrying(self._try, client, index)
        except _PassingError as error:
            tried = retrying.statistics["attempt_number"]
            if error.said and tried == tries and self.calls.give_up is not None:
                return self.calls.give_up(index, str(error))
            got = f"{error} (tried {tried} times)"
        raise ServerUnavailableError(
            f"{server.role.subject} at {server.url} returns no {server.role.product}",
            got=got,
            why=None if self.calls.kept is None else self.calls.kept(),
            fix="restart the server, then continue with --resume",
        )

    def _seconds(self, call: tenacity.RetryCallState) -> float:
        server, error = self.server, call.outcome and call.outcome.exception()
        seconds = (
            server.backoff * 2.0 ** (call.attempt_number - 1) * server.jitter.uniform(0.5, 1.5)
        )
        asked_for = error.wait if isinstance(error, _PassingError) else 0.0
        return min(max(seconds, asked_for), LONGEST_WAIT)

    async def _try(self, client: httpx2.AsyncClient, index: int) -> T:
        server, quote = self.server, self.server.mask.quote
        if self.stopped.is_set():  # while it waited
            raise _PassingError("stopped")
        try:
            with anyio.fail_after(server.timeout):
                reply = await self._exchange(client, self.bodies[index])
            return self._result(index, reply) if reply.success else self._failure(index, reply)
        except TimeoutError:
            raise _PassingError(f"no complete reply within {server.timeout:g} s") from None
        except httpx2.ConnectTimeout:
            raise _PassingError(f"no connection within {server.timeout / 2:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _PassingError(quote(f"{type(error).__name__}: {error}")) from None
        except EmptyReplyError as error:
            raise _PassingError(quote(str(error)), said=True) from None
        except UnreadableError as error:
            raise _PassingError(quote(str(error), longest=300)) from None

    async def _exchange(self, client: httpx2.AsyncClient, body: bytes) -> _Reply:
        most = self.server.largest
        async with client.stream("POST", self.address, content=body) as reply:
            if reply.is_success:
                raw = await read_body(reply, most)
                if len(raw) > most:
                    raise UnreadableError(f"a reply of more than {most:,} bytes")
            else:
                raw = await self._read_words(reply)
            return _Reply(reply.status_code, reply.headers, raw)

    async def _read_words(self, reply: httpx2.Response) -> bytes:
        # The status decides: no error waits for a text that does not come, or cannot be read.
        with anyio.move_on_after(min(GRACE, self.server.timeout / 2)):
            with suppress(httpx2.HTTPError, UnreadableError):
                return await read_body(reply, _QUOTED)
        return b""

    def _result(self, index: int, reply: _Reply) -> T:
        try:
            return self.calls.read(index, parse(reply.body, self.server.mask))
        except EmptyReplyError:
            raise
        except UnreadableError as error:
            raise UnreadableError(f"{error}: {self._words(reply)}") from None

    def _words(self, reply: _Reply) -> str:
        raw = reply.body
        return self.server.mask.quote(raw[:_QUOTED], complete=len(raw) <= _QUOTED)

    def _failure(self, index: int, reply: _Reply) -> T:
        server, status = self.server, reply.status
        said = f"HTTP {status}: {self._words(reply)}"
        if is_exhausted(reply.body):
            raise server.refusal(f"{said} (the account's quota is exhausted)")
        if status in _RETRIED or status >= 500:
            raise _PassingError(said, retry_after(reply.headers.get("Retry-After")))
        if status in _OF_ONE_REQUEST:
            return self.calls.refuse(index, said)
        raise server.refusal(said)
