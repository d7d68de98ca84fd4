"""Dead letters: found across sellers, tried again for one, once, by a new job; a set has a cap and a stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest
import requests

from bot_manager.app import act_for, look_across_sellers
from bot_manager.jobs import queue
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job
from bot_manager.ops import dead_letters
from bot_manager.ops.dead_letters import CLAIMS, Letter, Wanted
from models import RetryState, db
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.test_doors import notice_url, push
from tests.world import ResetAfter, Status
from web.panel.states import LETTER

OPERATOR = "olga@example.com"
UNREADABLE = b'{"id": NaN}'


def letters(line: Line, **wanted: Any) -> list[Letter]:
    with line.app.app_context():
        return dead_letters.newest(Wanted(**wanted), 100)


def try_again(line: Line, letter: Letter) -> RetryState | None:
    with line.app.app_context():
        state = dead_letters.try_again(letter, OPERATOR)
        db.session.commit()
        return state


def failed_job(line: Line, shop: Shop, name: Name, **args: Any) -> int:
    """A job that has failed for good, as the engine leaves it."""
    with line.seller(shop.seller_id):
        queue.enqueue(Job(name, shop.seller_id, "trace-of-the-dead", args, lock="a-lock"))
        db.session.commit()
    line.change("update procrastinate_jobs set status = 'failed' where args ->> 'trace' = 'trace-of-the-dead'")
    return int(line.rows("select max(id) as id from procrastinate_jobs where status = 'failed'")[0]["id"])


def waiting_jobs(line: Line) -> list[dict[str, Any]]:
    return line.rows("select task_name, args, lock from procrastinate_jobs where status = 'todo' order by id")


def retries(line: Line) -> list[dict[str, Any]]:
    return line.rows("select seller_id, what, row_id, state, asked_by from retry order by id")


# Found ------------------------------------------------------------------------------------------------------------


def test_a_job_that_failed_for_good_is_found_with_its_error_masked(line: Line) -> None:
    shop = open_shop(line)

    async def fails(**_: Any) -> None:
        error = ValueError("ana@example.com did not pay")
        error.permanent = True  # type: ignore[attr-defined]
        raise error

    with line.seller(shop.seller_id):
        queue.enqueue(Job(Name.CHARGE, shop.seller_id, "the-trace", {"payment": 1}))
        db.session.commit()
    asyncio.run(queue.Worker(line.settings.database_url or "", {Name.CHARGE: fails}).drain())

    [letter] = letters(line)
    assert (letter.what, letter.kind, letter.seller_id, letter.trace_id) == (
        "job",
        "charge",
        shop.seller_id,
        "the-trace",
    )
    assert letter.error == "ValueError: ***@*** did not pay"
    assert letter.seller_name.startswith("Loja")
    assert queue._failing == {}


def test_updates_and_notices_that_led_nowhere_are_found(line: Line) -> None:
    shop = open_shop(line)
    push(shop, b"not json")
    requests.post(notice_url(shop, "pushinpay"), data=UNREADABLE, timeout=5)

    found = {(letter.what, letter.kind) for letter in letters(line)}

    assert found == {("update", "update_unreadable"), ("receipt", "unreadable")}


def test_a_parked_notice_is_a_dead_letter_only_when_nothing_waits_for_it(line: Line) -> None:
    shop = open_shop(line)
    requests.post(notice_url(shop, "pushinpay"), json={"id": "nobody-knows-it", "status": "paid"}, timeout=5)
    assert letters(line) == []

    line.change("delete from timer")

    assert [letter.kind for letter in letters(line)] == ["parked"]


def test_they_are_narrowed_by_what_kind_shop_and_time(line: Line) -> None:
    ana, caio = open_shop(line), open_shop(line)
    for shop in (ana, caio):
        push(shop, b"not json")
        requests.post(notice_url(shop, "pushinpay"), data=UNREADABLE, timeout=5)
    everything = letters(line)

    assert len(everything) == 4
    assert len(letters(line, what="update")) == 2
    assert len(letters(line, what="receipt", kind="unreadable", seller=caio.seller_id)) == 1
    assert letters(line, kind="forged") == []
    assert letters(line, until=min(letter.at for letter in everything)) == []
    assert len(letters(line, since=min(letter.at for letter in everything))) == 4
    with line.app.app_context():
        assert dead_letters.counts(Wanted()) == {("update", "update_unreadable"): 2, ("receipt", "unreadable"): 2}
        pages = [dead_letters.newest(Wanted(), 3), dead_letters.newest(Wanted(), 3, everything[2])]
    assert [letter.id for page in pages for letter in page] == [letter.id for letter in everything]


def test_looking_writes_nothing_whoevers_it_is(line: Line) -> None:
    shop = open_shop(line)
    push(shop, b"not json")

    with line.app.app_context():
        dead_letters.newest(Wanted(), 100)
        look_across_sellers()
        changed = db.session.execute(db.text("update inbox set state = 'new'"))
        assert changed.rowcount == 0  # type: ignore[attr-defined]


# Tried again ------------------------------------------------------------------------------------------------------


def test_a_failed_charge_is_made_by_a_new_job_and_the_dead_row_stays(line: Line) -> None:
    shop = open_shop(line)
    payment = _without_its_charge(line, shop.buy(line.world.telegram.person()))
    dead = failed_job(line, shop, Name.CHARGE, payment=payment)

    [letter] = letters(line, what="job")
    assert try_again(line, letter) is RetryState.DONE
    line.work()

    assert shop.payments()[-1]["status"] == "pending"
    assert line.rows("select status from procrastinate_jobs where id = :id", id=dead) == [{"status": "failed"}]
    assert letters(line) == []
    assert retries(line) == [
        {"seller_id": shop.seller_id, "what": "job", "row_id": dead, "state": "done", "asked_by": OPERATOR}
    ]


def _without_its_charge(line: Line, payment: dict[str, Any]) -> int:
    """As after a charge that broke down in its middle, the claim still on it."""
    line.change("update charge_attempt set state = 'refused'")
    line.change("update payment set status = 'new', gateway_id = null, pix_code = null, claimed_at = now()")
    return int(payment["id"])


def test_a_job_keeps_its_arguments_its_trace_and_its_lock(line: Line) -> None:
    shop = open_shop(line)
    failed_job(line, shop, Name.CONNECT_BOT, bot=shop.bot_id)

    assert try_again(line, letters(line)[0]) is RetryState.DONE

    [job] = waiting_jobs(line)
    args = {"bot": shop.bot_id, "seller": shop.seller_id, "trace": "trace-of-the-dead"}
    assert job == {"task_name": "connect_bot", "args": args, "lock": "a-lock"}


@pytest.mark.parametrize("name", [Name.CHARGE, Name.LOOK, Name.DELIVER, Name.REPORT_PURCHASE])
def test_a_job_that_has_no_sense_any_more_is_put_away(line: Line, name: Name) -> None:
    """Paid, for a charge and a look; not paid, for a delivery and a report."""
    shop = open_shop(line)
    payment = shop.buy(line.world.telegram.person())["id"]
    if name in (Name.CHARGE, Name.LOOK):
        line.change("update payment set status = 'refunded'")
    failed_job(line, shop, name, payment=payment)

    assert try_again(line, letters(line)[0]) is RetryState.MOOT

    assert waiting_jobs(line) == []
    assert letters(line) == []
    assert retries(line)[0]["state"] == "moot"


def test_a_job_of_one_seller_never_reaches_anothers_rows(line: Line) -> None:
    ana, caio = open_shop(line), open_shop(line)
    failed_job(line, caio, Name.CONNECT_BOT, bot=ana.bot_id)

    assert try_again(line, letters(line)[0]) is RetryState.MOOT
    assert waiting_jobs(line) == []


def test_a_job_that_only_a_newer_version_knows_stays_where_it_is(line: Line) -> None:
    shop = open_shop(line)
    failed_job(line, shop, Name.CONNECT_BOT, bot=shop.bot_id)
    line.change("update procrastinate_jobs set task_name = 'of_tomorrow' where status = 'failed'")

    assert try_again(line, letters(line)[0]) is RetryState.STOPPED

    assert [letter.kind for letter in letters(line)] == ["of_tomorrow"]


def test_of_two_operators_at_once_one_tries_again(line: Line) -> None:
    shop = open_shop(line)
    failed_job(line, shop, Name.CONNECT_BOT, bot=shop.bot_id)
    [letter] = letters(line)
    together, states = Barrier(4), []

    def press() -> None:
        together.wait()
        states.append(try_again(line, letter))

    threads = [Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(state or "" for state in states) == ["", "", "", "done"]
    assert len(waiting_jobs(line)) == 1


def test_an_update_that_was_given_up_is_handled_after_all(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    person.start(shop.token)
    line.world.telegram.wait_for(lambda: not line.world.telegram.pending(line.world.telegram.bots[shop.token]))
    line.change("update inbox set state = 'dead', attempts = 5, last_error = 'RuntimeError: x'")
    line.work()
    assert person.received(shop.token) == []

    [letter] = letters(line)
    assert (letter.kind, letter.error) == ("update_failed", "RuntimeError: x")
    assert try_again(line, letter) is RetryState.DONE
    line.work()

    assert len(person.received(shop.token)) == 1
    assert line.rows("select state, attempts, last_error from inbox") == [
        {"state": "done", "attempts": 0, "last_error": None}
    ]
    assert try_again(line, letter) is RetryState.MOOT


def test_an_unreadable_update_stays_until_it_can_be_read(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    message = {"message_id": 1, "date": 1, "chat": {"id": person.id, "type": "private"}, "text": "/start"}
    message["from"] = {"id": person.id, "is_bot": False, "first_name": "Zé"}
    update = json.dumps({"update_id": 7, "message": message, "update_id ": 7}).replace("update_id ", "update_id")
    push(shop, update.encode())  # a key given twice
    [letter] = letters(line)

    assert try_again(line, letter) is RetryState.STUCK
    assert letters(line) == [letter]

    monkeypatch.setattr(
        "bot_manager.network.strict.loads", lambda raw, *_: json.loads(raw)
    )  # a later version that reads it
    assert try_again(line, letter) is RetryState.DONE
    line.work()
    assert letters(line) == []
    assert {row["state"] for row in line.rows("select state from inbox")} == {"done"}


def test_an_unreadable_notice_settles_once_it_can_be_read(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.pushinpay.charges.values()))
    charge.pay()
    body = b'{"id": "%s", "status": "paid", "value": 4990, "value": 4990}' % charge.id.encode()
    requests.post(notice_url(shop, "pushinpay"), data=body, timeout=5)
    [letter] = letters(line)

    assert try_again(line, letter) is RetryState.DONE
    line.work()
    assert [one.kind for one in letters(line)] == ["unreadable"]  # it was looked at, and is what it was
    assert shop.payments()[-1]["status"] == "pending"

    monkeypatch.setattr("bot_manager.network.strict.loads", lambda raw, *_: json.loads(raw))
    assert try_again(line, letters(line)[0]) is RetryState.DONE
    line.work()
    assert shop.payments()[-1]["status"] == "paid"
    assert letters(line) == []


def test_a_forged_notice_is_never_believed_and_its_gateway_decides(line: Line) -> None:
    shop = open_shop(line, gateways=("woovi",))
    payment = shop.buy(line.world.telegram.person())
    [charge] = line.world.woovi.charges.values()
    line.world.woovi.tries = 1
    line.world.woovi.send_notice(charge, signature="missing")
    line.world.woovi.wait_delivered()
    [letter] = letters(line)
    assert letter.kind == "forged"

    assert try_again(line, letter) is RetryState.DONE
    line.work()

    assert shop.payments()[-1]["status"] == payment["status"] == "pending"
    [asked] = line.rows("select state from webhook_receipt")
    assert asked["state"] != "forged"  # the gateway was asked, and said no


def refused_delivery(line: Line, **offer: Any) -> tuple[Shop, Any]:
    """A sale that is paid, and whose delivery the channel refuses."""
    shop, person = open_shop(line, **offer), line.world.telegram.person()
    shop.buy(person)
    refusal = {"ok": False, "error_code": 400, "description": "Bad Request: nope"}
    line.world.telegram.fail("/sendMessage", how=Status(400, refusal))
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    return shop, person


def test_a_delivery_that_failed_is_found_and_delivered_after_all(line: Line) -> None:
    shop, person = refused_delivery(line)
    [letter] = letters(line)
    assert (letter.what, letter.kind, letter.seller_id) == ("delivery", "delivery_failed", shop.seller_id)
    assert letter.error == "Refused: Nope"

    assert try_again(line, letter) is RetryState.DONE
    line.pass_time(3)

    assert line.rows("select state, note from delivery") == [{"state": "delivered", "note": None}]
    assert "Pagamento confirmado" in person.last(shop.token).text
    assert letters(line) == []
    assert try_again(line, letter) is RetryState.MOOT
    line.work()
    assert len([m for m in person.received(shop.token) if "Pagamento confirmado" in m.text]) == 1


def test_what_was_paid_back_is_not_delivered_after_all(line: Line) -> None:
    refused_delivery(line)
    [letter] = letters(line)
    line.change("update payment set status = 'refunded'")

    assert letters(line) == []
    assert try_again(line, letter) is RetryState.MOOT


def test_access_whose_invitation_failed_begins_when_it_is_delivered_after_all(line: Line) -> None:
    vip = line.world.telegram.group("VIP")
    delivers = [{"kind": "group", "chat_id": vip.id, "days": 30}]
    shop, person = open_shop(line, delivers=delivers), line.world.telegram.person()
    line.world.telegram.promote(vip, line.world.telegram.bot(shop.token))
    shop.buy(person)
    refusal = {"ok": False, "error_code": 400, "description": "Bad Request: nope"}
    line.world.telegram.fail("/sendMessage", how=Status(400, refusal))
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    line.change("update access set state = 'ended', why = 'expired', ends_at = now() - interval '1 day'")

    assert try_again(line, letters(line)[0]) is RetryState.DONE
    line.pass_time(3)

    [right] = line.rows("select state, why, round(extract(day from ends_at - now())) as days from access")
    assert right == {"state": "open", "why": None, "days": 29}
    person.join(str(person.last(shop.token).buttons[0].url))
    line.work()
    assert vip.has_in(person.id)


def refused_purchase(line: Line, how: Any) -> Letter:
    line.world.meta.fail("/events", how=how)
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    line.change("update conversion set state = 'dead'")
    [letter] = letters(line)
    return letter


REFUSAL = Status(400, {"error": {"code": 100, "error_subcode": 2804016, "message": "no"}})


@pytest.mark.parametrize("days", [0, 3])
def test_a_purchase_that_was_refused_is_told_after_all_under_the_same_id(line: Line, days: int) -> None:
    letter = refused_purchase(line, REFUSAL)
    assert (letter.what, letter.kind) == ("purchase", "purchase_refused")
    line.change("update conversion set created_at = created_at - make_interval(days => :days)", days=days)

    assert try_again(line, letter) is RetryState.DONE
    line.work()

    assert line.rows("select state, attempts from conversion") == [{"state": "delivered", "attempts": 2}]
    assert list(line.world.meta.ledger().values()) == [1]
    assert letters(line) == []


def test_a_purchase_that_may_have_arrived_is_told_again_only_while_it_would_count_once(line: Line) -> None:
    letter = refused_purchase(line, ResetAfter())
    line.change("delete from timer where key like 'conversion:%'")
    line.change("update conversion set created_at = created_at - interval '3 days'")

    assert try_again(line, letter) is RetryState.MOOT
    line.work()

    assert line.rows("select state from conversion") == [{"state": "expired"}]
    assert list(line.world.meta.ledger().values()) == [1]
    assert letters(line) == []


# Sets -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(line: Line) -> Callable[[int], list[Shop]]:
    def many(each: int) -> list[Shop]:
        shops = [open_shop(line), open_shop(line)]
        for shop in shops:
            for number in range(each):
                requests.post(notice_url(shop, "pushinpay"), data=b"not json %d" % number, timeout=5)
        return shops

    return many


def begin(line: Line, **wanted: Any) -> int:
    with line.app.app_context():
        batch = dead_letters.begin_batch(Wanted(**wanted), OPERATOR)
        db.session.commit()
        return batch


def by_state(line: Line) -> dict[str, int]:
    return {row["state"]: row["n"] for row in line.rows("select state, count(*) as n from retry group by state")}


def test_a_set_waits_for_its_hold_and_is_then_tried_slice_by_slice(line: Line, many: Any) -> None:
    many(12)
    begin(line)
    line.work()
    assert by_state(line) == {"waiting": 24}
    assert letters(line) == []  # they wait for the batch, and nobody else can take them

    line.pass_time(dead_letters.HOLD_S)
    assert by_state(line) == {"waiting": 4, "done": 20}  # a slice of each seller
    line.pass_time(dead_letters.PAUSE_S)

    assert by_state(line) == {"done": 24}
    assert {row["asked_by"] for row in retries(line)} == {OPERATOR}
    assert not line.rows("select 1 from timer where key like 'retry:%'")


def test_a_set_of_what_others_refused_is_tried_too(line: Line) -> None:
    line.world.meta.fail("/events", how=REFUSAL)
    refused_delivery(line)
    assert {letter.kind for letter in letters(line)} == {"delivery_failed", "purchase_refused"}

    begin(line)
    line.pass_time(dead_letters.HOLD_S)

    assert by_state(line) == {"done": 2}
    assert line.rows("select d.state, c.state as told from delivery d join conversion c using (payment_id)") == [
        {"state": "delivered", "told": "delivered"}
    ]


def test_a_set_that_is_stopped_leaves_the_rest_where_it_was(line: Line, many: Any) -> None:
    many(12)
    batch = begin(line)
    line.pass_time(dead_letters.HOLD_S)

    with line.app.app_context():
        dead_letters.stop(batch)
        db.session.commit()
    line.pass_time(dead_letters.PAUSE_S)

    assert by_state(line) == {"done": 20, "stopped": 4}
    assert len(letters(line)) == 24  # twenty were looked at, and are as unreadable as before
    with line.app.app_context():
        progress = dead_letters.progress(batch)
        assert progress
        assert (progress.batch.size, progress.waiting, progress.batch.stopped_at is not None) == (24, 0, True)
    begin(line)
    assert by_state(line) == {"done": 20, "stopped": 4, "waiting": 24}


def test_a_stop_before_the_hold_is_over_tries_nothing(line: Line, many: Any) -> None:
    many(2)
    batch = begin(line)
    with line.app.app_context():
        dead_letters.stop(batch)
        db.session.commit()

    line.pass_time(dead_letters.HOLD_S * 2)

    assert by_state(line) == {"stopped": 4}


def test_a_set_has_a_cap_and_takes_the_oldest(line: Line, many: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    many(3)
    monkeypatch.setattr(dead_letters, "CAP", 4)
    oldest = sorted(letters(line), key=lambda letter: letter.at)[:4]

    begin(line)

    assert {row["row_id"] for row in retries(line)} == {letter.id for letter in oldest}


def test_a_set_is_what_was_chosen(line: Line, many: Any) -> None:
    ana, _ = many(2)
    push(ana, b"not json")

    begin(line, what="receipt", seller=ana.seller_id)

    assert {(row["seller_id"], row["what"]) for row in retries(line)} == {(ana.seller_id, "receipt")}
    assert len(letters(line)) == 3


def test_two_sets_never_hold_the_same_letter(line: Line, many: Any) -> None:
    many(2)
    together, batches = Barrier(2), []

    def press() -> None:
        together.wait()
        batches.append(begin(line))

    threads = [Thread(target=press) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(batches) == 2
    assert by_state(line) == {"waiting": 4}


def test_a_batch_job_that_runs_twice_tries_each_once(line: Line, many: Any) -> None:
    [shop, _] = many(3)
    batch = begin(line, seller=shop.seller_id)

    def run() -> None:
        with line.seller(shop.seller_id):
            dead_letters.retry_batch(batch)

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert by_state(line) == {"done": 3}
    assert len([job for job in waiting_jobs(line) if job["task_name"] == "rematch"]) == 3


def test_every_job_says_when_it_can_be_tried_again_and_has_its_words() -> None:
    assert set(CLAIMS) == set(Name)
    assert set(Name) <= set(LETTER)


def test_every_claim_is_a_statement_that_postgresql_takes(line: Line) -> None:
    shop = open_shop(line)
    rows = ("payment", "attempt", "customer", "receipt", "conversion", "bot", "gateway", "batch", "access")
    args = dict.fromkeys(rows, 0)
    for claim in filter(None, CLAIMS.values()):
        with line.app.app_context():
            act_for(shop.seller_id)
            assert db.session.execute(db.text(claim), {**args, "channel": "x", "chat": "x"}).first() is None
