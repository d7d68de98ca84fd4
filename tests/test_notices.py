"""What gateways post: believed, confirmed, parked or refused, and always kept."""

from __future__ import annotations

import json
from threading import Barrier, Thread

import pytest
import requests

from bot_manager.addresses import get_webhook_url
from bot_manager.ops import dead_letters
from bot_manager.ops.dead_letters import Wanted
from bot_manager.payments import charges, notices
from gateways import efi
from models import Gateway, db
from tests.gateway_contract import Contract
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import Hold, Status


def notice_url(shop: Shop, kind: str = "pushinpay") -> str:
    with shop.line.seller(shop.seller_id):
        return get_webhook_url(db.session.get_one(Gateway, shop.gateways[kind]))


def receipts(line: Line) -> list[str]:
    return [row["state"] for row in line.rows("select state from webhook_receipt order by id")]


def security_events(line: Line) -> list[str]:
    return [row["kind"] for row in line.rows("select kind from security_event order by id")]


def status(shop: Shop) -> str:
    return shop.payments()[-1]["status"]


def test_an_unsigned_notice_is_a_hint_and_the_query_decides(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.pushinpay.charges.values()))

    line.world.pushinpay.send_notice(charge.id, status="paid")
    line.world.pushinpay.wait_delivered()
    line.work()

    assert status(shop) == "pending"
    assert receipts(line) == ["ignored"]


def test_a_signed_notice_settles_before_it_is_answered(line: Line) -> None:
    shop = open_shop(line, gateways=("woovi",))
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.woovi.charges.values()))

    line.world.woovi.pay(charge)
    line.world.woovi.wait_delivered()

    assert status(shop) == "paid"
    assert receipts(line) == ["settled"]


def test_a_notice_before_the_keys_are_known_is_confirmed_by_query(line: Line) -> None:
    shop = open_shop(line, gateways=("woovi",))
    shop.buy(line.world.telegram.person())
    line.change("delete from provider_key")

    line.world.woovi.pay(next(iter(line.world.woovi.charges.values())))
    line.world.woovi.wait_delivered()
    assert status(shop) == "pending"
    line.work()

    assert status(shop) == "paid"
    line.pass_time(2)
    assert line.rows("select kind from provider_key") == [{"kind": "woovi"}]


@pytest.mark.parametrize("signature", ["wrong", "missing", "legacy"])
def test_a_notice_without_its_signature_is_kept_flagged_and_never_settles(line: Line, signature: str) -> None:
    shop = open_shop(line, gateways=("woovi",))
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.woovi.charges.values()))

    line.world.woovi.tries = 1
    line.world.woovi.send_notice(charge, signature=signature)
    line.world.woovi.wait_delivered()
    line.work()

    assert {answer for notice in line.world.woovi.notices for answer in notice.answers} == {401}
    assert status(shop) == "pending"
    assert set(receipts(line)) == {"forged"}
    assert "forged_notice" in security_events(line)


def test_a_wrong_secret_is_a_404_and_leaves_nothing_but_a_security_event(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())

    answer = requests.post(
        f"{line.url}/webhook/pushinpay/not-the-secret", json={"id": "x", "status": "paid"}, timeout=5
    )

    assert answer.status_code == 404
    assert receipts(line) == []
    assert security_events(line) == ["wrong_webhook_secret"]
    assert status(shop) == "pending"


def test_a_right_secret_under_another_kind_is_wrong(line: Line) -> None:
    shop = open_shop(line)
    url = notice_url(shop).replace("/pushinpay/", "/woovi/")

    assert requests.post(url, json={}, timeout=5).status_code == 404
    assert receipts(line) == []


