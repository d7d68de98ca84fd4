"""The load: whole HTTP requests over raw sockets, from a process of its own so that its CPU is not counted.

Closed: so many connections, each sends its next request when the last is answered. Open: requests fall due at a fixed
rate whether or not others are answered, and each one's time counts from when it was due, so that a stalled server
can't hide the requests it kept from being sent.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from time import monotonic

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PATIENCE_S = 10.0
REUSED_FOR_S = 1.0  # the product hangs up on a connection that was idle for two


@dataclass(frozen=True)
class Result:
    """began: in `time.monotonic`. millis: of each request answered well, sorted. failed: no answer with 2xx or 3xx."""

    began: float
    seconds: float
    millis: list[float]
    failed: int

    @property
    def rate(self) -> float:
        return len(self.millis) / self.seconds

    def percentile(self, percent: float) -> float:
        return percentile(self.millis, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """values: sorted."""
    return values[min(len(values) - 1, math.ceil(len(values) * percent / 100) - 1)]


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    fields = {"Host": "127.0.0.1", **(headers or {}), "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def post_json(path: str, content: object, headers: Mapping[str, str] | None = None) -> bytes:
    return request("POST", path, {"Content-Type": "application/json", **(headers or {})}, json.dumps(content).encode())


def closed(port: int, requests: Sequence[bytes], connections: int, seconds: float = math.inf) -> Result:
    """Sends until the requests or the seconds are over."""
    return _elsewhere(_closed, port, requests, connections, seconds)


def open_loop(port: int, requests: Sequence[bytes], rate: float) -> Result:
    """Sends each request when it is due, over as many connections as that takes."""
    return _elsewhere(_open, port, requests, rate)


def send_one(port: int, request: bytes) -> tuple[float, float]:
    """When it was sent and when it was answered, in `time.monotonic`; from this process."""
    began = monotonic()
    result = _closed(port, [request], 1, math.inf)
    if result.failed:
        raise RuntimeError("the request was not answered well")
    return began, began + result.millis[0] / 1000


def _elsewhere(run: Callable[..., Result], *args: object) -> Result:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        result = process.submit(run, *args).result()
    if not result.millis:
        raise RuntimeError(f"none of {result.failed} requests was answered well")
    return result


class _Tally:
    def __init__(self) -> None:
        self.began = monotonic()
        self.millis: list[float] = []
        self.failed = 0

    async def send(self, connection: Connection, request: bytes, due: float) -> bool:
        """True when the connection can be used again."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, again = await _exchange(*connection, request)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status, again = 0, False
        if 200 <= status < 400:
            self.millis.append((monotonic() - due) * 1000)
        else:
            self.failed += 1
        return again

    def result(self) -> Result:
        return Result(self.began, monotonic() - self.began, sorted(self.millis), self.failed)


def _closed(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Result:
    async def run() -> Result:
        tally, waiting = _Tally(), iter(requests)
        await asyncio.gather(*(_keep_sending(tally, port, waiting, seconds) for _ in range(connections)))
        return tally.result()

    return asyncio.run(run())


async def _keep_sending(tally: _Tally, port: int, requests: Iterator[bytes], seconds: float) -> None:
    connection = await _connect(port)
    for request in requests:
        if not await tally.send(connection, request, monotonic()):
            connection[1].close()
            connection = await _connect(port)
        if monotonic() - tally.began > seconds:
            break
    connection[1].close()


def _open(port: int, requests: Sequence[bytes], rate: float) -> Result:
    async def run() -> Result:
        tally, free, sending = _Tally(), list[tuple[Connection, float]](), []
        for number, request in enumerate(requests):
            due = tally.began + number / rate
            await asyncio.sleep(due - monotonic())
            sending.append(asyncio.create_task(_send_due(tally, port, free, request, due)))
        await asyncio.gather(*sending)
        for (_, writer), _ in free:
            writer.close()
        return tally.result()

    return asyncio.run(run())


async def _send_due(tally: _Tally, port: int, free: list[tuple[Connection, float]], request: bytes, due: float) -> None:
    connection = _reused(free) or await _connect(port)
    if await tally.send(connection, request, due):
        free.append((connection, monotonic()))
    else:
        connection[1].close()


def _reused(free: list[tuple[Connection, float]]) -> Connection | None:
    """The connection that was used last, unless the server may be about to close it."""
    while free:
        connection, used = free.pop()
        if monotonic() - used < REUSED_FOR_S and not connection[0].at_eof():
            return connection
        connection[1].close()
    return None


async def _connect(port: int) -> Connection:
    return await asyncio.open_connection("127.0.0.1", port)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bool]:
    """The status, and whether the connection stays open."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"content-length:")
    if found:
        await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    return int(head[9:12]), b"connection: close" not in head
