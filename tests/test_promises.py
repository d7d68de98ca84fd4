"""Promises that no single part keeps alone."""

from __future__ import annotations

import json

import pytest
import requests
from sqlalchemy import BigInteger, DateTime

from models import Base
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import Hold, Status

OPEN_TRANSACTIONS = """
    select query from pg_stat_activity where datname = current_database() and application_name = 'bot_manager'
    and state like 'idle in transaction%' and state_change < clock_timestamp() - interval '50 milliseconds'
"""


def sale(line: Line, shop: Shop) -> None:
    person = line.world.telegram.person(first_name="Anastácia", last_name="Quintela", username="anaquint")
    shop.visit(person)
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))


@pytest.mark.parametrize(
    ("fake", "call"),
    [
        ("pushinpay", "/pix/cashIn"),
        ("pushinpay", "/transactions/"),
        ("telegram", "/sendPhoto"),
        ("telegram", "/sendMessage"),
        ("meta", "/events"),
    ],
)
def test_no_transaction_is_open_while_another_company_is_called(line: Line, fake: str, call: str) -> None:
    shop = open_shop(line)
    held = Hold()
    company = getattr(line.world, fake)
    company.fail(call, how=held)

    with line.working():
        person = line.world.telegram.person()
        person.start(shop.token, shop.click())
        if call != "/sendMessage":
            person.tap(shop.token, person.wait_button(shop.token, "Curso Completo"))
        if call in ("/transactions/", "/events"):
            line.world.pushinpay.wait_for(lambda: line.rows("select 1 from payment where status = 'pending'"))
            line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
        assert held.reached.wait(10)
        company.wait_for(lambda: not line.rows(OPEN_TRANSACTIONS), timeout=2)
        held.release()


def test_no_secret_and_nothing_personal_lies_open_in_the_database(line: Line) -> None:
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    sale(line, shop)
    line.work()
    line.world.pushinpay.send_notice(
        next(iter(line.world.pushinpay.charges)),
        changes={"payer_name": "Anastácia Quintela", "payer_national_registration": "11144477735"},
    )
    line.world.pushinpay.wait_delivered()
    line.work()

    tables = [
        row["relname"]
        for row in line.rows(
            "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        )
    ]
    dump = json.dumps([line.rows(f'select t::text as row from "{table}" t') for table in tables], ensure_ascii=False)
    open_ = [
        canary
        for canary in (
            shop.token,
            "pushinpay-token",
            "woovi-token",
            "pixel-token",
            "Anastácia",
            "Quintela",
            "anaquint",
            "11144477735",
            "Mozilla/5.0",
        )
        if canary in dump or canary.encode().hex() in dump
    ]
    assert not open_


def test_payer_data_is_never_invented(line: Line) -> None:
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    line.world.pushinpay.fail("/pix/cashIn", how=Status(503, {}))
    sale(line, shop)
    line.work()

    made = [c.json for fake in (line.world.pushinpay, line.world.woovi) for c in fake.calls if c.method == "POST"]
    assert len(made) == 2
    assert not [
        key for body in made for key in body if key in ("customer", "payer", "document", "cpf", "name", "email")
    ]


def test_money_is_integer_cents_and_time_is_utc() -> None:
    for table in Base.metadata.tables.values():
        for column in table.columns:
            if "price" in column.name or "amount" in column.name:
                assert column.name.endswith("_cents"), f"{table}.{column.name}"
                assert isinstance(column.type, BigInteger)
            if isinstance(column.type, DateTime):
                assert column.type.timezone, f"{table}.{column.name}"


def test_a_bot_is_active_only_when_telegram_said_so(line: Line) -> None:
    line.world.telegram.fail("/getMe", how=Status(502, {"ok": False, "error_code": 502, "description": "Bad Gateway"}))

    open_shop(line)
    assert line.rows("select state, username from bot") == [{"state": "unreachable", "username": None}]
    line.pass_time(31)

    assert line.rows("select state from bot") == [{"state": "active"}]


def test_a_delivery_is_delivered_only_when_the_channel_accepted_it(line: Line) -> None:
    shop = open_shop(line)
    sale(line, shop)
    line.work()
    line.world.telegram.fail("/sendMessage", how=Status(502, {"ok": False, "error_code": 502, "description": "x"}))
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()

    assert line.rows("select state from delivery") == [{"state": "queued"}]
    line.pass_time(5)
    assert line.rows("select state from delivery") == [{"state": "delivered"}]


@pytest.mark.parametrize("agent", ["Mozilla/5.0 (iPhone)", "facebookexternalhit/1.1", "curl/8", ""])
def test_every_visitor_is_shown_the_same(line: Line, agent: str) -> None:
    shop = open_shop(line)

    answer = requests.get(f"{line.url}/go/{shop.slug}", headers={"User-Agent": agent}, allow_redirects=False, timeout=5)

    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("https://t.me/loja")
