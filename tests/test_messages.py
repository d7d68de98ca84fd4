"""Sending: in order, within limits, and each refusal understood for what it is."""

from __future__ import annotations

import pytest

from tests.line import Line
from tests.shops import open_shop
from tests.world import ResetAfter, ResetBefore, Status

SEND = "/sendMessage"


def too_fast(seconds: int) -> Status:
    words = {"ok": False, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": seconds}}
    return Status(429, words)


def states(line: Line) -> list[str]:
    return [row["state"] for row in line.rows("select state from message order by id")]


def test_a_429_is_waited_for_and_nothing_is_lost(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    line.world.telegram.fail(SEND, how=too_fast(30))

    shop.visit(person)
    assert states(line) == ["queued"]
    line.change("update customer set next_send_at = now()")
    line.pass_time(31)

    assert states(line) == ["sent"]


def test_a_blocked_customer_gets_their_purchase_when_they_are_back(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.buy(person)
    person.block(shop.token)
    charge = next(iter(line.world.pushinpay.charges))
    line.world.pushinpay.pay(charge)
    line.world.pushinpay.wait_delivered()
    line.work()
    assert line.rows("select state from delivery") == [{"state": "blocked"}]

    person.unblock(shop.token)
    person.start(shop.token)
    line.work()
    line.pass_time(5)

    assert line.rows("select state from delivery") == [{"state": "delivered"}]
    assert [m for m in person.received(shop.token) if "https://example.com/curso" in m.text]


def test_a_403_nobody_announced_marks_the_customer_as_gone(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    line.world.telegram.fail(
        SEND, how=Status(403, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"})
    )

    shop.visit(person)

    assert states(line) == ["blocked"]
    assert line.rows("select 1 from customer where blocked_at is not null")


def test_a_refused_token_stops_the_bot_and_keeps_the_messages(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    line.world.telegram.hold_updates(shop.token)
    person.start(shop.token)
    line.world.telegram.release_updates(shop.token)
    line.world.telegram.wait_for(lambda: line.rows("select 1 from inbox"))
    line.world.telegram.revoke(shop.token)
    line.work()
    line.pass_time(10)

    bot = line.rows("select state, state_note from bot")[0]
    assert bot["state"] == "refused"
    assert "BotFather" in bot["state_note"]
    assert states(line) == ["queued"]


def test_one_passing_401_does_not_stop_the_bot(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    line.world.telegram.fail(SEND, how=Status(401, {"ok": False, "error_code": 401, "description": "Unauthorized"}))

    shop.visit(person)
    line.pass_time(31)

    assert line.rows("select state from bot") == [{"state": "active"}]
    assert states(line) == ["sent"]


@pytest.mark.parametrize(
    "fault", [ResetBefore(), ResetAfter(), Status(502, {"ok": False, "error_code": 502, "description": "Bad Gateway"})]
)
def test_a_message_whose_fate_is_unknown_arrives(line: Line, fault: object) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    line.world.telegram.fail(SEND, how=fault)

    shop.visit(person)
    line.pass_time(5)

    assert states(line) == ["sent"]
    assert person.button(shop.token, "Curso Completo")


def test_a_message_that_is_refused_does_not_hold_up_the_next(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    line.world.telegram.fail(
        SEND, how=Status(400, {"ok": False, "error_code": 400, "description": "Bad Request: nope"})
    )

    shop.visit(person)
    person.say(shop.token, "/privacy")
    line.work()

    assert states(line) == ["failed", "sent"]


def test_what_was_paid_for_outlasts_any_outage_of_the_channel(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.buy(person)
    line.world.telegram.fail(SEND, how=Status(502, {"ok": False, "error_code": 502, "description": "x"}), times=None)
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    for _ in range(15):
        line.change("update customer set next_send_at = now(); update bot set next_send_at = now()")
        line.pass_time(301)
    [row] = line.rows("select attempts, state from message where delivery_id is not null")
    assert row["state"] == "queued"
    assert row["attempts"] > 12

    line.world.telegram.heal()
    line.pass_time(301)

    assert line.rows("select state from delivery") == [{"state": "delivered"}]
    assert [m for m in person.received(shop.token) if "https://example.com/curso" in m.text]


def test_messages_of_a_chat_arrive_in_their_order(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.visit(person)
    for words in ("/privacy", "/paysupport", "/privacy"):
        person.say(shop.token, words)
    line.work()
    line.pass_time(10)

    assert [("Privacidade" in m.text, "Suporte" in m.text) for m in person.received(shop.token)[1:]] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def test_a_send_job_that_runs_twice_sends_once(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.visit(person)

    line.change("update procrastinate_jobs set status = 'todo' where task_name in ('send', 'converse')")
    line.work()

    assert len(person.received(shop.token)) == 1


def test_a_message_that_does_not_open_undoes_nothing_of_the_one_before_it(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    line.world.telegram.fail(SEND, how=too_fast(30))
    shop.visit(person)
    person.say(shop.token, "/privacy")
    line.work()
    line.change("update message set body_sealed = 'nothing' where position = 2")
    line.change("update customer set next_send_at = now()")

    line.pass_time(31)
    line.change("update message set claimed_at = claimed_at - interval '1 minute'")
    line.pass_time(31)

    assert states(line) == ["sent", "sending"]
    assert len(person.received(shop.token)) == 1
