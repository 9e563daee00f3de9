"""A web server on a port of this machine that serves files as badly as it is told to."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

CONTENT = bytes(range(256)) * 512


@dataclass
class UnreliableServer:
    """What it serves, and what it was asked.

    The query of an address says how: ``cut=N`` ends after N bytes of this answer, ``times=N`` only the first N times;
    ``stall=N`` sends nothing after N bytes; ``flip=1`` changes a byte; ``claim=N`` states another length; ``ranges=no``
    ignores ranges; ``shift=N`` answers a range N bytes off; ``status=N`` answers so; ``to=URL`` leads elsewhere;
    ``whole=no`` does not say the length; ``slow=S`` waits S seconds after each 16 KiB.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/file": CONTENT})
    asked: list[tuple[str, str]] = field(default_factory=list)
    version: str = '"1"'
    stop: threading.Event = field(default_factory=threading.Event)

    def __call__(self, name: str = "file", **how: object) -> str:
        """The address of a file, served so."""
        query = "&".join(f"{key}={value}" for key, value in how.items())
        return f"{self.address}/{name}?{query}"

    @property
    def ranges(self) -> list[str]:
        """The ranges of all requests, empty where the whole was asked for."""
        return [asked for _, asked in self.asked]


@contextmanager
def unreliable_server(certificate: Path | None = None) -> Iterator[UnreliableServer]:
    """Serve in threads until the block ends, by https where there is a certificate (with its key, PEM)."""
    state = UnreliableServer()
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            how = dict(parse_qsl(place.query))
            state.asked.append((self.path, self.headers.get("Range", "")))
            seen[self.path] = seen.get(self.path, 0) + 1
            if seen[self.path] > int(how.get("times", 10**9)):
                how = {}
            if "to" in how:
                self.send_response(302)
                self.send_header("Location", how["to"])
                self.end_headers()
            elif "status" in how or place.path not in state.files:
                self.send_error(int(how.get("status", 404)))
            else:
                self.answer(state.files[place.path], how)

        def answer(self, content: bytes, how: dict[str, str]) -> None:
            if "flip" in how:
                content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
            start, asked = 0, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            fresh = self.headers.get("If-Range") in (None, state.version)
            if asked and fresh and how.get("ranges") != "no":
                start = int(asked[1]) + int(how.get("shift", 0))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{how.get('claim', len(content))}")
            else:
                self.send_response(200)
            self.send_header("ETag", state.version)
            if "whole" not in how:
                self.send_header("Content-Length", str(int(how.get("claim", len(content))) - start))
            self.end_headers()
            self.send(content[start:], how)

        def send(self, content: bytes, how: dict[str, str]) -> None:
            limit = int(how.get("cut", how.get("stall", len(content))))
            for place in range(0, min(limit, len(content)), 1 << 14):
                self.wfile.write(content[place : min(place + (1 << 14), limit)])
                self.wfile.flush()
                state.stop.wait(float(how.get("slow", 0)))
            if "stall" in how:
                state.stop.wait(30)
            if "cut" in how:
                self.connection.shutdown(2)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("0.0.0.0", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        server.shutdown()
        server.server_close()
