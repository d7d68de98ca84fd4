"""The Telegram Bot API, strict. Bots are at `<url>/bot<token>/<method>`, files at `<url>/file/bot<token>/<path>`.

    with FakeTelegram() as telegram:
        bot = telegram.add_bot("123456:ABC", "loja_bot")
        ana = telegram.person(first_name="Ana")
        ana.start(bot, "payload")
        ana.wait_button(bot, "Comprar")
        ana.tap(bot, "Comprar")

Stricter than the real one in three places, because there the real one lets a mistake pass in silence: unknown names
in allowed_updates, a max_connections out of range, and Markdown (not spoken here).
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Self

from tests.world.calls import Call
from tests.world.faults import Reply
from tests.world.server import Fake, route
from tests.world.telegram import group_methods, methods
from tests.world.telegram.answers import not_found, too_many, unauthorized
from tests.world.telegram.chats import Bot, Button, Dialogue, Group, Json, Link, Message, member, now
from tests.world.telegram.params import Params
from tests.world.telegram.people import LinkRefused, Person
from tests.world.telegram.updates import Postman, Webhook

__all__ = ["Bot", "Button", "FakeTelegram", "Group", "LinkRefused", "Message", "Person", "Webhook"]

_METHODS = {name.lower(): handler for name, handler in (methods.METHODS | group_methods.METHODS).items()}
_TOKEN = re.compile(r"\d+:[A-Za-z0-9_-]+")


class Bucket:
    """A rate: so many a second, with a burst. at: seconds of any clock that only goes forward."""

    def __init__(self, rate: float, burst: int, at: float) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at = float(burst), at

    def wait(self, at: float) -> float:
        """How many seconds are missing until one more is allowed; 0 when it is."""
        self._left = min(self.burst, self._left + (at - self._at) * self.rate)
        self._at = at
        return 0.0 if self._left >= 1 else (1 - self._left) / self.rate

    def take(self) -> None:
        self._left -= 1


class FakeTelegram(Fake):
    """allow_http: webhooks may be plain http on any port (for a product on the loopback); rates: 429 when too fast.

    toasts: {callback query id: the text it was answered with}; clock: seconds, for the rates.
    """

    per_bot = (30.0, 30)  # messages a second, burst
    per_chat = (1.0, 5)

    def __init__(
        self, *, allow_http: bool = False, rates: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.rates = rates
        self.clock = clock
        self.bots: dict[str, Bot] = {}
        self.people: dict[int, Person] = {}
        self.groups: dict[int, Group] = {}
        self.files: dict[str, tuple[Bot, bytes]] = {}
        self.queries: dict[str, Bot] = {}
        self.toasts: dict[str, str] = {}
        self.running = False
        self.postman = Postman(self, allow_http=allow_http)
        self._dialogues: dict[tuple[int, int], Dialogue] = {}
        self._buckets: dict[Any, Bucket] = {}
        self._ids = count(secrets.randbelow(10**8) + 10**8)

    def start(self) -> Self:
        super().start()
        self.running = True
        for bot in self.bots.values():
            self.postman.box(bot).busy.clear()
            self.postman.wake(bot)
        return self

    def stop(self) -> None:
        self.running = False
        super().stop()

    # The cast

    def add_bot(self, token: str, username: str, first_name: str = "Loja") -> Bot:
        """A bot as BotFather makes it. token: `<digits>:<secret>`, of which the digits are the bot's id."""
        assert _TOKEN.fullmatch(token), f"{token!r} is no bot token"
        self.bots[token] = Bot(token, username, first_name)
        return self.bots[token]

    def revoke(self, bot: Bot | str) -> None:
        """Its token answers 401 from now on."""
        self.bot(bot).revoked = True

    def bot(self, name: Bot | str) -> Bot:
        """The bot itself, by token or username."""
        found = [bot for bot in self.bots.values() if name in (bot, bot.token, bot.username)]
        assert found, f"no bot {name!r}"
        return found[0]

    def person(self, id: int | None = None, first_name: str = "Ana", **more: str) -> Person:  # noqa: A002 - their word
        """Somebody with an account: a known one, or (by a new id, or none) a new one. more: last_name, username …"""
        with self.lock:
            number = id if id is not None else self.fresh_id()
            user = {"id": number, "is_bot": False, "first_name": first_name, "language_code": "pt-br", **more}
            return self.people.setdefault(number, Person(self, user))

    def group(
        self,
        title: str,
        admins: Iterable[Bot] = (),
        *,
        id: int | None = None,  # noqa: A002 - their word
        type: str = "supergroup",  # noqa: A002 - their word
        username: str | None = None,
    ) -> Group:
        """A supergroup or channel with these bots as administrators."""
        number = id if id is not None else -1_000_000_000_000 - self.fresh_id()
        group = self.groups[number] = Group(number, title, type, username)
        for bot in admins:
            self.promote(group, bot)
        return group

    def promote(self, group: Group, bot: Bot, **rights: bool) -> None:
        """Makes a bot an administrator; rights: those that differ from all, e.g. can_restrict_members=False."""
        self.change_member(group, bot.user(), "administrator", by=bot.user(), **rights)

    def demote(self, group: Group, bot: Bot, status: str = "member") -> None:
        """status: "member", "left" or "kicked"."""
        self.change_member(group, bot.user(), status, by=bot.user())

    # Updates

    def push(self, bot: Bot | str, update: Json, times: int = 1) -> None:
        """An update as it is, so many times over; without an update_id it gets the next."""
        chosen = self.bot(bot)
        for raw in [{"update_id": next(chosen.update_ids), **update}] * times:
            self.postman.add(chosen, raw)

    def hold_updates(self, bot: Bot | str) -> None:
        """Keeps what happens from here on, until `release_updates`."""
        self.postman.hold(self.bot(bot))

    def release_updates(self, bot: Bot | str, order: Callable[[list[Json]], Iterable[Json]] | None = None) -> None:
        """order: from the updates held to those delivered: `reversed`, or `lambda held: held * 2` …"""
        self.postman.release(self.bot(bot), order)

    def pending(self, bot: Bot | str) -> list[Json]:
        """The updates that the bot has not taken yet."""
        return [parcel.update for parcel in self.postman.box(self.bot(bot)).queue]

    def taken(self, bot: Bot | str) -> list[Json]:
        """The updates that the bot has acknowledged, in that order."""
        return list(self.postman.box(self.bot(bot)).taken)

    def dialogues(self) -> list[Dialogue]:
        """Every private chat there is."""
        return list(self._dialogues.values())

    def webhook(self, bot: Bot | str) -> Webhook | None:
        return self.postman.box(self.bot(bot)).webhook

    def enqueue(self, bot: Bot, kind: str, content: Json) -> Json:
        """Something happened. Returns the update; it goes out only when the bot wants that kind."""
        update = {"update_id": next(bot.update_ids), kind: content}
        if kind in self.postman.box(bot).allowed:
            self.postman.add(bot, update)
        return update

    # Looking back

    def requests(self, name: str, bot: Bot | str | None = None) -> list[Json]:
        """The parameters of all calls of one method, refused ones too."""
        prefix = f"/bot{self.bot(bot).token}/" if bot else "/bot"
        wanted = [call for call in self.calls if call.path.startswith(prefix) and call.path.endswith(f"/{name}")]
        return [Params(call).values for call in wanted]

    # The API

    @route("*", "/bot{token}/{name}")
    async def call(self, call: Call, token: str, name: str) -> Json:
        bot, params = self._authorized(token), Params(call)
        if name.lower() == "getupdates":
            return _fine(await self.postman.get_updates(bot, params))
        with self.lock:
            return _fine(self._answer(bot, name.lower(), params))

    def _answer(self, bot: Bot, name: str, params: Params) -> Any:
        if name == "setwebhook":
            return self.postman.set_webhook(bot, params)
        if name == "deletewebhook":
            return self.postman.delete_webhook(bot, params)
        if name == "getwebhookinfo":
            return self.postman.webhook_info(bot)
        if name not in _METHODS:
            raise not_found("method not found")
        return _METHODS[name](self, bot, params)

    @route("GET", "/file/bot{token}/photos/{name}")
    def download(self, call: Call, token: str, name: str) -> Reply:
        owner, data = self.files.get(name.removesuffix(".png"), (None, b""))
        if owner is not self._authorized(token):
            raise not_found()
        return Reply(data, headers={"Content-Type": "application/octet-stream"})

    def _authorized(self, token: str) -> Bot:
        if not _TOKEN.fullmatch(token):
            raise not_found()
        bot = self.bots.get(token)
        if bot is None or bot.revoked:
            raise unauthorized()
        return bot

    def unknown(self, call: Call) -> Exception:
        return not_found()

    def slow_down(self, bot: Bot, chat_id: int) -> None:
        """Counts a message against the bot's and the chat's rate. Raises 429."""
        if not self.rates:
            return
        at = self.clock()
        chat = self._buckets.setdefault((bot.token, chat_id), Bucket(*self.per_chat, at))
        whole = self._buckets.setdefault(bot.token, Bucket(*self.per_bot, at))
        if missing := max(chat.wait(at), whole.wait(at)):
            raise too_many(math.ceil(missing))
        chat.take()
        whole.take()

    # What the rest of the package asks for

    def fresh_id(self) -> int:
        return next(self._ids)

    def dialogue(self, bot: Bot, person: Person) -> Dialogue:
        with self.lock:
            return self._dialogues.setdefault((bot.id, person.id), Dialogue(bot, person))

    def admins(self, group: Group, right: str = "can_manage_chat") -> list[Bot]:
        return [bot for bot in self.bots.values() if group.may(bot.id, right)]

    def change_member(
        self,
        group: Group,
        user: Json,
        status: str,
        *,
        by: Json,
        link: Link | None = None,
        by_request: bool = False,
        **more: Any,
    ) -> None:
        """Somebody comes, goes or is moved in a group; the administrators (and the bot itself) hear of it."""
        with self.lock:
            before = group.members.get(user["id"], member(user, "left"))
            after = group.members[user["id"]] = member(user, status, **more)
            for other in group.links.values() if status in ("left", "kicked") else ():
                other.joined.discard(user["id"])
            event: Json = {"chat": group.chat(), "from": by, "date": now()}
            event |= {"old_chat_member": before, "new_chat_member": after}
            event |= {"invite_link": dict(link.raw)} if link else {}
            event |= {"via_join_request": True} if by_request else {}
            self._tell(group, user, event)

    def _tell(self, group: Group, user: Json, event: Json) -> None:
        for bot in self.bots.values():
            if bot.id == user["id"]:
                self.enqueue(bot, "my_chat_member", event)
        for bot in self.admins(group):
            if bot.id != user["id"]:
                self.enqueue(bot, "chat_member", event)


def _fine(result: Any) -> Json:
    return {"ok": True, "result": result}
