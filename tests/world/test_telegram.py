"""FakeTelegram: what it refuses, and what people see and do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.world.bank import PNG
from tests.world.faults import ResetAfter, Status
from tests.world.telegram import Bot, FakeTelegram, LinkRefused, Person

TOKEN = "123456:test-token"


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telegram(clock: Clock) -> Iterator[FakeTelegram]:
    with FakeTelegram(clock=clock) as telegram:
        yield telegram


@pytest.fixture
def bot(telegram: FakeTelegram) -> Bot:
    return telegram.add_bot(TOKEN, "loja_bot")


@pytest.fixture
def ana(telegram: FakeTelegram, bot: Bot) -> Person:
    ana = telegram.person(first_name="Ana")
    ana.start(bot)
    return ana


def call(fake: FakeTelegram, name: str, /, *, token: str = TOKEN, files: Any = None, **params: Any) -> dict[str, Any]:
    url = f"{fake.url}/bot{token}/{name}"
    more: dict[str, Any] = {"data": params, "files": files} if files else {"json": params}
    return requests.post(url, **more, timeout=5).json()


def why(answer: dict[str, Any]) -> tuple[int, str]:
    assert not answer["ok"], answer
    return answer["error_code"], answer["description"]


def say(fake: FakeTelegram, person: Person, text: str = "oi", **params: Any) -> dict[str, Any]:
    return call(fake, "sendMessage", chat_id=person.id, text=text, **params)


def buttons(*raw: dict[str, Any]) -> dict[str, Any]:
    return {"inline_keyboard": [[{"text": "ok", **button}] for button in raw]}


def test_each_token_is_its_own_bot(telegram: FakeTelegram, bot: Bot) -> None:
    telegram.add_bot("777:other", "outra_bot")

    assert call(telegram, "getMe")["result"]["username"] == "loja_bot"
    assert call(telegram, "getMe", token="777:other")["result"]["id"] == 777
    assert why(call(telegram, "getMe", token="888:none")) == (401, "Unauthorized")
    assert why(call(telegram, "getMe", token="nonsense"))[0] == 404
    assert why(call(telegram, "getYou")) == (404, "Not Found: method not found")
    telegram.revoke(bot)
    assert why(call(telegram, "getMe")) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"text": ""}, "message text is empty"),
        ({"text": " \n "}, "message text is empty"),
        ({"text": "<b> </b>", "parse_mode": "HTML"}, "message text is empty"),
        ({"text": "a" * 4097}, "message is too long"),
        ({"text": "😀" * 2049}, "message is too long"),
        ({"text": "<b>oi", "parse_mode": "HTML"}, 'Can\'t find end tag corresponding to start tag "b"'),
        (
            {"text": "<b>oi</i>", "parse_mode": "HTML"},
            'Unmatched end tag at byte offset 5, expected "</b>", found "</i>"',
        ),
        ({"text": "é<p>oi</p>", "parse_mode": "HTML"}, 'Unsupported start tag "p" at byte offset 2'),
        ({"text": "1 < 2", "parse_mode": "HTML"}, "Unclosed start tag at byte offset 2"),
        ({"text": "oi</b>", "parse_mode": "HTML"}, "Unexpected end tag at byte offset 2"),
        ({"text": "<a href>x</a>", "parse_mode": "HTML"}, "Expected equal sign"),
        ({"text": "oi", "parse_mode": "Markdown"}, "unsupported parse_mode"),
        ({"reply_markup": buttons({"callback_data": ""})}, "BUTTON_DATA_INVALID"),
        ({"reply_markup": buttons({"callback_data": "é" * 33})}, "BUTTON_DATA_INVALID"),
        ({"reply_markup": buttons({"copy_text": {"text": "a" * 257}})}, "BUTTON_COPY_TEXT_INVALID"),
        ({"reply_markup": buttons({"url": "http://localhost/x"})}, "Wrong HTTP URL"),
        ({"reply_markup": buttons({})}, "Text buttons are unallowed"),
        ({"reply_markup": buttons(*[{"callback_data": "a"}] * 101)}, "reply markup is too long"),
        (
            {"reply_markup": {"inline_keyboard": [[{"text": "a", "callback_data": "a"}] * 9]}},
            "reply markup is too long",
        ),
        ({"reply_markup": "{"}, "can't parse reply markup JSON object"),
    ],
)
def test_a_faulty_message_is_refused(telegram: FakeTelegram, ana: Person, params: dict[str, Any], text: str) -> None:
    code, description = why(say(telegram, ana, **params))

    assert code == 400
    assert text in description
    assert not ana.received("loja_bot")


def test_the_limits_themselves_are_allowed(telegram: FakeTelegram, ana: Person) -> None:
    telegram.rates = False

    assert say(telegram, ana, "<b>" + "😀" * 2048 + "</b>", parse_mode="HTML")["ok"]
    assert say(telegram, ana, reply_markup=buttons({"callback_data": "a" * 64}, {"copy_text": {"text": "a" * 256}}))[
        "ok"
    ]
    assert say(telegram, ana, reply_markup={"inline_keyboard": [[{"text": "a", "callback_data": "a"}] * 8] * 12})["ok"]
    assert not telegram.refusals


def test_html_becomes_entities_in_utf16_units(telegram: FakeTelegram, ana: Person) -> None:
    text = 'Olá 😀 <b>Ana &amp; <i>Bia</i></b>: <code>0002</code> <a href="https://t.me/x">link</a> &lt;b&gt;'
    sent = say(telegram, ana, f"\n{text}\n", parse_mode="HTML")["result"]

    assert sent["text"] == "Olá 😀 Ana & Bia: 0002 link <b>"
    assert sent["entities"][0] == {"type": "bold", "offset": 7, "length": 9}
    message = ana.last("loja_bot")
    assert [message.marked(kind) for kind in ("bold", "italic", "code")] == [["Ana & Bia"], ["Bia"], ["0002"]]
    assert sent["entities"][-1] == {"type": "text_link", "offset": 23, "length": 4, "url": "https://t.me/x"}


def test_who_can_not_be_written_to(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    bia = telegram.person(first_name="Bia")
    assert why(say(telegram, bia)) == (403, "Forbidden: bot can't initiate conversation with a user")
    assert why(call(telegram, "sendMessage", chat_id=999, text="oi")) == (400, "Bad Request: chat not found")

    ana.block(bot)
    assert why(say(telegram, ana)) == (403, "Forbidden: bot was blocked by the user")
    ana.start(bot)
    assert say(telegram, ana)["ok"]
    ana.deactivate()
    assert why(say(telegram, ana)) == (403, "Forbidden: user is deactivated")


def test_more_than_one_message_a_second_to_one_chat_is_too_fast(
    telegram: FakeTelegram, ana: Person, clock: Clock
) -> None:
    answers = [say(telegram, ana) for _ in range(6)]

    assert [answer["ok"] for answer in answers] == [True] * 5 + [False]
    assert why(answers[-1]) == (429, "Too Many Requests: retry after 1")
    assert answers[-1]["parameters"] == {"retry_after": 1}
    clock.at += 1
    assert say(telegram, ana)["ok"]
    assert not say(telegram, ana)["ok"]


def test_more_than_thirty_messages_a_second_of_one_bot_are_too_fast(
    telegram: FakeTelegram, bot: Bot, clock: Clock
) -> None:
    people = [telegram.person() for _ in range(31)]
    for person in people:
        person.start(bot)

    assert sum(say(telegram, person)["ok"] for person in people) == 30
    clock.at += 0.04
    assert say(telegram, people[-1])["ok"]


def test_rates_can_be_switched_off(telegram: FakeTelegram, ana: Person) -> None:
    telegram.rates = False

    assert all(say(telegram, ana)["ok"] for _ in range(10))


def test_a_photo_is_kept_for_the_bot_that_sent_it(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    other = telegram.add_bot("777:other", "outra_bot")
    ana.start(other)
    sent = call(telegram, "sendPhoto", chat_id=ana.id, caption="QR", files={"photo": ("qr.png", PNG)})["result"]
    file_id = sent["photo"][0]["file_id"]

    assert ana.last(bot).photo == PNG
    assert call(telegram, "sendPhoto", chat_id=ana.id, photo=file_id)["ok"]
    foreign = call(telegram, "sendPhoto", token=other.token, chat_id=ana.id, photo=file_id)
    assert why(foreign) == (400, "Bad Request: wrong file identifier/HTTP URL specified")


@pytest.mark.parametrize(
    ("photo", "caption", "text"),
    [
        (b"", "", "file must be non-empty"),
        (b"<svg/>", "", "IMAGE_PROCESS_FAILED"),
        (PNG, "a" * 1025, "message caption is too long"),
        (PNG[:16] + b"\x00\x00\x00\x01\x00\x00\x00\xff" + PNG[24:], "", "PHOTO_INVALID_DIMENSIONS"),
    ],
    ids=["empty", "no image", "long caption", "too tall"],
)
def test_a_faulty_photo_is_refused(telegram: FakeTelegram, ana: Person, photo: bytes, caption: str, text: str) -> None:
    answer = call(telegram, "sendPhoto", chat_id=ana.id, caption=caption, files={"photo": ("a.png", photo)})

    assert why(answer)[0] == 400
    assert text in why(answer)[1]


def test_editing_changes_what_the_chat_shows(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    sent = say(telegram, ana, "antes", reply_markup=buttons({"callback_data": "a"}))["result"]
    where = {"chat_id": ana.id, "message_id": sent["message_id"]}

    assert call(telegram, "editMessageText", text="depois", **where)["ok"]
    assert (ana.last(bot).text, ana.last(bot).buttons, ana.last(bot).edits) == ("depois", [], 1)
    assert "message is not modified" in why(call(telegram, "editMessageText", text="depois", **where))[1]
    assert "no caption" in why(call(telegram, "editMessageCaption", caption="x", **where))[1]
    assert "not found" in why(call(telegram, "editMessageText", chat_id=ana.id, message_id=999, text="x"))[1]
    theirs = ana.messages(bot)[0].id
    assert "can't be edited" in why(call(telegram, "editMessageText", chat_id=ana.id, message_id=theirs, text="x"))[1]


def test_deleting_takes_a_message_away(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    sent = say(telegram, ana)["result"]
    where = {"chat_id": ana.id, "message_id": sent["message_id"]}

    assert call(telegram, "deleteMessage", **where)["ok"]
    assert not ana.received(bot)
    assert why(call(telegram, "deleteMessage", **where)) == (400, "Bad Request: message to delete not found")


def test_a_tap_is_answered_once_known(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    say(telegram, ana, reply_markup=buttons({"callback_data": "buy"}, {"text": "copia", "copy_text": {"text": "0002"}}))

    assert ana.tap(bot, "copia") == "0002"
    query = ana.tap(bot, "ok")
    assert telegram.pending(bot)[-1]["callback_query"]["data"] == "buy"
    assert call(telegram, "answerCallbackQuery", callback_query_id=query, text="feito")["ok"]
    assert telegram.toasts[query] == "feito"
    assert "query is too old" in why(call(telegram, "answerCallbackQuery", callback_query_id="1"))[1]
    assert why(call(telegram, "answerCallbackQuery", callback_query_id=query, text="a" * 201))[0] == 400


def test_commands_are_checked(telegram: FakeTelegram, bot: Bot) -> None:
    good = [{"command": "start", "description": "Começar"}]

    assert call(telegram, "setMyCommands", commands=good)["ok"]
    assert call(telegram, "getMyCommands")["result"] == good
    assert not call(telegram, "setMyCommands", commands=[{"command": "Start", "description": "x"}])["ok"]
    assert not call(telegram, "setMyCommands", commands=[{"command": "start", "description": ""}])["ok"]


def test_an_invite_link_lets_in_as_many_as_it_says(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    vip, bia = telegram.group("VIP", [bot]), telegram.person(first_name="Bia")
    link = call(telegram, "createChatInviteLink", chat_id=vip.id, member_limit=1, name="sale-1")["result"]

    assert ana.join(link["invite_link"]) == "joined"
    with pytest.raises(LinkRefused, match="full"):
        bia.join(link["invite_link"])
    ana.leave(vip)
    assert bia.join(link["invite_link"]) == "joined"
    assert call(telegram, "revokeChatInviteLink", chat_id=vip.id, invite_link=link["invite_link"])["ok"]
    with pytest.raises(LinkRefused, match="revoked"):
        ana.join(link["invite_link"])


def test_a_join_request_waits_for_the_bot(telegram: FakeTelegram, bot: Bot) -> None:
    vip, bia = telegram.group("VIP", [bot]), telegram.person(first_name="Bia")
    made = call(telegram, "createChatInviteLink", chat_id=vip.id, creates_join_request=True)["result"]

    assert bia.join(made["invite_link"]) == "requested"
    assert telegram.pending(bot)[-1]["chat_join_request"]["user_chat_id"] == bia.id
    assert say(telegram, bia, "aqui")["ok"]
    assert call(telegram, "approveChatJoinRequest", chat_id=vip.id, user_id=bia.id)["ok"]
    assert vip.has_in(bia.id)
    again = call(telegram, "approveChatJoinRequest", chat_id=vip.id, user_id=bia.id)
    assert why(again) == (400, "Bad Request: USER_ALREADY_PARTICIPANT")


def test_a_banned_person_stays_out_until_unbanned(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    vip = telegram.group("VIP", [bot])
    link = call(telegram, "createChatInviteLink", chat_id=vip.id)["result"]["invite_link"]
    ana.join(link)
    who = {"chat_id": vip.id, "user_id": ana.id}

    assert call(telegram, "banChatMember", **who)["ok"]
    assert call(telegram, "getChatMember", **who)["result"]["status"] == "kicked"
    with pytest.raises(LinkRefused, match="banned"):
        ana.join(link)
    assert call(telegram, "unbanChatMember", only_if_banned=True, **who)["ok"]
    assert ana.join(link) == "joined"
    assert call(telegram, "unbanChatMember", only_if_banned=True, **who)["ok"]
    assert vip.has_in(ana.id)


def test_a_bot_without_the_right_can_not_manage_a_group(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    vip = telegram.group("VIP", [bot])
    telegram.promote(vip, bot, can_restrict_members=False, can_invite_users=False)

    assert "not enough rights" in why(call(telegram, "createChatInviteLink", chat_id=vip.id))[1]
    assert "not enough rights" in why(call(telegram, "banChatMember", chat_id=vip.id, user_id=ana.id))[1]
    telegram.demote(vip, bot, "kicked")
    assert why(call(telegram, "sendMessage", chat_id=vip.id, text="x")) == (
        403,
        "Forbidden: bot was kicked from the supergroup chat",
    )


def test_a_message_sent_before_the_reset_is_in_the_chat(telegram: FakeTelegram, bot: Bot, ana: Person) -> None:
    telegram.fail("/sendMessage", how=ResetAfter())
    with pytest.raises(requests.ConnectionError):
        say(telegram, ana, "uma vez")
    telegram.fail("/sendMessage", how=Status(502))

    assert [message.text for message in ana.received(bot)] == ["uma vez"]
    assert [params["text"] for params in telegram.requests("sendMessage", bot)] == ["uma vez"]


def test_a_person_may_only_send_payloads_that_fit(bot: Bot, ana: Person) -> None:
    with pytest.raises(AssertionError, match="payload"):
        ana.start(bot, "with space")
    with pytest.raises(AssertionError, match="payload"):
        ana.start(bot, "a" * 65)
