"""python-telegram-bot's request object on one shared aiohttp session.

The library's own costs 2 to 12 CPU-ms a call as more of them are under way; this one 0.5 to 1.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from telegram._utils.types import ODVInput
from telegram.error import NetworkError, TelegramError, TimedOut
from telegram.request import BaseRequest, RequestData

from bot_manager.network import strict

CONNECT_S = 5.0
ANSWER_S = 10.0
CONNECTIONS = 200
MOST_BYTES = 8 * 1024 * 1024  # a hundred updates are far below


class NotSent(NetworkError):
    """No connection was made, so nothing was sent."""


class SharedRequest(BaseRequest):
    """All bots' calls. Opened and closed by its owner: a bot's own `shutdown` must not close the others' session.

    connections: how many at once; 0 means without bound.
    """

    def __init__(self, connections: int = CONNECTIONS) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    @property
    def read_timeout(self) -> float:
        return ANSWER_S

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=self._connections, ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True)

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def initialize(self) -> None:
        pass

    async def shutdown(self) -> None:
        pass

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, Any]:
        """Raises TelegramError when it is not the object that every answer is."""
        try:
            answer = strict.loads(payload, MOST_BYTES)
        except strict.Unreadable as why:
            raise TelegramError(f"the answer {why}") from None
        if not isinstance(answer, dict):
            raise TelegramError("the answer is not a JSON object")
        return answer

    async def do_request(  # noqa: PLR0917  (the library's signature)
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: ODVInput[float] = BaseRequest.DEFAULT_NONE,
        write_timeout: ODVInput[float] = BaseRequest.DEFAULT_NONE,
        connect_timeout: ODVInput[float] = BaseRequest.DEFAULT_NONE,
        pool_timeout: ODVInput[float] = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        """Raises NotSent when no connection came about, TimedOut when no whole answer did."""
        if self._session is None:
            raise NotSent("the session is not open")
        patience = read_timeout if isinstance(read_timeout, int | float) else ANSWER_S
        timeout = aiohttp.ClientTimeout(total=CONNECT_S + patience, sock_connect=CONNECT_S)
        try:
            async with self._session.request(
                method, url, data=_body(request_data), timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status, await _read(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(f"no connection: {type(error).__name__}") from error
        except (TimeoutError, aiohttp.ClientError) as error:
            raise TimedOut(f"no answer: {type(error).__name__}") from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The answer's body. What is larger than any answer is cut, and then no JSON."""
    pieces, left = [], MOST_BYTES + 1
    while left > 0 and (piece := await answer.content.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _body(data: RequestData | None) -> aiohttp.FormData | None:
    if data is None:
        return None
    form = aiohttp.FormData()
    for name, value in data.json_parameters.items():
        form.add_field(name, value)
    for name, (filename, content, mime) in (data.multipart_data or {}).items():
        form.add_field(name, content, filename=filename, content_type=mime)
    return form
