"""The product as it is run: `python -m bot_manager run` in a directory of its own, against the fakes of the world.

    with World() as world, Product(world, tmp_path) as product:
        product.start()
        shop = open_shop(product)
        product.kill("worker")
        product.wait_healthy()

Its real processes, its embedded PostgreSQL, a free port; bots and gateways push to it. Like `tests.line.Line` it has
`world`, `url`, `app`, `work`, `rows` and `change`, so that shops open in it as they do there.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Self, TypeVar

import requests
from flask import Flask
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from bot_manager.app import act_for
from bot_manager.ops import children, postgres
from bot_manager.settings import Settings, engine_url
from models import db
from tests.until import until
from tests.world import World
from web import create_app

ROOT = Path(__file__).parent.parent
START_S = 120.0
STOP_S = 40.0

T = TypeVar("T")


class Product:
    """home: where its data, keys and log go. root: whose code runs. more: further settings, as in the environment."""

    processes = frozenset({"run", "web", "worker", "postgres"})

    def __init__(self, world: World, home: Path, *, root: Path = ROOT, **more: str) -> None:
        self.root = root
        self.world = world
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {**_env(home, self.port, self.url), **world.env(), **more}
        self.server = postgres.Server(home / "var")
        self.log = home / "run.log"
        self._run: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []
        self._open = ExitStack()

    # Life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.stop()

    def start(self) -> None:
        """Starts `run`, and returns when all of it works."""
        self.begin()
        self.wait_healthy(START_S)

    def begin(self) -> None:
        """Starts `run`, and waits for nothing."""
        self._run = self._spawn("run")

    def stop(self) -> None:
        """Asks it to stop, and leaves nothing of it behind, however it ended."""
        for process in [*self._others, *([self._run] if self._run else [])]:
            self.end(process)
        self._run, self._others = None, []
        children.end_leftovers(self.mark)
        self.server.stop()

    def spawn(self, *words: str, **more: str) -> subprocess.Popen[bytes]:
        """One more process of it, beside those of `run`: `spawn("worker")`. more: settings of its own."""
        more = {"DATABASE_URL": self.urls.app, "DATABASE_OWNER_URL": self.urls.owner, **more}
        self._others.append(self._spawn(*words, **more))
        return self._others[-1]

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        process.wait()

    def _spawn(self, *words: str, **more: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bot_manager", *words],
                cwd=self.root,
                env={**self.env, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_healthy(self, seconds: float = 30) -> None:
        """Until /health says ok and every process is there."""
        try:
            until(self.healthy, seconds)
        except AssertionError:
            raise AssertionError(f"not healthy within {seconds} s: {self.pids()}\n{self.tail()}") from None

    def healthy(self) -> bool:
        with suppress(requests.RequestException, ValueError):
            answer = requests.get(f"{self.url}/health", timeout=2)
            return answer.json()["status"] == "ok" and set(self.pids()) == self.processes
        return False

    # Its processes

    @property
    def mark(self) -> str:
        """What the environment of all its children has."""
        return f"BOT_MANAGER_RUN={self.home / 'var'}"

    def pids(self) -> dict[str, int]:
        """Those alive of run, web (gunicorn's leader), worker and postgres."""
        found = {"run": self._run.pid} if self._run and self._run.poll() is None else {}
        for pid in children._marked(self.mark):
            if _parent(pid) == found.get("run") and (name := _name(pid)):
                found[name] = pid
        return found | ({"postgres": pid} if (pid := self.server._postmaster()) else {})

    def web_children(self) -> list[int]:
        """Gunicorn's own workers, which answer the requests."""
        leader = self.pids().get("web")
        return [pid for pid in children._marked(self.mark) if leader and _parent(pid) == leader]

    def left(self) -> list[int]:
        """Every process of it that is alive, its PostgreSQL's too, `run` itself not counted."""
        return children._marked(self.mark) + self.server._processes()

    def kill(self, name: str) -> int:
        """kill -9 of run, web, worker or postgres; waits for the process where it is there, and answers its number."""
        pid = until(lambda: self.pids().get(name), START_S)
        os.kill(pid, signal.SIGKILL)
        if name == "run" and self._run:
            self._run.wait()
        return pid

    def tail(self, lines: int = 30) -> str:
        """The last lines of what its processes wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    # Its database, and the core on it

    @property
    def urls(self) -> postgres.Urls:
        return self.server.urls

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """The owner's view of the database, past row-level security; waits while it is away."""

        def read() -> list[dict[str, Any]]:
            with self._owner.connect() as connection:
                return [dict(row._mapping) for row in connection.execute(text(sql), values)]

        return _through_a_restart(read)

    def change(self, sql: str, **values: Any) -> None:
        with self._owner.begin() as connection:
            connection.execute(text(sql), values)

    @cached_property
    def _owner(self) -> Any:
        return create_engine(engine_url(self.urls.owner), poolclass=NullPool)

    @property
    def app(self) -> Flask:
        """The core in this process, on the product's database and with its keys: to make a shop with."""
        _disconnect(self._core)  # what is pooled may be from before a kill
        return self._core

    @cached_property
    def _core(self) -> Flask:
        env = {**self.env, "DATABASE_URL": self.urls.app, "DATABASE_OWNER_URL": self.urls.owner}
        core = create_app(Settings.from_env(env))
        self._open.callback(_disconnect, core)
        return core

    @contextmanager
    def seller(self, seller_id: int) -> Iterator[None]:
        """An app context that acts for one seller."""
        with self.app.app_context():
            act_for(seller_id)
            yield

    def has_command(self, name: str) -> bool:
        return hasattr(import_module(f"bot_manager.commands.{name}"), "main")

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One of its commands, run to its end."""
        line = [sys.executable, "-m", "bot_manager", *words]
        return subprocess.run(
            line, cwd=self.root, env=self.env, capture_output=True, text=True, check=False, timeout=60
        )

    def work(self, seconds: float = 30) -> None:
        """Waits until no job runs or could run."""
        busy = (
            "select 1 from procrastinate_jobs where status = 'doing'"
            " or status = 'todo' and coalesce(scheduled_at, now()) <= now() limit 1"
        )
        until(lambda: not self.rows(busy), seconds)

    def pass_time(self, seconds: float) -> None:
        """Timers, waiting retries and the ends of claims come nearer by so much."""
        moved = "update {0} set {1} = {1} - make_interval(secs => :seconds) where {1} is not null"
        for table, column in _MOMENTS:
            self.change(moved.format(table, column), seconds=seconds)


_MOMENTS = (
    ("timer", "due_at"),
    ("procrastinate_jobs", "scheduled_at"),
    ("payment", "claimed_at"),
    ("message", "claimed_at"),
    ("conversion", "claimed_at"),
)


def _env(home: Path, port: int, url: str) -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    places = {"DATA_DIR": f"{home / 'var'}", "KEYS_DIR": f"{home / 'keys'}"}
    return {**kept, **places, "PORT": str(port), "PUBLIC_URL": url, "LOG_FORMAT": "console", "PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _parent(pid: int) -> int:
    with suppress(OSError):
        # The name in parentheses may hold anything; the state and the parent come after it.
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return 0 if state == "Z" else int(parent)
    return 0


def _name(pid: int) -> str | None:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if "setpriv" not in words[0]:
            return "web" if "gunicorn" in words else "worker" if "worker" in words else None
    return None


def _disconnect(core: Flask) -> None:
    with core.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


def _through_a_restart(read: Callable[[], T]) -> T:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return read()
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
