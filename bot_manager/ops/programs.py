"""PostgreSQL's own programs for dumping and restoring: the wheel's, or the system's that fit the operator's server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bot_manager.ops.postgres import bin_dir
from bot_manager.ops.postgres_data import Unavailable
from bot_manager.ops.processes import CannotRun

_DEBIAN = Path("/usr/lib/postgresql")
_LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True)
class Programs:
    """A directory with `pg_dump` and `pg_restore`, and their major version."""

    directory: Path
    major: int


def fitting(server_major: int) -> list[Programs]:
    """Those that can serve this server, the best first: its own version, then the next newer ones. Raises CannotRun."""
    found = sorted(choose(_installed(), server_major), key=lambda each: each.major)
    if not found:
        raise CannotRun(f"no pg_dump here knows PostgreSQL {server_major}; install postgresql-client-{server_major}")
    return found


def choose(installed: Iterable[Programs], server_major: int) -> list[Programs]:
    # An older one refuses a newer server; a newer one writes settings that an older server does not know.
    return [each for each in installed if each.major >= server_major]


def server_major(url: str) -> int:
    """Raises CannotRun."""
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            return connection.info.server_version // 10000
    except psycopg.OperationalError as error:
        raise CannotRun(
            f"the database does not answer ({str(error).splitlines()[0]}); start it, and try again"
        ) from None


def run(
    program: Path, words: Sequence[str], url: str | None, out: IO[bytes] | None = None, stop: Event | None = None
) -> str:
    """Runs one to its end; what it printed, unless that goes to `out`. Raises CannotRun, also when `stop` was set."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "HOME": str(Path.home())}
    target: list[str] = []
    if url:
        # Not the password: what is on the command line can be seen by every user of the machine.
        known = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        environment["PGPASSWORD"] = known.pop("password", "")
        target = [f"--dbname={make_conninfo('', **known)}"]
    command = [str(program), *words, *target]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=out or subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        said, error = _end(process, stop)
    if process.returncode:
        raise CannotRun(f"{program.name} failed: {_last(error) or f'it ended with {process.returncode}'}")
    return said.decode(errors="replace")


def _end(process: subprocess.Popen[bytes], stop: Event | None) -> tuple[bytes, bytes]:
    while True:
        try:
            said, error = process.communicate(timeout=0.2 if stop else None)
        except subprocess.TimeoutExpired:
            if stop and stop.is_set():
                process.kill()
        except BaseException:
            process.kill()
            raise
        else:
            return said or b"", error or b""


def _last(error: bytes) -> str:
    return " ".join(error.decode(errors="replace").split())[-_LONGEST_ERROR:]


def _installed() -> list[Programs]:
    places = [*_DEBIAN.glob("*/bin"), *(Path(found).parent for found in [shutil.which("pg_dump")] if found)]
    try:
        places.append(bin_dir())
    except Unavailable:
        pass
    found = {major: Programs(place, major) for place in reversed(places) if (major := _major(place))}
    return list(found.values())


def _major(place: Path) -> int | None:
    if not ((place / "pg_dump").exists() and (place / "pg_restore").exists()):
        return None
    done = subprocess.run([str(place / "pg_dump"), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    version = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(version[1]) if version else None
