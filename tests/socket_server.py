"""A server on this machine that says whatever bytes it is told, at whatever pace."""

import socket
import threading
from contextlib import contextmanager


def reply(body=b"{}", status="200 OK", **headers):
    """A whole reply; underscores in names of headers are dashes."""
    named = {"Content_Length": len(body), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close"])
    return head.encode("latin-1") + b"\r\n\r\n" + body


def _request(connection):
    raw = b""
    while b"\r\n\r\n" not in raw:
        more = connection.recv(65536)
        if not more:
            return raw
        raw += more
        if raw.startswith(b"\x16"):  # TLS
            return raw
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next(int(line[16:]) for line in lines if line.startswith("content-length: "))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def speaking(*talks):
    """Serve the talks, one a connection, the last for ever; (address, requests seen).

    A talk is bytes, or a function (send, closing, request): `send` writes bytes and is False once
    the client is gone, `closing` is an event that is set when the server closes.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    closing, seen, threads = threading.Event(), [], []

    def serve(connection, talk):
        with connection:
            request = _request(connection)
            if not request:
                return
            seen.append(request.decode("latin-1"))

            def send(raw):
                try:
                    connection.sendall(raw)
                except OSError:
                    return False
                return True

            if isinstance(talk, bytes):
                send(talk)
            else:
                talk(send, closing, request)
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            talk = talks[min(len(threads), len(talks) - 1)]
            threads.append(threading.Thread(target=serve, args=(connection, talk)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", seen
    finally:
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [accepting, *threads]:
            thread.join()


def dripping(begin, drop, pause=0.02):
    """A talk that says `begin`, then one drop after another, until nobody listens."""

    def talk(send, closing, request):
        send(begin)
        while send(drop) and not closing.wait(pause):
            pass

    return talk
