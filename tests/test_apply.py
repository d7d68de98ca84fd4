"""Applying a shop file makes the seller's set-up be what it says: all of it or nothing, and twice is once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.engine import Engine

from bot_manager import sellers
from bot_manager.app import act_for, look_across_sellers, vault
from bot_manager.security import doors
from bot_manager.security.vault import fingerprint
from bot_manager.settings import Settings
from bot_manager.shop.apply import apply
from bot_manager.shop.commands import main_apply
from bot_manager.shop.file import BadShop, Mistake, read
from models import ROW_SECURED, Bot, BotState, Destination, Door, DoorKind, Gateway, Link, Offer, Seller, db
from tests.shop_cast import SHOP

pytestmark = pytest.mark.usefixtures("providers", "app")

OTHER = SHOP.replace("dona@example.com", "outra@example.com")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a public address."""
    return replace(settings, public_url="https://bots.example.com")


def done(shop: str = SHOP) -> dict[str, Any]:
    """Applies and commits, in a session of its own."""
    db.session.remove()
    told = apply(read(shop.encode()))
    db.session.commit()
    return told


def refused(shop: str) -> tuple[Mistake, ...]:
    db.session.remove()
    with pytest.raises(BadShop) as bad:
        apply(read(shop.encode()))
    db.session.rollback()
    return bad.value.mistakes


def without(piece: str, shop: str = SHOP) -> str:
    """The file without the lines that hold the piece."""
    left = [line for line in shop.splitlines(keepends=True) if piece not in line]
    assert len(left) < len(shop.splitlines())
    return "".join(left)


def row(model: type[Any], **what: Any) -> Any:
    found = db.session.scalars(select(model).filter_by(**what)).one()
    db.session.refresh(found)
    return found


@pytest.fixture
def jobs(owner: Engine) -> Callable[[], list[tuple[str, dict[str, Any]]]]:
    def jobs() -> list[tuple[str, dict[str, Any]]]:
        with owner.begin() as connection:
            rows = connection.execute(text("select task_name, args from procrastinate_jobs order by id"))
            return [(row.task_name, row.args) for row in rows]

    return jobs


@pytest.fixture
def versions(owner: Engine) -> Callable[[], dict[str, list[tuple[str, ...]]]]:
    """Which transaction wrote each row, of all tables: the same again means that nothing was written."""

    def versions() -> dict[str, list[tuple[str, ...]]]:
        with owner.begin() as connection:
            return {
                table: sorted(map(tuple, connection.execute(text(f'select xmin::text, ctid::text from "{table}"'))))
                for table in (*ROW_SECURED, "user", "membership", "door", "procrastinate_jobs")
            }

    return versions


# The first time ---------------------------------------------------------------------------------------------------


def test_new_seller_is_told_everything_that_the_contract_names(app: Flask) -> None:
    told = done()

    seller, bot = told["seller"], told["bots"]["vendas"]
    assert set(seller) == {"id", "api_key", "login_url"}
    assert seller["login_url"].startswith("https://bots.example.com/convite/")
    assert set(told["gateways"]) == {"principal", "reserva"}
    assert told["gateways"]["principal"]["webhook_url"].startswith("https://bots.example.com/webhook/acme/")
    assert set(bot) == {"id", "username", "webhook_url"}
    assert bot["username"] is None
    assert bot["webhook_url"].startswith("https://bots.example.com/tg/")
    assert told["links"] == {"promo": {"url": "https://bots.example.com/go/promo"}}
    assert set(told["destinations"]) == {"pixel"}
    json.dumps(told)


def test_secrets_told_the_first_time_open_their_doors() -> None:
    seller = done()["seller"]
    db.session.remove()

    assert doors.enter_by_secret(DoorKind.API, seller["api_key"]).seller_id == seller["id"]
    assert doors.enter_by_secret(DoorKind.INVITE, seller["login_url"].rpartition("/")[2]).seller_id == seller["id"]


def test_addresses_lead_to_their_things() -> None:
    told = done()
    db.session.remove()

    secret = told["gateways"]["principal"]["webhook_url"].rpartition("/")[2]
    assert doors.enter_by_secret(DoorKind.GATEWAY, secret).object_id == told["gateways"]["principal"]["id"]
    assert doors.enter(DoorKind.LINK, "promo").object_id == row(Link, slug="promo").id
    public_id = told["bots"]["vendas"]["webhook_url"].rpartition("/")[2]
    entry = doors.enter(DoorKind.BOT, public_id)
    assert entry.object_id == told["bots"]["vendas"]["id"]
    assert entry.secret_hash == fingerprint(doors.telegram_secret(public_id))


