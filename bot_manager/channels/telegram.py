"""Telegram: updates read into what was heard, contents sent through python-telegram-bot's `Bot`.

One `telegram.Bot` per token costs 0.7 KB on one shared request object; an `Application` per bot costs 1.7 MB.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

import segno
import telegram
from telegram import CopyTextButton, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions
from telegram.constants import MessageLimit, ParseMode
from telegram.error import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)

from bot_manager import log
from bot_manager.channels.base import (
    Ambiguous,
    Blocked,
    Button,
    ChannelError,
    Content,
    Heard,
    Refused,
    SlowDown,
    TokenInUse,
    TokenRefused,
    Unsent,
)
from bot_manager.channels.telegram_request import NotSent, SharedRequest

CHANNEL = "telegram"
UPDATES = ["message", "callback_query", "my_chat_member", "chat_join_request"]
COMMANDS = (
    telegram.BotCommand("start", "Ver as ofertas"),
    telegram.BotCommand("paysupport", "Suporte e pagamentos"),
    telegram.BotCommand("privacy", "Privacidade"),
)
MOST_BOTS = 3000
_ASKS_NO_MORE = ("user_already_participant", "hide_requester_missing")
_NOT_TO_REMOVE = ("participant_id_invalid", "user_not_participant", "administrator of the chat", "chat owner")

# In the library BadRequest and TimedOut are NetworkErrors, so the order counts.
_MEANINGS: tuple[tuple[type[TelegramError], type[ChannelError]], ...] = (
    (InvalidToken, TokenRefused),
    (Conflict, TokenInUse),
    (Forbidden, Blocked),
    (BadRequest, Refused),
    (TimedOut, Ambiguous),
    (NetworkError, Unsent),
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token belongs to."""

    username: str
    name: str


class Telegram:
    """The Bot API, for as many bots as there are; `async with` it."""

    def __init__(self, api_url: str) -> None:
        self._base_url = f"{api_url}/bot"
        self._request = SharedRequest()
        self._polls = SharedRequest(connections=0)  # each takes one for as long as there is no news
        self._bots: OrderedDict[str, telegram.Bot] = OrderedDict()

    async def __aenter__(self) -> Telegram:
        await self._request.open()
        await self._polls.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._request.close()
        await self._polls.close()

    def bot(self, token: str) -> telegram.Bot:
        if token not in self._bots:
            if len(self._bots) >= MOST_BOTS:
                self._bots.popitem(last=False)
            kept = self._request
            self._bots[token] = telegram.Bot(token, base_url=self._base_url, request=kept, get_updates_request=kept)
        self._bots.move_to_end(token)
        return self._bots[token]

    async def send(self, token: str, chat_id: str, content: Content) -> str:
        """Answers the message's id. Raises ChannelError."""
        bot = self.bot(token)
        keyboard = _keyboard(content.buttons)
        if content.qr and len(content.text.encode("utf-16-le")) // 2 <= MessageLimit.CAPTION_LENGTH:
            picture = await asyncio.to_thread(_qr_png, content.qr)
            sent = await _mapped(
                lambda: bot.send_photo(chat_id, picture, content.text, reply_markup=keyboard, parse_mode=ParseMode.HTML)
            )
        else:
            sent = await _mapped(
                lambda: bot.send_message(
                    chat_id,
                    content.text,
                    reply_markup=keyboard,
                    parse_mode=ParseMode.HTML,
                    link_preview_options=LinkPreviewOptions(is_disabled=True),
                )
            )
        return str(sent.message_id)

    async def acknowledge(self, token: str, tap_id: str) -> None:
        """Stops the spinner on a tapped button. Raises ChannelError."""
        await _mapped(lambda: self.bot(token).answer_callback_query(tap_id))

    async def invite(self, token: str, group_id: int, name: str) -> str:
        """A link by which people ask to enter the group: who may is decided when they do. Raises ChannelError."""
        made = await _mapped(
            lambda: self.bot(token).create_chat_invite_link(group_id, name=name[:32], creates_join_request=True)
        )
        return str(made.invite_link)

    async def let_in(self, token: str, group_id: int, person_id: int) -> bool:
        """False when they do not ask any more. Raises ChannelError."""
        asks = await _unless(lambda: self.bot(token).approve_chat_join_request(group_id, person_id), *_ASKS_NO_MORE)
        return asks or await self._is_in(token, group_id, person_id)

    async def turn_away(self, token: str, group_id: int, person_id: int) -> None:
        """Raises ChannelError."""
        await _unless(lambda: self.bot(token).decline_chat_join_request(group_id, person_id), *_ASKS_NO_MORE)

    async def remove(self, token: str, group_id: int, person_id: int) -> None:
        """Out of the group, free to come back with a new right; the group's own people stay. Raises ChannelError."""
        bot = self.bot(token)
        if await _unless(lambda: bot.ban_chat_member(group_id, person_id), *_NOT_TO_REMOVE):
            await _unless(lambda: bot.unban_chat_member(group_id, person_id, only_if_banned=True), *_NOT_TO_REMOVE)

    async def _is_in(self, token: str, group_id: int, person_id: int) -> bool:
        found = await _mapped(lambda: self.bot(token).get_chat_member(group_id, person_id))
        return found.status in (found.MEMBER, found.ADMINISTRATOR, found.OWNER, found.RESTRICTED)

    async def connect(self, token: str, webhook_url: str | None, secret: str) -> Identity:
        """Learns who the bot is and has its updates sent to the address, or kept for polling. Raises ChannelError."""
        bot = self.bot(token)
        me = await _mapped(bot.get_me)
        if webhook_url:
            await _mapped(
                lambda: bot.set_webhook(webhook_url, allowed_updates=UPDATES, secret_token=secret, max_connections=40)
            )
        else:
            await _mapped(bot.delete_webhook)
        await _mapped(lambda: bot.set_my_commands(COMMANDS))
        return Identity(str(me.username), me.first_name)

    async def disconnect(self, token: str, address: str) -> None:
        """Has no more updates pushed to the address (its end is enough); elsewhere they go on. Raises ChannelError."""
        bot = self.bot(token)
        there = await _mapped(bot.get_webhook_info)
        if there.url.endswith(address):
            await _mapped(bot.delete_webhook)

    async def updates(self, token: str, after: int, patience_s: int) -> list[dict[str, Any]]:
        """The raw updates beyond `after`, waiting for one as long as told. Raises ChannelError."""
        # Not through `Bot.get_updates`: one update that the library can't read would lose the whole batch.
        asked = urlencode({"offset": after + 1, "timeout": patience_s, "allowed_updates": json.dumps(UPDATES)})
        url = f"{self._base_url}{token}/getUpdates?{asked}"
        found = await _mapped(lambda: self._polls.post(url, read_timeout=patience_s + 5))
        return [update for update in found if isinstance(update, dict)] if isinstance(found, list) else []


