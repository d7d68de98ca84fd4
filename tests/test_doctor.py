"""The doctor looks at all that a sale needs, says the fix, and fails only for what stops one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import responses
from flask import Flask
from requests.exceptions import ConnectTimeout
from sqlalchemy import select, text, update
from sqlalchemy.engine import Engine

from bot_manager.app import act_for, create_core
from bot_manager.network import outgoing
from bot_manager.ops import database_checks, doctor, probes
from bot_manager.ops.check import Check, bad, doubtful, good, report, something_is_wrong
from bot_manager.security import events, logins
from bot_manager.settings import Settings
from bot_manager.shop.apply import apply
from bot_manager.shop.commands import main_doctor
from bot_manager.shop.file import read
from gateways.base import Gateway as Edge
from gateways.base import GatewayMisconfigured, GatewayTimeout
from models import Bot, BotState, Destination, Gateway, Link, Offer, User, db
from tests.shop_cast import SHOP
from tracking import clicks

pytestmark = pytest.mark.usefixtures("providers")

TOKEN_URL = "https://api.telegram.org/bot123456:ABC/getMe"
HEALTH_URL = "https://bots.example.com/health"
LINK_URL, TERMS_URL = "https://example.com/curso", "https://example.com/termos"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a public address, and keys made on the first run."""
    return replace(settings, public_url="https://bots.example.com", secret_key="", encryption_keys=())


def sells(shop: str = SHOP, **bot: Any) -> int:
    """A shop with a connected bot; answers the seller's id."""
    seller: int = apply(read(shop.encode()))["seller"]["id"]
    act_for(seller)
    db.session.execute(update(Bot).where(Bot.token_hash.is_not(None)).values(**{"state": BotState.ACTIVE, **bot}))
    db.session.commit()
    db.session.remove()
    return seller


@pytest.fixture
def worker(owner: Engine, clean: None) -> None:
    with owner.begin() as connection:
        connection.execute(text("insert into procrastinate_workers default values"))


@pytest.fixture
def outside() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as outside:
        outside.get(TOKEN_URL, json={"ok": True, "result": {}})
        outside.get(HEALTH_URL, json={"status": "ok"})
        outside.get(LINK_URL)
        outside.get(TERMS_URL, status=302, headers={"Location": "https://example.com/outros"})
        yield outside


def offline(settings: Settings) -> list[Check]:
    return doctor.checks(settings, offline=True)


def wrong(checks: list[Check]) -> list[Check]:
    return [check for check in checks if not check.ok]


def only(checks: list[Check]) -> Check:
    (check,) = wrong(checks)
    assert check.problem
    assert check.fix
    return check


# This machine -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("app", "worker")
def test_nothing_is_wrong_with_a_shop_that_can_sell(
    settings: Settings, outside: responses.RequestsMock, providers: dict[str, Any]
) -> None:
    sells()

    checks = doctor.checks(settings)

    assert wrong(checks) == []
    assert providers["acme"].asked == ["segredo-1"]
    assert not something_is_wrong(checks)


@pytest.mark.usefixtures("app", "worker")
def test_offline_asks_nobody(settings: Settings, providers: dict[str, Any]) -> None:
    sells()

    with responses.RequestsMock():
        assert wrong(offline(settings)) == []
    assert providers["acme"].asked == []


@pytest.mark.usefixtures("app")
def test_keys_that_others_can_read_are_said(settings: Settings) -> None:
    (settings.keys_dir / "secret_key").chmod(0o644)

    (check,) = [check for check in wrong(offline(settings)) if check.name == "chaves"]

    assert not check.warning
    assert "chmod 600" in check.fix


@pytest.mark.usefixtures("app")
def test_keys_from_the_environment_need_no_directory(settings: Settings, tmp_path: Path) -> None:
    from_env = replace(settings, secret_key="x" * 40, encryption_keys=("y" * 40,), keys_dir=tmp_path / "none")

    assert good("chaves") in offline(from_env)
    assert good("chaves") not in offline(replace(from_env, secret_key=""))


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("public_url", "ok", "warning"),
    [
        ("https://bots.example.com", True, False),
        (None, False, True),
        ("http://127.0.0.1:8000", False, True),
        ("https://10.0.0.7", False, True),
        ("https://servidor", False, True),
        ("http://bots.example.com", False, False),
    ],
)
def test_public_address_is_judged(settings: Settings, public_url: str | None, ok: bool, warning: bool) -> None:
    checks = offline(replace(settings, public_url=public_url))

    (check,) = [check for check in checks if check.name == "endereço público"]
    assert (check.ok, check.warning) == (ok, warning)


