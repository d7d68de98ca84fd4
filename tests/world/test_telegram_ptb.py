"""python-telegram-bot, as the product uses it, against FakeTelegram: each method's answer must be readable for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from telegram import (
    Bot,
    BotCommand,
    CopyTextButton,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Update,
)
from telegram.constants import ParseMode
from telegram.error import BadRequest, Conflict, Forbidden, InvalidToken, NetworkError, RetryAfter, TimedOut

from tests.world.bank import PNG
from tests.world.faults import Hang, ResetAfter, Status
from tests.world.shop import Shop
from tests.world.telegram import FakeTelegram, Person

TOKEN = "123456:test-token"


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    with FakeTelegram(allow_http=True, rates=False) as telegram:
        telegram.add_bot(TOKEN, "loja_bot", "Loja")
        yield telegram


@pytest.fixture
def ana(telegram: FakeTelegram) -> Person:
    return telegram.person(first_name="Ana", last_name="Souza", username="ana")


def run(fake: FakeTelegram, work: Callable[[Bot], Awaitable[Any]], token: str = TOKEN) -> Any:
    async def inside() -> Any:
        async with _bot(fake, token) as bot:
            return await work(bot)

    return asyncio.run(inside())


@asynccontextmanager
async def _bot(fake: FakeTelegram, token: str) -> AsyncIterator[Bot]:
    bot = Bot(token, base_url=f"{fake.url}/bot", base_file_url=f"{fake.url}/file/bot")
    async with bot:
        yield bot


def test_the_bot_knows_itself_and_sets_its_commands(telegram: FakeTelegram) -> None:
    async def work(bot: Bot) -> None:
        me = await bot.get_me()
        assert (me.id, me.username, me.first_name, me.is_bot) == (123456, "loja_bot", "Loja", True)
        assert await bot.set_my_commands([BotCommand("start", "Começar")])
        assert (await bot.get_my_commands())[0].description == "Começar"

    run(telegram, work)


def test_a_message_is_sent_edited_and_deleted(telegram: FakeTelegram, ana: Person) -> None:
    ana.start(TOKEN)
    markup = InlineKeyboardMarkup(
        [
            [InlineKeyboardButton("Curso R$ 49,90", callback_data="a:buy:1")],
            [InlineKeyboardButton("Copiar", copy_text=CopyTextButton("000201"))],
            [InlineKeyboardButton("Termos", url="https://shop.example/terms")],
        ]
    )

    async def work(bot: Bot) -> None:
        sent = await bot.send_message(ana.id, "<b>Oi</b>", parse_mode=ParseMode.HTML, reply_markup=markup)
        assert (sent.text, sent.chat.id, sent.chat.first_name) == ("Oi", ana.id, "Ana")
        assert sent.entities[0].type == "bold"
        assert [button.text for button in ana.last(TOKEN).buttons] == ["Curso R$ 49,90", "Copiar", "Termos"]
        edited = await bot.edit_message_text("Depois", ana.id, sent.message_id, reply_markup=markup)
        assert edited.edit_date is not None
        assert await bot.edit_message_reply_markup(ana.id, sent.message_id)
        with pytest.raises(BadRequest, match="Message is not modified"):
            await bot.edit_message_text("Depois", ana.id, sent.message_id)
        assert await bot.delete_message(ana.id, sent.message_id)

    run(telegram, work)
    assert ana.received(TOKEN) == []


def test_a_photo_is_uploaded_sent_again_and_downloaded(telegram: FakeTelegram, ana: Person) -> None:
    ana.start(TOKEN)

    async def work(bot: Bot) -> None:
        sent = await bot.send_photo(ana.id, PNG, caption="<code>0002</code>", parse_mode=ParseMode.HTML)
        file_id = sent.photo[-1].file_id
        again = await bot.send_photo(ana.id, file_id, reply_markup=InlineKeyboardMarkup([]))
        assert again.photo[-1].file_id == file_id
        await bot.edit_message_caption(ana.id, sent.message_id, caption="Pago")
        file = await bot.get_file(file_id)
        assert bytes(await file.download_as_bytearray()) == PNG

    run(telegram, work)
    assert [(message.text, message.photo) for message in ana.received(TOKEN)] == [("Pago", PNG), ("", PNG)]


def test_updates_come_by_polling(telegram: FakeTelegram, ana: Person) -> None:
    ana.start(TOKEN, "token_abc-1")

    async def work(bot: Bot) -> None:
        [update] = await bot.get_updates(timeout=1, allowed_updates=Update.ALL_TYPES)
        assert update.message
        assert (update.message.text, update.message.from_user) == ("/start token_abc-1", update.effective_user)
        await bot.send_message(ana.id, "Olá", reply_markup=_keyboard())
        ana.tap(TOKEN, "Comprar")
        [tap] = await bot.get_updates(offset=update.update_id + 1, timeout=1)
        assert tap.callback_query
        assert tap.callback_query.data == "buy"
        assert tap.effective_message
        assert tap.effective_message.text == "Olá"
        assert await bot.answer_callback_query(tap.callback_query.id, "Já vai")
        assert telegram.toasts == {tap.callback_query.id: "Já vai"}
        ana.block(TOKEN)
        [gone] = await bot.get_updates(offset=tap.update_id + 1, timeout=1)
        assert gone.my_chat_member
        assert gone.my_chat_member.new_chat_member.status == "kicked"

    run(telegram, work)


def _keyboard() -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[InlineKeyboardButton("Comprar", callback_data="buy")]])


def test_updates_come_to_a_webhook(telegram: FakeTelegram, ana: Person) -> None:
    async def work(bot: Bot) -> None:
        assert await bot.set_webhook(
            f"{shop.hook_url}/1", secret_token="s3cret", allowed_updates=["message"], max_connections=10
        )
        info = await bot.get_webhook_info()
        assert (info.url, info.allowed_updates, info.max_connections) == (f"{shop.hook_url}/1", ("message",), 10)
        with pytest.raises(Conflict):
            await bot.get_updates()
        ana.start(TOKEN)
        await asyncio.to_thread(telegram.wait_for, lambda: not telegram.pending(TOKEN))
        update = Update.de_json(shop.calls[0].json, bot)
        assert update.message
        assert update.message.text == "/start"
        assert await bot.delete_webhook(drop_pending_updates=True)
        assert not (await bot.get_webhook_info()).url

    with Shop() as shop:
        run(telegram, work)


def test_a_group_is_managed(telegram: FakeTelegram, ana: Person) -> None:
    vip = telegram.group("VIP", [telegram.bot(TOKEN)])

    async def work(bot: Bot) -> None:
        link = await bot.create_chat_invite_link(vip.id, member_limit=1, name="sale-1")
        assert (link.member_limit, link.creates_join_request, link.is_revoked) == (1, False, False)
        ana.join(link.invite_link)
        assert (await bot.get_chat_member(vip.id, ana.id)).status == "member"
        assert (await bot.get_chat_member(vip.id, bot.id)).status == "administrator"
        assert await bot.ban_chat_member(vip.id, ana.id)
        assert (await bot.get_chat_member(vip.id, ana.id)).status == "kicked"
        assert await bot.unban_chat_member(vip.id, ana.id, only_if_banned=True)
        assert (await bot.revoke_chat_invite_link(vip.id, link.invite_link)).is_revoked
        assert (await bot.get_chat(vip.id)).title == "VIP"
        assert (await bot.get_chat(ana.id)).username == "ana"

    run(telegram, work)


def test_a_join_request_is_answered(telegram: FakeTelegram, ana: Person) -> None:
    vip = telegram.group("VIP", [telegram.bot(TOKEN)])

    async def work(bot: Bot) -> None:
        link = await bot.create_chat_invite_link(vip.id, creates_join_request=True)
        assert ana.join(link.invite_link) == "requested"
        asked = (await bot.get_updates(timeout=1))[-1].chat_join_request
        assert asked
        assert (asked.from_user.id, asked.invite_link) == (ana.id, link)
        assert await bot.decline_chat_join_request(vip.id, ana.id)
        ana.join(link.invite_link)
        assert await bot.approve_chat_join_request(vip.id, ana.id)
        updates = await bot.get_updates(allowed_updates=["chat_member"], timeout=1)
        assert all(isinstance(update, Update) for update in updates)

    run(telegram, work)
    assert vip.has_in(ana.id)


def test_refusals_become_the_librarys_errors(
    telegram: FakeTelegram, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTB_TIMEDELTA", "true")

    async def work(bot: Bot) -> None:
        with pytest.raises(Forbidden, match="can't initiate conversation"):
            await bot.send_message(ana.id, "oi")
        with pytest.raises(BadRequest, match="Chat not found"):
            await bot.send_message(1, "oi")
        ana.start(TOKEN)
        with pytest.raises(BadRequest, match="Can't parse entities"):
            await bot.send_message(ana.id, "<b>oi", parse_mode=ParseMode.HTML)
        telegram.rates, telegram.clock = True, lambda: 0.0
        for _ in range(5):
            await bot.send_message(ana.id, "oi")
        with pytest.raises(RetryAfter) as caught:
            await bot.send_message(ana.id, "oi")
        assert caught.value.retry_after
        telegram.revoke(TOKEN)
        with pytest.raises(InvalidToken):
            await bot.get_me()

    run(telegram, work)


def test_faults_become_the_librarys_errors(telegram: FakeTelegram, ana: Person) -> None:
    ana.start(TOKEN)

    async def work(bot: Bot) -> None:
        telegram.fail("/sendMessage", how=Status(502, b"<html>Bad Gateway</html>"))
        with pytest.raises(NetworkError):
            await bot.send_message(ana.id, "um")
        telegram.fail("/sendMessage", how=ResetAfter())
        with pytest.raises(NetworkError):
            await bot.send_message(ana.id, "dois")
        telegram.fail("/sendMessage", how=Hang(after=True))
        with pytest.raises(TimedOut):
            await bot.send_message(ana.id, "três", read_timeout=0.1)

    run(telegram, work)
    telegram.wait_for(lambda: [message.text for message in ana.received(TOKEN)] == ["dois", "três"])
