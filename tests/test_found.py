"""Found by the state machine (tests/test_state_machine.py): each of these once broke a promise."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.line import Line
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import Hold, Status
from tests.world.bank import Charge, Refund
from tests.world.woovi import COMPLETED

REFUND_SENT = "PIX_TRANSACTION_REFUND_SENT_CONFIRMED"


def sold_at_woovi(line: Line) -> tuple[Shop, Charge]:
    shop = open_shop(line, gateways=("woovi",))
    account = next(iter(line.world.woovi._accounts))
    url = line.world.woovi.webhooks[0].url
    line.world.woovi.set_webhook(account, url, events=(COMPLETED, REFUND_SENT))
    shop.buy(line.world.telegram.person())
    return shop, next(iter(line.world.woovi.charges.values()))


def give_back(charge: Charge) -> None:
    charge.refunds.append(Refund("refund-1", charge.paid_cents or 0, datetime.now(UTC), done=True))


def test_a_refund_that_names_only_the_transfer_gives_the_sale_back(line: Line) -> None:
    shop, charge = sold_at_woovi(line)
    line.world.woovi.pay(charge)
    line.world.woovi.wait_delivered()

    give_back(charge)
    line.world.woovi.confirm_refund(charge)
    line.world.woovi.wait_delivered()

    assert shop.payments()[-1]["status"] == "refunded"


def test_a_refund_finds_its_transfer_also_when_a_query_had_settled_the_sale(line: Line) -> None:
    shop, charge = sold_at_woovi(line)
    held = line.world.woovi.pay(charge, hold=True)
    line.pass_time(125)
    assert shop.payments()[-1]["status"] == "paid"

    line.world.woovi.release(held)
    line.world.woovi.wait_delivered()
    give_back(charge)
    line.world.woovi.confirm_refund(charge)
    line.world.woovi.wait_delivered()

    assert shop.payments()[-1]["status"] == "refunded"


def test_a_refund_of_one_of_two_codes_paid_leaves_the_sale_paid(line: Line) -> None:
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    person = line.world.telegram.person()
    shop.visit(person)
    line.world.pushinpay.fail("/pix/cashIn", how=Status(500, {}, after=True))
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    first, second = next(iter(line.world.pushinpay.charges.values())), next(iter(line.world.woovi.charges.values()))
    line.world.woovi.pay(second)
    line.world.woovi.wait_delivered()
    line.world.pushinpay.pay(first.id)
    line.world.pushinpay.wait_delivered()
    line.work()

    give_back(first)
    line.world.pushinpay.send_notice(first.id)
    line.world.pushinpay.wait_delivered()
    line.work()

    assert shop.payments()[-1]["status"] == "paid"
    assert line.rows("select state from charge_attempt order by id") == [{"state": "refunded"}, {"state": "paid"}]


def test_the_refund_of_both_codes_paid_gives_the_sale_back(line: Line) -> None:
    shop = open_shop(line, gateways=("pushinpay",))
    person = line.world.telegram.person()
    shop.visit(person)
    line.world.pushinpay.fail("/pix/cashIn", how=Status(500, {}, after=True))
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    line.change("update payment set status = 'new', claimed_at = null")
    line.change(
        "insert into procrastinate_jobs (queue_name, task_name, args)"
        " select queue_name, task_name, args from procrastinate_jobs where task_name = 'charge'"
    )
    line.work()
    for charge in line.world.pushinpay.charges.values():
        line.world.pushinpay.pay(charge.id)
    line.world.pushinpay.wait_delivered()
    line.work()

    for charge in line.world.pushinpay.charges.values():
        give_back(charge)
        line.world.pushinpay.send_notice(charge.id)
    line.world.pushinpay.wait_delivered()
    line.work()

    assert shop.payments()[-1]["status"] == "refunded"


def test_a_paid_notice_after_its_refund_pays_nothing(line: Line) -> None:
    shop, charge = sold_at_woovi(line)
    held = line.world.woovi.pay(charge, hold=True)
    give_back(charge)
    line.world.woovi.release(held)
    line.world.woovi.wait_delivered()
    line.world.woovi.confirm_refund(charge)
    line.world.woovi.send_notice(charge)
    line.world.woovi.wait_delivered()
    line.work()

    assert shop.payments()[-1]["status"] == "refunded"


def test_what_was_given_back_while_the_group_was_asked_is_not_handed_over(line: Line) -> None:
    group = line.world.telegram.group("VIP")
    shop = open_shop(line, delivers=[{"kind": "group", "chat_id": group.id}])
    line.world.telegram.promote(group, line.world.telegram.bot(shop.token))
    shop.buy(line.world.telegram.person())
    charge, held = next(iter(line.world.pushinpay.charges.values())), Hold(after=True)
    line.world.telegram.fail("/createChatInviteLink", how=held)

    with line.working():
        line.world.pushinpay.pay(charge.id)
        assert held.reached.wait(10)
        give_back(charge)
        line.world.pushinpay.send_notice(charge.id)
        until(lambda: shop.payments()[-1]["status"] == "refunded")
        held.release()
        until(line.idle)

    assert line.rows("select state from delivery") == [{"state": "waiting"}]
    assert not line.rows("select 1 from access")