@pytest.mark.usefixtures("app")
def test_address_of_a_gateway_that_is_not_is_said(settings: Settings) -> None:
    urls = MappingProxyType({"acme": "https://a.example", "acmee": "https://b.example"})

    (check,) = [check for check in offline(replace(settings, gateway_urls=urls)) if check.name == "configuração"]

    assert check.problem == "não há gateway para ACMEE_API_URL"


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("free", "ok", "warning"), [(10**10, True, False), (5 * 10**8, False, True), (10**8, False, False)]
)
def test_disk_that_fills_up_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, ok: bool, warning: bool
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": free}))

    (check,) = [check for check in offline(settings) if check.name == "espaço em disco"]

    assert (check.ok, check.warning) == (ok, warning)


# The database -----------------------------------------------------------------------------------------------------


def test_database_that_does_not_answer_is_said_and_the_rest_is_looked_at(settings: Settings) -> None:
    settings = replace(settings, database_url="postgresql://bot_manager:segredo@127.0.0.1:1/none")
    app = create_core(settings)

    with app.app_context():
        checks = doctor.checks(settings, offline=True)

    check = only(checks)
    assert (check.name, "DATABASE_URL" in check.fix, "segredo" in check.problem) == ("banco de dados", True, False)
    assert len(checks) == 6


@pytest.mark.usefixtures("app")
def test_missing_worker_is_said(settings: Settings) -> None:
    sells()

    assert only(offline(settings)).name == "worker"


def as_owner(settings: Settings) -> Settings:
    return replace(settings, database_url=(settings.database_url or "").replace("bot_manager@", "postgres@"))


@pytest.mark.usefixtures("worker")
def test_role_that_sees_everything_is_said(settings: Settings) -> None:
    settings = as_owner(settings)
    app = create_core(settings)

    with app.app_context():
        checks = doctor.checks(settings, offline=True)
        db.engine.dispose()

    (check,) = [check for check in checks if check.name == "papel no banco"]
    assert "superusuário e ignora a segurança por linha e é dono" in check.problem
    assert something_is_wrong(checks)


@pytest.fixture
def changed(owner: Engine) -> Iterator[Callable[[str, str], None]]:
    """Changes the database, and changes it back after the test."""
    undone: list[str] = []

    def run(statement: str) -> None:
        with owner.begin() as connection:
            connection.execute(text(statement))

    def changed(statement: str, back: str) -> None:
        undone.append(back)
        run(statement)

    yield changed
    db.session.remove()
    for statement in undone:
        run(statement)


@pytest.mark.usefixtures("app", "worker")
def test_table_open_to_all_sellers_is_said(settings: Settings, changed: Callable[[str, str], None]) -> None:
    sells()
    changed("alter table offer disable row level security", "alter table offer enable row level security")

    check = only(offline(settings))

    assert (check.name, "offer" in check.problem) == ("segurança por linha", True)


@pytest.mark.usefixtures("app", "worker")
def test_older_tables_are_said_and_nothing_is_read_from_them(
    settings: Settings, changed: Callable[[str, str], None]
) -> None:
    newest = database_checks._newest_version()
    db.session.rollback()
    changed("update alembic_version set version_num = 'old'", f"update alembic_version set version_num = '{newest}'")

    check = only(offline(settings))

    assert (check.name, "versão old" in check.problem) == ("tabelas", True)


@pytest.mark.usefixtures("app", "worker")
def test_too_few_connections_are_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sells()
    monkeypatch.setattr(database_checks, "CONNECTIONS", 1_000_000)

    assert only(offline(settings)).name == "conexões do banco"


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize(("limit", "warning"), [(10.0, True), (-2.0, False)])
def test_clocks_that_differ_are_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, limit: float, warning: bool
) -> None:
    sells()
    monkeypatch.setattr(database_checks, "SKEW_S", -1.0)
    monkeypatch.setattr(database_checks, "MOST_SKEW_S", limit)

    check = only(offline(settings))

    assert (check.name, check.warning) == ("banco de dados", warning)


@pytest.mark.usefixtures("app", "worker")
def test_old_work_in_the_queue_is_said(settings: Settings, owner: Engine) -> None:
    sells()
    with owner.begin() as connection:
        connection.execute(text("update procrastinate_events set at = now() - interval '5 minutes'"))

    check = only(offline(settings))

    assert (check.name, check.warning) == ("fila", True)


