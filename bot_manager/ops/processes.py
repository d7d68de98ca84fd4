"""`python -m bot_manager run`: PostgreSQL, web and worker under one roof, until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from threading import Event

from bot_manager.ops import children, postgres
from bot_manager.ops.children import Process, Program
from bot_manager.ops.postgres import Urls
from bot_manager.ops.postgres_data import Data
from bot_manager.settings import Settings

COMMANDS: Mapping[str, Sequence[str]] = {
    "web": (sys.executable, "-m", "bot_manager", "web"),
    "worker": (sys.executable, "-m", "bot_manager", "worker", "--bots"),
}
_TICK = 0.2
_DATABASE_WAIT = 30.0
_NO_PUBLIC_URL = (
    "No PUBLIC_URL: bots ask Telegram for messages themselves, and no gateway's notice can reach this machine,\n"
    "  so open charges are confirmed by asking the gateway.\n"
)


class CannotRun(Exception):
    """The text, for the operator, is the problem and what to do about it."""


def run(
    settings: Settings,
    announce: Callable[[Urls], str],
    *,
    migrate: Callable[[Urls], None] | None = None,
    commands: Mapping[str, Sequence[str]] = COMMANDS,
) -> int:
    """Serves until SIGTERM, SIGINT or SIGHUP; returns the exit code. For the main thread.

    announce: called when the panel answers; what it returns (the first login, say) is printed below its address, or
    why not if it raises CannotRun.
    Raises CannotRun, postgres.Unavailable, and whatever `migrate` raises.
    """
    with alone(settings) as mark, _asked_to_stop() as stop, _database(settings) as (urls, processes):
        _wait_for(urls.owner, stop)
        (migrate or import_module("bot_manager.ops.schema").migrate)(urls)
        extra = [mark, *_exports(settings, urls)]
        programs = [Program(name, words, extra) for name, words in commands.items()]
        try:
            _serve([*processes, *programs], stop, settings, lambda: announce(urls))
        finally:
            children.stop(programs)
    return 0


def _serve(processes: Sequence[Process], stop: Event, settings: Settings, announce: Callable[[], str]) -> None:
    welcomed = False
    while not stop.is_set():
        for process in processes:
            process.tend()
        if not welcomed and _web_answers(settings.port):
            welcomed = True
            sys.stdout.write(_welcome(settings, _said(announce)))
            sys.stdout.flush()
        time.sleep(_TICK)


def _said(announce: Callable[[], str]) -> str:
    # The database may be killed just now: that is no reason to stop serving.
    try:
        return announce()
    except CannotRun as error:
        return str(error)


def _welcome(settings: Settings, announcement: str) -> str:
    lines = [f"Bot Manager is at {settings.address}", announcement, "" if settings.public_url else _NO_PUBLIC_URL]
    return "\n".join(["", *(f"  {line.strip()}" for line in lines if line), "  Ctrl-C stops it.", "", ""])


def _web_answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        connection.getresponse()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True


@contextmanager
def alone(settings: Settings) -> Iterator[str]:
    """One `run` per DATA_DIR. Yields the mark that its children bear, which none alive has when the block begins."""
    home = settings.data_dir.resolve()
    note = home / "run.lock"
    with Data(home).open(note) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            problem = f"process {note.read_text()} already runs on {home}"
            raise CannotRun(f"{problem}; stop it, or choose another DATA_DIR") from error
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        mark = f"BOT_MANAGER_RUN={home}"
        children.end_leftovers(mark)
        if _web_answers(settings.port):
            raise CannotRun(f"something else answers on port {settings.port}; stop it, or choose another PORT")
        yield mark


@contextmanager
def _asked_to_stop() -> Iterator[Event]:
    """Set by SIGTERM, SIGINT or SIGHUP. A second Ctrl-C does not wait."""
    stop = Event()

    def ask(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[Urls, list[Process]]]:
    """The addresses, and what has to be tended so that they answer."""
    if settings.database_url:
        with postgres.running(settings) as urls:
            yield urls, []
        return
    server = postgres.Server(settings.data_dir)
    with server.used():
        process = Process("postgres", lambda: server.start(child=True) or _Elsewhere(server))
        process.child = server.start(child=True) or _Elsewhere(server)
        try:
            yield server.urls, [process]
        finally:
            if isinstance(process.child, subprocess.Popen):
                server.stop()
                process.child.wait()


def _wait_for(url: str, stop: Event) -> None:
    """A database in the next container may be starting just as we are."""
    deadline = time.monotonic() + _DATABASE_WAIT
    while not postgres.answers(url) and not stop.is_set() and time.monotonic() < deadline:
        time.sleep(_TICK)


class _Elsewhere:
    """A server that another command has started: the last one out stops it."""

    def __init__(self, server: postgres.Server) -> None:
        self._server = server

    def poll(self) -> int | None:
        return None if self._server.runs() else 1


def _exports(settings: Settings, urls: Urls) -> list[str]:
    """What the children can't read from the environment they inherit."""
    return [] if settings.database_url else [f"DATABASE_URL={urls.app}", f"DATABASE_OWNER_URL={urls.owner}"]
