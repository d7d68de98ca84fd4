"""What every kill, pause and famine is followed by: sales go on to their end, and all books agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from bot_manager.ops.checker import Finding, check
from bot_manager.ops.schema import engine_url
from tests import ledger
from tests.product import Product
from tests.shops import Shop
from tests.until import until
from tests.world import World
from tests.world.telegram import Person

PATIENCE_S = 180.0
DELIVERED = "https://example.com/curso"


def buy(shop: Shop, person: Person, notices: int = 1) -> None:
    """From the menu to the delivery."""
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    person.tap(shop.token, "Curso Completo")
    code = person.wait_button(shop.token, "Copiar", PATIENCE_S).copy_text
    pay(shop.line.world, code, notices)
    person.wait_text(shop.token, DELIVERED, PATIENCE_S)


def pay(world: World, code: str | None, notices: int) -> None:
    for bank in (world.pushinpay, world.woovi):
        for charge in [charge for charge in bank.charges.values() if charge.pix_code == code]:
            bank.pay(charge.id, notices=notices)


def assert_it_all_came_out(product: Product, sales: int) -> None:
    """All sales are paid, delivered and reported once, nothing is left under way, and all books agree."""
    world, rows = product.world, product.rows
    come_to_rest(product)
    assert rows("select count(*) as n from payment where status = 'paid'") == [{"n": sales}]
    assert ledger.differences(world, rows) == []
    assert ledger.unkept(world, rows) == []
    # What was sent and not known to be sent is sent again: each copy has a send that was cut off before it.
    again = "select coalesce(sum(attempts - 1), 0) as n from message where delivery_id is not null"
    assert ledger.repeated(world, rows) <= rows(again)[0]["n"]
    # A poll that begins ends the one that a killed worker left open; that one is refused.
    assert [refusal for refusal in world.refusals if refusal.status != 409] == []


def come_to_rest(product: Product) -> None:
    """Until the checker finds nothing, not even what is under way."""
    last: list[Finding] = []

    def at_rest() -> bool:
        last[:] = findings(product)
        return not last

    with suppress(AssertionError):
        in_time(product, at_rest, 30)
    assert last == []


def in_time(product: Product, condition: Callable[[], bool], step: float, pause: float = 3.0) -> None:
    """Waits for it, with the clock set forward by `step` seconds every `pause`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in time\n{product.tail()}"
        with suppress(AssertionError):
            until(condition, pause)
            return
        with suppress(OperationalError):  # the database is away just now
            product.pass_time(step)


def findings(product: Product) -> list[Finding]:
    engine = create_engine(engine_url(product.urls.owner))
    try:
        with engine.connect() as connection:
            return check(connection, timedelta(0))
    finally:
        engine.dispose()
