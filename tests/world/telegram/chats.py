"""What the fake Telegram keeps: bots, private chats, groups, messages, invite links."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.world.telegram.people import Person

Json = dict[str, Any]


def now() -> int:
    return int(datetime.now(UTC).timestamp())


@dataclass(eq=False)
class Bot:
    """One bot. commands: as set last, per scope; revoked: its token answers 401 from now on."""

    token: str
    username: str
    first_name: str
    revoked: bool = False
    commands: dict[str, list[Json]] = field(default_factory=dict)
    update_ids: count[int] = field(default_factory=lambda: count(secrets.randbelow(10**8) + 10**8))
    message_ids: count[int] = field(default_factory=lambda: count(1))

    @property
    def id(self) -> int:
        return int(self.token.partition(":")[0])

    def user(self) -> Json:
        return {"id": self.id, "is_bot": True, "first_name": self.first_name, "username": self.username}


@dataclass(frozen=True)
class Button:
    """One button under a message. value: its callback data, URL or text to copy, whichever it has."""

    text: str
    raw: Json = field(hash=False, compare=False)
    message: Message = field(hash=False, compare=False, repr=False)

    @property
    def callback_data(self) -> str | None:
        return self.raw.get("callback_data")

    @property
    def url(self) -> str | None:
        return self.raw.get("url")

    @property
    def copy_text(self) -> str | None:
        return (self.raw.get("copy_text") or {}).get("text")


@dataclass(eq=False)
class Message:
    """One message as it is shown. raw: the Bot API's own object; edits: how often it was changed."""

    raw: Json
    photo: bytes | None = None
    edits: int = 0
    deleted: bool = False

    @property
    def id(self) -> int:
        return self.raw["message_id"]

    @property
    def text(self) -> str:
        """The text, or the caption of a photo."""
        return self.raw.get("text") or self.raw.get("caption") or ""

    @property
    def by_bot(self) -> bool:
        return self.raw["from"]["is_bot"]

    @property
    def buttons(self) -> list[Button]:
        rows = self.raw.get("reply_markup", {}).get("inline_keyboard", [])
        return [Button(raw["text"], raw, self) for row in rows for raw in row]

    def button(self, words: str) -> Button:
        """The first button that has these words on it."""
        found = [button for button in self.buttons if words in button.text]
        assert found, f"no button {words!r}; there are {[button.text for button in self.buttons]}"
        return found[0]

    def marked(self, kind: str) -> list[str]:
        """The parts of the text under an entity of that kind ("code", "bold" …)."""
        entities = self.raw.get("entities") or self.raw.get("caption_entities") or []
        wide = self.text.encode("utf-16-le")
        spans = [(e["offset"] * 2, (e["offset"] + e["length"]) * 2) for e in entities if e["type"] == kind]
        return [wide[start:end].decode("utf-16-le") for start, end in spans]


@dataclass(eq=False)
class Dialogue:
    """The private chat of one person with one bot. open_until: a join request lets the bot write that long."""

    bot: Bot
    person: Person
    started: bool = False
    blocked: bool = False
    open_until: int = 0
    messages: list[Message] = field(default_factory=list)

    @property
    def id(self) -> int:
        return self.person.id

    def chat(self) -> Json:
        user = self.person.user()
        names = {key: user[key] for key in ("first_name", "last_name", "username") if key in user}
        return {"id": self.id, "type": "private", **names}

    def next_id(self) -> int:
        return next(self.bot.message_ids)


@dataclass(eq=False)
class Link:
    """An invite link of a group. joined: who is in the group through it."""

    raw: Json
    joined: set[int] = field(default_factory=set)

    @property
    def url(self) -> str:
        return self.raw["invite_link"]

    def problem(self) -> str | None:
        """Why nobody can come in through it any more."""
        if self.raw["is_revoked"]:
            return "revoked"
        if self.raw.get("expire_date") and self.raw["expire_date"] <= now():
            return "expired"
        limit = self.raw.get("member_limit")
        return "full" if limit and len(self.joined) >= limit else None


@dataclass(eq=False)
class Group:
    """A supergroup or channel. members: {user id: ChatMember object}, of bots and people alike."""

    id: int
    title: str
    type: str = "supergroup"
    username: str | None = None
    members: dict[int, Json] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    requests: dict[int, Link] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    message_ids: count[int] = field(default_factory=lambda: count(1))

    def chat(self) -> Json:
        return {"id": self.id, "type": self.type, "title": self.title} | (
            {"username": self.username} if self.username else {}
        )

    def next_id(self) -> int:
        return next(self.message_ids)

    def status(self, user_id: int) -> str:
        return self.members.get(user_id, {}).get("status", "left")

    def has_in(self, user_id: int) -> bool:
        return self.status(user_id) in ("creator", "administrator", "member", "restricted")

    def may(self, user_id: int, right: str) -> bool:
        member = self.members.get(user_id, {})
        return member.get("status") == "creator" or bool(member.get(right))


def member(user: Json, status: str, **more: Any) -> Json:
    """A ChatMember object. more: for an administrator the rights that differ, for one kicked the until_date."""
    if status == "administrator":
        return {"user": user, "status": status, **_ADMINISTRATOR, **more}
    if status == "kicked":
        return {"user": user, "status": status, "until_date": 0, **more}
    if status == "creator":
        return {"user": user, "status": status, "is_anonymous": False, **more}
    return {"user": user, "status": status, **more}


_ADMINISTRATOR = {
    "can_be_edited": False,
    "is_anonymous": False,
    "can_manage_chat": True,
    "can_delete_messages": True,
    "can_manage_video_chats": True,
    "can_restrict_members": True,
    "can_promote_members": False,
    "can_change_info": True,
    "can_invite_users": True,
    "can_post_messages": True,
    "can_edit_messages": True,
    "can_pin_messages": True,
    "can_post_stories": False,
    "can_edit_stories": False,
    "can_delete_stories": False,
}