# Shops ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("app", "worker")
def test_installation_without_a_shop_is_only_a_warning(settings: Settings) -> None:
    checks = offline(settings)

    assert only(checks).name == "lojas"
    assert not something_is_wrong(checks)


TEST_SHOP = SHOP.replace("test: false", "test: true").replace("kind: acme", "kind: acme, active: false")
SHOPS: list[tuple[str, str, dict[str, Any], str, bool]] = [
    ("no bot", SHOP[: SHOP.index("bots:")], {}, "não tem bot", True),
    ("no offers", SHOP.replace("[curso, vip]", "[]"), {}, "nenhum bot tem ofertas", False),
    ("one bot without offers", SHOP.replace("links:", '  - {key: b, token: "2:B"}\nlinks:'), {}, "não tem ofertas", True),
    ("no gateway", SHOP.replace("active: true", "active: false"), {}, "nenhum gateway ativo", False),
    ("no terms", SHOP.replace('terms_url: "https://example.com/termos"', "terms_url: null"), {}, "terms_url", True),
    ("no support", SHOP.replace('support: "@suporte"', "support: null"), {}, "support", True),
    ("cheap for one", SHOP.replace('"49.90"', '"0.60"'), {}, "principal não cobra tão pouco", True),
    ("token refused", SHOP, {"state": BotState.REFUSED, "state_note": "401"}, "recusa o token (401)", False),
    ("not reached", SHOP, {"state": BotState.UNREACHABLE}, "não respondeu", False),
    ("not yet connected", SHOP, {"state": BotState.CONNECTING}, "ainda não conectou", True),
    ("no token", SHOP.replace('token: "123456:ABC", ', ""), {}, "conversa de teste", True),
]  # fmt: skip


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize(("shop", "bot", "problem", "warning"), [case[1:] for case in SHOPS], ids=[c[0] for c in SHOPS])
def test_what_a_shop_lacks_is_said(
    settings: Settings, shop: str, bot: dict[str, Any], problem: str, warning: bool
) -> None:
    seller = sells(shop, **bot)

    check = only(offline(settings))

    assert problem in check.problem
    assert check.warning == warning
    assert check.name.startswith(f"loja Loja Exemplo (nº {seller})")


@pytest.mark.usefixtures("app", "worker")
def test_price_that_no_active_gateway_takes_is_wrong(settings: Settings) -> None:
    cheap = SHOP.replace('"49.90"', '"0.60"').replace("weight: 1, active: true", "weight: 1, active: false")
    seller = sells(cheap)

    check = only(offline(settings))

    assert (check.name, check.warning) == (f"loja Loja Exemplo (nº {seller}), oferta curso", False)
    assert '"1.00"' in check.fix


@pytest.mark.usefixtures("app", "worker")
def test_test_bots_need_no_gateway(settings: Settings) -> None:
    sells(SHOP.replace("test: false", "test: true").replace("active: true", "active: false"))

    assert wrong(offline(settings)) == []


@pytest.mark.usefixtures("app", "worker")
def test_paused_destination_and_a_refusing_gateway_are_said(settings: Settings) -> None:
    act_for(sells())
    db.session.execute(update(Destination).values(paused_note="token vencido"))
    db.session.execute(update(Gateway).where(Gateway.name == "reserva").values(last_error="401"))
    db.session.commit()

    gateway, destination = wrong(offline(settings))

    assert (gateway.warning, "401" in gateway.problem) == (True, True)
    assert (destination.warning, "token vencido" in destination.problem) == (False, True)


@pytest.mark.usefixtures("app", "worker")
def test_gateways_in_pause_are_said_and_all_of_them_are_a_fault(settings: Settings) -> None:
    seller = sells()
    act_for(seller)
    tired = {"failures": 5, "open_until": datetime.now(UTC), "last_error": "answered 503"}
    one = update(Gateway).where(Gateway.name == "principal").values(**tired)
    db.session.execute(one)
    db.session.commit()
    check = only(offline(settings))
    assert (check.warning, "em pausa depois de 5 falhas seguidas (answered 503)" in check.problem) == (True, True)

    act_for(seller)
    db.session.execute(update(Gateway).where(Gateway.own.is_(False)).values(**tired))
    db.session.commit()
    all_of_them, *each = wrong(offline(settings))
    assert (all_of_them.warning, "todos os gateways" in all_of_them.problem, len(each)) == (False, True, 2)


@pytest.mark.usefixtures("app", "worker")
def test_archived_things_are_not_looked_at(settings: Settings) -> None:
    sells(SHOP, state=BotState.REFUSED)
    sells(SHOP[: SHOP.index("bots:")])

    assert only(offline(settings)).problem == "não tem bot"


