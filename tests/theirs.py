"""A PostgreSQL that is not ours, and the product as its guest: over TCP, with passwords, and no superuser for us.

    with Theirs(tmp_path / "theirs") as theirs, World() as world, Guest(world, tmp_path, theirs) as product:
        product.start()

The owner of the tables may create databases, as `restore` and `drill` need it, and nothing else; the application's role
may do nothing. Both have passwords with all that an address has to escape.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from bot_manager.ops import postgres
from bot_manager.ops.postgres_data import ENV, Data
from tests.product import Product, _disconnect, free_port
from tests.until import until
from tests.world import World

PASSWORDS = {
    "admin": "a casa e dos outros 90210",
    "shop_owner": "dono:das@tabelas/55% 7Xk2",
    "shop_app": "papel:sem@poder/31% 9Qw4",
}
_START_S = 60.0


class Theirs:
    """home: where its data goes. more: settings of the server, as in postgresql.conf."""

    def __init__(self, home: Path, **more: str) -> None:
        self.data = Data(home)
        self.port = free_port()
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.data.home.mkdir()
        self.data.make_dir(self.data.path)
        self._initialise()
        self.start()
        with psycopg.connect(self.url("admin"), autocommit=True) as connection:
            for role, may in (("shop_owner", "createdb"), ("shop_app", "")):
                words = f"create role {{}} login nosuperuser {may} password {{}}"
                connection.execute(sql.SQL(words).format(sql.Identifier(role), sql.Literal(PASSWORDS[role])))
            connection.execute("create database shop owner shop_owner")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, role: str, database: str = "postgres") -> str:
        return f"postgresql://{role}:{quote(PASSWORDS[role], safe='')}@127.0.0.1:{self.port}/{database}"

    @property
    def urls(self) -> postgres.Urls:
        return postgres.Urls(app=self.url("shop_app", "shop"), owner=self.url("shop_owner", "shop"))

    def start(self) -> None:
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        words = [f"--{name}={value}" for name, value in {**options, **self._more}.items()]
        command = self.data.command("postgres", "-D", str(self.data.path), *words)
        with self.data.open(self.data.log) as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENV)
        until(lambda: postgres.answers(self.url("admin")), _START_S)

    def stop(self) -> None:
        """At once: whoever is connected is cut off."""
        if self._process:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)
            self._process.wait(_START_S)
            self._process = None

    def log(self) -> str:
        return self.data.log.read_text(errors="replace")

    def _initialise(self) -> None:
        note = self.data.home / "password"
        note.write_text(PASSWORDS["admin"])
        note.chmod(0o644)
        told = ("--auth=scram-sha-256", f"--pwfile={note}", "--encoding=UTF8", "--locale=C", "--no-instructions")
        command = self.data.command("initdb", "-D", str(self.data.path), "-U", "admin", *told)
        subprocess.run(command, capture_output=True, check=True, env=ENV)


class Guest(Product):
    """The product with a DATABASE_URL."""

    processes = frozenset({"run", "web", "worker"})

    def __init__(self, world: World, home: Path, theirs: Theirs, **more: str) -> None:
        self.theirs = theirs
        where = {"DATABASE_URL": theirs.urls.app, "DATABASE_OWNER_URL": theirs.urls.owner}
        super().__init__(world, home, **where, **more)

    @property
    def urls(self) -> postgres.Urls:
        return self.theirs.urls

    def stop(self) -> None:
        """The core in this process lets go as well: this server stays."""
        super().stop()
        if "_core" in vars(self):
            _disconnect(self._core)
