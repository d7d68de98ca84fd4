"""How updates reach a bot: pushed to its webhook, or fetched by polling, never both.

A webhook gets one update of a chat at a time, the next only after the one before was answered with 2xx; other chats
go in parallel. What was not taken is offered again. Polling hands out what is newer than the confirmed offset.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from tests.world.telegram.answers import bad, conflict
from tests.world.telegram.chats import Bot, Json, now
from tests.world.telegram.params import Params

if TYPE_CHECKING:
    from tests.world.telegram import FakeTelegram

KINDS = frozenset(
    [
        "message",
        "edited_message",
        "channel_post",
        "edited_channel_post",
        "business_connection",
        "business_message",
        "edited_business_message",
        "deleted_business_messages",
        "message_reaction",
        "message_reaction_count",
        "inline_query",
        "chosen_inline_result",
        "callback_query",
        "shipping_query",
        "pre_checkout_query",
        "purchased_paid_media",
        "poll",
        "poll_answer",
        "my_chat_member",
        "chat_member",
        "chat_join_request",
        "chat_boost",
        "removed_chat_boost",
        "guest_message",
        "managed_bot",
    ]
)
_ONLY_WHEN_NAMED = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
_PORTS = (None, 443, 80, 88, 8443)
_POLL_LIMIT = 50  # seconds: the real one cuts longer polls, too
_IN_USE = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
_OTHER_POLL = "terminated by other getUpdates request; make sure that only one bot instance is running"


@dataclass(frozen=True)
class Webhook:
    url: str
    secret: str
    max_connections: int


@dataclass(eq=False)
class Parcel:
    """One update on its way. chat: whose turn it takes."""

    update: Json
    chat: Any


@dataclass(eq=False)
class Poll:
    """One getUpdates that waits. ended: set when something else put an end to it."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    ended: str = ""

    def end(self, why: str) -> None:
        self.ended = why
        self.news.set()


@dataclass(eq=False)
class Mailbox:
    """One bot's updates that were not taken yet. taken: those it acknowledged; polls: how often it asked."""

    bot: Bot
    queue: list[Parcel] = field(default_factory=list)
    taken: list[Json] = field(default_factory=list)
    held: list[Json] | None = None
    allowed: frozenset[str] = KINDS - _ONLY_WHEN_NAMED
    webhook: Webhook | None = None
    busy: set[Any] = field(default_factory=set)
    poll: Poll | None = None
    polls: int = 0
    last_error: tuple[int, str] | None = None

    def take(self, offset: int) -> None:
        """Confirms what is older than offset; a negative one leaves that many of the newest."""
        if offset < 0:
            self.queue = self.queue[offset:]
        else:
            self.taken += [parcel.update for parcel in self.queue if parcel.update["update_id"] < offset]
            self.queue = [parcel for parcel in self.queue if parcel.update["update_id"] >= offset]


