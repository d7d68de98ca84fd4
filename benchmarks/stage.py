"""Where benchmarks run: a PostgreSQL of their own, the light fakes, and the product's real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, create_engine, text

from benchmarks.fake import Outside
from bot_manager.ops import postgres, schema
from bot_manager.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
GUNICORN = ("-m", "gunicorn", "-c", "python:web.gunicorn_conf")
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Server:
    """A program that answers HTTP."""

    pid: int
    port: int


@dataclass(frozen=True)
class Stage:
    """settings: what the product runs on here. owner: into the database, past row-level security."""

    settings: Settings
    env: Mapping[str, str]
    owner: Engine
    outside: Outside
    postgres: int

    @contextmanager
    def web(self) -> Iterator[Server]:
        with self.served("-m", "bot_manager", "web") as server:
            yield server

    @contextmanager
    def served(self, *words: str) -> Iterator[Server]:
        """A program that listens on the PORT it is given, once it answers."""
        port = free_port()
        with program(*words, env={**self.env, "PORT": str(port)}) as pid:
            wait_until(lambda: answers(port))
            yield Server(pid, port)

    @contextmanager
    def worker(self, *lanes: str) -> Iterator[int]:
        self.run("delete from procrastinate_workers")
        with program("-m", "bot_manager", "worker", *lanes, env=self.env) as pid:
            wait_until(lambda: self.ask("select count(*) from procrastinate_workers"))
            yield pid

    def run(self, sql: str, **values: object) -> None:
        with self.owner.begin() as connection:
            connection.execute(text(sql), values)

    def ask(self, sql: str, **values: object) -> int:
        with self.owner.connect() as connection:
            return int(connection.scalar(text(sql), values) or 0)


@contextmanager
def opened() -> Iterator[Stage]:
    with TemporaryDirectory(prefix="bench-") as home, _database(Path(home)) as urls, _outside() as outside:
        env = {
            "DATABASE_URL": urls.app,
            "DATABASE_OWNER_URL": urls.owner,
            "DATA_DIR": f"{home}/var",
            "SECRET_KEY": "a secret key that only benchmarks use",
            "ENCRYPTION_KEYS": "an-encryption-key-that-only-benchmarks-use",
            "LOG_LEVEL": "WARNING",
            "TELEGRAM_API_URL": outside.url,
            "META_GRAPH_URL": outside.url,
            "PUSHINPAY_API_URL": outside.url,
            "WOOVI_API_URL": outside.url,
        }
        owner = create_engine(schema.engine_url(urls.owner))
        postmaster = (Path(home) / "var/postgres/postmaster.pid").read_text().split()[0]
        yield Stage(Settings.from_env(env), env, owner, outside, int(postmaster))
        owner.dispose()


@contextmanager
def _database(home: Path) -> Iterator[postgres.Urls]:
    home.chmod(0o755)  # run by root, the server is another user's
    with postgres.running(Settings(data_dir=home / "var")) as urls:
        schema.migrate(urls.owner, schema.role_of(urls.app))
        yield urls


@contextmanager
def _outside() -> Iterator[Outside]:
    port = free_port()
    with program("-m", "benchmarks.fake", str(port)):
        wait_until(lambda: answers(port))
        yield Outside(port)


@contextmanager
def program(*words: str, env: Mapping[str, str] | None = None, stop_s: float = 30.0) -> Iterator[int]:
    """Runs `python *words` for as long as the block lasts; yields its process id. Raises when it ended by itself."""
    process = subprocess.Popen([PYTHON, *words], cwd=ROOT, env={**_clean(), **(env or {})}, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
        if process.poll() is not None:
            raise RuntimeError(f"`{' '.join(words)}` ended by itself ({process.returncode})")
    finally:
        process.terminate()
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _clean() -> dict[str, str]:
    """The environment without whatever settings of the product are in it."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}


def answers(port: int) -> bool:
    return bool(ask(port, "/health"))


def ask(port: int, path: str) -> bytes:
    """The body of whatever is answered; empty when nothing is."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()


def wait_until(condition: Callable[[], object], pause_s: float = 0.02) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen in time")
        time.sleep(pause_s)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
