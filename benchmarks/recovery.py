"""How long each fault is felt: a process killed under `python -m bot_manager run`, the database restarted.

From the fault until a notice is answered well (it is tried again twenty times a second, as a gateway would more
patiently), until what was bought and the Purchase are out, and until /health says ok for good. Beside each, what the
plain start of the same process takes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from sqlalchemy import NullPool, create_engine

from benchmarks import load, proc
from benchmarks.report import Goal, Report
from benchmarks.shops import Market
from benchmarks.stage import PYTHON, ROOT, Stage, ask, free_port, opened, wait_until
from bot_manager.ops import postgres, schema
from bot_manager.settings import Settings

ROUNDS = int(os.environ.get("ROUNDS", "3"))
REST_S = 11.0  # longer than the supervisor takes a death for a young one, and pauses


class Run:
    """The product under its supervisor, on a home of its own, against the outside of a stage."""

    def __init__(self, stage: Stage, home: Path) -> None:
        self.port = free_port()
        self._home = home
        address = f"http://127.0.0.1:{self.port}"
        places = {"DATA_DIR": f"{home}/var", "PORT": str(self.port), "PUBLIC_URL": address, "LOG_LEVEL": "ERROR"}
        mine = {name: value for name, value in stage.env.items() if not name.startswith("DATABASE")}
        self.env = {**mine, **places}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        words = [PYTHON, "-m", "bot_manager", "run"]
        env = {**inherited, **self.env}
        silent = subprocess.DEVNULL  # what it says about the faults is expected
        self._process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=silent, stderr=silent)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def healthy(self) -> bool:
        return b'"status":"ok"' in ask(self.port, "/health").replace(b" ", b"")

    def on(self, stage: Stage) -> Stage:
        """The stage with this product's database in place of its own."""
        urls = postgres.Server(self._home / "var").urls
        env = {**self.env, "DATABASE_URL": urls.app, "DATABASE_OWNER_URL": urls.owner}
        owner = create_engine(schema.engine_url(urls.owner), poolclass=NullPool)
        return replace(stage, settings=Settings.from_env(env), env=env, owner=owner)

    # Faults

    def kill(self, name: str) -> None:
        os.kill(self._pid(name), signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """And start it again, as the machine's own supervisor would."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self.start()

    def restart_postgres(self) -> None:
        os.kill(self._pid("postgres"), signal.SIGINT)

    def _pid(self, name: str) -> int:
        if name == "postgres":
            return int((self._home / "var/postgres/postmaster.pid").read_text().split()[0])
        above = self._process.pid if self._process else 0
        children = [pid for pid in proc.tree(above) if pid != above]
        return next(pid for pid in children if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())


@dataclass(frozen=True)
class Felt:
    """Seconds since the fault."""

    answered: float
    out: float
    healthy: float


def run() -> Report:
    rows: list[dict[str, Any]] = []
    with opened() as stage:
        floors = _floors(stage)
        with _running(stage) as (product, market):
            for what, fault, floor in FAULTS:
                felt = [_feel(stage, product, market, fault) for _ in range(ROUNDS)]
                rows.append(_row(what, felt, floors[floor]))
                print(f"  {what}: out after {rows[-1]['out']:.1f} s", file=sys.stderr, flush=True)
    slowest = max(row["out"] for row in rows)
    goals = [Goal("a sale is out after a fault, slowest", slowest, 3.0, "s")]
    return Report(f"Recovery, median of {ROUNDS} (seconds since the fault)", rows, goals=goals)


FAULTS: list[tuple[str, Callable[[Run], None], str]] = [
    ("kill -9 web", lambda product: product.kill("gunicorn"), "web"),
    ("kill -9 worker", lambda product: product.kill("worker"), "worker"),
    ("kill -9 PostgreSQL", lambda product: product.kill("postgres"), "postgres"),
    ("PostgreSQL restarted", Run.restart_postgres, "postgres"),
    ("kill -9 the supervisor, started again", Run.kill_supervisor, "run"),
]


@contextmanager
def _running(stage: Stage) -> Iterator[tuple[Run, Market]]:
    with TemporaryDirectory(prefix="bench-") as home:
        Path(home).chmod(0o755)
        product = Run(stage, Path(home))
        product.start()
        try:
            wait_until(product.healthy, 0.05)
            yield product, Market(product.on(stage))
        finally:
            product.stop()


def _floors(stage: Stage) -> dict[str, float]:
    """How long each takes to start, alone."""
    return {
        "web": _timed(stage.web),
        "worker": _timed(stage.worker),
        "postgres": _postgres_start(),
        "run": _run_start(stage),
    }


def _timed(start: Callable[[], Any]) -> float:
    began = time.monotonic()
    with start():
        return time.monotonic() - began


def _postgres_start() -> float:
    with TemporaryDirectory(prefix="bench-") as home:
        Path(home).chmod(0o755)
        settings = Settings(data_dir=Path(home) / "var")
        _timed(lambda: postgres.running(settings))
        return _timed(lambda: postgres.running(settings))


def _run_start(stage: Stage) -> float:
    with _running(stage) as (product, _):
        product.stop()
        began = time.monotonic()
        product.start()
        wait_until(product.healthy, 0.05)
        return time.monotonic() - began


def _row(what: str, felt: list[Felt], floor: float) -> dict[str, Any]:
    middle = {name: median(getattr(each, name) for each in felt) for name in ("answered", "out", "healthy")}
    return {"fault": what, **middle, "out, slowest": max(each.out for each in felt), "floor: its start": floor}


def _feel(stage: Stage, product: Run, market: Market, fault: Callable[[Run], None]) -> Felt:
    notice = market.woovi_notices(1)[0]
    due = {kind: stage.outside.count(kind) + 1 for kind in ("sendMessage", "events")}
    began, over = time.monotonic(), Event()
    fault(product)
    with ThreadPoolExecutor(1) as watcher:
        watching = watcher.submit(_last_ill, product, began, over)
        answered = _post(product.port, notice)
        out = max(stage.outside.wait(kind, count) for kind, count in due.items())
        wait_until(product.healthy, 0.05)
        over.set()
        healthy = watching.result()
    time.sleep(REST_S)
    return Felt(answered - began, out - began, healthy - began)


def _post(port: int, notice: bytes) -> float:
    """When it was answered well."""
    while True:
        with suppress(OSError, RuntimeError):
            return load.send_one(port, notice)[1]
        time.sleep(0.05)


def _last_ill(product: Run, began: float, over: Event) -> float:
    """When /health last said something else than ok."""
    last = began
    while not over.is_set():
        if not product.healthy():
            last = time.monotonic()
        time.sleep(0.05)
    return last