def test_everything_is_stored_as_the_file_says() -> None:
    told = done()

    seller = row(Seller, id=told["seller"]["id"])
    assert (seller.name, seller.support, seller.terms_url) == ("Loja Exemplo", "@suporte", "https://example.com/termos")
    gateway = row(Gateway, name="principal")
    assert (gateway.kind, gateway.priority, gateway.weight, gateway.active) == ("acme", 1, 3, True)
    assert vault().open_json(gateway.credentials_sealed, "gateway.credentials", seller.id) == {"token": "segredo-1"}
    assert row(Offer, key="vip").delivers == [{"kind": "group", "chat_id": -1001, "days": 30}]
    bot = row(Bot, key="vendas")
    assert (bot.test, bot.pix_minutes, bot.funnel, bot.state) == (False, 30, None, BotState.CONNECTING)
    assert vault().open(bot.token_sealed, "bot.token", seller.id) == "123456:ABC"
    assert [offer.key for offer in bot.offers] == ["curso", "vip"]
    destination = row(Destination, name="pixel")
    opened = vault().open(destination.access_token_sealed, "destination.access_token", seller.id)
    assert (opened, destination.pixel_id, destination.bot_ids) == ("segredo-3", "1234567890", None)


def test_new_bot_is_connected_by_a_job(jobs: Callable[[], list[tuple[str, dict[str, Any]]]]) -> None:
    told = done()

    ((name, args),) = jobs()
    assert (name, args["seller"], args["bot"]) == ("connect_bot", told["seller"]["id"], told["bots"]["vendas"]["id"])
    assert args["trace"]


def test_bot_without_a_token_waits_for_one(jobs: Callable[[], list[tuple[str, dict[str, Any]]]]) -> None:
    done(SHOP.replace('token: "123456:ABC", ', ""))

    assert row(Bot, key="vendas").state == BotState.UNCONNECTED
    assert jobs() == []
    done()
    assert row(Bot, key="vendas").state == BotState.CONNECTING
    assert len(jobs()) == 1


def test_owner_who_logs_in_already_is_not_invited_again() -> None:
    sellers.add_user("dona@example.com", None)
    db.session.commit()

    assert done()["seller"]["login_url"] is None


# The second time --------------------------------------------------------------------------------------------------


def test_same_file_again_writes_nothing(versions: Callable[[], Any]) -> None:
    first, before = done(), versions()

    again = done()

    assert versions() == before
    assert again == first | {"seller": {"id": first["seller"]["id"]}}


def test_email_in_other_letters_is_the_same_seller() -> None:
    assert done()["seller"]["id"] == done(SHOP.replace("dona@", "DONA@"))["seller"]["id"]


def test_what_the_file_changes_is_changed_in_place() -> None:
    first = done()
    changed = (
        SHOP.replace('"49.90"', '"59.90"').replace("weight: 3", "weight: 5").replace("mode: redirect", "mode: page")
    )

    again = done(changed.replace("[curso, vip]", "[vip, curso]").replace("@suporte", "@ajuda"))

    assert again["bots"] == first["bots"]
    assert again["gateways"] == first["gateways"]
    assert (row(Offer, key="curso").price_cents, row(Gateway, name="principal").weight) == (5990, 5)
    assert (row(Link, slug="promo").mode, row(Seller).support) == ("page", "@ajuda")
    assert [offer.key for offer in row(Bot, key="vendas").offers] == ["vip", "curso"]


def test_omitted_secrets_are_kept(versions: Callable[[], Any]) -> None:
    done()
    before = versions()

    bare = SHOP.replace(', credentials: {token: "segredo-1"}', "").replace(', credentials: {app_id: "segredo-2"}', "")
    done(bare.replace('token: "123456:ABC", ', "").replace('access_token: "segredo-3", ', ""))

    assert versions() == before


def test_secret_that_is_null_is_omitted(versions: Callable[[], Any]) -> None:
    done()
    before = versions()

    done(SHOP.replace('token: "123456:ABC"', "token: null").replace('{token: "segredo-1"}', "null"))

    assert versions() == before


