"""Two sellers' customers: start tokens, taps, notices and updates of one, tried at the other. Nothing crosses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from sqlalchemy import Engine

from bot_manager.addresses import get_webhook_url
from bot_manager.security import doors
from models import Gateway, db
from tests.line import Line
from tests.rows import hashes
from tests.shops import Shop, open_shop
from tests.world.telegram.people import Person


@dataclass
class Pair:
    """Ana's shop with a customer who has a code open; Caio's shop, and a customer of his who tries things."""

    line: Line
    ana: Shop
    caio: Shop
    payment: dict[str, Any]
    click: str
    rogue: Person

    def address(self, shop: Shop) -> str:
        with self.line.seller(shop.seller_id):
            return get_webhook_url(db.session.get_one(Gateway, shop.gateways["woovi"]))


@pytest.fixture
def pair(line: Line) -> Pair:
    ana, caio = (open_shop(line, gateways=("woovi",)) for _ in range(2))
    victim, click = line.world.telegram.person(), ana.click(utm_source="ana")
    ana.visit(victim, click)
    victim.tap(ana.token, victim.button(ana.token, "Curso Completo"))
    line.work()
    rogue = line.world.telegram.person()
    caio.buy(rogue)
    return Pair(line, ana, caio, ana.payments()[-1], click, rogue)


def _tap(pair: Pair, data: str) -> None:
    """As a client that makes up what its button says."""
    button = pair.rogue.button(pair.caio.token, "Já paguei")
    button.raw["callback_data"] = data
    pair.rogue.tap(pair.caio.token, button)


def _start_with_her_token(pair: Pair) -> None:
    pair.rogue.start(pair.caio.token, pair.click)


def _tap_her_payment(pair: Pair) -> None:
    _tap(pair, f"paid:{pair.payment['payment_id']}")


def _tap_her_offer_by_id(pair: Pair) -> None:
    _tap(pair, f"buy:{pair.payment['offer_id']}")


def _say_her_ids(pair: Pair) -> None:
    for word in (pair.payment["payment_id"], pair.payment["webhook_token"], f"/start {pair.payment['webhook_token']}"):
        pair.rogue.say(pair.caio.token, word)


def _push_to_her_bot_with_his_secret(pair: Pair) -> None:
    with pair.line.seller(pair.caio.seller_id):
        secret = doors.telegram_secret(pair.caio.public_id)
    update = {"update_id": 1, "message": {"message_id": 1, "chat": {"id": 1, "type": "private"}, "text": "/start"}}
    headers = {"X-Telegram-Bot-Api-Secret-Token": secret}
    answer = requests.post(f"{pair.line.url}/tg/{pair.ana.public_id}", json=update, headers=headers, timeout=10)
    assert answer.status_code == 404


def _her_sale_paid_at_his_gateway(pair: Pair) -> None:
    """A true, signed notice of his own account that speaks of her charge."""
    woovi = pair.line.world.woovi
    hers = next(charge for charge in woovi.charges.values() if charge.account != _his(pair).account)
    body = json.dumps(
        {
            "event": "OPENPIX:CHARGE_COMPLETED",
            "charge": {
                "status": "COMPLETED",
                "value": pair.payment["amount_cents"],
                "correlationID": hers.reference,
                "transactionID": hers.id,
                "identifier": hers.id,
            },
        }
    )
    woovi.send_notice(_his(pair), body=body.encode())
    woovi.wait_delivered()


def _her_token_in_his_address(pair: Pair) -> None:
    url = f"{pair.address(pair.caio)}?t={pair.payment['webhook_token']}"
    requests.post(url, json={"event": "OPENPIX:CHARGE_COMPLETED"}, timeout=10)


def _her_secret_under_another_kind(pair: Pair) -> None:
    answer = requests.post(pair.address(pair.ana).replace("/woovi/", "/pushinpay/"), json={}, timeout=10)
    assert answer.status_code == 404


def _his(pair: Pair) -> Any:
    reference = pair.caio.payments()[-1]["id"]
    rows = pair.line.rows("select provider_id from charge_attempt where payment_id = :id", id=reference)
    woovi = pair.line.world.woovi
    return next(c for c in woovi.charges.values() if rows[0]["provider_id"] in (c.id, c.reference))


TRIES: tuple[Callable[[Pair], None], ...] = (
    _start_with_her_token,
    _tap_her_payment,
    _tap_her_offer_by_id,
    _say_her_ids,
    _push_to_her_bot_with_his_secret,
    _her_sale_paid_at_his_gateway,
    _her_token_in_his_address,
    _her_secret_under_another_kind,
)


def _hers(pair: Pair, owner: Engine) -> dict[str, str]:
    return hashes(owner, pair.ana.seller_id, but={"timer"})  # moved by the test, that time may pass


def test_nothing_that_a_customer_or_company_of_his_sends_touches_hers(pair: Pair, owner: Engine) -> None:
    """Row by row and byte for byte, after everything that was tried came to its end."""
    before = _hers(pair, owner)
    for try_ in TRIES:
        try_(pair)
        pair.line.work()
        pair.line.pass_time(40)
        changed = {name for name, rows in _hers(pair, owner).items() if rows != before[name]}
        assert not changed, try_.__name__

    assert pair.caio.payments()[-1]["status"] == "pending"
    clicks = pair.line.rows("select tracking_token from customer where seller_id = :it", it=pair.caio.seller_id)
    assert pair.click not in {row["tracking_token"] for row in clicks}
