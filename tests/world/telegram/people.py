"""People with a Telegram account: what they do to a bot, and what they see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.world.telegram.chats import Bot, Button, Dialogue, Group, Json, Link, Message, member, now

if TYPE_CHECKING:
    from tests.world.telegram import FakeTelegram

_PAYLOAD = re.compile(r"[A-Za-z0-9_-]{0,64}")


class LinkRefused(Exception):
    """Nobody comes in through this link: revoked, expired, full, unknown, or the person is banned."""


class Person:
    """One person. A bot may be given as the Bot, its token or its username."""

    def __init__(self, fake: FakeTelegram, user: Json) -> None:
        self.fake = fake
        self._user = user
        self.deactivated = False

    @property
    def id(self) -> int:
        return self._user["id"]

    def user(self) -> Json:
        return dict(self._user)

    # What they do

    def start(self, bot: Bot | str, payload: str = "") -> Json:
        """Opens t.me/<bot>?start=<payload> and taps START; unblocks too. Returns the update."""
        assert _PAYLOAD.fullmatch(payload), f"Telegram ignores the payload {payload!r}"
        self.unblock(bot)
        return self.say(bot, f"/start {payload}".strip())

    def say(self, bot: Bot | str, text: str) -> Json:
        command = re.match(r"/\w+", text)
        entities = [{"type": "bot_command", "offset": 0, "length": command.end()}] if command else []
        return self.send(bot, text=text, **({"entities": entities} if entities else {}))

    def send(self, bot: Bot | str, **fields: Any) -> Json:
        """Any other message, by its own fields: contact={…}, photo=[…]."""
        with self.fake.lock:
            dialogue = self._dialogue(bot)
            dialogue.started = True
            raw = {"message_id": dialogue.next_id(), "from": self.user(), "chat": dialogue.chat(), "date": now()}
            message = Message({**raw, **fields})
            dialogue.messages.append(message)
            return self.fake.enqueue(dialogue.bot, "message", dict(message.raw))

    def tap(self, bot: Bot | str, button: Button | str) -> str:
        """Taps a button (or the newest one with these words on it).

        Returns the callback query's id, whose answer comes to `fake.toasts`; of other buttons the URL or copied text.
        """
        with self.fake.lock:
            chosen = button if isinstance(button, Button) else self.button(bot, button)
            assert not chosen.message.deleted, f"the message with {chosen.text!r} is gone"
            if chosen.callback_data is None:
                return chosen.url or chosen.copy_text or ""
            return self._query(self._dialogue(bot), chosen)

    def _query(self, dialogue: Dialogue, button: Button) -> str:
        query_id = str(self.fake.fresh_id())
        query = {
            "id": query_id,
            "from": self.user(),
            "message": dict(button.message.raw),
            "chat_instance": str(dialogue.bot.id * 31 + dialogue.id),
            "data": button.callback_data,
        }
        self.fake.queries[query_id] = dialogue.bot
        self.fake.enqueue(dialogue.bot, "callback_query", query)
        return query_id

    def block(self, bot: Bot | str) -> None:
        self._set_blocked(self._dialogue(bot), blocked=True)

    def unblock(self, bot: Bot | str) -> None:
        self._set_blocked(self._dialogue(bot), blocked=False)

    def _set_blocked(self, dialogue: Dialogue, *, blocked: bool) -> None:
        if dialogue.blocked == blocked:
            return
        dialogue.blocked = blocked
        before, after = ("member", "kicked") if blocked else ("kicked", "member")
        self.fake.enqueue(
            dialogue.bot,
            "my_chat_member",
            {
                "chat": dialogue.chat(),
                "from": self.user(),
                "date": now(),
                "old_chat_member": member(dialogue.bot.user(), before),
                "new_chat_member": member(dialogue.bot.user(), after),
            },
        )

    def deactivate(self) -> None:
        """Deletes the account."""
        self.deactivated = True

    def join(self, url: str) -> str:
        """Opens an invite link: "joined", or "requested" where an administrator must agree. Raises LinkRefused."""
        with self.fake.lock:
            group, link = self._open(url)
            if link.raw["creates_join_request"]:
                return self._request(group, link)
            link.joined.add(self.id)
            self.fake.change_member(group, self.user(), "member", by=self.user(), link=link)
            return "joined"

    def _open(self, url: str) -> tuple[Group, Link]:
        found = [(group, group.links[url]) for group in self.fake.groups.values() if url in group.links]
        if not found:
            raise LinkRefused("unknown")
        group, link = found[0]
        problem = link.problem() or ("banned" if group.status(self.id) == "kicked" else None)
        if problem:
            raise LinkRefused(problem)
        return group, link

    def _request(self, group: Group, link: Link) -> str:
        group.requests[self.id] = link
        request = {"chat": group.chat(), "from": self.user(), "user_chat_id": self.id, "date": now()}
        for bot in self.fake.admins(group, "can_invite_users"):
            self.fake.dialogue(bot, self).open_until = now() + 300
            self.fake.enqueue(bot, "chat_join_request", {**request, "invite_link": link.raw})
        return "requested"

    def leave(self, group: Group) -> None:
        self.fake.change_member(group, self.user(), "left", by=self.user())

    # What they see

    def messages(self, bot: Bot | str) -> list[Message]:
        """What the chat shows, oldest first: both sides' messages, edits in place, deleted ones gone."""
        return [message for message in self._dialogue(bot).messages if not message.deleted]

    def received(self, bot: Bot | str) -> list[Message]:
        """Only what the bot wrote."""
        return [message for message in self.messages(bot) if message.by_bot]

    def last(self, bot: Bot | str) -> Message:
        """The bot's newest message."""
        received = self.received(bot)
        assert received, f"{bot} wrote nothing"
        return received[-1]

    def button(self, bot: Bot | str, words: str) -> Button:
        """The newest button that has these words on it."""
        found = [button for message in self.messages(bot) for button in message.buttons if words in button.text]
        assert found, f"no button {words!r} in the chat: {[message.text for message in self.messages(bot)]}"
        return found[-1]

    def wait_text(self, bot: Bot | str, words: str, timeout: float = 5.0) -> Message:
        """Waits for a message of the bot that has these words in it."""
        return self.fake.wait_for(
            lambda: next((message for message in self.received(bot) if words in message.text), None), timeout
        )

    def wait_button(self, bot: Bot | str, words: str, timeout: float = 5.0) -> Button:
        """Waits for a button that has these words on it."""
        self.fake.wait_for(
            lambda: any(words in button.text for message in self.messages(bot) for button in message.buttons), timeout
        )
        return self.button(bot, words)

    def _dialogue(self, bot: Bot | str) -> Dialogue:
        return self.fake.dialogue(self.fake.bot(bot), self)
