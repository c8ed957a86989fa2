"""A reward server on this machine that fails on a script."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def lengths(body):
    """The server's honest answer: the length of each text."""
    return {"rewards": [float(len(text)) for text in body["query"]]}


@contextmanager
def server(script=(), answer=lengths, headers=None):
    """Serve `script` one entry a request, then `answer` for ever; `headers` gets those sent.

    An entry is a status with headers, "hang", "hang up", or a function of the request's body. What
    hangs does so until the server closes.
    """
    waiting, seen, closing = list(script), [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body)
            if headers is not None:
                headers.append(self.headers)
            entry = waiting.pop(0) if waiting else answer
            if entry == "hang":
                closing.wait(60)
                return
            if entry == "hang up":
                self.connection.close()
                return
            status, own = entry if isinstance(entry, tuple) else (200, {})
            raw = b"out of order"
            if status == 200:
                said = entry(body)
                raw = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in own.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/get_reward", seen
    finally:
        closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()
