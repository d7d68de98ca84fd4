"""One whole sale: click, chat, charge, notice, paid, delivered, told to Meta."""

from __future__ import annotations

from tests.line import Line
from tests.shops import open_shop


def test_a_click_becomes_a_delivered_sale_and_a_purchase_at_meta(line: Line) -> None:
    shop = open_shop(line)
    world = line.world
    token = shop.click(fbclid="IwAR0click", utm_source="ig")
    person = world.telegram.person(first_name="Ana")

    person.start(shop.token, token)
    line.work()
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    charge = next(iter(world.pushinpay.charges.values()))
    world.pushinpay.pay(charge.id)
    world.pushinpay.wait_delivered()
    line.work()

    assert [row["status"] for row in shop.payments()] == ["paid"]
    assert "https://example.com/curso" in person.last(shop.token).text
    assert list(world.meta.ledger().values()) == [1]
    assert not world.refusals