@pytest.mark.usefixtures("app", "worker")
def test_gateway_kind_that_is_gone_is_said(settings: Settings, providers: dict[str, Edge]) -> None:
    sells()
    del providers["bolt"]

    assert "não conhece bolt" in only(offline(settings)).problem


# The outside ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("app", "worker")
def test_refused_credentials_are_said(
    settings: Settings, outside: responses.RequestsMock, providers: dict[str, Any]
) -> None:
    seller = sells()
    providers["acme"].trouble = GatewayMisconfigured("401")

    check = only(doctor.checks(settings))

    assert (check.name, "não aceita as credenciais (401)" in check.problem) == (
        f"gateway principal (loja nº {seller})",
        True,
    )


@pytest.mark.usefixtures("app", "worker")
def test_gateway_that_does_not_answer_is_told_apart(
    settings: Settings, outside: responses.RequestsMock, providers: dict[str, Any]
) -> None:
    sells()
    providers["acme"].trouble = GatewayTimeout("no answer in time")

    assert "não respondeu" in only(doctor.checks(settings)).problem


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": 401}, "recusa o token"),
        ({"status": 404}, "recusa o token"),
        ({"status": 502}, "não respondeu (502)"),
        ({"body": ConnectTimeout("bot123456:ABC")}, "não respondeu (sem conexão)"),
    ],
)
def test_token_is_tried_and_never_shown(
    settings: Settings, outside: responses.RequestsMock, answer: dict[str, Any], problem: str
) -> None:
    sells()
    outside.replace(responses.GET, TOKEN_URL, **answer)

    checks = doctor.checks(settings)

    assert problem in only(checks).problem
    assert "123456:ABC" not in report(checks)


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize(
    ("answer", "ok"),
    [({"status": 503}, True), ({"status": 404}, False), ({"status": 301}, False), ({"body": ConnectTimeout()}, False)],
)
def test_our_own_address_is_tried(
    settings: Settings, outside: responses.RequestsMock, answer: dict[str, Any], ok: bool
) -> None:
    sells()
    outside.replace(responses.GET, HEALTH_URL, **answer)

    assert [check.name for check in wrong(doctor.checks(settings))] == ([] if ok else ["web"])


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize("dead", [LINK_URL, TERMS_URL])
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": 404}, "não existe (404)"),
        ({"status": 410}, "não existe (410)"),
        ({"status": 500}, "responde com erro (500)"),
        ({"body": ConnectTimeout()}, "não abriu (no connection)"),
        ({"body": outgoing.UnknownName()}, "o nome do site é desconhecido"),
        ({"body": outgoing.Forbidden("the address leads into a private network")}, "private network"),
    ],
)
def test_a_dead_link_is_a_warning_with_its_fix(
    settings: Settings, outside: responses.RequestsMock, dead: str, answer: dict[str, Any], problem: str
) -> None:
    seller = sells()
    outside.replace(responses.GET, dead, **answer)

    check = only(doctor.checks(settings))

    assert check.warning
    assert check.name == f"{'oferta curso' if dead == LINK_URL else 'termos de uso'} (loja nº {seller})"
    assert dead in check.problem
    assert problem in check.problem


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize("status", [200, 204, 301, 401, 403, 405, 429])
def test_a_link_that_answers_is_no_matter(settings: Settings, outside: responses.RequestsMock, status: int) -> None:
    sells()
    outside.replace(responses.GET, LINK_URL, status=status)

    assert wrong(doctor.checks(settings)) == []


@pytest.mark.usefixtures("app", "worker")
def test_a_link_into_our_own_network_is_said_and_never_called(
    settings: Settings, outside: responses.RequestsMock
) -> None:
    seller = sells()
    act_for(seller)
    db.session.execute(update(Offer).values(delivers=[{"kind": "link", "url": "https://user@127.0.0.1:8000/curso"}]))
    db.session.commit()

    check = only(doctor.checks(settings))

    assert (check.warning, "não é um endereço que o cliente abra" in check.problem) == (True, True)


