"""The inbox: what happened in a chat, kept before anything is done about it, unique, in one order per chat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from bot_manager import log
from bot_manager.app import vault
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue
from models import Inbox, InboxState, db

PURPOSE = "inbox.body"
MOST_ATTEMPTS = 5
UNREADABLE = "unreadable:"  # how the event_key of what could not be read begins

_PUT = insert(Inbox).on_conflict_do_nothing().returning(Inbox.id)
# Our own events carry no update_id and come first: they are facts already, a tap is still a wish.
_NEXT = (
    select(Inbox.id, Inbox.event_key, Inbox.body_sealed, Inbox.trace_id)
    .where(Inbox.bot_id == bindparam("bot_id"), Inbox.channel == bindparam("channel"))
    .where(Inbox.chat_id == bindparam("chat_id"), Inbox.state == InboxState.NEW)
    .order_by(func.coalesce(Inbox.update_id, 0), Inbox.id)
    .limit(1)
)
_DONE = update(Inbox).where(Inbox.id == bindparam("row")).values(state=InboxState.DONE, done_at=func.now())


@dataclass(frozen=True, slots=True)
class Chat:
    """One conversation's address: the seller's bot, the channel, and the chat's id on that channel."""

    seller_id: int
    bot_id: int
    channel: str
    chat_id: str

    @property
    def lock(self) -> str:
        return f"chat:{self.bot_id}:{self.channel}:{self.chat_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, opened. event_key starts with `update:`, `panel:` or, for our own events, `sale:`."""

    id: int
    event_key: str
    body: dict[str, Any]
    trace_id: str


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """An event that was given up. raw: as it came, where it could not be read."""

    id: int
    chat: Chat
    trace_id: str
    raw: bytes | None


def put(chat: Chat, event_key: str, body: dict[str, Any], update_id: int | None = None, trace: str = "") -> bool:
    """Keeps the event and has the conversation go on; False when it is here already. The caller commits."""
    trace = trace or log.trace_id.get() or log.new_trace_id()
    values = {"event_key": event_key, "update_id": update_id, "trace_id": trace}
    sealed = vault().seal_json(body, PURPOSE, chat.seller_id)
    where = {"seller_id": chat.seller_id, "bot_id": chat.bot_id, "channel": chat.channel, "chat_id": chat.chat_id}
    if db.session.execute(_PUT, {**where, **values, "body_sealed": sealed}).first() is None:
        return False
    _have_handled(chat, trace)
    return True


def _have_handled(chat: Chat, trace: str) -> None:
    args = {"bot": chat.bot_id, "channel": chat.channel, "chat": chat.chat_id}
    enqueue(Job(Name.CONVERSE, chat.seller_id, trace, args, chat.lock, share=f"bot:{chat.bot_id}"))


def keep_unreadable(seller_id: int, bot_id: int, channel: str, raw: bytes, trace: str) -> None:
    """Keeps what could not be read as a dead event, so that nothing acknowledged is forgotten."""
    values = {
        "event_key": f"{UNREADABLE}{hashlib.sha256(raw).hexdigest()}",
        "state": InboxState.DEAD,
        "trace_id": trace,
    }
    sealed = vault().seal_json({"raw": raw.decode("latin-1")}, PURPOSE, seller_id)
    where = {"seller_id": seller_id, "bot_id": bot_id, "channel": channel, "chat_id": "", "body_sealed": sealed}
    db.session.execute(_PUT, {**where, **values})


def next_entry(chat: Chat) -> Entry | None:
    where = {"bot_id": chat.bot_id, "channel": chat.channel, "chat_id": chat.chat_id}
    row = db.session.execute(_NEXT, where).one_or_none()
    if row is None:
        return None
    return Entry(row.id, row.event_key, vault().open_json(row.body_sealed, PURPOSE, chat.seller_id), row.trace_id)


def done(entry: Entry) -> None:
    db.session.execute(_DONE, {"row": entry.id})


def failed(entry: Entry, error: str) -> bool:
    """Counts a failure; True when that was the last one, and the chat goes on without this event."""
    statement = update(Inbox).where(Inbox.id == entry.id).values(attempts=Inbox.attempts + 1, last_error=error[:500])
    attempts = db.session.execute(statement.returning(Inbox.attempts)).scalar_one()
    if attempts < MOST_ATTEMPTS:
        return False
    db.session.execute(update(Inbox).where(Inbox.id == entry.id).values(state=InboxState.DEAD))
    return True


def dead_entry(row_id: int) -> DeadEntry | None:
    """The event that was given up, locked; None when there is none with that id."""
    row = db.session.scalar(select(Inbox).where(Inbox.id == row_id, Inbox.state == InboxState.DEAD).with_for_update())
    if row is None:
        return None
    chat = Chat(row.seller_id, row.bot_id, row.channel, row.chat_id)
    return DeadEntry(row.id, chat, row.trace_id, _raw(row) if row.event_key.startswith(UNREADABLE) else None)


def _raw(row: Inbox) -> bytes:
    kept: str = vault().open_json(row.body_sealed, PURPOSE, row.seller_id)["raw"]
    return kept.encode("latin-1")


def revive(dead: DeadEntry) -> None:
    """Has it handled again, after what came into the chat since then has been."""
    anew = {"state": InboxState.NEW, "attempts": 0, "last_error": None}
    db.session.execute(update(Inbox).where(Inbox.id == dead.id).values(**anew))
    _have_handled(dead.chat, dead.trace_id)


def bury(dead: DeadEntry) -> None:
    """It lives on in an event of its own."""
    db.session.execute(update(Inbox).where(Inbox.id == dead.id).values(state=InboxState.DONE, done_at=func.now()))
