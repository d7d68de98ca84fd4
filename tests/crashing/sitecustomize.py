"""Dies where a test says so: on PYTHONPATH, it is read by every Python process of the product before anything else.

A test arms a point by a file of its name in $CRASH_AT. Who gets there moves the file away, so that one process dies,
once, and whoever is started in its place goes on. What the file says: `self`; the cluster's name of a PostgreSQL that
dies in its stead with all its processes; or `always` and some words: whoever gets there with these words in its
arguments, each time.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from points import POINTS, Moment, Point

ARMED = Path(os.environ["CRASH_AT"])
_DIALECT = "sqlalchemy.engine.default"
_after_commit = threading.local()


def die(name: str, args: tuple[Any, ...] = ()) -> None:
    armed = ARMED / name
    with suppress(FileNotFoundError):
        victim, _, words = armed.read_text().partition(" ")
        if victim == "always":
            _die_of(words, name, args)
            return
        armed.rename(ARMED / f"{name}.reached")
        if victim == "self":
            os.kill(os.getpid(), signal.SIGKILL)
        _kill_postgres(victim)


def _die_of(words: str, name: str, args: tuple[Any, ...]) -> None:
    if words in repr(args):
        with (ARMED / f"{name}.reached").open("a") as reached:
            reached.write(f"{time.monotonic()} {os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def _kill_postgres(cluster: str) -> None:
    """The power fails: no process of it does anything more."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            titled = cluster.encode() in (process / "cmdline").read_bytes()
            if titled and (process / "comm").read_text().strip() == "postgres":
                os.kill(int(process.name), signal.SIGKILL)


def _reached(name: str, point: Point, args: tuple[Any, ...], result: object) -> None:
    if point.writes and not _wrote_jobs(args[0]):
        return
    if point.where.endswith("fetch_job") and result is None:
        return
    if point.moment is Moment.AFTER_COMMIT:
        _waiting().append(name)
    elif point.moment is Moment.AFTER:
        die(name, args)


def _wrote_jobs(connection: Any) -> bool:
    mine = "select exists (select from procrastinate_jobs where xmin::text = pg_current_xact_id()::text)"
    return bool(connection.exec_driver_sql(mine).scalar())


def _waiting() -> list[str]:
    if not hasattr(_after_commit, "names"):
        _after_commit.names = []
    names: list[str] = _after_commit.names
    return names


def _wrap(name: str, point: Point, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if point.moment is Moment.BEFORE:
            die(name, args)
        result = function(*args, **kwargs)
        _reached(name, point, args, result)
        return result

    @functools.wraps(function)
    async def wrapped_coroutine(*args: Any, **kwargs: Any) -> Any:
        if point.moment is Moment.BEFORE:
            die(name, args)
        result = await function(*args, **kwargs)
        _reached(name, point, args, result)
        return result

    return wrapped_coroutine if asyncio.iscoroutinefunction(function) else wrapped


def _watch_commits(dialect: Any) -> None:
    commit, rollback = dialect.do_commit, dialect.do_rollback

    def do_commit(self: Any, connection: Any) -> None:
        names = _waiting()[:]
        _waiting().clear()
        commit(self, connection)
        for name in names:
            die(name)

    def do_rollback(self: Any, connection: Any) -> None:
        _waiting().clear()
        rollback(self, connection)

    dialect.do_commit, dialect.do_rollback = do_commit, do_rollback


def _patch(module: ModuleType) -> None:
    if module.__name__ == _DIALECT:
        _watch_commits(module.DefaultDialect)
    if module.__name__ == "bot_manager.ops.children":
        module._PAUSES = (0.2,)  # what keeps dying is started ever later: another test's matter
    for name, point in _BY_MODULE.get(module.__name__, []):
        *holders, last = point.where.partition(":")[2].split(".")
        holder = functools.reduce(getattr, holders, module)
        setattr(holder, last, _wrap(name, point, getattr(holder, last)))


_BY_MODULE: dict[str, list[tuple[str, Point]]] = defaultdict(list)
for _name, _point in POINTS.items():
    _BY_MODULE[_point.where.partition(":")[0]].append((_name, _point))


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _patch(module)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in _BY_MODULE and name not in (_DIALECT, "bot_manager.ops.children"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.origin:
            spec.loader = _Loader(name, spec.origin)
        return spec


sys.meta_path.insert(0, _Finder())
