"""Chats: kept before they are acknowledged, handled once, in order, and tied to the click that led there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import requests

from bot_manager.app import vault
from bot_manager.funnels import engine
from tests.line import Line
from tests.shops import Shop, open_shop
from tracking.clicks import KEY
from tracking.tokens import generate_tracking_token

UNREADABLE = (b'{"update_id": 7, "callback_query": "x"}', b'{"update_id": 7, "callback_query": [1]}')


def token_for(line: Line, seller_id: int, at: datetime, key: bytes | None = None) -> str:
    with line.app.app_context():
        return generate_tracking_token(seller_id, key or vault().derived(KEY), at)


def customers(line: Line) -> list[dict]:
    return line.rows("select tracking_token from customer order by id")


def test_the_welcome_shows_each_offer_with_its_price_and_the_small_print(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person(first_name="Ana <b>")

    shop.visit(person)

    welcome = person.last(shop.token)
    assert "Olá, Ana <b>!" in welcome.text
    assert [button.text for button in welcome.buttons] == ["Curso Completo · R$\u00a049,90"]
    assert "Privacidade" in welcome.text


def test_two_taps_within_a_millisecond_make_one_charge(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.visit(person)
    button = person.button(shop.token, "Curso Completo")

    line.world.telegram.hold_updates(shop.token)
    person.tap(shop.token, button)
    person.tap(shop.token, button)
    line.world.telegram.release_updates(shop.token)
    line.work()

    assert len(shop.payments()) == 1
    assert len(line.world.pushinpay.charges) == 1


def test_a_second_tap_shows_the_same_code_again(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    payment = shop.buy(person)

    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()

    codes = [m.marked("code") for m in person.received(shop.token) if m.marked("code")]
    assert codes == [[payment["pix_code"]]] * 2
    assert len(shop.payments()) == 1


def test_an_update_pushed_many_times_is_handled_once(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()

    line.world.telegram.hold_updates(shop.token)
    person.start(shop.token)
    line.world.telegram.release_updates(shop.token, lambda held: list(held) * 5)
    line.work()

    assert len(person.received(shop.token)) == 1


@pytest.mark.parametrize("kind", ["forged", "expired", "foreign", "truncated", "empty", "odd"])
def test_a_token_that_is_not_ours_attributes_nothing_and_sells_all_the_same(line: Line, kind: str) -> None:
    shop, other = open_shop(line), open_shop(line)
    now = datetime.now(UTC)
    good = token_for(line, shop.seller_id, now)
    token = {
        "forged": token_for(line, shop.seller_id, now, b"another key"),
        "expired": token_for(line, shop.seller_id, now - timedelta(days=91)),
        "foreign": token_for(line, other.seller_id, now),
        "truncated": good[:-1],
        "empty": "",
        "odd": "ref_1234",
    }[kind]
    person = line.world.telegram.person()

    shop.visit(person, token)

    assert customers(line)[0]["tracking_token"] is None
    assert person.button(shop.token, "Curso Completo")


def test_the_last_click_wins(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()

    shop.visit(person, shop.click(utm_campaign="one"))
    newest = shop.click(utm_campaign="two")
    shop.visit(person, newest)
    shop.visit(person, "")

    assert customers(line) == [{"tracking_token": newest}]


@pytest.mark.parametrize(
    ("words", "answer"), [("/privacy", "Privacidade"), ("/paysupport", "Suporte"), ("oi", "Escolha")]
)
def test_every_bot_answers_what_telegram_demands(line: Line, words: str, answer: str) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.visit(person)

    person.say(shop.token, words)
    line.work()

    assert answer in person.last(shop.token).text


def test_every_message_of_a_test_bot_says_so(line: Line) -> None:
    shop = open_shop(line, gateways=(), test=True)
    person = line.world.telegram.person()

    payment = shop.buy(person)

    assert payment["test"]
    assert all("TESTE" in message.text for message in person.received(shop.token))


def post_update(shop: Shop, body: bytes, secret: str | None = None) -> int:
    webhook = shop.line.world.telegram.webhook(shop.token)
    headers = {"X-Telegram-Bot-Api-Secret-Token": webhook.secret if secret is None else secret}
    return requests.post(webhook.url, data=body, headers=headers, timeout=5).status_code


@pytest.mark.parametrize("secret", ["", "wrong", "é"])
def test_an_update_with_a_wrong_secret_is_a_404(line: Line, secret: str) -> None:
    shop = open_shop(line)

    assert post_update(shop, b'{"update_id": 1}', secret.encode("utf-8").decode("latin-1")) == 404
    assert [e["kind"] for e in line.rows("select kind from security_event")] == ["wrong_telegram_secret"]
    assert line.rows("select 1 from inbox") == []


@pytest.mark.parametrize(
    "body", [*UNREADABLE, b"", b"[]", b"\xff", b'{"update_id": "1"}', b'{"update_id": true}', b'{"a": NaN}']
)
def test_an_update_that_can_not_be_read_is_kept_and_stops_nothing(line: Line, body: bytes) -> None:
    shop = open_shop(line)

    assert post_update(shop, body) == 200

    person = line.world.telegram.person()
    shop.visit(person)
    assert person.button(shop.token, "Curso Completo")
    assert {"state": "dead"} in line.rows("select state from inbox")


def test_an_event_that_fails_each_time_is_given_up_and_the_chat_goes_on(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()

    def stumble(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine, "_answer", stumble)
    shop.visit(person)
    person.say(shop.token, "oi")
    line.work()
    for _ in range(6):
        line.pass_time(100)
    person.start(shop.token)
    line.work()
    line.pass_time(100)

    assert "dead" in [row["state"] for row in line.rows("select state from inbox")]
    assert "Escolha" in person.last(shop.token).text