def test_one_credential_given_leaves_the_others_and_an_empty_one_is_taken_away() -> None:
    seller = done(SHOP.replace('"segredo-1"', '"segredo-1", webhook_token: w'))["seller"]["id"]

    def held() -> Any:
        return vault().open_json(row(Gateway, name="principal").credentials_sealed, "gateway.credentials", seller)

    done(SHOP.replace('token: "segredo-1"', "token: novo"))
    assert held() == {"token": "novo", "webhook_token": "w"}
    done(SHOP.replace('token: "segredo-1"', 'webhook_token: ""'))
    assert held() == {"token": "novo"}


def test_new_credentials_forget_the_old_ones_error() -> None:
    done()
    row(Gateway, name="principal").last_error = "401"
    db.session.commit()

    done()
    assert row(Gateway, name="principal").last_error == "401"
    done(SHOP.replace("segredo-1", "novo"))
    assert row(Gateway, name="principal").last_error is None


def open_breaker(name: str) -> None:
    gateway = row(Gateway, name=name)
    gateway.failures, gateway.openings, gateway.open_until = 5, 3, datetime.now(UTC) + timedelta(hours=1)
    db.session.commit()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (SHOP, SHOP.replace("segredo-1", "segredo-9")),
        (SHOP.replace("weight: 3, active: true", "weight: 3, active: false"), SHOP),
        (without("principal"), SHOP),
    ],
    ids=["new credentials", "switched on", "back from the archive"],
)
def test_an_account_that_the_seller_touched_is_asked_again_at_once(first: str, then: str) -> None:
    done()
    done(first)
    open_breaker("principal")

    done(then)

    gateway = row(Gateway, name="principal")
    assert (gateway.failures, gateway.openings, gateway.open_until) == (0, 0, None)


def test_applying_the_same_file_again_leaves_a_breaker_as_it_is() -> None:
    done()
    open_breaker("principal")

    done()

    assert row(Gateway, name="principal").open_until is not None


def test_new_access_token_lets_a_paused_destination_go_on() -> None:
    done()
    row(Destination, name="pixel").paused_note = "token recusado"
    db.session.commit()

    done()
    assert row(Destination, name="pixel").paused_note == "token recusado"
    done(SHOP.replace("segredo-3", "novo"))
    assert row(Destination, name="pixel").paused_note is None


def test_destination_of_some_bots_keeps_their_ids() -> None:
    told = done(SHOP.replace("bots: all", "bots: [vendas]"))

    assert row(Destination, name="pixel").bot_ids == [told["bots"]["vendas"]["id"]]


# Token swaps ------------------------------------------------------------------------------------------------------


def connected(username: str = "loja_bot") -> None:
    bot = row(Bot, key="vendas")
    bot.state, bot.username = BotState.ACTIVE, username
    db.session.commit()


def test_new_token_under_an_old_key_is_a_swap(jobs: Callable[[], list[tuple[str, dict[str, Any]]]]) -> None:
    first = done()
    connected()
    old = row(Bot, key="vendas").token_hash

    again = done(SHOP.replace("123456:ABC", "123456:NEW"))

    bot = row(Bot, key="vendas")
    assert again["bots"]["vendas"] == first["bots"]["vendas"] | {"username": "loja_bot"}
    assert (bot.state, bot.version) == (BotState.CONNECTING, 2)
    assert bot.token_hash == fingerprint("123456:NEW") != old
    assert [name for name, _ in jobs()] == ["connect_bot", "disconnect_bot", "connect_bot"]


def test_token_of_another_bot_forgets_the_old_ones_name() -> None:
    done()
    connected()

    assert done(SHOP.replace("123456:ABC", "777:NEW"))["bots"]["vendas"]["username"] is None


def test_unchanged_token_leaves_a_connected_bot_alone(jobs: Callable[[], list[tuple[str, dict[str, Any]]]]) -> None:
    done()
    connected()

    done(SHOP.replace("pix_minutes: 30", "pix_minutes: 15"))

    bot = row(Bot, key="vendas")
    assert (bot.state, bot.version, bot.pix_minutes, len(jobs())) == (BotState.ACTIVE, 1, 15, 1)


