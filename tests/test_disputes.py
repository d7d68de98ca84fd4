"""A payer's claim at their bank: told to the seller at once, with its end, and never taken for what became of the money."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models import PaymentEvent, db
from tests.line import Line
from tests.panel_world import event
from tests.shops import Shop, open_shop
from tests.test_panel_rooms import Ours, ours  # noqa: F401 - a fixture

EVENTS = ("CHARGE_COMPLETED", "DISPUTE_CREATED", "DISPUTE_ACCEPTED", "DISPUTE_REJECTED", "DISPUTE_CANCELED")


@pytest.fixture
def sold(line: Line) -> Shop:
    """A shop with one sale paid by Woovi, which tells of disputes."""
    shop = open_shop(line, gateways=("woovi",))
    woovi = line.world.woovi
    (account,) = {hook.account for hook in woovi.webhooks}
    woovi.set_webhook(account, woovi.webhooks[0].url, events=tuple(f"OPENPIX:{name}" for name in EVENTS))
    shop.buy(line.world.telegram.person())
    woovi.pay(charge(shop))
    woovi.wait_delivered()
    line.work()
    return shop


def charge(shop: Shop) -> object:
    return next(iter(shop.line.world.woovi.charges.values()))


def tell(shop: Shop, event: str) -> None:
    woovi = shop.line.world.woovi
    woovi.send_notice(charge(shop), f"OPENPIX:{event}")
    woovi.wait_delivered()
    shop.line.work()


def told(shop: Shop) -> list[str]:
    rows = shop.line.rows("select kind from payment_event where kind like 'dispute%' order by id")
    return [row["kind"] for row in rows]


def test_a_dispute_is_in_the_sales_story_once_with_the_day_until_which_it_can_be_defended(
    line: Line, sold: Shop
) -> None:
    tell(sold, "DISPUTE_CREATED")
    woovi = line.world.woovi
    woovi.send_notice(charge(sold), "woovi:DISPUTE_CREATED", changes={"name": "Outra Pessoa"})  # in other words, again
    woovi.wait_delivered()
    line.work()

    assert told(sold) == ["dispute_opened"]
    (row,) = line.rows("select data from payment_event where kind = 'dispute_opened'")
    left = datetime.fromisoformat(row["data"]["due_at"]) - datetime.now(UTC)
    assert timedelta(days=2, hours=23) < left <= timedelta(days=3)
    assert sold.payments()[-1]["status"] == "paid"


@pytest.mark.parametrize(
    ("ended", "as_"),
    [
        ("DISPUTE_ACCEPTED", "dispute_lost"),
        ("DISPUTE_REJECTED", "dispute_won"),
        ("DISPUTE_CANCELED", "dispute_cancelled"),
    ],
)
def test_what_is_accepted_is_the_payers_claim(line: Line, sold: Shop, ended: str, as_: str) -> None:
    tell(sold, "DISPUTE_CREATED")
    tell(sold, ended)

    assert told(sold) == ["dispute_opened", as_]
    assert line.rows("select kind from ledger_entry") == [{"kind": "sale"}]  # the books wait for the money itself


def test_a_dispute_that_names_no_sale_of_ours_stays_to_be_seen(line: Line, sold: Shop) -> None:
    line.change("update charge_attempt set end_to_end_id = null")

    tell(sold, "DISPUTE_CREATED")

    (row,) = line.rows("select state, note from webhook_receipt order by id desc limit 1")
    assert row["state"] == "mismatch"
    assert "contestação" in row["note"]
    assert told(sold) == []


def test_the_first_page_and_the_sale_say_until_when_and_a_dispute_that_is_over_is_no_alert(ours: Ours) -> None:  # noqa: F811
    payment = ours.sale()
    due = datetime(2026, 12, 24, 15, tzinfo=UTC)
    event(payment, "dispute_opened", ours.now, gateway=ours.gateway.id, dispute="d", due_at=due.isoformat())

    assert "foi contestada. R$ 49,90 podem voltar ao pagador. Responda no painel do provedor até 24/12/2026 12:00" in (
        ours.page().replace("\u00a0", " ")
    )
    assert "Contestado pelo pagador" in ours.page(f"/vendas/{payment.payment_id}")
    event(payment, "dispute_won", ours.now, gateway=ours.gateway.id, dispute="d", due_at=due.isoformat())
    assert "foi contestada" not in ours.page()
    assert db.session.query(PaymentEvent).filter_by(kind="dispute_won").count()
