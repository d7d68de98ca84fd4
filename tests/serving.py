"""A WSGI app on a loopback port, in threads of this process."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Condition, Thread
from typing import Any, Self

from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class Serving:
    """Its end waits for what the app has begun: a client may have its answer before the app has given back its
    connection to the database, and who closes the database's pool then leaves that connection open for ever."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._at_work = 0
        self._changed = Condition()
        self._server = make_server("127.0.0.1", 0, self._call, threaded=True, request_handler=_Quiet)
        self._thread = Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self._changed:
            assert self._changed.wait_for(lambda: self._at_work == 0, timeout=15), "a request did not end"

    def _call(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self._count(1)
        try:
            answer: Iterable[bytes] = self.app(environ, start_response)
            return answer
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._changed:
            self._at_work += more
            self._changed.notify_all()
