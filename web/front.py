"""Serves the Flask app under an ASGI server.

A thread worker stops at as many slow clients as it has threads. Here the event loop takes in the body, bounded in size
and time, and only a whole request is given a thread, the addresses in turn: one that is flooded keeps no other waiting.

The answer is collected before it is sent: right for pages and exports of some megabytes, no place for streams.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from web.turns import Turns

MAX_BODY = 1024 * 1024  # bytes; a route's own limit is narrower and its own to answer
BODY_SECONDS = 5.0  # for the whole body
MAX_WAITING = 256  # whole requests, in one process, that have a thread or wait for one
MAX_IN_LINE = 64  # of them, waiting at one address
LONGEST_WAIT = 2.0  # seconds in a line; a request that gets its turn later would not be done in time
MAX_HELD = 64 * 1024 * 1024  # bytes of bodies in one process; beyond it only small ones are taken in
SMALL_BODY = 64 * 1024  # bytes; every notice known to us is smaller
LINGER_SECONDS = 1.0

_TEXTS = {
    408: "O envio demorou demais.",
    413: "O envio é grande demais.",
    500: "Algo deu errado.",
    503: "Muita gente ao mesmo tempo. Tente de novo em alguns segundos.",
}
_DOORS = {"webhook": 2, "tg": 1, "go": 1, "api": 3}  # how many more parts of the path say whose it is

_BARE = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")

Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class _Refused(Exception):
    """The body won't be read to its end, for which the status is the reason."""

    def __init__(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        self.why, self.headers = status, (*headers, (b"connection", b"close"))


class _Gone(Exception):
    """The client left before its request was whole."""


def create(wsgi_app: WsgiApp, threads: int = 8, *, https: bool = False) -> Front:
    """The ASGI app that runs `wsgi_app` in `threads` threads; make the database pool as large.

    https: browsers are told to come by nothing else; the app tells them by itself.
    """
    return Front(wsgi_app, threads, [*_BARE, _HTTPS_ONLY] if https else [*_BARE])


class Front:
    def __init__(self, wsgi_app: WsgiApp, threads: int, bare: Headers) -> None:
        self._app = wsgi_app
        self._bare = bare
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="web")
        self._turns = Turns(threads, MAX_WAITING, MAX_IN_LINE)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        try:
            await self._read(scope, receive, body)
            await _send(send, scope["method"], await self._run(_address(scope), _environ(scope, bytes(body))))
        except _Refused as refused:
            await _send(send, scope["method"], self._plain(refused.why, *refused.headers))
            await _drop_rest(receive)
        except _Gone:
            pass
        finally:
            self._held -= len(body)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        if _declared_length(scope) > MAX_BODY:
            raise _Refused(413)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while await self._read_chunk(receive, body):
                    pass
        except TimeoutError:
            raise _Refused(408) from None

    async def _read_chunk(self, receive: Receive, body: bytearray) -> bool:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        chunk = message.get("body", b"")
        body += chunk
        self._held += len(chunk)
        if len(body) > MAX_BODY:
            raise _Refused(413)
        if len(body) > SMALL_BODY and self._held > MAX_HELD:
            raise _Refused(503, (b"retry-after", b"5"))
        return bool(message.get("more_body"))

    async def _run(self, address: str, environ: dict[str, Any]) -> Answer:
        if not await self._turn(address):
            return self._plain(503, (b"retry-after", b"2"))
        work = self._pool.submit(_call, self._app, environ)
        work.add_done_callback(self._leaves(address))
        try:
            return await asyncio.wrap_future(work)
        except Exception:
            log.exception("The app raised; answered 500")
            return self._plain(500)

    def _plain(self, status: int, *headers: tuple[bytes, bytes]) -> Answer:
        return Answer(status, [*self._bare, *headers], _TEXTS[status].encode())

    async def _turn(self, address: str) -> bool:
        """Whether a thread is ours now, and soon enough."""
        came = time.monotonic()
        taken = await self._turns.take(address)
        if taken and time.monotonic() - came > LONGEST_WAIT:
            self._turns.leave(address)
            return False
        return taken

    def _leaves(self, address: str) -> Callable[[object], None]:
        """A client that goes away leaves its thread busy: the place is free when the thread is."""
        loop = asyncio.get_running_loop()

        def leave(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._turns.leave, address)

        return leave

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._pool.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})


def _address(scope: Scope) -> str:
    """Whose door is knocked at: the path up to its secret or its slug. Pages have no owner: who knocks is told apart,
    as well as can be without believing anybody, since a forger gains no more than a place in another line."""
    _, first, *more = [*str(scope["path"]).split("/", 5), ""][:6]
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if first in _DOORS:
        return "/".join([first, *more[: _DOORS[first]], headers.get(b"authorization", b"").decode("latin-1")])
    host, _ = scope.get("client") or ("", 0)
    nearest = headers.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip()
    return " ".join([host, nearest.decode("latin-1"), headers.get(b"cookie", b"").decode("latin-1")])


def _declared_length(scope: Scope) -> int:
    return int(dict(scope["headers"]).get(b"content-length", 0))


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """PEP 3333. A chunked body has become a plain one; its length is known now."""
    raw_path = scope.get("raw_path")
    path = unquote_to_bytes(raw_path) if raw_path else scope["path"].encode()
    host, port = scope.get("server") or ("localhost", 80)
    client = scope.get("client") or ("",)
    return _header_variables(scope["headers"]) | {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "web.arrived": time.monotonic(),  # whole; what it waits for a thread from here on counts
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def _header_variables(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").upper(), raw_value.decode("latin-1")
        # "X_Real" and "X-Real" would become one variable, and a proxy guards only the second.
        if "_" in name or name in ("CONTENT-LENGTH", "TRANSFER-ENCODING"):
            continue
        key = "CONTENT_TYPE" if name == "CONTENT-TYPE" else "HTTP_" + name.replace("-", "_")
        joiner = "; " if name == "COOKIE" else ","
        variables[key] = f"{variables[key]}{joiner}{value}" if key in variables else value
    return variables


def _call(app: WsgiApp, environ: dict[str, Any]) -> Answer:
    started: list[Any] = []
    chunks: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], None]:
        started[:] = [status, headers]
        return chunks.append

    result = app(environ, start_response)
    try:
        chunks.extend(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    status, headers = started
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return Answer(int(status[:3]), pairs, b"".join(chunks))


async def _send(send: Send, method: str, answer: Answer) -> None:
    status, headers, body = answer
    if method == "HEAD" or status in (204, 304):
        body = b""
    else:
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
    headers = [*headers, (b"server", b"web")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drop_rest(receive: Receive) -> None:
    """Takes in what is still on its way: closing on unread bytes resets the connection and the answer is lost."""
    more: Any = True
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while more:
                more = (await receive()).get("more_body")
