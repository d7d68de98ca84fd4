"""A company at the other end of the network, as a real HTTP server on the loopback in a thread of its own.

    with FakePushinPay() as pushinpay:
        pushinpay.add_account("token")
        pushinpay.fail("/pix/cashIn", how=ResetAfter())
        ...
        pushinpay.wait_for(lambda: pushinpay.charges)

A fake refuses what the real company refuses. Each refusal is also kept in `.refusals`, so a test can end with
`assert not fake.refusals`: whatever was refused was our mistake, unless the test asked for it.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web

from tests.world.calls import Call, Refusal, Refused, read
from tests.world.faults import Fault, Reply

T = TypeVar("T")
Match = str | Callable[["Call"], bool]


@dataclass
class Script:
    """A fault that waits for its calls. times: None for ever; skip: the first calls that go through; seen: so far."""

    matches: Callable[[Call], bool]
    how: Fault
    times: int | None
    skip: int
    seen: int = 0

    def takes(self, call: Call) -> bool:
        over = self.times is not None and self.seen >= self.skip + self.times
        if over or not self.matches(call):
            return False
        self.seen += 1
        return self.seen > self.skip


Handler = TypeVar("Handler", bound=Callable[..., Any])


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Marks a method of a Fake as the answer to `method path`; `{name}` in the path is handed over by name.

    A plain function runs under the fake's lock; a coroutine function does not.
    """

    def mark(handler: Handler) -> Handler:
        handler.route = (method, re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))  # type: ignore[attr-defined]
        return handler

    return mark


class Fake:
    """The common half: server, thread, log of calls, faults. Subclasses add `@route` methods and a ledger."""

    base = ""  # what the product's base URL ends with

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.refusals: list[Refusal] = []
        self.errors: list[BaseException] = []  # bugs of the fake itself; `stop` raises the first
        self.lock = threading.RLock()
        self.port = 0
        self._scripts: list[Script] = []
        self._changed = threading.Condition()
        self._version = 0
        self._thread: threading.Thread | None = None
        self._routes = [_bound(self, handler) for handler in _handlers_of(type(self))]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}"

    # Life

    def start(self) -> Self:
        """Starts the server; after a `stop`, on the same port as before."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()
        self.on_loop(self._open())
        return self

    def stop(self) -> None:
        """Stops the server: connections are refused from here on. Raises the fake's own first bug, if it had one."""
        if self._thread is None:
            return
        self.on_loop(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self._thread = None
        self.loop.close()
        if self.errors:
            raise self.errors[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _open(self) -> None:
        self.session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        await _cancel_others()
        await self._runner.cleanup()
        await self.session.close()
        await _cancel_others()

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the fake's thread and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Runs a coroutine in the fake's thread, from any thread, without waiting."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        future.add_done_callback(self._keep_error)
        return future

    def _keep_error(self, future: Future[Any]) -> None:
        if not future.cancelled() and (error := future.exception()):
            self.errors.append(error)

    # Faults

    def fail(self, match: Match, *, how: Fault, times: int | None = 1, skip: int = 0) -> Script:
        """The next `times` calls that match (a substring of "POST /path", or a function of the Call) go wrong."""
        matches = match if callable(match) else lambda call: match in f"{call.method} {call.path}"
        script = Script(matches, how, times, skip)
        with self.lock:
            self._scripts.append(script)
        return script

    def heal(self) -> None:
        """Forgets all faults that are still waiting."""
        with self.lock:
            self._scripts.clear()

    # Watching

    def wait_for(self, condition: Callable[[], T], timeout: float = 5.0) -> T:
        """Waits until `condition` is true and returns what it gave. Looks at once whenever something happens here,
        and every 20 ms for what happens elsewhere. Raises AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            seen = self._version
            if value := condition():
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{type(self).__name__}: waited {timeout} s in vain; {self._story()}")
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._version != seen, min(left, 0.02))

    def _story(self) -> str:
        last = [f"{call.method} {call.path}" for call in self.calls[-5:]]
        refused = [(refusal.status, refusal.body) for refusal in self.refusals[-3:]]
        return f"{len(self.calls)} calls, the last {last}; refused {refused}"

    def touch(self) -> None:
        """Says that something changed, so that `wait_for` looks again."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    # Answering

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = await read(request)
        with self.lock:
            self.calls.append(call)
            fault = next((script.how for script in self._scripts if script.takes(call)), None)
        self.touch()
        try:
            if fault:
                return await fault.play(request, lambda: self._work(call))
            return (await self._work(call)).response()
        finally:
            self.touch()

    async def _work(self, call: Call) -> Reply:
        try:
            return await self._handle(call)
        except Refused as refused:
            self.refusals.append(Refusal(call, refused.reply.status, refused.reply.body))
            return refused.reply
        except Exception as bug:  # noqa: BLE001 - a bug here must not pass for an answer
            self.errors.append(bug)
            return Reply(f"bug in the fake: {bug!r}", 500)
        finally:
            self.touch()

    async def _handle(self, call: Call) -> Reply:
        self.check(call)
        for method, pattern, handler in self._routes:
            found = pattern.fullmatch(call.path)
            if found and method in (call.method, "*"):
                return await self._run(handler, call, found.groupdict())
        raise self.unknown(call)

    async def _run(self, handler: Callable[..., Any], call: Call, parts: dict[str, str]) -> Reply:
        if inspect.iscoroutinefunction(handler):
            result = await handler(call, **parts)
        else:
            with self.lock:
                result = handler(call, **parts)
        return result if isinstance(result, Reply) else Reply(result)

    def check(self, call: Call) -> None:
        """What holds for every call; raises Refused."""

    def unknown(self, call: Call) -> Refused:
        """What is answered to a path or method that does not exist."""
        return Refused(404, {"message": "Not Found"})


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _handlers_of(kind: type[Fake]) -> list[Any]:
    return [function for _, function in inspect.getmembers(kind, inspect.isfunction) if hasattr(function, "route")]


def _bound(fake: Fake, handler: Any) -> tuple[str, re.Pattern[str], Callable[..., Any]]:
    method, path = handler.route
    return method, re.compile(re.escape(fake.base) + path), handler.__get__(fake)