TWO_BOTS = SHOP.replace("links:", '  - {key: outro, token: "2:B"}\nlinks:')


def test_two_bots_may_swap_their_tokens() -> None:
    done(TWO_BOTS)

    done(TWO_BOTS.replace("123456:ABC", "x").replace("2:B", "123456:ABC").replace('"x"', '"2:B"'))

    assert row(Bot, key="vendas").token_hash == fingerprint("2:B")
    assert row(Bot, key="outro").token_hash == fingerprint("123456:ABC")


def test_renamed_bot_takes_its_token_along() -> None:
    done()

    done(SHOP.replace("key: vendas", "key: loja").replace("bot: vendas", "bot: loja"))

    assert row(Bot, key="vendas").state == BotState.ARCHIVED
    assert row(Bot, key="loja").token_hash == fingerprint("123456:ABC")


# What is absent ---------------------------------------------------------------------------------------------------

NOTHING = SHOP[: SHOP.index("gateways:")]


def test_what_is_absent_is_archived_and_nothing_is_deleted(owner: Engine) -> None:
    done()

    told = done(NOTHING)

    assert {section: things for section, things in told.items() if section != "seller"} == {
        "gateways": {}, "bots": {}, "links": {}, "destinations": {},
    }  # fmt: skip
    for model in (Offer, Bot, Link, Destination):
        assert all(found.archived_at for found in db.session.scalars(select(model)))
    gateways = {gateway.name: bool(gateway.archived_at) for gateway in db.session.scalars(select(Gateway))}
    assert gateways == {"sandbox": False, "principal": True, "reserva": True}


def test_archiving_twice_keeps_when_it_was(versions: Callable[[], Any]) -> None:
    done()
    done(NOTHING)
    before = versions()

    done(NOTHING)

    assert versions() == before


def test_archived_links_door_is_gone_and_the_others_stay() -> None:
    told = done()
    done(NOTHING)
    db.session.remove()

    assert doors.enter(DoorKind.LINK, "promo") is None
    assert doors.enter(DoorKind.BOT, told["bots"]["vendas"]["webhook_url"].rpartition("/")[2])
    assert doors.enter_by_secret(DoorKind.GATEWAY, told["gateways"]["reserva"]["webhook_url"].rpartition("/")[2])


def test_what_returns_is_the_same_as_before(jobs: Callable[[], list[tuple[str, dict[str, Any]]]]) -> None:
    first = done()
    connected()
    done(NOTHING)

    bare = SHOP.replace('token: "123456:ABC", ', "").replace(', credentials: {token: "segredo-1"}', "")
    again = done(bare.replace('access_token: "segredo-3", ', ""))

    assert again["gateways"] == first["gateways"]
    assert again["destinations"] == first["destinations"]
    assert again["bots"]["vendas"] == first["bots"]["vendas"] | {"username": "loja_bot"}
    bot = row(Bot, key="vendas")
    assert (bot.archived_at, bot.state, bot.version) == (None, BotState.CONNECTING, 1)
    assert bot.token_hash == fingerprint("123456:ABC")
    assert [name for name, _ in jobs()] == ["connect_bot", "disconnect_bot", "connect_bot"]
    db.session.remove()
    assert doors.enter(DoorKind.LINK, "promo")


def test_archived_bot_gives_its_token_up() -> None:
    done()
    done(NOTHING)

    done(OTHER.replace("slug: promo", "slug: outra"))

    assert [mistake.key for mistake in refused(SHOP)] == ["bots[vendas].token"]


# What can't be ----------------------------------------------------------------------------------------------------


def test_new_things_need_their_secrets() -> None:
    bare = SHOP.replace(', credentials: {token: "segredo-1"}', "").replace('access_token: "segredo-3", ', "")

    assert [(mistake.line, mistake.key) for mistake in refused(bare)] == [
        (4, "gateways[principal].credentials.token"),
        (14, "destinations[pixel].access_token"),
    ]


def test_slug_of_another_seller_is_a_mistake_with_its_line(versions: Callable[[], Any]) -> None:
    done()
    before = versions()

    (mistake,) = refused(OTHER.replace("123456:ABC", "7:Z"))

    assert (mistake.line, mistake.key) == (12, "links[promo].slug")
    assert "outra loja" in mistake.problem
    assert versions() == before


