"""Access to groups: for who bought it, as long as they bought, and not after their money went back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import requests

from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import Status
from tests.world.bank import Refund
from tests.world.telegram.chats import Group
from tests.world.telegram.people import Person

DAY_S = 86400


@pytest.fixture
def vip(line: Line) -> Group:
    return line.world.telegram.group("VIP")


def open_vip_shop(line: Line, vip: Group, days: int | None = 30, **rights: bool) -> Shop:
    shop = open_shop(line, delivers=[{"kind": "group", "chat_id": vip.id, "days": days}])
    line.world.telegram.promote(vip, line.world.telegram.bot(shop.token), **rights)
    return shop


def buy(line: Line, shop: Shop, person: Person) -> str:
    """Pays for the offer; answers the invitation's address."""
    shop.buy(person)
    line.world.pushinpay.pay(next(reversed(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    return str(person.last(shop.token).buttons[0].url)


def enter(line: Line, person: Person, invitation: str) -> None:
    person.join(invitation)
    line.work()


def accesses(line: Line) -> list[tuple[str, str | None]]:
    return [(row["state"], row["why"]) for row in line.rows("select state, why from access order by id")]


def test_who_bought_is_let_in_when_they_ask(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip), line.world.telegram.person()

    enter(line, person, buy(line, shop, person))

    assert vip.has_in(person.id)
    assert line.rows("select entered_at is not null as entered from access") == [{"entered": True}]
    assert line.rows("select 1 from payment_event where kind = 'entered'")


def test_an_invitation_that_was_passed_on_lets_nobody_in(line: Line, vip: Group) -> None:
    shop, person, friend = open_vip_shop(line, vip), line.world.telegram.person(), line.world.telegram.person()
    invitation = buy(line, shop, person)

    enter(line, friend, invitation)
    assert not vip.has_in(friend.id)
    assert friend.id not in vip.requests
    assert not friend.received(shop.token)

    enter(line, person, invitation)
    assert vip.has_in(person.id)


def test_a_customer_who_left_comes_back_by_the_same_invitation(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip), line.world.telegram.person()
    invitation = buy(line, shop, person)
    enter(line, person, invitation)
    person.leave(vip)

    enter(line, person, invitation)

    assert vip.has_in(person.id)


def test_access_ends_with_its_days_and_can_be_bought_again(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip), line.world.telegram.person()
    invitation = buy(line, shop, person)
    enter(line, person, invitation)
    pass_days(line, 29)
    assert vip.has_in(person.id)

    pass_days(line, 2)

    assert not vip.has_in(person.id)
    assert accesses(line) == [("ended", "expired")]
    assert "O prazo terminou" in person.last(shop.token).text
    enter(line, person, invitation)
    assert not vip.has_in(person.id)

    enter(line, person, buy(line, shop, person))
    assert vip.has_in(person.id)


def pass_days(line: Line, days: int) -> None:
    line.change("update access set ends_at = ends_at - make_interval(days => :days)", days=days)
    line.pass_time(days * DAY_S)


def test_access_bought_again_before_its_end_lasts_as_long_as_both(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip), line.world.telegram.person()
    enter(line, person, buy(line, shop, person))
    buy(line, shop, person)

    pass_days(line, 31)
    assert vip.has_in(person.id)
    assert accesses(line) == [("ended", "expired"), ("open", None)]

    pass_days(line, 30)
    assert not vip.has_in(person.id)
    assert len([m for m in person.received(shop.token) if "O prazo terminou" in m.text]) == 1


def test_access_without_days_does_not_end(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip, days=None), line.world.telegram.person()
    enter(line, person, buy(line, shop, person))

    pass_days(line, 4000)

    assert vip.has_in(person.id)
    assert accesses(line) == [("open", None)]


def test_a_refund_takes_access_back(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip), line.world.telegram.person()
    invitation = buy(line, shop, person)
    enter(line, person, invitation)

    refund(line)

    assert line.rows("select status from payment") == [{"status": "refunded"}]
    assert not vip.has_in(person.id)
    assert accesses(line) == [("ended", "refunded")]
    assert "O pagamento foi devolvido" in person.last(shop.token).text
    enter(line, person, invitation)
    assert not vip.has_in(person.id)


def refund(line: Line) -> None:
    charge = next(reversed(line.world.pushinpay.charges.values()))
    charge.refunds.append(Refund("devolução", charge.cents, datetime.now(UTC)))
    line.world.pushinpay.send_notice(charge.id)
    line.world.pushinpay.wait_delivered()
    line.work()


def test_a_removal_that_runs_twice_tells_the_customer_once(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip), line.world.telegram.person()
    enter(line, person, buy(line, shop, person))
    pass_days(line, 31)

    line.change("update procrastinate_jobs set status = 'todo' where task_name = 'end_access'")
    line.work()

    assert len([m for m in person.received(shop.token) if "O prazo terminou" in m.text]) == 1


def test_a_bot_that_may_not_remove_tries_again_and_the_seller_is_told(line: Line, vip: Group) -> None:
    shop = open_vip_shop(line, vip, can_restrict_members=False)
    person = line.world.telegram.person()
    enter(line, person, buy(line, shop, person))
    pass_days(line, 31)
    assert vip.has_in(person.id)
    assert "Not enough rights" in line.rows("select last_error from access")[0]["last_error"]

    line.world.telegram.promote(vip, line.world.telegram.bot(shop.token))
    line.pass_time(3601)

    assert not vip.has_in(person.id)
    assert accesses(line) == [("ended", "expired")]


def test_telegram_away_at_the_end_of_an_access_is_asked_again(line: Line, vip: Group) -> None:
    shop, person = open_vip_shop(line, vip), line.world.telegram.person()
    enter(line, person, buy(line, shop, person))
    line.world.telegram.fail("/banChatMember", how=Status(502, {"ok": False, "error_code": 502, "description": "x"}))

    pass_days(line, 31)
    assert accesses(line) == [("open", None)]
    line.pass_time(3601)

    assert not vip.has_in(person.id)


def test_groups_that_we_do_not_sell_are_let_alone(line: Line) -> None:
    shop, person = open_shop(line), line.world.telegram.person()
    other = line.world.telegram.group("Amigos")
    line.world.telegram.promote(other, line.world.telegram.bot(shop.token))
    asked = {"chat_id": other.id, "creates_join_request": True}
    made = requests.post(f"{line.world.telegram.url}/bot{shop.token}/createChatInviteLink", json=asked, timeout=5)

    enter(line, person, made.json()["result"]["invite_link"])

    assert person.id in other.requests