def test_another_sellers_secret_never_touches_this_sellers_payment(line: Line) -> None:
    mine, other = open_shop(line), open_shop(line)
    payment = mine.buy(line.world.telegram.person())
    charge = next(iter(line.world.pushinpay.charges.values()))
    charge.pay()

    body = {"id": charge.id, "status": "paid", "value": 4990}
    answer = requests.post(notice_url(other), params={"t": payment["webhook_token"]}, json=body, timeout=5)
    line.work()

    assert answer.status_code == 200
    assert status(mine) == "pending"
    assert receipts(line) == ["parked"]


def test_an_unknown_status_word_is_pending(line: Line) -> None:
    shop = open_shop(line, gateways=("woovi",))
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.woovi.charges.values()))

    line.world.woovi.send_notice(charge, "CHARGE_SOMETHING_NEW")
    line.world.woovi.wait_delivered()
    line.work()

    assert status(shop) == "pending"


@pytest.mark.parametrize("cents", [1, 4989, 4991, 499000])
def test_another_amount_is_never_paid_and_is_told_to_the_operator(line: Line, cents: int) -> None:
    shop = open_shop(line, gateways=("woovi",))
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.woovi.charges.values()))

    line.world.woovi.pay(charge, amount=cents)
    line.world.woovi.wait_delivered()
    line.work()

    assert status(shop) == "pending"
    assert receipts(line) == ["mismatch"]
    assert "notice_mismatch" in security_events(line)


def test_another_amount_in_the_confirming_query_is_never_paid(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.pushinpay.charges.values()))

    line.world.pushinpay.pay(charge.id, amount=100)
    line.world.pushinpay.wait_delivered()
    line.work()

    assert status(shop) == "pending"
    assert receipts(line) == ["mismatch"]