def test_slug_stays_taken_when_it_is_archived() -> None:
    done()
    done(without("slug: promo"))

    assert [mistake.key for mistake in refused(OTHER.replace("123456:ABC", "7:Z"))] == ["links[promo].slug"]


def test_token_of_another_sellers_bot_is_a_mistake() -> None:
    done()

    (mistake,) = refused(OTHER.replace("slug: promo", "slug: outra"))

    assert (mistake.line, mistake.key) == (10, "bots[vendas].token")


def test_token_kept_by_one_bot_can_not_be_given_to_another() -> None:
    done()

    kept = SHOP.replace('token: "123456:ABC", ', "")
    (mistake,) = refused(kept.replace("links:", '  - {key: outro, token: "123456:ABC"}\nlinks:'))

    assert (mistake.line, mistake.key) == (11, "bots[outro].token")


def test_gateway_does_not_change_its_kind() -> None:
    done()

    (mistake,) = refused(SHOP.replace('kind: bolt, priority: 2, weight: 1, active: true, credentials: {app_id: "segredo-2"}', "kind: acme, credentials: {token: x}"))  # fmt: skip

    assert (mistake.line, mistake.key) == (5, "gateways[reserva].kind")


def test_refused_file_changes_nothing_and_says_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], versions: Callable[[], Any]
) -> None:
    before = versions()
    path = tmp_path / "loja.yaml"
    path.write_text(SHOP.replace('"49.90"', "49.90").replace("slug: promo", "slug: Promo"), encoding="utf-8")

    assert main_apply(path) == 1

    said = capsys.readouterr()
    assert said.out == ""
    assert "linha 7: offers[curso].price" in said.err
    assert "linha 12: links[Promo].slug" in said.err
    assert versions() == before


def test_command_applies_and_answers_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loja.yaml"
    path.write_text(SHOP, encoding="utf-8")

    assert main_apply(path) == 0

    told = json.loads(capsys.readouterr().out)
    db.session.remove()
    assert doors.enter_by_secret(DoorKind.API, told["seller"]["api_key"])


def test_command_says_when_there_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_apply(tmp_path / "nada.yaml") == 1
    assert "nada.yaml não pode ser lido" in capsys.readouterr().err


# The sandbox ------------------------------------------------------------------------------------------------------

TEST_SHOP = (
    "seller: {name: Loja, email: dona@example.com}\n"
    "gateways: [{name: sandbox, kind: sandbox}]\n"
    "bots: [{key: teste, test: true}]\n"
)


def test_sandbox_named_in_the_file_is_the_one_that_is_there() -> None:
    told = done(TEST_SHOP)

    gateway = row(Gateway)
    assert gateway.own
    assert told["gateways"] == {
        "sandbox": {"id": gateway.id, "webhook_url": told["gateways"]["sandbox"]["webhook_url"]}
    }
    done(TEST_SHOP.replace("[{name: sandbox, kind: sandbox}]", "[]"))
    assert row(Gateway).archived_at is None


def test_sandbox_of_another_name_is_an_account_like_others() -> None:
    done(TEST_SHOP.replace("name: sandbox", "name: ensaio"))

    assert {gateway.name: gateway.own for gateway in db.session.scalars(select(Gateway))} == {
        "sandbox": True,
        "ensaio": False,
    }


# Tenants and races ------------------------------------------------------------------------------------------------


def test_sellers_see_and_touch_only_their_own() -> None:
    first = done()
    other = done(OTHER.replace("123456:ABC", "7:Z").replace("slug: promo", "slug: outra"))

    done(NOTHING)

    db.session.remove()
    act_for(other["seller"]["id"])
    assert [bot.archived_at for bot in db.session.scalars(select(Bot))] == [None]
    act_for(first["seller"]["id"])
    assert all(bot.archived_at for bot in db.session.scalars(select(Bot)))


def test_same_new_seller_twice_at_once_is_made_once(app: Flask) -> None:
    told: list[dict[str, Any]] = []

    def work() -> None:
        with app.app_context():
            told.append(apply(read(SHOP.encode())))
            db.session.commit()

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted("api_key" in one["seller"] for one in told) == [False, True]
    look_across_sellers()
    assert len(db.session.scalars(select(Seller)).all()) == 1
    assert len(db.session.scalars(select(Door).where(Door.kind == DoorKind.LINK)).all()) == 1
