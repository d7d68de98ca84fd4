"""FakeTelegram: how updates reach a bot, by webhook and by polling."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.world.faults import Hold, ResetAfter, Status
from tests.world.shop import Shop
from tests.world.telegram import Bot, FakeTelegram, Person

TOKEN = "123456:test-token"
SECRET = "x-telegram-bot-api-secret-token"


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    with FakeTelegram(allow_http=True) as telegram:
        yield telegram


@pytest.fixture
def bot(telegram: FakeTelegram) -> Bot:
    return telegram.add_bot(TOKEN, "loja_bot")


@pytest.fixture
def ana(telegram: FakeTelegram) -> Person:
    return telegram.person(first_name="Ana")


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as shop:
        yield shop


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def call(fake: FakeTelegram, method: str, **params: Any) -> dict[str, Any]:
    return requests.post(f"{fake.url}/bot{TOKEN}/{method}", json=params, timeout=10).json()


def updates(fake: FakeTelegram, **params: Any) -> list[dict[str, Any]]:
    answer = call(fake, "getUpdates", **params)
    assert answer["ok"], answer
    return answer["result"]


def texts(raw: list[dict[str, Any]]) -> list[str]:
    return [update["message"]["text"] for update in raw]


def test_an_update_stays_until_a_newer_offset_confirms_it(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    ana.start(bot, "abc")
    ana.say(bot, "oi")

    first = updates(telegram)
    assert texts(first) == ["/start abc", "oi"]
    assert updates(telegram) == first
    assert texts(updates(telegram, limit=1)) == ["/start abc"]
    assert texts(updates(telegram, offset=first[0]["update_id"] + 1)) == ["oi"]
    assert updates(telegram, offset=first[1]["update_id"] + 1) == []
    assert telegram.pending(bot) == []


def test_a_negative_offset_leaves_the_newest(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    ana.start(bot)
    ana.say(bot, "oi")

    assert texts(updates(telegram, offset=-1)) == ["oi"]
    assert texts(updates(telegram)) == ["oi"]


def test_a_long_poll_answers_as_soon_as_there_is_something(
    telegram: FakeTelegram, bot: Bot, ana: Person, pool: ThreadPoolExecutor
) -> None:
    waiting: Future[Any] = pool.submit(updates, telegram, timeout=30)
    telegram.wait_for(lambda: telegram.postman.box(bot).poll)

    ana.start(bot)
    assert texts(waiting.result(5)) == ["/start"]


def test_a_second_poll_ends_the_first(telegram: FakeTelegram, bot: Bot, ana: Person, pool: ThreadPoolExecutor) -> None:
    first: Future[Any] = pool.submit(call, telegram, "getUpdates", timeout=30)
    telegram.wait_for(lambda: telegram.postman.box(bot).poll)
    second: Future[Any] = pool.submit(call, telegram, "getUpdates", timeout=30)

    assert (first.result(5)["error_code"], first.result(5)["ok"]) == (409, False)
    ana.start(bot)
    assert texts(second.result(5)["result"]) == ["/start"]


def test_a_webhook_ends_polling(telegram: FakeTelegram, bot: Bot, shop: Shop, pool: ThreadPoolExecutor) -> None:
    poll: Future[Any] = pool.submit(call, telegram, "getUpdates", timeout=30)
    telegram.wait_for(lambda: telegram.postman.box(bot).poll)

    assert call(telegram, "setWebhook", url=shop.hook_url)["ok"]
    assert poll.result(5)["error_code"] == 409
    assert call(telegram, "getUpdates")["error_code"] == 409
    assert call(telegram, "deleteWebhook")["ok"]
    assert updates(telegram) == []


@pytest.mark.parametrize(
    "params",
    [
        {"url": "http://shop.example/tg"},
        {"url": "https://shop.example:8080/tg"},
        {"url": "https://shop.example/tg", "secret_token": "with space"},
        {"url": "https://shop.example/tg", "secret_token": "a" * 257},
        {"url": "https://shop.example/tg", "allowed_updates": ["mesage"]},
        {"url": "https://shop.example/tg", "allowed_updates": "message"},
        {"url": "https://shop.example/tg", "max_connections": 101},
    ],
)
def test_a_faulty_webhook_is_refused(params: dict[str, Any]) -> None:
    with FakeTelegram() as telegram:
        telegram.add_bot(TOKEN, "loja_bot")

        assert call(telegram, "setWebhook", **params)["error_code"] == 400
        assert call(telegram, "getWebhookInfo")["result"]["url"] == ""


def test_a_good_webhook_is_kept() -> None:
    with FakeTelegram() as telegram:
        bot = telegram.add_bot(TOKEN, "loja_bot")
        url = "https://shop.example:8443/tg/1"

        allowed = ["message", "chat_member"]
        assert call(telegram, "setWebhook", url=url, secret_token="s" * 256, allowed_updates=allowed)["ok"]
        info = call(telegram, "getWebhookInfo")["result"]
        assert (info["url"], info["allowed_updates"]) == (url, ["chat_member", "message"])
        webhook = telegram.webhook(bot)
        assert webhook
        assert webhook.secret == "s" * 256


def test_an_update_is_pushed_with_the_secret(telegram: FakeTelegram, bot: Bot, ana: Person, shop: Shop) -> None:
    call(telegram, "setWebhook", url=shop.hook_url, secret_token="s3cret")

    ana.start(bot, "abc")
    telegram.wait_for(lambda: not telegram.pending(bot))
    [pushed] = shop.calls
    assert (pushed.headers[SECRET], pushed.json["message"]["text"]) == ("s3cret", "/start abc")


def test_what_waited_is_pushed_once_there_is_a_webhook(
    telegram: FakeTelegram, bot: Bot, ana: Person, shop: Shop
) -> None:
    ana.start(bot)
    call(telegram, "setWebhook", url=shop.hook_url)
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert texts(shop.bodies()) == ["/start"]

    ana.say(bot, "oi")
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert call(telegram, "setWebhook", url=shop.hook_url, drop_pending_updates=True)["ok"]


def test_a_refused_update_comes_again_and_is_reported(
    telegram: FakeTelegram, bot: Bot, ana: Person, shop: Shop
) -> None:
    shop.fail("/hook", how=Status(503), times=2)
    call(telegram, "setWebhook", url=shop.hook_url)

    ana.start(bot)
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert len(shop.calls) == 3
    info = call(telegram, "getWebhookInfo")["result"]
    assert "503" in info["last_error_message"]
    assert info["pending_update_count"] == 0


def test_an_answer_lost_on_the_way_brings_the_update_twice(
    telegram: FakeTelegram, bot: Bot, ana: Person, shop: Shop
) -> None:
    shop.fail("/hook", how=ResetAfter())
    call(telegram, "setWebhook", url=shop.hook_url)

    update = ana.start(bot)
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert [body["update_id"] for body in shop.bodies()] == [update["update_id"]] * 2


def test_one_chat_waits_its_turn_while_others_go_on(telegram: FakeTelegram, bot: Bot, ana: Person, shop: Shop) -> None:
    bia, hold = telegram.person(first_name="Bia"), Hold()
    shop.fail(lambda call: b"devagar" in call.body, how=hold)
    call(telegram, "setWebhook", url=shop.hook_url)

    ana.say(bot, "devagar")
    assert hold.reached.wait(5)
    ana.say(bot, "depois")
    bia.say(bot, "outra")
    shop.wait_for(lambda: len(shop.calls) == 2)
    assert texts(shop.bodies()) == ["devagar", "outra"]
    hold.release()
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert texts(shop.bodies()) == ["devagar", "outra", "depois"]


def test_updates_can_be_doubled_and_turned_around(telegram: FakeTelegram, bot: Bot, ana: Person, shop: Shop) -> None:
    call(telegram, "setWebhook", url=shop.hook_url)
    telegram.hold_updates(bot)
    ana.say(bot, "um")
    ana.say(bot, "dois")

    telegram.release_updates(bot, lambda held: [*reversed(held), held[0]])
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert texts(shop.bodies()) == ["dois", "um", "um"]
    telegram.push(bot, {"message": {"text": "cru", "chat": {"id": 1}}}, times=2)
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert texts(shop.bodies())[3:] == ["cru", "cru"]
    assert len({body["update_id"] for body in shop.bodies()}) == 3


def test_members_are_only_told_to_those_who_ask(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    vip = telegram.group("VIP", [bot])
    link = call(telegram, "createChatInviteLink", chat_id=vip.id)["result"]["invite_link"]
    ana.join(link)
    assert [list(update)[1] for update in telegram.pending(bot)] == ["my_chat_member"]

    updates(telegram, allowed_updates=["chat_member"])
    ana.leave(vip)
    ana.join(link)
    told = [update["chat_member"] for update in telegram.pending(bot)[1:]]
    assert [event["new_chat_member"]["status"] for event in told] == ["left", "member"]
    assert told[1]["invite_link"]["invite_link"] == link


def test_blocking_is_told(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    ana.start(bot)
    ana.block(bot)

    told = telegram.pending(bot)[-1]["my_chat_member"]
    assert told["new_chat_member"]["status"] == "kicked"


def test_updates_survive_an_outage_of_telegram(bot: Bot, telegram: FakeTelegram, ana: Person, shop: Shop) -> None:
    call(telegram, "setWebhook", url=shop.hook_url)
    telegram.stop()
    ana.say(bot, "oi")

    telegram.start()
    telegram.wait_for(lambda: not telegram.pending(bot))
    assert texts(shop.bodies()) == ["oi"]
