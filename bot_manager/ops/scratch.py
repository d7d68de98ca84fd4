"""Databases beside the real one: a backup is restored into one of them, looked at, and then takes the real one's place.

Nobody works on a database that is half there: it has another name until it is whole, and the change of names is one
transaction. The owner must be allowed to create databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from bot_manager.ops import programs
from bot_manager.ops.processes import CannotRun
from bot_manager.settings import engine_url

_RESTORE = ("--no-owner", "--no-acl", "--exit-on-error", "--no-password", "--jobs=2")
_MAINTENANCE = ("postgres", "template1")  # a database can't be renamed from inside
# By name, not by kind: who is no superuser sees of other roles' sessions neither what they are nor whence. The server's
# own have no name, and make way by themselves.
_OTHERS = text(
    "select usename, application_name, case when backend_type is null then 'somewhere'"
    " else coalesce(host(client_addr), 'this machine') end as place, count(*) as n"
    " from pg_stat_activity where datname = :name and usename is not null and pid <> pg_backend_pid()"
    " group by 1, 2, 3 order by 1, 2, 3"
)
_END_OURS = text(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = :name and pg_has_role(usesysid, 'usage')"
)


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a server, as its owner. url: of SQLAlchemy's kind, without a driver."""

    url: str

    @property
    def name(self) -> str:
        return make_url(self.url).database or ""

    def named(self, name: str) -> Database:
        # Not through SQLAlchemy, which writes passwords in a way that libpq does not read.
        return Database(urlsplit(self.url)._replace(path=f"/{quote(name, safe='')}").geturl())

    @contextmanager
    def connected(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """One transaction. Raises CannotRun where PostgreSQL refuses."""
        level = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
        engine = create_engine(engine_url(self.url), poolclass=NullPool, **level)
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise CannotRun(f"PostgreSQL refuses: {str(error.orig).splitlines()[0]}") from error
        finally:
            engine.dispose()

    @contextmanager
    def beside(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """Connected to the same server, and not to this database."""
        with self.named(self._maintenance()).connected(autocommit=autocommit) as connection:
            yield connection

    def _maintenance(self) -> str:
        for name in _MAINTENANCE:
            with suppress(OperationalError):
                engine = create_engine(engine_url(self.named(name).url), poolclass=NullPool)
                engine.connect().close()
                return name
        raise CannotRun(f"neither {' nor '.join(_MAINTENANCE)} lets the owner in; grant it connect on one of them")


def fill(database: Database, file: Path) -> None:
    """Makes the database, from nothing, of a backup. Raises CannotRun."""
    drop(database)
    with database.beside(autocommit=True) as connection:
        connection.execute(text(f"create database {_quoted(connection, database.name)} template template0"))
    program = _reader(programs.server_major(database.url), file)
    programs.run(program, [*_RESTORE, str(file)], database.url)


def drop(database: Database) -> None:
    with database.beside(autocommit=True) as connection:
        connection.execute(text(f"drop database if exists {_quoted(connection, database.name)}"))


def others(database: Database) -> list[str]:
    """Who is connected to it, ourselves left out."""
    with database.beside() as connection:
        rows = connection.execute(_OTHERS, {"name": database.name})
        return [f"{row.n} of {row.usename} ({row.application_name or 'unnamed'}) from {row.place}" for row in rows]


@contextmanager
def fenced(database: Database, role: str) -> Iterator[None]:
    """During the block only its owner gets in. A process that is killed meanwhile leaves the fence to `migrate`."""
    with database.beside() as connection:
        name, who = _quoted(connection, database.name), _quoted(connection, role)
        connection.execute(text(f"revoke connect on database {name} from public, {who}"))
    try:
        yield
    finally:
        with suppress(CannotRun), database.beside() as connection:  # it may have been dropped meanwhile
            connection.execute(text(f"grant connect on database {name} to {who}"))


def take_place(new: Database, old: Database, away: str) -> None:
    """`new` gets the name of `old`, which is called `away` from then on. All or nothing."""
    with old.beside() as connection:
        for database in (new, old):
            connection.execute(_END_OURS, {"name": database.name})
        name = _quoted(connection, old.name)
        connection.execute(text(f"alter database {name} rename to {_quoted(connection, away)}"))
        connection.execute(text(f"alter database {_quoted(connection, new.name)} rename to {name}"))


def _reader(server_major: int, file: Path) -> Path:
    """The pg_restore that fits the server best, of those that can read the file."""
    why = ""
    for tools in programs.fitting(server_major):
        program = tools.directory / "pg_restore"
        try:
            programs.run(program, ["--list", str(file)], None)
        except CannotRun as error:
            why = str(error)
        else:
            return program
    raise CannotRun(f"{file} can't be read: {why}")


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)
