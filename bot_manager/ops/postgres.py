"""The embedded PostgreSQL, for when there is no DATABASE_URL: started by whoever needs it, stopped by the last one out.

The wheel's own `get_server` is not used: it counts its users in a file, which a kill -9 leaves wrong, and it takes no
settings. Here two kernel locks say who uses the server and who is it; the kernel frees them however a holder ends.

    postgres.users    shared by whoever needs the server; whoever can have it alone when leaving was the last
    postgres.server   held by the server, inherited by all its processes: free when none of them is left

It listens on a Unix socket alone, which only its own system user and root can open; so it asks for no password.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO
from urllib.parse import quote

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from bot_manager.ops.postgres_data import APP, ENV, OWNER, Data, Unavailable, bin_dir
from bot_manager.settings import Settings

__all__ = ["Server", "Unavailable", "Urls", "answers", "bin_dir", "running"]

_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 107  # bytes that fit a sockaddr_un
_LONGEST_LOG = 1_000_000  # bytes; begun anew at the next start
_STOP = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))  # fast, at once, the hard way
_FLAGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "recovery_init_sync_method": "syncfs",  # one call, not one a file: sooner back after a crash
    "timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "32MB",
    "min_wal_size": "32MB",
    "client_connection_check_interval": "2s",  # a statement whose client has given it up ends
    # Processes and memory that a small machine has better use for.
    "io_method": "sync",
    "huge_pages": "off",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    # The application sees its errors anyway; here they would only copy personal data into a file.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Urls:
    """app: the role the product works as, which owns nothing. owner: for migrations and backups."""

    app: str
    owner: str


@contextmanager
def running(settings: Settings) -> Iterator[Urls]:
    """A PostgreSQL for as long as the block lasts: the operator's, the one running here, or one started for it.

    Raises Unavailable.
    """
    if settings.database_url:
        yield Urls(settings.database_url, settings.database_owner_url or settings.database_url)
        return
    server = Server(settings.data_dir)
    with server.used():
        server.start()
        yield server.urls


def answers(url: str) -> bool:
    """Whether the server there takes connections, even if it has none left to give."""
    return PGconn.ping(make_conninfo(url, connect_timeout=2).encode()) == Ping.OK


class Server:
    """The server of one data directory, whoever started it. Its methods raise Unavailable."""

    def __init__(self, data_dir: Path) -> None:
        home = data_dir.resolve()
        self.data = Data(home)
        self.name = f"bot-manager-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
        self._users = home / "postgres.users"
        self._server = home / "postgres.server"
        self._launcher = home / "postgres.launcher"

    @cached_property
    def socket_dir(self) -> Path:
        inside = self.data.path
        separators = set(str(inside)) & set(', "')  # PostgreSQL reads a list
        if not separators and len(os.fsencode(inside / _SOCKET)) <= _LONGEST_SOCKET:
            return inside
        return Path("/tmp") / self.name  # noqa: S108 - TMPDIR differs between processes that must meet here

    @cached_property
    def urls(self) -> Urls:
        where = f"{APP}?host={quote(str(self.socket_dir))}&port=5432"
        return Urls(app=f"postgresql://{APP}@/{where}", owner=f"postgresql://{OWNER}@/{where}")

    @contextmanager
    def used(self) -> Iterator[None]:
        """During the block nobody who leaves stops the server; after it, the last one out does."""
        with self.data.open(self._users) as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield
            finally:
                if _locked(users):
                    self.stop()

    def start(self, *, child: bool = False) -> subprocess.Popen[bytes] | None:
        """Returns when the server answers; for inside `used()`.

        child: if it has to be started, then as a child of this process, returned, that dies with it; else on its own.
        """
        headless_since = time.monotonic()
        while not answers(self.urls.owner):
            with self.data.open(self._server) as lock:
                if _locked(lock):
                    return self._launch(lock, child=child)
            if self._launching() or self._postmaster():
                headless_since = time.monotonic()
            self._end_orphans(time.monotonic() - headless_since)
            time.sleep(0.05)
        return None

    def stop(self) -> None:
        """Open transactions are rolled back. Returns when no process of the server is left."""
        with self.data.open(self._server) as lock:
            for number, seconds in _STOP:
                self._signal(number)
                if _locked(lock, seconds):
                    break
            if self.socket_dir != self.data.path:
                with suppress(OSError):  # something else is in it
                    self.socket_dir.rmdir()

    def runs(self) -> bool:
        """Whether any process of it is left, answering or not."""
        with self.data.open(self._server) as lock:
            return not _locked(lock)

    def _launch(self, lock: IO[bytes], *, child: bool) -> subprocess.Popen[bytes] | None:
        """Holds the launcher's lock meanwhile: who waits must not take a newborn server for an orphan."""
        with self.data.open(self._launcher) as launcher:
            fcntl.flock(launcher, fcntl.LOCK_EX)
            return self._launched(lock, child=child)

    def _launching(self) -> bool:
        with self.data.open(self._launcher) as launcher:
            return not _locked(launcher)

    def _launched(self, lock: IO[bytes], *, child: bool) -> subprocess.Popen[bytes] | None:
        self.data.prepare()
        with self.data.explained():
            self._make_socket_dir()
            self._forget_the_dead()
            said = self._trim_log()
            process = self._spawn(lock, child=child)
        lock.close()  # from here on only the server holds it
        while not answers(self.urls.owner):
            if not self.runs():
                raise self.data.explain(self.data.log.read_bytes()[said:].decode(errors="replace"))
            time.sleep(0.05)
        return process if child else None

    def _spawn(self, lock: IO[bytes], *, child: bool) -> subprocess.Popen[bytes]:
        flags = _FLAGS | {"unix_socket_directories": str(self.socket_dir), "cluster_name": self.name}
        words = ["-D", str(self.data.path), *(f"--{name}={value}" for name, value in flags.items())]
        command = self.data.command("postgres", *words, setpriv=["--pdeathsig=INT"] if child else [])
        with self.data.open(self.data.log) as log:
            process = subprocess.Popen(  # noqa: S603
                command if child else ["setsid", "--fork", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENV,
                pass_fds=[lock.fileno()],
                process_group=0,
            )
        if not child:
            process.wait()  # that was `setsid`, which has forked
        return process

    def _make_socket_dir(self) -> None:
        if not self.socket_dir.exists():
            self.data.make_dir(self.socket_dir)
        found = self.socket_dir.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == self.data.path.stat().st_uid
        if not ours or found.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
            raise Unavailable(f"{self.socket_dir} is somebody else's", "remove it, or choose a shorter DATA_DIR")

    def _forget_the_dead(self) -> None:
        # The lock was free, so none of its processes lives; but the number noted may be another program's by now.
        for note in (self.data.path / "postmaster.pid", self.socket_dir / f"{_SOCKET}.lock"):
            if note.exists() and not _is_postgres(_noted(note)):
                note.unlink()

    def _trim_log(self) -> int:
        with self.data.open(self.data.log) as log:
            if log.tell() > _LONGEST_LOG:
                log.truncate(0)
            return log.seek(0, os.SEEK_END)

    def _postmaster(self) -> int | None:
        noted = _noted(self.data.path / "postmaster.pid")
        return noted if noted in self._processes() else None

    def _processes(self) -> list[int]:
        """Each has the cluster's name in its title."""
        titles = ((int(path.parent.name), _read(path)) for path in Path("/proc").glob("[0-9]*/cmdline"))
        return [pid for pid, title in titles if self.name.encode() in title and _is_postgres(pid)]

    def _signal(self, number: signal.Signals) -> None:
        postmaster = None if number == signal.SIGKILL else self._postmaster()
        for pid in [postmaster] if postmaster else self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end_orphans(self, waited: float) -> None:
        """Without their postmaster they end by themselves, unless busy with a long statement."""
        if waited > 2:
            self._signal(signal.SIGKILL)
        if waited > 30:
            problem = f"a PostgreSQL that can't be seen from here holds {self.data.path}"
            raise Unavailable(problem, "stop it, in the container it runs in", permanent=False)


def _locked(file: IO[bytes], seconds: float = 0) -> bool:
    """Whether the file could be locked for us alone within that time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _noted(note: Path) -> int:
    """The process whose number a file of PostgreSQL's begins with; 0: none."""
    first = _read(note).split()[:1]
    return int(first[0]) if first and first[0].isdigit() else 0


def _is_postgres(pid: int) -> bool:
    process = Path(f"/proc/{pid}")
    # A dead process that nobody has waited for still has its name, but no command line.
    return _read(process / "comm").strip() == b"postgres" and _read(process / "cmdline") != b""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