class Postman:
    """Brings the updates of all bots. retry_delay: seconds before the first other try; it doubles, up to a second."""

    push_timeout = 10.0
    retry_delay = 0.05

    def __init__(self, fake: FakeTelegram, *, allow_http: bool) -> None:
        self.fake = fake
        self.allow_http = allow_http
        self._boxes: dict[str, Mailbox] = {}

    def box(self, bot: Bot) -> Mailbox:
        return self._boxes.setdefault(bot.token, Mailbox(bot))

    # In

    def add(self, bot: Bot, update: Json) -> None:
        with self.fake.lock:
            box = self.box(bot)
            if box.held is not None:
                box.held.append(update)
                return
            box.queue.append(Parcel(update, _chat_of(update)))
        self.wake(bot)

    def hold(self, bot: Bot) -> None:
        self.box(bot).held = []

    def release(self, bot: Bot, order: Callable[[list[Json]], Iterable[Json]] | None = None) -> None:
        box = self.box(bot)
        held, box.held = box.held or [], None
        for update in order(held) if order else held:
            self.add(bot, update)

    def wake(self, bot: Bot) -> None:
        if self.fake.running:
            self.fake.loop.call_soon_threadsafe(self._wake, self.box(bot))
        self.fake.touch()

    def _wake(self, box: Mailbox) -> None:
        with self.fake.lock:
            if box.poll:
                box.poll.news.set()
            for parcel in list(box.queue) if box.webhook and not box.bot.revoked else []:
                if parcel.chat in box.busy or len(box.busy) >= box.webhook.max_connections:
                    continue
                box.busy.add(parcel.chat)
                self.fake.spawn(self._push(box, box.webhook, parcel))

    # Out, by webhook

    async def _push(self, box: Mailbox, webhook: Webhook, parcel: Parcel) -> None:
        delay = self.retry_delay
        while box.webhook is webhook and parcel in box.queue and not box.bot.revoked:
            problem = await self._post(webhook, parcel.update)
            if not problem:
                self._taken(box, parcel)
                break
            box.last_error = (now(), problem)
            self.fake.touch()
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)
        box.busy.discard(parcel.chat)
        self.wake(box.bot)

    def _taken(self, box: Mailbox, parcel: Parcel) -> None:
        with self.fake.lock:
            box.taken.append(parcel.update)
            if parcel in box.queue:  # it may have been dropped meanwhile
                box.queue.remove(parcel)

    async def _post(self, webhook: Webhook, update: Json) -> str:
        headers = {"Content-Type": "application/json"}
        if webhook.secret:
            headers["X-Telegram-Bot-Api-Secret-Token"] = webhook.secret
        timeout = aiohttp.ClientTimeout(total=self.push_timeout)
        body = json.dumps(update).encode()
        try:
            async with self.fake.session.post(webhook.url, data=body, headers=headers, timeout=timeout) as response:
                await response.read()
                return "" if response.ok else f"Wrong response from the webhook: {response.status} {response.reason}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"Connection failed: {type(error).__name__}"

    # Out, by polling

    async def get_updates(self, bot: Bot, params: Params) -> list[Json]:
        with self.fake.lock:
            box = self.box(bot)
            if box.webhook:
                raise conflict(_IN_USE)
            self._allow(box, params)
            box.take(params.number("offset", 0) or 0)
            if box.poll:
                box.poll.end(_OTHER_POLL)
            poll = box.poll = Poll()
            box.polls += 1
        await self._wait_for_news(box, poll, min(params.number("timeout", 0) or 0, _POLL_LIMIT))
        with self.fake.lock:
            if box.poll is poll:
                box.poll = None
            if poll.ended:
                raise conflict(poll.ended)
            return [parcel.update for parcel in box.queue[: params.number("limit", 100)]]

    async def _wait_for_news(self, box: Mailbox, poll: Poll, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not box.queue and not poll.ended:
            left = deadline - asyncio.get_running_loop().time()
            poll.news.clear()
            try:
                await asyncio.wait_for(poll.news.wait(), max(left, 0))
            except TimeoutError:
                return

    # Which of the two

    def set_webhook(self, bot: Bot, params: Params) -> bool:
        box = self.box(bot)
        if not params.text("url"):
            return self.delete_webhook(bot, params)
        webhook = self._checked(params)
        self._allow(box, params)
        if params.flag("drop_pending_updates"):
            box.queue.clear()
        if box.poll:
            box.poll.end("terminated by setWebhook request")
        box.webhook, box.last_error = webhook, None
        self.wake(bot)
        return True

    def delete_webhook(self, bot: Bot, params: Params) -> bool:
        box = self.box(bot)
        box.webhook, box.last_error = None, None
        if params.flag("drop_pending_updates"):
            box.queue.clear()
        return True

    def webhook_info(self, bot: Bot) -> Json:
        box = self.box(bot)
        info: Json = {
            "url": box.webhook.url if box.webhook else "",
            "has_custom_certificate": False,
            "pending_update_count": len(box.queue),
        }
        if box.webhook:
            info |= {"max_connections": box.webhook.max_connections, "ip_address": "127.0.0.1"}
        if box.last_error:
            info |= {"last_error_date": box.last_error[0], "last_error_message": box.last_error[1]}
        is_default = box.allowed == KINDS - _ONLY_WHEN_NAMED
        return info if is_default else info | {"allowed_updates": sorted(box.allowed)}

    def _checked(self, params: Params) -> Webhook:
        url, secret = params.text("url"), params.text("secret_token")
        parts = urlsplit(url)
        if parts.scheme != "https" and not (self.allow_http and parts.scheme == "http"):
            raise bad("bad webhook: An HTTPS URL must be provided for webhook")
        if not self.allow_http and parts.port not in _PORTS:
            raise bad("bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,256}", secret):
            raise bad("secret token contains unallowed characters")
        connections = params.number("max_connections", 40) or 40
        if not 1 <= connections <= 100:
            raise bad("max_connections is out of range")  # the real one is lenient here
        return Webhook(url, secret, connections)

    def _allow(self, box: Mailbox, params: Params) -> None:
        names = params.parsed("allowed_updates", list)
        if names is None:
            return
        if unknown := set(names) - KINDS:  # the real one ignores them, and the bot waits for ever
            raise bad(f"unknown update types {sorted(unknown)}")
        box.allowed = frozenset(names) or KINDS - _ONLY_WHEN_NAMED


def _chat_of(update: Json) -> Any:
    """Whose turn an update takes: its chat's, else its sender's."""
    content = next((value for key, value in update.items() if key != "update_id"), None)
    if not isinstance(content, dict):
        return None
    chat = content.get("chat") or (content.get("message") or {}).get("chat") or content.get("from") or {}
    return chat.get("id")
