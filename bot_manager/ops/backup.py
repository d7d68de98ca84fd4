"""A backup: one file with everything but the keys, whole or not there at all.

It is written aside, put on the disk, read back in full and only then given its name, beside a checksum in the form that
`sha256sum -c` reads. The file is pg_dump's custom format, of one moment, made as the owner, whom no row is hidden from.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from bot_manager.ops import programs
from bot_manager.ops.processes import CannotRun
from bot_manager.ops.programs import Programs

_DUMP = ("--format=custom", "--no-password")


@dataclass(frozen=True, slots=True)
class Backup:
    """A file that was made: its size in bytes, how long it took in seconds."""

    path: Path
    size: int
    seconds: float


def make(owner_url: str, path: Path, *, snapshot: str | None = None, stop: Event | None = None) -> Backup:
    """Raises CannotRun, with nothing left behind. snapshot: an exported one to dump; stop: gives up when it is set."""
    began = time.monotonic()
    if path.exists():
        raise CannotRun(f"{path} is there already; give another name")
    tools = programs.fitting(programs.server_major(owner_url))[0]
    with _explained(path), _aside(path) as aside:
        _dump(tools, owner_url, aside, snapshot, stop)
        _read_back(tools, aside, stop)
        _name(aside, path)
    return Backup(path, path.stat().st_size, time.monotonic() - began)


def stream(owner_url: str, number: int) -> None:
    """The same to an open file: what arrives there is the reader's to check. Raises CannotRun."""
    tools = programs.fitting(programs.server_major(owner_url))[0]
    with os.fdopen(number, "wb", closefd=False) as out:
        programs.run(tools.directory / "pg_dump", _DUMP, owner_url, out)


def sum_of(path: Path) -> Path:
    """Where a backup's checksum is."""
    return path.with_name(f"{path.name}.sha256")


def verify(path: Path) -> bool:
    """Whether there is a checksum, and it fits. Raises CannotRun when it does not."""
    with _explained(path):
        digest = _digest(path)
        if not sum_of(path).exists():
            return False
        if sum_of(path).read_text().split()[:1] != [digest]:
            raise CannotRun(f"{path} is not what was written: its checksum differs; take another backup")
    return True


def _dump(tools: Programs, url: str, aside: Path, snapshot: str | None, stop: Event | None) -> None:
    words = [*_DUMP, *([f"--snapshot={snapshot}"] if snapshot else [])]
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        programs.run(tools.directory / "pg_dump", words, url, file, stop)
        os.fsync(file.fileno())


def _read_back(tools: Programs, aside: Path, stop: Event | None) -> None:
    """All of it: its list of contents says nothing of the data behind."""
    programs.run(tools.directory / "pg_restore", ["--file=/dev/null", str(aside)], None, stop=stop)
    listed = programs.run(tools.directory / "pg_restore", ["--list", str(aside)], None)
    if "TABLE DATA public alembic_version" not in listed:
        raise CannotRun("there are no tables of ours in this database; run `python -m bot_manager migrate` first")


def _name(aside: Path, path: Path) -> None:
    """The checksum first: where the backup has its name, it has its checksum."""
    note = sum_of(aside)
    with os.fdopen(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{_digest(aside)}  {path.name}\n")
        file.flush()
        os.fsync(file.fileno())
    note.replace(sum_of(path))
    try:
        os.link(aside, path)  # unlike a rename, it takes nothing away that came in between
    except FileExistsError:
        raise CannotRun(f"{path} is there already; give another name") from None
    _sync(path.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        yield aside
    finally:
        for left in (aside, sum_of(aside)):
            with suppress(OSError):
                left.unlink()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotRun(f"{path}: {error.strerror or error}; make room, or give another place") from error


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
