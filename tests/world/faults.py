"""What can go wrong between us and another company: values to hand to `Fake.fail(how=...)`.

Each one decides whether the fake does its work (a charge in the ledger, a message in the chat) and what of the
answer comes through. `after=True` means: the work is done first, so the caller does not know that it was.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = dict[str, Any] | list[Any] | str | bytes | None
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: the peer sees a reset, not an end


@dataclass
class Reply:
    """What a fake answers. body: bytes go out as they are, anything else as JSON."""

    body: Answer = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        headers = {"Content-Type": "application/json", **self.headers}
        return web.Response(status=self.status, body=self.raw(), headers=headers)

    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Work = Callable[[], Awaitable[Reply]]


class Fault:
    """One thing going wrong. `play` stands between the request and the fake's own work."""

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        raise NotImplementedError


@dataclass
class Delay(Fault):
    """The right answer, so many seconds late."""

    seconds: float

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        return (await work()).response()


class Hold(Fault):
    """The right answer, but only once the test says so. `reached`: set when the request is waiting here."""

    def __init__(self, *, after: bool = False) -> None:
        self.after = after
        self.reached = threading.Event()
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def release(self) -> None:
        with self._lock:
            self._is_open = True
            for loop, gate in self._waiting:
                loop.call_soon_threadsafe(gate.set)

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        reply = await work() if self.after else None
        gate = asyncio.Event()
        with self._lock:
            self._waiting.append((asyncio.get_running_loop(), gate))
            if self._is_open:
                gate.set()
        self.reached.set()
        await gate.wait()
        return (reply or await work()).response()


@dataclass
class Status(Fault):
    """Another status (and body) instead of the answer; a redirect too, with headers={"Location": ...}."""

    code: int
    body: Answer = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        if self.after:
            await work()
        return Reply(self.body, self.code, self.headers).response()


@dataclass
class Hang(Fault):
    """No answer at all, with the connection left open."""

    after: bool = False

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        if self.after:
            await work()
        await asyncio.Event().wait()
        raise AssertionError("only the end of the fake ends this")


class ResetBefore(Fault):
    """The request is read, nothing is done, the connection is reset."""

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        return reset(request)


class ResetAfter(Fault):
    """The work is done, then the connection is reset without an answer."""

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        await work()
        return reset(request)


@dataclass
class Garbage(Fault):
    """Something that is no answer: HTML with a 200, ten megabytes, a gzip bomb (with its Content-Encoding)."""

    body: bytes = b"<html><body>Bad Gateway</body></html>"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    after: bool = True

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        if self.after:
            await work()
        return Reply(self.body, self.status, self.headers).response()


@dataclass
class Alter(Fault):
    """A lie: the work is done, and `change` makes another body of the true one (bytes for what JSON can't say)."""

    change: Callable[[Any], Answer]

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        reply = await work()
        true = json.loads(reply.raw())
        return Reply(self.change(true), reply.status, reply.headers).response()


@dataclass
class SlowBytes(Fault):
    """The right answer, one byte at a time."""

    gap: float = 1.0

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        reply = await work()
        response = _open_ended(reply)
        await response.prepare(request)
        for byte in reply.raw():
            await response.write(bytes([byte]))
            await asyncio.sleep(self.gap)
        return response


@dataclass
class Cut(Fault):
    """The first bytes of the right answer, then a reset."""

    size: int = 10

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        reply = await work()
        response = _open_ended(reply)
        await response.prepare(request)
        await response.write(reply.raw()[: self.size])
        reset(request, gently=True)
        return response


def reset(request: web.Request, *, gently: bool = False) -> web.Response:
    """Drops the connection. gently: what was written still reaches the peer."""
    transport = request.transport
    if transport is None:
        return web.Response()
    if gently:
        transport.close()
        return web.Response()
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
    return web.Response()


def _open_ended(reply: Reply) -> web.StreamResponse:
    headers = {"Content-Type": "application/json", **reply.headers, "Content-Length": str(len(reply.raw()))}
    return web.StreamResponse(status=reply.status, headers=headers)