async def _mapped(call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except NotSent as error:
        raise Unsent(str(error)) from error
    except TelegramError as error:
        raise channel_error(error) from error


async def _unless(call: Callable[[], Awaitable[object]], *words: str) -> bool:
    """As `_mapped`; False when it is refused in one of these words, which say that there is nothing to do."""
    try:
        await _mapped(call)
    except Refused as error:
        if any(each in str(error).lower() for each in words):
            return False
        raise
    return True


def channel_error(error: TelegramError) -> ChannelError:
    """What a Bot API error means to us."""
    if isinstance(error, RetryAfter):
        return SlowDown(_seconds(error.retry_after))
    if "chat not found" in error.message.lower():
        return Blocked(log.of_others(error.message))
    meaning = next((ours for theirs, ours in _MEANINGS if isinstance(error, theirs)), Refused)
    return meaning(log.of_others(error.message))


def _seconds(value: int | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _keyboard(buttons: tuple[Button, ...]) -> InlineKeyboardMarkup | None:
    rows = [
        [
            InlineKeyboardButton(
                button.label,
                url=button.url,
                callback_data=button.data,
                copy_text=CopyTextButton(button.copy) if button.copy else None,
            )
        ]
        for button in buttons
    ]
    return InlineKeyboardMarkup(rows) if rows else None


def _qr_png(text: str) -> bytes:
    picture = io.BytesIO()
    segno.make(text, error="m").save(picture, kind="png", scale=8, border=4)
    return picture.getvalue()


# What comes in ----------------------------------------------------------------------------------------------------


def chat_id_of(update: dict[str, Any]) -> str | None:
    """The private chat that an update belongs to; None for groups and for what belongs to no chat.

    Who asks to enter a group does so from their private chat, as far as we are concerned.
    """
    if asks := update.get("chat_join_request"):
        person = asks.get("from") if isinstance(asks, dict) else None
        return str(person["id"]) if isinstance(person, dict) and isinstance(person.get("id"), int) else None
    query = update.get("callback_query")
    held = update.get("message") or update.get("my_chat_member") or (query or {}).get("message") or {}
    chat = held.get("chat") if isinstance(held, dict) else None
    if not isinstance(chat, dict) or chat.get("type") != "private" or not isinstance(chat.get("id"), int):
        return None
    return str(chat["id"])


def read(update: dict[str, Any]) -> Heard:
    """What a raw update says."""
    if query := update.get("callback_query"):
        return Heard("tap", str(query.get("data", "")), str(query.get("id")), _profile(query.get("from")))
    if member := update.get("my_chat_member"):
        gone = member.get("new_chat_member", {}).get("status") in ("kicked", "left")
        return Heard("blocked" if gone else "unblocked", profile=_profile(member.get("from")))
    if asks := update.get("chat_join_request"):
        group = (asks.get("chat") or {}).get("id")
        kind = "asks_in" if isinstance(group, int) else "other"
        return Heard(kind, str(group), profile=_profile(asks.get("from")))
    message = update.get("message") or {}
    text = message.get("text")
    if not isinstance(text, str):
        return Heard("other", profile=_profile(message.get("from")))
    if text == "/start" or text.startswith("/start "):
        return Heard("start", text.removeprefix("/start").strip(), profile=_profile(message.get("from")))
    return Heard("text", text, profile=_profile(message.get("from")))


def _profile(person: Any) -> dict[str, str] | None:
    if not isinstance(person, dict):
        return None
    names = ("first_name", "last_name", "username", "language_code")
    return {name: str(person[name])[:200] for name in names if person.get(name)}
