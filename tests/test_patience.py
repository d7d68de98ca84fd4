"""A database that does not answer: every wait has an end, on our side and on the server's."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from threading import Event, Thread, Timer

import psycopg
import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from bot_manager import sellers
from bot_manager.app import act_for, look_across_sellers
from bot_manager.database import patience
from bot_manager.ops import postgres
from bot_manager.security import doors
from bot_manager.settings import Settings
from models import DoorKind, db
from tests.conftest import dispose
from tests.until import until
from web import create_app

LONG_S = 10.0  # any of our own bounds ends sooner


class Line:
    """A network between us and the database. Cut, it goes on taking what is sent and hands on nothing."""

    def __init__(self, urls: postgres.Urls) -> None:
        where = psycopg.conninfo.conninfo_to_dict(urls.app)
        self._target = f"{where['host']}/.s.PGSQL.{where['port']}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cut = Event()
        self._sockets: list[socket.socket] = [self._listener]
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://{where['user']}@127.0.0.1:{port}/{where['dbname']}"
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.cut.is_set():
                    sink.sendall(data)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):  # a socket that is read from elsewhere is only closed when it is shut down
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def network(database: postgres.Urls) -> Iterator[Line]:
    line = Line(database)
    end = Timer(3 * LONG_S, line.close)  # whoever waits without a bound of their own is red, not stuck
    end.start()
    yield line
    end.cancel()
    line.close()


@pytest.fixture
def far(settings: Settings, network: Line) -> Iterator[Flask]:
    """The application, with that network before its database."""
    made = create_app(replace(settings, database_url=network.url))
    yield made
    dispose(made)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_a_statement_that_takes_longer_than_is_left_ends_its_connection_and_the_next_one_is_fine(app: Flask) -> None:
    def impatient() -> None:
        db.session.execute(text("select 1"))
        patience.give(0.3)
        with within(LONG_S), pytest.raises(OperationalError, match="timeout"):
            db.session.execute(text("select pg_sleep(60)"))
        db.session.rollback()

    copy_context().run(impatient)
    assert db.session.execute(text("select 1")).scalar() == 1


def test_a_statement_that_is_given_up_ends_at_the_server_too(app: Flask, owner: Engine) -> None:
    running = text("select count(*) from pg_stat_activity where query like 'select pg_sleep(61)%' and state = 'active'")

    def impatient() -> None:
        db.session.execute(text("select 1"))
        patience.give(0.3)
        with pytest.raises(OperationalError):
            db.session.execute(text("select pg_sleep(61)"))
        db.session.rollback()

    copy_context().run(impatient)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        until(lambda: not connection.execute(running).scalar())


def test_nothing_is_asked_for_when_no_time_is_left(app: Flask) -> None:
    def late() -> None:
        patience.give(5, since=time.monotonic() - 6)
        assert patience.left() == 0
        with pytest.raises(psycopg.OperationalError):
            patience.Connection.connect("host=127.0.0.1")

    copy_context().run(late)


def test_a_shorter_patience_never_becomes_a_longer_one() -> None:
    def request() -> None:
        patience.give(1)
        patience.at_most(5)
        assert patience.left() <= 1
        patience.at_most(0.5)
        assert patience.left() <= 0.5

    copy_context().run(request)


def test_behind_a_network_that_swallows_all_a_notice_is_a_503_in_time_and_accepted_when_it_heals(
    far: Flask, network: Line
) -> None:
    client = far.test_client()
    assert client.get("/health").json["database"] == "ok"
    network.cut.set()
    with within(LONG_S):
        answer = client.post("/webhook/pushinpay/secret", data=b"{}")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    with within(LONG_S):
        assert client.get("/health").json["status"] == "down"
    network.cut.clear()
    assert client.get("/health").json["database"] == "ok"
    assert client.post("/webhook/pushinpay/secret", data=b"{}").status_code == 404


def test_a_request_leaves_its_deadline_to_nobody(app: Flask) -> None:
    app.test_client().get("/health")
    assert patience.left() == patience.STATEMENT_S


def test_an_address_may_say_otherwise() -> None:
    said = psycopg.conninfo.conninfo_to_dict(
        patience.conninfo("postgresql://a@b/c?connect_timeout=9&keepalives_idle=7")
    )
    assert (said["connect_timeout"], said["keepalives_idle"]) == ("9", "7")
    assert int(said["tcp_user_timeout"]) > 0


def shown() -> dict[str, str]:
    names = "statement_timeout", "idle_in_transaction_session_timeout"
    return {name: db.session.execute(text(f"show {name}")).scalar_one() for name in names}


def test_the_server_ends_a_transaction_whose_owner_is_paused(app: Flask, owner: Engine) -> None:
    """It would hold the locks that who takes over needs."""
    made = sellers.create("Loja", "dona@example.com")
    doors.put(DoorKind.LINK, "promo", made.seller_id, 1)
    db.session.commit()
    bounded = {"statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s"}
    for begin in (lambda: act_for(made.seller_id), look_across_sellers, lambda: doors.enter(DoorKind.LINK, "promo")):
        db.session.remove()
        begin()
        assert shown() == bounded
    db.session.commit()
    with db.engine.connect() as same:  # nothing is left on the connection
        assert same.execute(text("show idle_in_transaction_session_timeout")).scalar() == "0"