def test_many_notices_at_once_pay_once_deliver_once_and_report_once(line: Line) -> None:
    shop = open_shop(line, gateways=("woovi",))
    person = line.world.telegram.person()
    shop.buy(person)
    charge = next(iter(line.world.woovi.charges.values()))
    held = line.world.woovi.pay(charge, notices=1, hold=True)
    body, headers = held[0].body, held[0].headers
    barrier, answers = Barrier(8), []

    def post() -> None:
        barrier.wait()
        answers.append(requests.post(notice_url(shop, "woovi"), data=body, headers=headers, timeout=10).status_code)

    threads = [Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    line.work()

    assert answers == [200] * 8
    assert status(shop) == "paid"
    assert len(line.rows("select 1 from payment_event where kind = 'paid'")) == 1
    assert len([m for m in person.received(shop.token) if "Pagamento confirmado" in m.text]) == 1
    assert list(line.world.meta.ledger().values()) == [1]


@pytest.mark.parametrize("contract", [Contract(efi.gateway)], ids=["efi"])
def test_three_payments_in_one_notice_are_each_paid_once_in_whatever_company_they_come_again(
    line: Line, contract: Contract
) -> None:
    shop = open_shop(line, gateways=("efi",))
    people = [line.world.telegram.person() for _ in range(3)]
    for person in people:
        shop.buy(person)
    bank = line.world.gateways["efi"]
    one, two, three = bank.charges.values()
    for charge in (one, two, three):
        charge.pay()

    bank.send_notice([one, two, three])
    bank.wait_delivered()
    line.work()

    def seen() -> tuple[object, ...]:
        told = [len([m for m in p.received(shop.token) if "Pagamento confirmado" in m.text]) for p in people]
        events = [row["kind"] for row in line.rows("select kind from payment_event where kind = 'paid'")]
        return [row["status"] for row in shop.payments()], told, events, sorted(line.world.meta.ledger().values())

    once = ["paid"] * 3, [1, 1, 1], ["paid"] * 3, [1, 1, 1]
    assert seen() == once
    assert receipts(line) == ["settled"] * 3

    for company in ([three, one], [two], [two, three, one], [one, one]):
        bank.send_notice(company)
    bank.wait_delivered()
    line.work()

    assert seen() == once
    assert set(receipts(line)) == {"settled", "duplicate"}
    assert not security_events(line)


@pytest.mark.parametrize("contract", [Contract(efi.gateway)], ids=["efi"])
def test_what_can_not_be_read_in_a_notice_keeps_no_other_payment_waiting(line: Line, contract: Contract) -> None:
    shop = open_shop(line, gateways=("efi",))
    shop.buy(line.world.telegram.person())
    (charge,) = line.world.gateways["efi"].charges.values()
    charge.pay()
    payment = {"endToEndId": charge.end_to_end_id, "txid": charge.id, "valor": "49.90"}

    body = {"pix": [17, {"txid": charge.id}, payment, {**payment, "txid": "0" * 32}]}
    assert requests.post(notice_url(shop, "efi"), json=body, timeout=5).status_code == 200
    line.work()

    assert status(shop) == "paid"
    assert sorted(receipts(line)) == ["parked", "settled", "unreadable", "unreadable"]


@pytest.mark.parametrize("contract", [Contract(efi.gateway)], ids=["efi"])
def test_a_notice_that_only_names_a_charge_waits_until_the_charge_is_known(line: Line, contract: Contract) -> None:
    shop = open_shop(line, gateways=("efi",))
    shop.buy(line.world.telegram.person())
    (charge,) = line.world.gateways["efi"].charges.values()
    line.change("update charge_attempt set provider_id = null")

    line.world.gateways["efi"].pay(charge)
    line.world.gateways["efi"].wait_delivered()
    assert receipts(line) == ["parked"]

    line.change(f"update charge_attempt set provider_id = '{charge.id}'")
    line.pass_time(notices.TRY_AGAIN_S[0] + 1)
    assert (status(shop), receipts(line)) == ("paid", ["settled"])


def test_money_after_expiry_is_money(line: Line) -> None:
    shop = open_shop(line)
    payment = shop.buy(line.world.telegram.person())
    line.change("update payment set expires_at = now() - interval '1 second'")
    line.pass_time(7200)
    assert status(shop) == "expired"

    charge = next(iter(line.world.pushinpay.charges.values()))
    line.world.pushinpay.pay(charge.id)
    line.world.pushinpay.wait_delivered()
    line.work()

    assert status(shop) == "paid"
    assert payment["payment_id"] == shop.payments()[-1]["payment_id"]


def test_a_notice_that_overtakes_the_create_answer_settles(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.visit(person)
    answer = Hold(after=True)
    line.world.pushinpay.fail("/pix/cashIn", how=answer)
    line.world.pushinpay.pay_next()

    with line.working():
        person.tap(shop.token, person.button(shop.token, "Curso Completo"))
        answer.reached.wait(5)
        line.world.pushinpay.wait_for(lambda: shop.payments() and status(shop) == "paid")
        answer.release()
        line.world.pushinpay.wait_for(line.idle)

    assert status(shop) == "paid"
    assert not [m for m in person.received(shop.token) if m.marked("code")]
    assert "Pagamento confirmado" in person.last(shop.token).text


def test_money_after_all_attempts_had_failed_is_money(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.visit(person)
    line.world.pushinpay.fail("/pix/cashIn", how=Status(500, {}, after=True))
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    assert status(shop) == "failed"
    assert "Nada foi cobrado" in person.last(shop.token).text

    charge = next(iter(line.world.pushinpay.charges.values()))
    line.world.pushinpay.pay(charge.id)
    line.world.pushinpay.wait_delivered()
    line.work()

    assert status(shop) == "paid"
    assert "Pagamento confirmado" in person.last(shop.token).text


def test_a_second_code_paid_is_shown_as_paid_twice_and_delivered_once(line: Line) -> None:
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    person = line.world.telegram.person()
    shop.visit(person)
    line.world.pushinpay.fail("/pix/cashIn", how=Status(500, {}, after=True))
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()

    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.woovi.pay(next(iter(line.world.woovi.charges.values())))
    line.world.pushinpay.wait_delivered()
    line.world.woovi.wait_delivered()
    line.work()

    assert status(shop) == "paid"
    assert len(line.rows("select 1 from payment_event where kind = 'paid_twice'")) == 1
    assert len([m for m in person.received(shop.token) if "Pagamento confirmado" in m.text]) == 1


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"x" * 10_000_000, 413),
        (b"x" * (256 * 1024 + 1), 413),
        (b"\xff\xfe{}", 200),
        (b"[1, 2]", 200),
        (b"", 200),
        (b"null", 200),
        (b'{"id": NaN}', 200),
        (b'{"id": "a", "id": "b"}', 200),
        (b"[" * 5000, 200),
        (b'{"id": "\\u0000"}', 200),
    ],
)
def test_a_body_that_makes_no_sense_is_kept_or_refused_and_changes_nothing(
    line: Line, body: bytes, answer: int
) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())

    got = requests.post(notice_url(shop), data=body, headers={"Content-Type": "application/json"}, timeout=10)
    line.work()

    assert got.status_code == answer
    assert receipts(line) == ([] if answer == 413 else ["unreadable"])
    assert status(shop) == "pending"


