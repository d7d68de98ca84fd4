"""What every test stands on: a real PostgreSQL with a database per test process, the world outside, and a cast."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, text

import gateways
from bot_manager.ops import postgres, schema
from bot_manager.settings import Settings
from gateways.base import Gateway
from models import Base, db
from tests.line import Line
from tests.panel_world import Cast
from tests.panel_world import World as PanelWorld
from tests.shop_cast import PROVIDERS
from tests.world import World
from web import create_app

os.environ["PTB_TIMEDELTA"] = "true"

_EMPTY = text(
    "set local session_replication_role = replica;"
    + "".join(f'delete from "{table.name}";' for table in Base.metadata.tables.values())
    + "delete from procrastinate_events; delete from procrastinate_jobs; delete from procrastinate_workers;"
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Urls]:
    """One PostgreSQL for all test processes: the first one starts it, the last one out stops it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with postgres.running(Settings(data_dir=shared / "var")) as urls:
        yield urls


@pytest.fixture(scope="session")
def database(server: postgres.Urls, worker_id: str) -> postgres.Urls:
    """A migrated database of this test process's own, emptied before each test that uses it."""
    return _made(server, f"test_{worker_id}")


@pytest.fixture(scope="session")
def panel_database(server: postgres.Urls, worker_id: str) -> postgres.Urls:
    """Another one, in which the panel's shops stay."""
    return _made(server, f"panel_{worker_id}")


def _made(server: postgres.Urls, name: str) -> postgres.Urls:
    admin = create_engine(schema.engine_url(server.owner), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"drop database if exists {name} with (force)"))
        connection.execute(text(f"create database {name}"))
    admin.dispose()
    urls = postgres.Urls(app=named(server.app, name), owner=named(server.owner, name))
    schema.migrate(urls.owner, schema.role_of(urls.app))
    return urls


def named(url: str, name: str) -> str:
    address, _, options = url.partition("?")
    return f"{address.rsplit('/', 1)[0]}/{name}?{options}"


@pytest.fixture(scope="session")
def owner(database: postgres.Urls) -> Iterator[Engine]:
    """The owner's way into the database, past row-level security."""
    engine = create_engine(schema.engine_url(database.owner))
    yield engine
    engine.dispose()


@pytest.fixture
def clean(owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(_EMPTY)


@pytest.fixture
def settings(database: postgres.Urls, tmp_path: Path, clean: None) -> Settings:
    return Settings(
        database_url=database.app,
        database_owner_url=database.owner,
        public_url="https://bots.example.com",
        keys_dir=tmp_path / "keys",
        data_dir=tmp_path / "var",
    )


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Gateway]:
    """Gateways made up for shop files, in place of the real ones."""
    known = {provider.kind: provider() for provider in PROVIDERS}
    monkeypatch.setattr(gateways, "all_gateways", lambda: known)
    return known


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With the fake of the gateway that the test is about, where it is about one."""
    about = getattr(request.node, "callspec", None) and request.node.callspec.params.get("contract")
    with World(*([about.kind] if about else [])) as fakes:
        yield fakes


@pytest.fixture
def line(settings: Settings, world: World) -> Iterator[Line]:
    """The whole line, in this process: web, worker and clock, against the world's fakes."""
    pointed = replace(
        settings,
        telegram_api_url=world.telegram.url,
        meta_graph_url=world.meta.url,
        gateway_urls={kind: fake.url for kind, fake in world.gateways.items()},
    )
    with Line(pointed, world) as whole:
        yield whole


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application inside an app context; act for a seller before touching their rows."""
    made = create_app(settings)
    with made.app_context():
        yield made
    dispose(made)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="session")
def panel(panel_database: postgres.Urls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelWorld]:
    made = PanelWorld(Settings(database_url=panel_database.app, keys_dir=tmp_path_factory.mktemp("keys")))
    yield made
    made.close()


@pytest.fixture
def cast(panel: PanelWorld) -> Cast:
    """Ana owns a shop, Bia is on her staff, Caio owns another and must see nothing of hers, Olga operates."""
    return panel.cast()


def dispose(app: Flask) -> None:
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
