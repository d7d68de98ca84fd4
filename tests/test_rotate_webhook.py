"""Another secret in the address of a gateway's notices: both are good for a while, then only the new one."""

from __future__ import annotations

import pytest
import requests

from bot_manager.commands import rotate_webhook
from bot_manager.ops.processes import CannotRun
from tests.line import Line
from tests.shops import Shop, open_shop


@pytest.fixture
def shop(line: Line) -> Shop:
    return open_shop(line)


def email(shop: Shop) -> str:
    return shop.line.rows("select email from seller where id = :id", id=shop.seller_id)[0]["email"]


def rotate(shop: Shop, days: float = 7) -> str:
    with shop.line.app.app_context():
        return rotate_webhook.rotate(email(shop), "pushinpay", days)["webhook_url"]


def knock(url: str) -> int:
    return requests.post(url, json={"id": "none", "status": "paid", "value": 1}, timeout=5).status_code


def test_a_charge_made_before_is_settled_by_its_old_address_and_new_ones_by_the_new(shop: Shop) -> None:
    world, line = shop.line.world, shop.line
    shop.buy(world.telegram.person())
    [before] = [charge.notice_url.partition("?")[0] for charge in world.pushinpay.charges.values()]

    new = rotate(shop)
    shop.buy(world.telegram.person())
    for charge in list(world.pushinpay.charges.values()):
        world.pushinpay.pay(charge.id)
    world.pushinpay.wait_delivered()
    line.work()

    assert [p["status"] for p in shop.payments()] == ["paid", "paid"]
    assert {charge.notice_url.partition("?")[0] for charge in world.pushinpay.charges.values()} == {before, new}


def test_the_old_address_ends_with_its_window(shop: Shop) -> None:
    old, new = rotate(shop), rotate(shop)
    assert (knock(old), knock(new)) == (200, 200)

    shop.line.change("update door set expires_at = expires_at - interval '7 days 1 second'")

    assert (knock(old), knock(new)) == (404, 200)
    assert shop.line.rows("select kind from security_event") == [{"kind": "wrong_webhook_secret"}]


def test_a_secret_that_leaked_ends_at_once_and_no_rotation_makes_it_last_longer(shop: Shop) -> None:
    old = rotate(shop)
    new = rotate(shop, days=0)
    newer = rotate(shop)

    assert [knock(url) for url in (old, new, newer)] == [404, 200, 200]


def test_one_shops_rotation_is_no_others(shop: Shop) -> None:
    other = open_shop(shop.line)
    theirs = rotate(other)

    rotate(shop, days=0)

    assert knock(theirs) == 200
    with shop.line.app.app_context():
        with pytest.raises(CannotRun, match="no seller"):
            rotate_webhook.rotate("ninguem@example.com", "pushinpay", 7)
        with pytest.raises(CannotRun, match="no gateway"):
            rotate_webhook.rotate(email(shop), "woovi", 7)
