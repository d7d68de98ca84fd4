"""Telegram, Meta and PushinPay for load: they take everything, check nothing, cost little, in a process of their own.

The strict fakes of `tests.world` keep every call and would be what is measured. `python -m benchmarks.fake PORT`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from http.client import HTTPConnection

_SENT = {"ok": True, "result": {"message_id": 1, "date": 1, "chat": {"id": 1, "type": "private"}, "text": "x"}}
POLL_S = 20.0  # there is never any news
_TAKEN = {"events_received": 1, "messages": [], "fbtrace_id": "A"}


class Outside:
    """Asks a running fake what came in. kinds: `sendMessage`, `events`; of one bot, `sendMessage@<its number>`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port

    def count(self, kind: str) -> int:
        return int(self._ask(f"/count/{kind}"))

    def wait(self, kind: str, count: int) -> float:
        """Waits for so many in all; answers when the last of them came, in `time.monotonic`."""
        return float(self._ask(f"/wait/{kind}/{count}"))

    def _ask(self, path: str) -> str:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection.request("GET", path)
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer


class Arrivals:
    def __init__(self) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)
        self._changed = asyncio.Condition()

    async def answer(self, path: str) -> object:
        match path.strip("/").split("/"):
            case ["count", kind]:
                return len(self._times[kind])
            case ["wait", kind, count]:
                return await self._wait(self._times[kind], int(count))
            case [*_, "transactions", charge]:
                return {"id": charge, "status": "paid", "value": 4990, "end_to_end_id": None}
            case [_, "getUpdates"]:
                await self._note("getUpdates")
                await asyncio.sleep(POLL_S)
                return {"ok": True, "result": []}
            case [*whose, kind]:
                await self._note(kind)
                if whose and whose[0].startswith("bot"):
                    await self._note(f"{kind}@{whose[0].removeprefix('bot').partition(':')[0]}")
                return _TAKEN if kind == "events" else _SENT

    async def _note(self, kind: str) -> None:
        async with self._changed:
            self._times[kind].append(time.monotonic())
            self._changed.notify_all()

    async def _wait(self, times: list[float], count: int) -> float:
        async with self._changed:
            await self._changed.wait_for(lambda: len(times) >= count)
        return times[count - 1]


async def serve(port: int) -> None:
    arrivals = Arrivals()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                body = json.dumps(await arrivals.answer(await _path(reader))).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def _path(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    _, found, rest = head.lower().partition(b"content-length:")
    if found:
        await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    return head.split(b" ", 2)[1].decode().partition("?")[0]


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
