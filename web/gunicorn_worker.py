"""What gunicorn's ASGI worker lacks before hostile clients: two deadlines and a listening queue.

It bounds the wait between two requests of a connection (`keepalive`), but neither the first request's headers nor how
long a client may take to read an answer: whoever opens sockets and says nothing would own them for ever, until the
process has no file descriptor left. The places hooked are private to gunicorn; `tests/test_front.py` watches them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

HEADER_SECONDS = 5.0
READ_SECONDS = 30.0  # without any progress in reading our answer


class Protocol(ASGIProtocol):  # type: ignore[misc]
    _headers_due: asyncio.TimerHandle
    _reading_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._headers_due = self._abort_after(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_due.cancel()
        self._stop_expecting()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._closed:
            self._stop_expecting()

    def _on_headers_complete(self) -> Any:
        self._headers_due.cancel()
        return super()._on_headers_complete()

    def _close_transport(self) -> None:
        # A close waits, however long, for the client to read what is left.
        if self.transport and not self._closed:
            self._expect_reading()
        super()._close_transport()

    def _expect_reading(self) -> None:
        self._stop_expecting()
        self._reading_due = self._abort_after(READ_SECONDS)

    def _stop_expecting(self) -> None:
        if self._reading_due:
            self._reading_due.cancel()

    def _abort_after(self, seconds: float) -> asyncio.TimerHandle:
        handle: asyncio.TimerHandle = self.worker.loop.call_later(seconds, self.transport.abort)
        return handle


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    def _setup_event_loop(self) -> None:
        """Where servers are made is the one place to name our protocol, and the length of the listening queue.

        asyncio takes 100 if not told otherwise, whatever gunicorn's own `backlog`; in a rush of connections those that
        don't fit try again after a second.
        """
        super()._setup_event_loop()
        create_server = self.loop.create_server

        def create_patient_server(_factory: object, **options: Any) -> Any:
            return create_server(lambda: Protocol(self), backlog=self.cfg.backlog, **options)

        self.loop.create_server = create_patient_server
