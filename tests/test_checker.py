"""The checker and the ledger: nothing found on a good line, and each promise that is broken on purpose is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from bot_manager.app import look_across_sellers
from bot_manager.ops.checker import RULES, Finding, check
from models import ROW_SECURED, db
from tests import ledger
from tests.line import Line
from tests.shops import Shop, open_shop

AT_ONCE = timedelta(0)
OTHER_SELLER = "insert into seller (name, email) values ('Outra loja', 'outra@example.com')"
TO_OTHER_SELLER = "update {} set seller_id = (select max(id) from seller)"

BROKEN = {
    "paid_without_one_audit": "delete from payment_event where kind = 'paid'",
    "charge_without_its_entry": "delete from ledger_entry",
    "late_entry": "update charge_attempt set booked = null",
    "entry_without_its_charge": "update charge_attempt set paid_at = null",
    "more_back_than_came": "update ledger_entry set kind = 'refund', amount_cents = -1 where kind = 'sale'",
    "sold_without_delivery": "update message set delivery_id = null; delete from delivery",
    "delivery_not_sold": """
        insert into delivery (seller_id, payment_id, item) select seller_id, payment_id, 1 from delivery""",
    "purchase_not_reported": "delete from conversion",
    "group_without_access": """update payment set items = '[{"kind": "group", "chat_id": -1}]'""",
    "report_not_sold": "update payment_event set kind = 'payed' where kind = 'paid'",
    "event_id_not_one": """
        insert into destination (seller_id, name, kind, pixel_id, access_token_sealed)
        select seller_id, 'outro', kind, pixel_id, access_token_sealed from destination;
        insert into conversion (seller_id, destination_id, payment_id, event_name, event_id, event_time, trace_id)
        select seller_id, (select max(id) from destination), payment_id, event_name, 'again', event_time, trace_id
        from conversion""",
    "foreign_seller": f"{OTHER_SELLER}; {TO_OTHER_SELLER.format('delivery')}",
    "foreign_customer": """
        insert into customer (seller_id, bot_id, channel, chat_id, external_id)
        select seller_id, bot_id, channel, '99', 'another' from customer;
        update message set customer_id = (select max(id) from customer) where delivery_id is not null""",
    "foreign_account": "update webhook_receipt set gateway_id = (select id from gateway where kind = 'sandbox')",
    "late_update": "update inbox set state = 'new'",
    "late_receipt": "update webhook_receipt set state = 'confirming'",
    "late_payment": "update payment set status = 'pending', expires_at = now() - interval '1 s'",
    "late_lookup": """
        insert into lookup (attempt_id, payment_id, gateway_id, seller_id, place, created_at)
        select id, payment_id, gateway_id, seller_id, 1, now() - interval '1 s' from charge_attempt""",
    "late_charge": "update charge_attempt set state = 'sending'",
    "late_delivery": "update delivery set state = 'queued'",
    "late_access": """
        insert into access (seller_id, delivery_id, payment_id, customer_id, group_id, ends_at)
        select d.seller_id, d.id, p.id, p.customer_id, -1, now() - interval '1 s'
        from delivery d join payment p on p.id = d.payment_id""",
    "late_message": "update message set state = 'queued' where delivery_id is not null",
    "late_conversion": "update conversion set state = 'waiting'",
    "late_timer": """
        insert into timer (key, kind, seller_id, args, trace_id, due_at)
        select 'look:1', 'look', id, '{}', 'trace', now() - interval '1 s' from seller""",
    "late_job": "update procrastinate_jobs set status = 'doing' where task_name = 'deliver'",
    "failed_job": "update procrastinate_jobs set status = 'failed' where task_name = 'deliver'",
}
WAITED_FOR = {
    "a conversion that will be tried again": (
        "update conversion set state = 'waiting'; insert into timer (key, kind, seller_id, args, trace_id, due_at)"
        " select 'conversion:' || id, 'send_conversion', seller_id, '{}', '', now() + interval '1 h' from conversion"
    ),
    "a notice whose gateway does not answer": (
        "update webhook_receipt set state = 'confirming'; insert into timer (key, kind, seller_id, args, trace_id,"
        " due_at) select 'confirm:' || id, 'confirm', seller_id, '{}', '', now() + interval '1 h' from webhook_receipt"
    ),
    "a parked notice after its last try": "update webhook_receipt set state = 'parked', tries = 8",
    "a destination that came after the sale": (
        "delete from conversion; update destination set since = now() + interval '1 s'"
    ),
    "a customer who blocked the bot": "update delivery set state = 'queued'; update customer set blocked_at = now()",
    "a bot whose token is refused": "update delivery set state = 'queued'; update bot set state = 'refused'",
}
DIFFERENCES = {
    "update payment set status = 'pending'": "paid 4990 there, here ('paid', 'pending', 4990)",
    "update payment set amount_cents = 4900": "here ('paid', 'paid', 4900)",
    "update charge_attempt set provider_id = 'x'": "no bank knows of it",
    "update charge_attempt set state = 'made'": "paid 0 times",
    "update payment set status = 'refunded'": "1 at Meta, 0 here",
    "update payment set payment_id = 'BOT1_x'": "not at Meta",
}


@pytest.fixture
def shop(line: Line) -> Shop:
    """A shop with one sale that is paid, delivered and reported."""
    shop = open_shop(line)
    person = line.world.telegram.person()
    person.start(shop.token, shop.click())
    line.work()
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    return shop


@contextmanager
def broken(owner: Engine, statements: str) -> Iterator[Connection]:
    """The database after these statements; they are taken back."""
    with owner.connect() as connection:
        # What the database itself forbids is broken here all the same.
        connection.exec_driver_sql(f"set local session_replication_role = replica; {statements}")
        yield connection
        connection.rollback()


def found(owner: Engine, statements: str) -> set[str]:
    with broken(owner, statements) as connection:
        return {finding.rule for finding in check(connection, AT_ONCE)}


def rows_of(connection: Connection) -> ledger.Rows:
    return lambda sql: [dict(row._mapping) for row in connection.execute(text(sql))]


def test_nothing_is_found_on_a_good_line(shop: Shop, owner: Engine) -> None:
    assert found(owner, "select 1") == set()
    assert ledger.differences(shop.line.world, shop.line.rows) == []
    assert ledger.repeated(shop.line.world, shop.line.rows) == 0
    assert ledger.unkept(shop.line.world, shop.line.rows) == []


def test_each_rule_goes_red_when_its_promise_is_broken(shop: Shop, owner: Engine) -> None:
    missed = [rule for rule, statements in BROKEN.items() if rule not in found(owner, statements)]
    assert missed == []
    assert BROKEN.keys() == RULES.keys()


def test_a_row_of_another_seller_is_found_wherever_it_hangs(shop: Shop, owner: Engine) -> None:
    hanging = [
        name for name in (*ROW_SECURED, "door") if name not in ("seller", "offer", "bot", "gateway", "destination")
    ]
    used = [name for name in hanging if shop.line.rows(f"select 1 from {name} limit 1")]
    moved = {name: f"{OTHER_SELLER}; {TO_OTHER_SELLER.format(name)}" for name in used}
    missed = [name for name, statements in moved.items() if "foreign_seller" not in found(owner, statements)]
    assert missed == []
    assert {"payment", "charge_attempt", "webhook_receipt", "delivery", "message", "conversion", "inbox"} <= set(used)


def test_what_is_waited_for_is_not_late(shop: Shop, owner: Engine) -> None:
    red = {why: rules for why, statement in WAITED_FOR.items() if (rules := found(owner, statement))}
    assert red == {}


def test_what_is_under_way_may_take_until_its_deadline(shop: Shop, owner: Engine) -> None:
    waiting = "update conversion set state = 'waiting'; update inbox set state = 'new'"
    with broken(owner, waiting) as connection:
        assert check(connection, timedelta(minutes=1)) == []


def test_a_finding_counts_and_names_examples_to_the_applications_role_too(shop: Shop) -> None:
    shop.line.change("update conversion set state = 'waiting'")
    row = shop.line.rows("select id from conversion")[0]["id"]
    with shop.line.app.app_context():
        look_across_sellers()
        [finding] = check(db.session.connection(), AT_ONCE)
    assert finding == Finding("late_conversion", 1, (f"conversion {row} waiting",))


def test_the_ledger_tells_where_the_books_differ(shop: Shop, owner: Engine) -> None:
    told = {}
    for statement, difference in DIFFERENCES.items():
        with broken(owner, statement) as connection:
            told[difference] = ledger.differences(shop.line.world, rows_of(connection))
    assert [difference for difference, lines in told.items() if difference not in " ".join(lines)] == []


def test_what_a_customer_reads_twice_or_never_is_told(shop: Shop) -> None:
    [talk] = shop.line.world.telegram.dialogues()
    delivered = talk.messages.pop()
    [missing] = ledger.differences(shop.line.world, shop.line.rows)
    talk.messages += [delivered, delivered]
    assert "not in the chat" in missing
    assert ledger.repeated(shop.line.world, shop.line.rows) == 1


def test_what_is_delivered_to_a_stranger_is_told(shop: Shop) -> None:
    world = shop.line.world
    [talk] = world.telegram.dialogues()
    stranger = world.telegram.dialogue(talk.bot, world.telegram.person())
    stranger.messages.append(talk.messages[-1])
    assert ledger.differences(world, shop.line.rows) == [f"{talk.bot.username} {stranger.id}: got what is another's"]


def test_an_acknowledged_notice_or_update_that_is_not_here_is_told(shop: Shop) -> None:
    shop.line.change("delete from webhook_receipt; delete from inbox where event_key like 'update:%'")
    assert len(ledger.unkept(shop.line.world, shop.line.rows)) == 3  # the notice, /start, the tap