@pytest.mark.usefixtures("app", "worker")
def test_more_links_than_can_be_opened_are_said(
    settings: Settings, outside: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sells()
    monkeypatch.setattr(probes, "MOST_LINKS", 1)

    assert "são 2 endereços, e só 1 foram abertos" in only(doctor.checks(settings)).problem


@pytest.mark.usefixtures("app", "worker")
def test_secret_that_no_key_opens_is_said(settings: Settings) -> None:
    seller = sells()
    db.engine.dispose()
    other = replace(settings, secret_key="x" * 40, encryption_keys=("another key",))
    app = create_core(other, pool_size=2)

    with app.app_context():
        checks = doctor.checks(other, offline=True)
        db.engine.dispose()

    assert [check.name for check in wrong(checks)] == [
        f"gateway principal (loja nº {seller})", f"gateway reserva (loja nº {seller})", f"bot vendas (loja nº {seller})",
    ]  # fmt: skip
    assert all("ENCRYPTION_KEYS" in check.fix for check in wrong(checks))


@pytest.mark.usefixtures("worker")
def test_no_transaction_is_open_while_the_outside_is_asked(
    app: Flask, settings: Settings, outside: responses.RequestsMock, owner: Engine
) -> None:
    sells()
    open_then: list[int] = []

    def look(_request: Any) -> tuple[int, dict[str, str], str]:
        with owner.begin() as connection:
            idle = text(
                "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'"
            )
            open_then.append(int(connection.execute(idle).scalar_one()))
        return 200, {}, "{}"

    outside.remove(responses.GET, TOKEN_URL)
    outside.add_callback(responses.GET, TOKEN_URL, callback=look)
    doctor.checks(settings)

    assert open_then == [0]


# The report -------------------------------------------------------------------------------------------------------


def test_report_ends_with_what_is_wrong() -> None:
    told = report([bad("b", "quebrou", "Conserte."), good("a"), doubtful("c", "talvez", "Veja.")])

    assert told.splitlines() == [
        "ok     a",
        "aviso  c: talvez",
        "       → Veja.",
        "ERRO   b: quebrou",
        "       → Conserte.",
        "",
        "Problemas: 1. Avisos: 1.",
    ]


def test_report_of_a_healthy_installation_says_so() -> None:
    assert report([good("a")]).endswith("Tudo pronto para vender.")


@pytest.mark.usefixtures("app", "worker")
def test_command_fails_for_what_is_wrong_and_not_for_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    sells(SHOP.replace('support: "@suporte"', "support: null"))

    assert main_doctor(offline=True) == 0
    assert "Avisos: 1." in capsys.readouterr().out
    sells(SHOP, state=BotState.REFUSED)
    assert main_doctor(offline=True) == 1


# Who comes ---------------------------------------------------------------------------------------------------------


def clicked(addresses: list[str]) -> None:
    """Clicks on the shop's link, as they come from these addresses."""
    act_for(sells())
    link = db.session.scalars(select(Link)).one()
    for address in addresses:
        clicks.record(link, clicks.Visit(address, {}, {}, {}))
    db.session.commit()


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize(
    ("addresses", "place"),
    [
        (["172.17.0.1"], "172.17.0.0/24"),
        (["10.0.0.7", "10.0.0.9"], "10.0.0.0/24"),
        (["8.8.8.8"] * 20, "8.8.8.0/24"),
    ],
)
def test_a_proxy_that_nobody_declared_is_seen_by_where_all_come_from(
    settings: Settings, addresses: list[str], place: str
) -> None:
    clicked(addresses)

    check = only(offline(settings))

    assert (check.name, check.warning, place in check.problem) == ("quem acessa", True, True)
    assert "TRUSTED_PROXIES" in check.fix


@pytest.mark.usefixtures("app", "worker")
@pytest.mark.parametrize("addresses", [[], ["8.8.8.8"] * 19, ["10.0.0.7", "8.8.8.8"]])
def test_a_few_of_one_place_and_those_of_several_are_as_they_should(settings: Settings, addresses: list[str]) -> None:
    clicked(addresses)

    assert wrong(offline(settings)) == []


@pytest.mark.usefixtures("app", "worker")
def test_logins_and_strangers_say_where_all_come_from_too(settings: Settings) -> None:
    sells()
    user = User(email="ana@example.com", fs_uniquifier="u")
    db.session.add(user)
    db.session.flush()
    logins.begin(user.id, "Chrome", "127.0.0.1")
    db.session.commit()
    assert only(offline(settings)).name == "quem acessa"

    events.origin.set("8.8.4.4")
    events.report(events.Kind.WRONG_WEBHOOK_SECRET)
    db.session.commit()
    events.origin.set("")
    assert wrong(offline(settings)) == []


@pytest.mark.usefixtures("app", "worker")
def test_on_a_laptop_all_may_come_from_it(settings: Settings) -> None:
    clicked(["127.0.0.1"])

    found = offline(replace(settings, public_url=None))

    assert [check.name for check in wrong(found)] == ["endereço público"]