def test_the_same_notice_again_is_counted_not_kept_twice(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    charge = next(iter(line.world.pushinpay.charges.values()))

    line.world.pushinpay.pay(charge.id, notices=3)
    line.world.pushinpay.wait_delivered()
    line.work()

    assert [row["repeats"] for row in line.rows("select repeats from webhook_receipt")] == [2]
    assert status(shop) == "paid"


def test_a_notice_that_matches_nothing_is_parked_and_tried_again(line: Line) -> None:
    shop = open_shop(line)

    requests.post(notice_url(shop), json={"id": "9c29870c-0000-4bb6-90d3-2dce9453bb45", "status": "paid"}, timeout=5)
    assert receipts(line) == ["parked"]
    line.pass_time(5)

    assert line.rows("select state, tries from webhook_receipt") == [{"state": "parked", "tries": 2}]


def test_a_notice_that_names_another_charge_than_its_token_is_refused(line: Line) -> None:
    shop = open_shop(line)
    one = shop.buy(line.world.telegram.person())
    shop.buy(line.world.telegram.person())
    _, second = line.world.pushinpay.charges.values()
    second.pay()

    body = json.dumps({"id": second.id, "status": "paid", "value": 4990})
    requests.post(notice_url(shop), params={"t": one["webhook_token"]}, data=body, timeout=5)
    line.work()

    assert [p["status"] for p in shop.payments()] == ["pending", "pending"]
    assert receipts(line) == ["mismatch"]


def test_a_notice_that_could_not_be_kept_is_answered_503(line: Line) -> None:
    shop = open_shop(line)
    url = notice_url(shop)
    line.change("alter table webhook_receipt rename to webhook_receipt_gone")
    try:
        answer = requests.post(url, json={"id": "x"}, timeout=5)
    finally:
        line.change("alter table webhook_receipt_gone rename to webhook_receipt")

    assert answer.status_code >= 500


def test_a_notice_that_nobody_knows_how_to_handle_is_kept_tried_again_and_seen(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())

    def stumble(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(notices, "_match", stumble)
        line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
        [answers] = line.world.pushinpay.wait_delivered()
        assert answers == [200]
        assert receipts(line) == ["parked"]
        line.pass_time(5)
        [job] = line.rows("select status::text, attempts from procrastinate_jobs where task_name = 'rematch'")
        assert job == {"status": "todo", "attempts": 1}
    line.pass_time(5)  # the bug is mended
    line.work()
    assert status(shop) == "paid"


@pytest.mark.parametrize("kind", ["pushinpay", "woovi"])
def test_a_notice_for_an_account_that_does_not_open_is_kept_and_settles_once_it_does(line: Line, kind: str) -> None:
    shop = open_shop(line, gateways=(kind,))
    shop.buy(line.world.telegram.person())
    [kept] = line.rows("select id, credentials_sealed from gateway where kind = :kind", kind=kind)
    line.change("update gateway set credentials_sealed = 'nonsense'")
    fake = getattr(line.world, kind)
    fake.pay(next(iter(fake.charges)) if kind == "pushinpay" else next(iter(fake.charges.values())))
    fake.wait_delivered()
    line.pass_time(60)

    assert set(receipts(line)) == {"confirming"}
    assert not line.rows("select 1 from procrastinate_jobs where status = 'failed'")
    [error] = line.rows("select last_error from gateway where kind = :kind", kind=kind)
    assert "do not open" in error["last_error"]

    line.change("update gateway set credentials_sealed = :credentials_sealed where id = :id", **kept)
    line.pass_time(notices.LONGEST_PAUSE_S)

    assert status(shop) == "paid"


# A gateway that does not say ---------------------------------------------------------------------------------------


def unanswered(line: Line) -> Shop:
    """A notice of a paid charge whose gateway does not say so, and no look that would learn it otherwise."""
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    line.world.pushinpay.fail("GET", how=Status(503, {}), times=None)
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    line.change("delete from timer where key like 'look:%'")
    return shop


def waits(line: Line) -> list[int]:
    """The seconds until the gateway is asked again what a notice says."""
    rows = line.rows("select extract(epoch from due_at - now()) as s from timer where key like 'confirm:%'")
    return [round(row["s"]) for row in rows]


def test_a_gateway_that_does_not_answer_is_asked_ever_less_often_until_it_does(line: Line) -> None:
    shop = unanswered(line)
    pauses = [waits(line)]
    for _ in range(14):
        line.pass_time(notices.LONGEST_PAUSE_S)
        pauses.append(waits(line))

    # What is left of each pause by the time it is looked at.
    assert all(wanted / 4 <= left <= wanted for wanted, [left] in zip((2, 4, 8, 16), pauses[:4], strict=True))
    assert pauses[-1] == [notices.LONGEST_PAUSE_S]
    assert receipts(line) == ["confirming"]
    assert not line.rows("select 1 from procrastinate_jobs where status = 'failed'")

    line.world.pushinpay.heal()
    line.pass_time(notices.LONGEST_PAUSE_S)

    assert (receipts(line), status(shop), waits(line)) == (["settled"], "paid", [])


def test_one_that_never_answers_leaves_a_dead_letter_that_can_be_tried_again(line: Line) -> None:
    shop = unanswered(line)
    line.change("update webhook_receipt set last_at = last_at - :past", past=charges.UNHEARD_FOR)
    line.pass_time(notices.LONGEST_PAUSE_S)

    with line.app.app_context():
        [letter] = dead_letters.newest(Wanted("receipt"), 10)
        assert (letter.kind, letter.error) == ("parked", "o provedor não respondeu sobre a cobrança")
        dead_letters.try_again(letter, "olga@example.com")
        db.session.commit()
    line.work()
    assert (receipts(line), waits(line)) == (["confirming"], [2])

    line.world.pushinpay.heal()
    line.pass_time(notices.LONGEST_PAUSE_S)

    assert (receipts(line), status(shop)) == (["settled"], "paid")


def test_a_question_that_was_answered_meanwhile_is_not_asked_again(line: Line) -> None:
    shop = unanswered(line)
    line.world.pushinpay.heal()
    held = line.world.pushinpay.notices[0]
    requests.post(notice_url(shop), params={"t": shop.payments()[-1]["webhook_token"]}, data=held.body, timeout=5)
    line.work()
    assert receipts(line) == ["settled"]
    asked = len(line.world.pushinpay.calls)

    line.pass_time(notices.LONGEST_PAUSE_S)

    assert (receipts(line), len(line.world.pushinpay.calls)) == (["settled"], asked)
