"""Deliveries: each thing once, a group's invitation for one person, nothing from a test sale."""

from __future__ import annotations

from bot_manager import deliveries
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue
from models import db
from tests.line import Line
from tests.shops import open_shop
from tests.world import Status

LINK = {"kind": "link", "url": "https://example.com/curso"}


def pay(line: Line) -> None:
    line.world.pushinpay.pay(next(reversed(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()


def test_each_thing_of_an_offer_is_delivered_once(line: Line) -> None:
    group = line.world.telegram.group("VIP")
    shop = open_shop(line, delivers=[LINK, {"kind": "group", "chat_id": group.id, "days": 30}])
    line.world.telegram.promote(group, line.world.telegram.bot(shop.token))
    person = line.world.telegram.person()
    shop.buy(person)

    pay(line)
    line.change("update procrastinate_jobs set status = 'todo' where task_name = 'deliver'")
    line.work()

    assert line.rows("select state from delivery order by item") == [{"state": "delivered"}] * 2
    invitation = person.last(shop.token)
    assert "30 dias" in invitation.text
    assert person.join(invitation.buttons[0].url)
    assert len([m for m in person.received(shop.token) if "Pagamento confirmado" in m.text]) == 2


def test_a_group_that_can_not_be_opened_delays_nothing_else(line: Line) -> None:
    group = line.world.telegram.group("VIP")
    shop = open_shop(line, delivers=[{"kind": "group", "chat_id": group.id, "days": 30}, LINK])
    person = line.world.telegram.person()
    shop.buy(person)

    pay(line)
    assert [row["state"] for row in line.rows("select state from delivery order by item")] == ["waiting", "delivered"]
    line.world.telegram.promote(group, line.world.telegram.bot(shop.token))
    line.pass_time(10)

    assert [row["state"] for row in line.rows("select state from delivery order by item")] == ["delivered"] * 2


def test_an_invitation_that_can_not_be_made_for_hours_is_made_in_the_end(line: Line) -> None:
    group = line.world.telegram.group("VIP")
    shop = open_shop(line, delivers=[{"kind": "group", "chat_id": group.id, "days": 30}])
    shop.buy(line.world.telegram.person())
    pay(line)
    for _ in range(15):
        line.pass_time(100)
    assert line.rows("select 1 from procrastinate_jobs where status = 'failed' and task_name = 'deliver'")

    line.world.telegram.promote(group, line.world.telegram.bot(shop.token))
    line.pass_time(901)

    assert line.rows("select state from delivery") == [{"state": "delivered"}]


def test_a_test_sale_gives_no_access_to_a_group(line: Line) -> None:
    group = line.world.telegram.group("VIP")
    shop = open_shop(line, gateways=(), test=True, delivers=[{"kind": "group", "chat_id": group.id, "days": 30}])
    line.world.telegram.promote(group, line.world.telegram.bot(shop.token))
    person = line.world.telegram.person()

    line.approve(shop.buy(person))

    assert line.rows("select state from delivery") == [{"state": "skipped"}]
    assert not [call for call in line.world.telegram.calls if "createChatInviteLink" in call.path]


def test_a_failing_destination_never_delays_a_delivery(line: Line) -> None:
    line.world.meta.fail("/events", how=Status(500, {}), times=None)
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.buy(person)

    pay(line)

    assert "https://example.com/curso" in person.last(shop.token).text


def test_a_run_that_died_before_it_sent_is_made_up_for(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    payment = shop.buy(person)
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.change("update payment set status = 'paid', paid_at = now()")
    with line.seller(shop.seller_id):
        deliveries._begin(payment["id"])
        db.session.commit()
        enqueue(Job(Name.DELIVER, shop.seller_id, payment["trace_id"], {"payment": payment["id"]}))
        db.session.commit()
    assert line.rows("select state from delivery") == [{"state": "queued"}]

    line.work()

    assert line.rows("select state from delivery") == [{"state": "delivered"}]
    assert len([m for m in person.received(shop.token) if LINK["url"] in m.text]) == 1
